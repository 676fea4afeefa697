"""The errors a caller of this package can meet. Each message is one line and says what to do."""


class ClientError(Exception):
    """The base of all errors of this package; `str(error)` is one line, fit to be shown as it is."""


class AudioError(ClientError):
    """A file can't be turned into 16 kHz mono samples; raised by `load_audio`."""


class ManifestError(ClientError):
    """A file is no manifest, or has no usable line; raised by `read_manifest`."""


class TlsError(ClientError):
    """A file of certificates or keys can't be used; raised by `Tls`."""


class RecognizerError(ClientError):
    """The server or the model is not as a recognizer needs it; raised when connecting."""


class ServerUnavailableError(RecognizerError):
    """No Triton server answers at the URL; raised when connecting."""


class UnknownModelError(RecognizerError):
    """The server does not serve that model, or it is not a recognizer; raised when connecting."""


class RecognitionError(RecognizerError):
    """One request failed; others may succeed. Raised by `transcribe`.

    Attributes:
        attempts: How many times the request was sent.
    """

    attempts = 1


class DeadlineExceededError(RecognitionError):
    """A request had no answer within the recognizer's timeout."""


class UnavailableError(RecognitionError):
    """The server was down, or had no room for the request; sent again later it may succeed."""


def one_line(message: object) -> str:
    """The text of `message` with every run of whitespace, line breaks too, as one space."""
    return " ".join(str(message).split())
