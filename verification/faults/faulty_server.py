"""A stand-in for a sick server: it forwards calls to a real one and injects faults into recognitions.

A real tritonserver can't be made to fail half of its answers, or to hang while its health checks succeed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

_SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
_ANY_SIZE = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))

Fault = Callable[[int, Any], None]
"""Gets the number of a recognition, from 0, and either ends it with context.abort or returns to forward it."""


@dataclass
class FaultyServer:
    """A running stand-in.

    Attributes:
        grpc: Address of the gRPC endpoint as host:port.
        fault: The fault of recognitions; None forwards all.
        recognitions: Number of recognitions that arrived.
    """

    grpc: str
    fault: Fault | None
    recognitions: int = 0
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _lock: Lock = field(default_factory=Lock)

    def infer(self, context: Any) -> None:
        """Count a recognition and inject its fault."""
        with self._lock:
            number = next(self._numbers)
            self.recognitions += 1
        if self.fault:
            self.fault(number, context)


def _forwarding(running: FaultyServer, channel: Any) -> Any:
    """Handlers of all methods of Triton that have one request and one response."""

    def handler(name: str) -> Any:
        forward = channel.unary_unary(f"/{_SERVICE.full_name}/{name}")

        def answer(request: bytes, context: Any) -> bytes:
            if name == "ModelInfer":
                running.infer(context)
            try:
                response: bytes = forward(request, timeout=60)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
                raise
            return response

        return grpc.unary_unary_rpc_method_handler(answer)

    names = [method.name for method in _SERVICE.methods if not method.server_streaming]
    return grpc.method_handlers_generic_handler(_SERVICE.full_name, {name: handler(name) for name in names})


@contextmanager
def faulty_server(target: str, fault: Fault | None = None) -> Iterator[FaultyServer]:
    """Serve on a free port of this machine until the block ends.

    Args:
        target: Address of the real server as host:port.
        fault: The fault of recognitions; None forwards all. It can be changed later.
    """
    with grpc.insecure_channel(target, _ANY_SIZE) as channel, ThreadPoolExecutor(100) as threads:
        server = grpc.server(threads, options=_ANY_SIZE)
        running = FaultyServer(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", fault)
        server.add_generic_rpc_handlers((_forwarding(running, channel),))
        server.start()
        try:
            yield running
        finally:
            server.stop(0).wait()
