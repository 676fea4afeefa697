"""Load one model at a time with Triton's model control, so that any number of models fits one machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from nemo_triton.contract import FURTHER_ENSEMBLES, Part
from nemo_triton.errors import ServerUnavailableError, one_line
from nemo_triton.tls import Tls

EXPLICIT = "--model-control-mode=explicit"
"""Flag that tritonserver needs for model control."""

_LOAD_SECONDS = 600.0
_UNLOAD_SECONDS = 120.0


def only(repository: Path, *models: str) -> list[str]:
    """Flags of a tritonserver that loads only these recognizers, with and without log-probs and float samples.

    Args:
        repository: The model repository.
        models: Names of recognizers.
    """
    parts = [name for model in models for name in (model, *(part.of(model) for part in FURTHER_ENSEMBLES))]
    names = [name for name in parts if (repository / name).is_dir()]
    return [EXPLICIT, *(f"--load-model={name}" for name in names)]


@contextmanager
def loaded(url: str, model: str, tls: Tls | None = None) -> Iterator[None]:
    """Load a recognizer, for 16-bit and for float samples, with all its stages; unload them at the end of the block.

    Args:
        url: Address of the server as HOST:PORT.
        model: Name of the recognizer.
        tls: Certificates; None connects without TLS.

    Raises:
        ServerUnavailableError: The server can't load or unload, e.g. because it was started without EXPLICIT.
    """
    client = triton.InferenceServerClient(url, creds=tls.credentials() if tls else None)
    try:
        before = _present(client)
        known = {entry.name for entry in client.get_model_repository_index().models}
        names = [name for name in (model, Part.FLOAT.of(model)) if name == model or name in known]
        ready: list[str] = []
        try:
            for name in names:
                client.load_model(name, client_timeout=_LOAD_SECONDS)
                ready.append(name)
            yield
        finally:
            for name in ready:
                client.unload_model(name, unload_dependents=True)
            if ready:
                _wait_until_gone(client, before)
    except InferenceServerException as error:
        reason = one_line(error.message())
        raise ServerUnavailableError(
            f"{url}: can't load and unload {model} ({reason}); start tritonserver with {EXPLICIT}"
        ) from error
    finally:
        client.close()


def _present(client: triton.InferenceServerClient) -> set[str]:
    """Names of the models that use memory."""
    models = client.get_model_repository_index().models
    return {model.name for model in models if model.state in ("READY", "UNLOADING")}


def _wait_until_gone(client: triton.InferenceServerClient, before: set[str]) -> None:
    """Wait until unloading is done, so that the next model does not share the machine with this one."""
    # Triton returns from the call before the models are gone.
    deadline = time.monotonic() + _UNLOAD_SECONDS
    while _present(client) - before:
        if time.monotonic() > deadline:
            left = ", ".join(sorted(_present(client) - before))
            raise ServerUnavailableError(f"{left}: still loaded after {_UNLOAD_SECONDS:.0f} s; restart the server")
        time.sleep(0.2)
