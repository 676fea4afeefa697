"""A TCP proxy in front of a server that can cut all connections."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType

_CHUNK_BYTES = 2**18


class Proxy:
    """A proxy on a free port of this machine, for the duration of an `async with` block.

    Attributes:
        url: Address of the proxy as host:port.
    """

    url: str

    def __init__(self, target: str) -> None:
        """Store the address of the server as host:port."""
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    def cut(self) -> int:
        """Cut all connections, without a goodbye. Returns their number."""
        for writers in self._connections.values():
            for writer in writers:
                writer.transport.abort()
        return len(self._connections)

    async def __aenter__(self) -> Proxy:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._forward(reader, writer))
        self._connections[task] = [writer]
        task.add_done_callback(self._connections.pop)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        current = asyncio.current_task()
        assert current is not None
        writers = self._connections[current]
        try:
            with suppress(OSError):
                server_reader, server_writer = await asyncio.open_connection(self._host, self._port)
                writers.append(server_writer)
                directions = [
                    asyncio.ensure_future(_copy(reader, server_writer)),
                    asyncio.ensure_future(_copy(server_reader, writer)),
                ]
                try:
                    # If one side closes, the other is of no use to gRPC.
                    await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for direction in directions:
                        direction.cancel()
                    await asyncio.gather(*directions, return_exceptions=True)
        finally:
            for each in writers:
                each.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
