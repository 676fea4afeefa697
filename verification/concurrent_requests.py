"""Send recordings to a server, all at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from nemo_triton.audio import Samples
from nemo_triton.errors import one_line
from nemo_triton.recognizer import Recognizer


def send_concurrently(url: str, model: str, recordings: Sequence[Samples], timeout: float) -> list[str]:
    """Send one request per recording, all concurrently.

    Args:
        url: Address of the server as host:port.
        model: Name of the recognizer.
        recordings: int16 [T] each.
        timeout: Deadline of each request, in seconds.

    Returns:
        The error of each request that failed.
    """
    with Recognizer(model, url, timeout=timeout) as recognizer, ThreadPoolExecutor(len(recordings)) as threads:
        answers = [threads.submit(recognizer.transcribe, samples) for samples in recordings]
        return [one_line(error) for answer in answers if (error := answer.exception()) is not None]
