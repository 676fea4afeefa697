"""What a load test asks the servers of a connection beside recognitions: counters, versions, shared memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from nemo_triton.calls import single_call
from nemo_triton.endpoints import Endpoint
from nemo_triton.errors import RecognizerError
from nemo_triton.loadtest.server_counters import Snapshot, snapshot, total
from nemo_triton.recognizer import AsyncRecognizer

_SETTLE_TRIES = 20
_SETTLE_SECONDS = 0.05


class UpPeriod(NamedTuple):
    """A stretch of time during which a server was up; its counters begin again with each.

    Attributes:
        endpoint: host:port of the server.
        number: How many times it had come up by then.
    """

    endpoint: str
    number: int


@dataclass(frozen=True)
class Servers:
    """The servers of a connected recognizer."""

    recognizer: AsyncRecognizer

    @property
    def names(self) -> list[str]:
        """host:port of each server that may get requests."""
        return [endpoint.name for endpoint in self.recognizer.endpoints]

    async def step_counters(self) -> Snapshot:
        """The counters of each step of the recognizer, every answer received so far included.

        Those of several servers are summed. If other clients keep a server busy, so that the counters never rest,
        those after a second of waiting.

        Raises:
            RecognizerError: No server answers.
        """
        return total((await self._settled(self.recognizer.model.steps)).values())

    async def counters(self) -> Snapshot:
        """As step_counters, with those of the recognizer as a whole before its steps'."""
        return total((await self.counters_by_period()).values())

    async def counters_by_period(self) -> dict[UpPeriod, Snapshot]:
        """As counters, of each server that is up. One that was down meanwhile has another key."""
        model = self.recognizer.model
        return await self._settled((model.name, *model.steps))

    async def is_live(self) -> bool:
        """Whether a server still answers."""
        for endpoint in self._asked():
            with suppress(RecognizerError):
                if await self.recognizer.call(endpoint, single_call("is_server_live", {})):
                    return True
        return False

    async def version(self) -> str:
        """Name and version of the server, as it tells them; of each if several differ."""
        question = "get_server_metadata"
        answers = [await self.recognizer.call(endpoint, single_call(question, {})) for endpoint in self._asked()]
        return ", ".join(sorted({f"{metadata.name} {metadata.version}" for metadata in answers}))

    async def share(self, *, region: str, key: str, byte_size: int) -> None:
        """Have the server map a block of this machine's shared memory.

        Args:
            region: The server's name of it.
            key: POSIX name of the block, with its leading slash.
            byte_size: Of the block.

        Raises:
            RecognizerError: The server can't, as on another machine, or there are several servers.
        """
        first, *others = self.recognizer.endpoints
        if others:
            names = ", ".join(self.names)
            raise RecognizerError(f"shared memory is for one server, on this machine, and there are {names}; name one")
        arguments = {"name": region, "key": key, "byte_size": byte_size}
        await self.recognizer.call(first, single_call("register_system_shared_memory", arguments))

    async def unshare(self, region: str) -> None:
        """Have the server forget a region."""
        call = single_call("unregister_system_shared_memory", {"name": region})
        await self.recognizer.call(self.recognizer.endpoints[0], call)

    def _asked(self) -> list[Endpoint]:
        endpoints = self.recognizer.endpoints
        return [endpoint for endpoint in endpoints if endpoint.up] or endpoints

    async def _settled(self, models: Sequence[str]) -> dict[UpPeriod, Snapshot]:
        # Triton counts a batch only after it has sent the answers, so the last ones may still be missing.
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
        for endpoint in self._asked():
            period = UpPeriod(endpoint.name, endpoint.times_joined)
            try:
                snapshots[period] = await self.recognizer.call(endpoint, snapshot(models))
            except RecognizerError as error:
                errors.append(error)
        if not snapshots:
            raise errors[0]
        return snapshots
