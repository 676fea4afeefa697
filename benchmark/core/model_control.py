"""One model at a time on a server, by Triton's model control, so that any number of models fits one machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from nemo_triton.errors import ServerUnavailableError, one_line
from nemo_triton.tls import Tls

EXPLICIT = "--model-control-mode=explicit"
"""The flag of tritonserver that this needs."""

_LOAD_SECONDS = 600.0
_UNLOAD_SECONDS = 120.0


@contextmanager
def loaded(url: str, model: str, tls: Tls | None = None) -> Iterator[None]:
    """Have the server at `url` load a recognizer with all its steps, and unload both at the end of the block.

    Raises ServerUnavailableError where the server does not, e.g. because it was started without EXPLICIT.
    """
    client = triton.InferenceServerClient(url, creds=tls.credentials() if tls else None)
    try:
        before = _present(client)
        client.load_model(model, client_timeout=_LOAD_SECONDS)
        try:
            yield
        finally:
            client.unload_model(model, unload_dependents=True)
            _wait_until_gone(client, before)
    except InferenceServerException as error:
        reason = one_line(error.message())
        raise ServerUnavailableError(
            f"{url} does not load and unload {model} ({reason}); it needs {EXPLICIT}"
        ) from error
    finally:
        client.close()


def _present(client: triton.InferenceServerClient) -> set[str]:
    """Models that take up room."""
    models = client.get_model_repository_index().models
    return {model.name for model in models if model.state in ("READY", "UNLOADING")}


def _wait_until_gone(client: triton.InferenceServerClient, before: set[str]) -> None:
    """Unloading goes on after the call returned; what is still loaded would share machine and memory with the next."""
    deadline = time.monotonic() + _UNLOAD_SECONDS
    while _present(client) - before:
        if time.monotonic() > deadline:
            left = ", ".join(sorted(_present(client) - before))
            raise ServerUnavailableError(f"still loaded {_UNLOAD_SECONDS:.0f} s after they were told to go: {left}")
        time.sleep(0.2)
