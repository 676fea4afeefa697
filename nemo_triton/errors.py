"""The errors that this package raises. Each message is one line and says what to do."""


class ClientError(Exception):
    """Base class of all errors in this package. `str(error)` is one line that can be shown to a user."""

    def __init__(self, message: str) -> None:
        # Messages quote names of files and texts of servers, which may hold line breaks and escape sequences.
        super().__init__(printable(message))


class AudioError(ClientError):
    """A file can't be read as audio. Raised by `load_audio`."""


class ManifestError(ClientError):
    """A file is not a manifest, or none of its lines can be used. Raised by `read_manifest`."""


class TlsError(ClientError):
    """A certificate or key file can't be used. Raised by `Tls`."""


class RecognizerError(ClientError):
    """The server or the model can't be used. Raised when connecting."""


class ServerUnavailableError(RecognizerError):
    """No Triton server answers at the URL. Raised when connecting."""


class UnknownModelError(RecognizerError):
    """The server does not serve the model, or the model is not a recognizer. Raised when connecting."""


class RecognitionError(RecognizerError):
    """One request failed; other requests may succeed. Raised by `transcribe`.

    Attributes:
        attempts: Number of times that the request was sent.
        refusals: Number of these attempts that a full queue refused.
    """

    attempts = 1
    refusals = 0


class DeadlineExceededError(RecognitionError):
    """A request got no response within the recognizer's timeout."""


class UnavailableError(RecognitionError):
    """The server was down or its queue was full. The same request may succeed later."""


class QueueFullError(UnavailableError):
    """The queues of all servers were full. Send fewer concurrent requests, or add servers."""


def one_line(message: object) -> str:
    """Return `message` as text with each run of whitespace, including line breaks, as one space."""
    return " ".join(str(message).split())


def printable(message: object) -> str:
    """Return `message` with everything that could control a terminal escaped, such as line breaks.

    Bytes of file names that are not UTF-8 are escaped too.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(message))
