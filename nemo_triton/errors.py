"""The errors a caller of this package can meet. Each message is one line and names what to mend."""


class ClientError(Exception):
    """Anything the caller can mend; `str(error)` is one line, fit to be shown as it is."""


class AudioError(ClientError):
    """A file that cannot be turned into 16 kHz mono samples."""


class ManifestError(ClientError):
    """A file that is no manifest, or that holds no usable line."""


class TlsError(ClientError):
    """A file of certificates or keys that cannot be used."""


class RecognizerError(ClientError):
    """The server or the model is not as a recognizer needs it."""


class ServerUnavailableError(RecognizerError):
    """No Triton server answers at the URL."""


class UnknownModelError(RecognizerError):
    """The server does not serve that model, or it is not a recognizer."""


class RecognitionError(RecognizerError):
    """One request failed; others may go through. `attempts`: how often servers were asked for it."""

    attempts = 1


class DeadlineExceededError(RecognitionError):
    """A request that had no answer within the time it was given."""


class UnavailableError(RecognitionError):
    """A request that the server was not there for, or had no room for; asked again later it may go through."""


def one_line(message: object) -> str:
    """The text of `message` with every run of whitespace, line breaks too, as one space."""
    return " ".join(str(message).split())
