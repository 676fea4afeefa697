"""Requests of a load test to its servers other than recognitions: counters, versions, shared memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from nemo_triton.calls import single_call
from nemo_triton.contract import Description
from nemo_triton.endpoint import Endpoint
from nemo_triton.errors import RecognizerError
from nemo_triton.loadtest.server_counters import Counters, Snapshot, snapshot, total
from nemo_triton.recognizer import AsyncRecognizer
from nemo_triton.served_model import ServedModel

_SETTLE_TRIES = 20
_SETTLE_SECONDS = 0.05


class UpPeriod(NamedTuple):
    """A period in which a server was up without a restart; its counters start from zero in each.

    Attributes:
        endpoint: Address of the server as host:port.
        number: Number of the period, from 1.
    """

    endpoint: str
    number: int


@dataclass(frozen=True)
class Servers:
    """The servers of a connected recognizer.

    Attributes:
        recognizer: The connection.
    """

    recognizer: AsyncRecognizer

    @property
    def names(self) -> list[str]:
        """host:port of each server."""
        return [endpoint.name for endpoint in self.recognizer.endpoints]

    async def step_counters(self) -> Snapshot:
        """Read the counters of each stage, summed over servers, with every response received so far included.

        Waits until the counters stop changing, or for one second if other clients keep the server busy.

        Raises:
            RecognizerError: No server answers.
        """
        return total((await self._settled(self.recognizer.model.steps)).values())

    async def counters(self) -> Snapshot:
        """Read the same as step_counters, with the counters of the whole recognizer as the first entry."""
        return total((await self.counters_by_period()).values())

    async def counters_by_period(self) -> dict[UpPeriod, Snapshot]:
        """Read the same as counters, but by server; a server that was restarted gets a new key."""
        model = self.recognizer.model
        by_period = await self._settled((*model.request_names, *model.steps))
        return {period: _with_one_recognizer(counted, model) for period, counted in by_period.items()}

    async def is_live(self) -> bool:
        """Whether at least one server answers."""
        for endpoint in self._reachable():
            with suppress(RecognizerError):
                if await self.recognizer.call(endpoint, single_call("is_server_live", {})):
                    return True
        return False

    async def version(self) -> str:
        """Name and version of the server; of each if servers differ."""
        call = "get_server_metadata"
        answers = [await self.recognizer.call(endpoint, single_call(call, {})) for endpoint in self._reachable()]
        return ", ".join(sorted({f"{metadata.name} {metadata.version}" for metadata in answers}))

    async def description(self) -> Description:
        """Read the recognizer's description (NeMo class, sizes) from its configuration on one server."""
        call = single_call("get_model_config", {"model_name": self.recognizer.model.name})
        config = (await self.recognizer.call(self._reachable()[0], call)).config
        return Description.of({name: str(value.string_value) for name, value in config.parameters.items()})

    async def successes(self, name: str) -> int:
        """Read how many requests of the recognizer have succeeded on the server `name` (host:port).

        Raises:
            RecognizerError: The server does not answer.
        """
        endpoint = next((endpoint for endpoint in self.recognizer.endpoints if endpoint.name == name), None)
        if endpoint is None:
            raise RecognizerError(f"{name}: no longer among the servers; check --url")
        counted = await self.recognizer.call(endpoint, snapshot(self.recognizer.model.request_names))
        return sum(counters.requests for counters in counted.values())

    async def share(self, *, region: str, key: str, byte_size: int) -> None:
        """Register a block of this machine's shared memory with the server.

        Args:
            region: The server's name for the block.
            key: POSIX name of the block, with its leading slash.
            byte_size: Size of the block.

        Raises:
            RecognizerError: The server can't map it, for example on another machine, or there are several servers.
        """
        first, *others = self.recognizer.endpoints
        if others:
            names = ", ".join(self.names)
            raise RecognizerError(
                f"--shared-memory works with one server on this machine, not with {names}; give one --url"
            )
        arguments = {"name": region, "key": key, "byte_size": byte_size}
        await self.recognizer.call(first, single_call("register_system_shared_memory", arguments))

    async def unshare(self, region: str) -> None:
        """Unregister a region."""
        call = single_call("unregister_system_shared_memory", {"name": region})
        await self.recognizer.call(self.recognizer.endpoints[0], call)

    def _reachable(self) -> list[Endpoint]:
        endpoints = self.recognizer.endpoints
        return [endpoint for endpoint in endpoints if endpoint.up] or endpoints

    async def _settled(self, models: Sequence[str]) -> dict[UpPeriod, Snapshot]:
        # Triton updates its counters after it has sent the responses, so the last batch may still be missing.
        counters = await self._snapshots(models)
        for _ in range(_SETTLE_TRIES):
            await asyncio.sleep(_SETTLE_SECONDS)
            earlier, counters = counters, await self._snapshots(models)
            if counters == earlier:
                break
        return counters

    async def _snapshots(self, models: Sequence[str]) -> dict[UpPeriod, Snapshot]:
        snapshots: dict[UpPeriod, Snapshot] = {}
        errors = []
        for endpoint in self._reachable():
            period = UpPeriod(endpoint.name, endpoint.times_joined)
            try:
                snapshots[period] = await self.recognizer.call(endpoint, snapshot(models))
            except RecognizerError as error:
                errors.append(error)
        if not snapshots:
            raise errors[0]
        return snapshots


def _with_one_recognizer(counted: Snapshot, model: ServedModel) -> Snapshot:
    """Add the counters of the ensembles for 16-bit and for float samples; the sum is the first entry."""
    names = model.request_names
    whole = sum((counted[name] for name in names), Counters())
    return {model.name: whole} | {step: counters for step, counters in counted.items() if step not in names}
