"""Send mutated requests byte by byte as they are, and say what came back."""

from __future__ import annotations

import asyncio
from http.client import HTTPConnection, HTTPException
from typing import Any

import grpc

from server.process import Server
from verification.attack.wire import open_channel
from verification.fuzz.cases import FuzzRequest

ANSWERED, HUNG, DISCONNECTED = "answered", "hung", "disconnected"
_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_RESTRICTED = b"restricted"


class Sender:
    """Connections to one server, for use in an `async with` block.

    Attributes:
        server: The server.
        patience: Seconds until a request without a response counts as hung.
    """

    def __init__(self, server: Server, patience: float) -> None:
        self.server = server
        self.patience = patience

    async def __aenter__(self) -> Sender:
        self._channel = open_channel(self.server.grpc)
        # Without serializers: the bytes are sent as they are.
        self._infer: Any = self._channel.unary_unary(_METHOD)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._channel.close()

    async def send(self, request: FuzzRequest) -> str:
        """Send a request.

        Returns:
            "answered", "hung", "disconnected", or "refused: " with the status.
        """
        if request.protocol == "HTTP":
            return await asyncio.to_thread(self._send_http, request)
        try:
            await self._infer(request.content, timeout=self.patience)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return HUNG
            gone = error.code() is grpc.StatusCode.UNAVAILABLE and "queue" not in (error.details() or "")
            return DISCONNECTED if gone else f"refused: {error.code().name}"
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return DISCONNECTED
        return ANSWERED

    def _send_http(self, request: FuzzRequest) -> str:
        connection = HTTPConnection(self.server.http, timeout=self.patience)
        headers = {"Content-Type": "application/json", **request.headers}
        try:
            connection.request(request.method, request.path, request.content, headers)
            response = connection.getresponse()
            body = response.read()
        except TimeoutError:
            return HUNG
        except (OSError, HTTPException):
            return DISCONNECTED
        finally:
            connection.close()
        if response.status < 400:
            return ANSWERED
        return f"refused: {response.status}{' restricted' if _RESTRICTED in body else ''}"
