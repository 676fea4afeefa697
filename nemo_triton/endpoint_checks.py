"""Checks of the servers behind one client: which are up, which hang, and which serve another export.

Calls are written as generators, as in calls.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException

from nemo_triton.addresses import Address
from nemo_triton.calls import single_call
from nemo_triton.contract import SAMPLE_RATE, Part
from nemo_triton.endpoint import Concurrently, Endpoint, EndpointCall, EndpointCalls, Pause, endpoint_calls
from nemo_triton.endpoint_errors import is_late, reason_of
from nemo_triton.endpoint_pool import EndpointPool
from nemo_triton.errors import RecognizerError, one_line
from nemo_triton.faults import Fault, fault_of
from nemo_triton.protocol import request
from nemo_triton.served_model import ServedModel, find_recognizer

CHECK_INTERVAL_SECONDS = 2.0
"""Seconds between two checks of all endpoints."""
CHECK_SECONDS = 4.0
"""Deadline of each call of a check."""

_CHECK_POLL_SECONDS = 0.01
_MAX_LATE_CHECKS = 2
"""An endpoint hangs if this many checks in a row miss their deadline."""


@dataclass(frozen=True)
class Export:
    """The export that all endpoints must serve.

    Attributes:
        model: The recognizer.
        endpoint: Name of the endpoint that described it.
    """

    model: ServedModel
    endpoint: str

    def difference(self, endpoint: Endpoint, model: ServedModel) -> str | None:
        """Return how the export of another endpoint differs; None if it is the same."""
        if (model.parity_id, model.steps) == (self.model.parity_id, self.model.steps):
            return None
        if model.parity_id == self.model.parity_id and (model.float_name is None) != (self.model.float_name is None):
            lacking = self.endpoint if self.model.float_name is None else endpoint.name
            return f"{Part.FLOAT.of(model.name)} is not loaded at {lacking}, but at the other server"
        return (
            f"{model.name} at {endpoint.name} is another export than at {self.endpoint} "
            f"(parity_id {model.parity_id} and {self.model.parity_id})"
        )


@dataclass(frozen=True)
class EndpointChecks:
    """Checks of the endpoints of a pool.

    Attributes:
        pool: The endpoints.
        open: Function that creates Triton's client for an address.
        export: The export that they must serve.
    """

    pool: EndpointPool
    open: Callable[[Address], Any]
    export: Export

    def check_all(self, addresses: Sequence[Address]) -> EndpointCalls[None]:
        """Find endpoints that are new, that went down or hang, and that recovered.

        Args:
            addresses: The present addresses of the servers.
        """
        gone = self._update(addresses)
        endpoints = self.pool.all
        if len(endpoints) > 1:
            yield Concurrently([self._check_and_probe(endpoint) for endpoint in endpoints])
        elif endpoints[0].in_flight:
            yield from self._check_only_endpoint(endpoints[0])
        for endpoint in self.pool.remove(gone):
            yield EndpointCall(endpoint, "close", {})

    def check(self, endpoint: Endpoint) -> EndpointCalls[None]:
        """Check an endpoint, or wait for the check that is under way: many requests fail together."""
        with self.pool.lock:
            begins, endpoint.checking = not endpoint.checking, True
        if begins:
            try:
                yield from self._check_export(endpoint)
            finally:
                endpoint.checking = False
        while endpoint.checking:
            yield Pause(_CHECK_POLL_SECONDS)

    def _check_and_probe(self, endpoint: Endpoint) -> EndpointCalls[None]:
        """Check an endpoint, find out whether it hangs, and probe it at the end of an ejection."""
        yield from self.check(endpoint)
        now = time.monotonic()
        if self.pool.is_silent(endpoint, now):
            if endpoint.usable:
                self.pool.eject(endpoint, f"no answer to a request for {self.pool.silence(endpoint, now):.0f} s")
            # The last endpoint in use is not ejected; its requests have nowhere else to go.
            if not endpoint.usable:
                yield from self._reopen(endpoint)
        if endpoint.up and endpoint.ejected_until is not None and now >= endpoint.ejected_until:
            yield from self._probe(endpoint)

    def _check_only_endpoint(self, endpoint: Endpoint) -> EndpointCalls[None]:
        """Check that the only endpoint does not hang. gRPC's keepalive can't: Triton refuses frequent pings."""
        try:
            yield from endpoint_calls(endpoint, single_call("is_server_live", {}), CHECK_SECONDS)
        except RecognizerError as error:
            endpoint.late_checks = endpoint.late_checks + 1 if is_late(error) else 0
            if endpoint.late_checks == _MAX_LATE_CHECKS:
                endpoint.late_checks = 0
                yield from self._reopen(endpoint)
            return
        endpoint.late_checks = 0

    def _check_export(self, endpoint: Endpoint) -> EndpointCalls[None]:
        """Check that an endpoint serves the same export, and use it or leave it out."""
        try:
            model = yield from endpoint_calls(endpoint, find_recognizer(self.export.model.name), CHECK_SECONDS)
        except RecognizerError as error:
            if is_late(error):
                endpoint.late_checks += 1
                if endpoint.up and endpoint.late_checks < _MAX_LATE_CHECKS:
                    return
            self.pool.leave_out(endpoint, reason_of(error))
            if is_late(error) and endpoint.in_flight:
                yield from self._reopen(endpoint)
            return
        endpoint.late_checks = 0
        difference = self.export.difference(endpoint, model)
        if difference:
            self.pool.leave_out(endpoint, difference)
        elif not endpoint.up:
            self.pool.join(endpoint)

    def _probe(self, endpoint: Endpoint) -> EndpointCalls[None]:
        """Use an ejected endpoint again if a few recognitions succeed. A sick server can still say that it is ready."""
        silence = request(self.export.model, np.zeros(SAMPLE_RATE, np.int16), log_probs=False)
        for _ in range(self.pool.policy.probes):
            try:
                yield EndpointCall(endpoint, "infer", {**silence, "client_timeout": self.pool.policy.probe_seconds})
            except InferenceServerException as error:
                # A full queue says nothing. The next check probes again.
                if fault_of(error) is not Fault.QUEUE:
                    self.pool.eject(endpoint, f"a probe failed: {one_line(error.message())}")
                return
        self.pool.readmit(endpoint)

    def _reopen(self, endpoint: Endpoint) -> EndpointCalls[None]:
        """Cancel the pending requests of a hanging endpoint, so that they fail or are retried on another."""
        hanging = Endpoint(endpoint.address, endpoint.connection)
        endpoint.connection = self.open(endpoint.address)
        yield EndpointCall(hanging, "close", {})

    def _update(self, addresses: Sequence[Address]) -> list[Endpoint]:
        """Connect to new addresses, and return the endpoints whose address is gone."""
        endpoints = self.pool.all
        known = {endpoint.address for endpoint in endpoints}
        self.pool.add([Endpoint(address, self.open(address)) for address in addresses if address not in known])
        resolved = {address.url for address in addresses}
        # A host name that can't be looked up at the moment keeps its servers.
        return [
            endpoint for endpoint in endpoints if endpoint.address not in addresses and endpoint.address.url in resolved
        ]
