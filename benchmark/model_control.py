"""One model at a time on a server, by Triton's model control, so that any number of models fits one machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from client.errors import ServerUnavailableError, one_line

EXPLICIT = "--model-control-mode=explicit"
"""The flag of tritonserver that this needs."""

_LOAD_SECONDS = 600.0
_UNLOAD_SECONDS = 120.0


@contextmanager
def loaded(url: str, model: str) -> Iterator[None]:
    """Have the server at `url` load a recognizer with all its steps, and unload both at the end of the block.

    Raises ServerUnavailableError where the server does not, e.g. because it was started without EXPLICIT.
    """
    client = triton.InferenceServerClient(url)
    try:
        try:
            client.load_model(model, client_timeout=_LOAD_SECONDS)
        except InferenceServerException as error:
            reason = one_line(error.message())
            raise ServerUnavailableError(f"{url} does not load {model} ({reason}); it needs {EXPLICIT}") from error
        yield
        client.unload_model(model, unload_dependents=True)
        _wait_until_gone(client)
    finally:
        client.close()


def _wait_until_gone(client: triton.InferenceServerClient) -> None:
    """Unloading goes on after the call returned; what is still loaded would share machine and memory with the next."""
    deadline = time.monotonic() + _UNLOAD_SECONDS
    while any(model.state in ("READY", "UNLOADING") for model in client.get_model_repository_index().models):
        if time.monotonic() > deadline:
            raise ServerUnavailableError("models are still loaded two minutes after they were told to go")
        time.sleep(0.2)
