"""The servers behind one client: which of them gets a request, and what happens to it where one goes away.

A request goes to the server with the fewest of this client's requests in flight; among equals, to the one whose turn
is the longest ago. So servers of one speed get the same share, and a slower one gets less.

A host name with several addresses, as a headless service of Kubernetes has, is a server at each of them. They are
looked up here and not by gRPC's own round_robin policy: that looks again only after a connection broke, and so never
finds the servers that an autoscaler adds; and it does not tell which server answered.

All of this are generators of calls to the targets' connections, as in protocol.py.
"""

from __future__ import annotations

import logging
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from threading import Lock
from typing import Any, TypeAlias

from tritonclient.utils import InferenceServerException

from nemo_triton.errors import RecognizerError, ServerUnavailableError, one_line
from nemo_triton.protocol import Answer, Answered, Calls, ServedModel, explain, explain_request, find_recognizer
from nemo_triton.tls import Tls, diagnosis

DEFAULT_URL = "localhost:8001"
LOOK_SECONDS = 2.0
"""Between two looks at which targets there are and which of them answer."""

_QUESTION_SECONDS = 10.0
"""Questions about the server are answered at once or not at all."""
_CHECK_SECONDS = 5.0
_LATE_LOOKS = 2
"""A target that was late with its answer so often in a row is taken to hang."""
_GONE = ("StatusCode.UNAVAILABLE", "StatusCode.NOT_FOUND", "StatusCode.CANCELLED")
"""No server, or one that has no room, is ending (Triton unloads its models first) or was found to hang."""
_MOST_TIMES = 2
"""That a target is asked for the same request, which might be what ends it."""
_OUR_OWN_FAULT = ("StatusCode.INVALID_ARGUMENT", "StatusCode.DEADLINE_EXCEEDED")
_MESSAGE_BYTES = 2**31 - 1
_THIS_MACHINE = ("127.0.0.1", "::1")
"""What localhost stands for."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Address:
    """Where one server listens. `shown`: as host:port, which gRPC takes; `url`: what was asked for, as host:port."""

    url: str
    shown: str

    @property
    def host(self) -> str:
        """That the server's certificate must name."""
        return split(self.url)[0]

    @property
    def channel_arguments(self) -> list[tuple[str, str | int]]:
        """Of gRPC."""
        arguments: list[tuple[str, str | int]] = [
            ("grpc.max_send_message_length", _MESSAGE_BYTES),
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
            # gRPC's own wait is up to two minutes long, in which a server that is back would not be found.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", round(LOOK_SECONDS * 1000)),
            # Or a new connection in place of one that hangs would be that one again.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if self.shown != self.url:
            arguments += [("grpc.default_authority", self.url), ("grpc.ssl_target_name_override", self.host)]
        return arguments


@dataclass(eq=False)
class Target:
    """One server. `connection`: Triton's client for it; `problem`: why it is left out, None where it is not."""

    address: Address
    connection: Any
    in_flight: int = 0
    up: bool = False
    problem: str | None = None
    late_looks: int = 0
    times_joined: int = 0

    @property
    def name(self) -> str:
        return self.address.shown


@dataclass(frozen=True)
class Call:
    """A method of Triton's client to call on a target's connection."""

    target: Target
    method: str
    arguments: dict[str, Any]


TargetCalls: TypeAlias = Generator[Call | Callable[[], Any], Any, Answer]
"""Calls to targets, and functions that block, whose results are sent back."""


@dataclass
class Targets:
    """The servers at `urls`. `connect`: makes Triton's client for an address.

    Threads may share it.
    """

    urls: tuple[str, ...]
    tls: Tls | None
    open: Callable[[Address], Any]
    model: ServedModel = field(init=False)
    """What all of them serve; known once connected."""
    _targets: list[Target] = field(default_factory=list, init=False)
    """Those whose turn is the longest ago first."""
    _leaving: list[Target] = field(default_factory=list, init=False)
    _described_by: str = field(default="", init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    @property
    def all(self) -> list[Target]:
        """In the order of their names."""
        with self._lock:
            return sorted(self._targets, key=lambda target: target.name)

    @property
    def up(self) -> list[Target]:
        """Those that are asked."""
        return [target for target in self.all if target.up]

    @property
    def may_change(self) -> bool:
        """Whether there is anything to look after: several targets, or a name whose addresses may come and go."""
        return len(self._targets) > 1 or any(not _is_fixed(split(url)[0]) for url in self.urls)

    def connect(self, name: str | None) -> TargetCalls[None]:
        """Find the recognizer `name`, or the only one there is, on every target.

        A target that does not answer or does not have it is left out, with a line in the log, if there is another.
        Raises ServerUnavailableError, UnknownModelError or RecognizerError; the latter where targets differ.
        """
        found_addresses: list[Address] = yield partial(resolve, self.urls)
        unknown = {*self.urls} - {address.url for address in found_addresses}
        # gRPC says best what is wrong with a name.
        addresses = found_addresses + [Address(url, url) for url in unknown]
        # Many clients that ask once or twice would all ask the first one.
        self._targets = [Target(address, self.open(address)) for address in random.sample(addresses, len(addresses))]
        errors: dict[Target, RecognizerError] = {}
        for target in self._targets:
            try:
                found = yield from asked_of(target, find_recognizer(self.model.name if self._described_by else name))
            except RecognizerError as error:
                errors[target] = yield from self._with_diagnosis(target, error)
                continue
            if not self._described_by:
                self.model, self._described_by = found, target.name
            difference = self._difference(target, found)
            if difference:
                raise RecognizerError(f"{difference}; serve the same export on both, or ask one of them")
            target.up, target.times_joined = True, 1
        if not self._described_by:
            raise worst(errors)
        for target, problem in errors.items():
            self._leave_out(target, _reason(problem).removeprefix(f"{target.name}: "))

    def recognition(self, model: ServedModel, arguments: dict[str, Any], seconds: float) -> TargetCalls[Answered]:
        """What comes of one `infer` of a model with these arguments.

        Where a target goes away it is asked for at another, within the same time. Raises RecognitionError.
        """
        deadline = time.monotonic() + seconds
        asked: Counter[Target] = Counter()
        tried: set[Target] = set()
        while True:
            target = self._take(tried)
            asked[target] += 1
            try:
                left = max(deadline - time.monotonic(), 0.001)
                result = yield Call(target, "infer", {**arguments, "client_timeout": left})
                return Answered(result, target.name, asked.total())
            except InferenceServerException as error:
                failure = error
            finally:
                with self._lock:
                    target.in_flight -= 1
            gone = yield from self._is_gone(target, failure)
            # One that went away may be asked once more when it is back, one that refused may not.
            if target.up or asked[target] == _MOST_TIMES:
                tried.add(target)
            if not gone or time.monotonic() > deadline or not any(other not in tried for other in self.up):
                explained = explain_request(failure, model, target.name, seconds)
                explained.attempts = asked.total()
                raise explained from failure

    def look(self) -> TargetCalls[None]:
        """Find targets that are new, that went away, and that are back."""
        gone = self._update((yield partial(resolve, self.urls)))
        if len(self.all) > 1:
            for target in self.all:
                yield from self._check(target)
        with self._lock:
            self._targets = [target for target in self._targets if target not in gone]
            self._leaving += gone
            left = [target for target in self._leaving if not target.in_flight]
            self._leaving = [target for target in self._leaving if target not in left]
        for target in left:
            yield Call(target, "close", {})

    def close(self) -> TargetCalls[None]:
        """End all connections."""
        for target in (*self._targets, *self._leaving):
            yield Call(target, "close", {})

    def _take(self, tried: set[Target]) -> Target:
        with self._lock:
            # Where none is known to answer, one may have come back since the last look.
            fit = [target for target in self._targets if target.up and target not in tried] or self._targets
            target = min(fit, key=lambda target: target.in_flight)
            self._targets.remove(target)
            self._targets.append(target)
            target.in_flight += 1
            return target

    def _is_gone(self, target: Target, failure: InferenceServerException) -> TargetCalls[bool]:
        """Whether a failure is the target's, so that another may do better."""
        if self.all == [target] or failure.status() in _OUR_OWN_FAULT:
            return False
        if not target.up:
            return True
        yield from self._check(target)
        return not target.up or failure.status() in _GONE

    def _check(self, target: Target) -> TargetCalls[None]:
        """Look whether a target serves what it should, and take it in or leave it out."""
        try:
            found = yield from asked_of(target, find_recognizer(self.model.name), _CHECK_SECONDS)
        except RecognizerError as error:
            if _is_late(error):
                target.late_looks += 1
                if target.up and target.late_looks < _LATE_LOOKS:
                    return
            self._leave_out(target, _reason(error))
            if _is_late(error) and target.in_flight:
                yield from self._reopen(target)
            return
        target.late_looks = 0
        difference = self._difference(target, found)
        if difference:
            self._leave_out(target, difference)
        elif not target.up:
            came = "is new and asked" if target.problem is None else "is back and asked again"
            target.up, target.problem = True, None
            target.times_joined += 1
            _log.info("%s: %s", target.name, came)

    def _reopen(self, target: Target) -> TargetCalls[None]:
        """End the requests in flight at a target that hangs, so that they are asked for elsewhere."""
        hanging = Target(target.address, target.connection)
        target.connection = self.open(target.address)
        yield Call(hanging, "close", {})

    def _leave_out(self, target: Target, problem: str) -> None:
        with self._lock:
            known, target.problem, target.up = target.problem, problem, False
        if known is None:
            _log.warning("%s: left out until it is back, others are asked (%s)", target.name, problem)

    def _difference(self, target: Target, found: ServedModel) -> str | None:
        if (found.parity_id, found.steps) == (self.model.parity_id, self.model.steps):
            return None
        return (
            f"{found.name} at {target.name} is another export than at {self._described_by} "
            f"(parity_id {found.parity_id} and {self.model.parity_id})"
        )

    def _update(self, addresses: Sequence[Address]) -> list[Target]:
        """Open what is new, to be checked; returns the targets that are gone."""
        known = {target.address for target in self.all}
        fresh = [Target(address, self.open(address)) for address in addresses if address not in known]
        found = {address.url for address in addresses}
        with self._lock:
            self._targets += fresh
            # A name that can't be looked up just now has lost no server.
            return [t for t in self._targets if t.address not in addresses and t.address.url in found]

    def _with_diagnosis(self, target: Target, error: RecognizerError) -> TargetCalls[RecognizerError]:
        if not isinstance(error, ServerUnavailableError):
            return error
        host, port = split(target.name)
        reason = yield partial(diagnosis, host, port, target.address.host, self.tls)
        return ServerUnavailableError(f"{target.name}: {reason}") if reason else error


def asked_of(target: Target, calls: Calls[Answer], seconds: float = _QUESTION_SECONDS) -> TargetCalls[Answer]:
    """Questions about a server, put to this one. Raises RecognizerError."""
    answer = None
    try:
        while True:
            method, arguments = calls.send(answer)
            answer = yield Call(target, method, {**arguments, "client_timeout": seconds})
    except StopIteration as done:
        result: Answer = done.value
        return result
    except InferenceServerException as error:
        raise explain(error, target.name, seconds) from error


def checked(url: str | Sequence[str]) -> tuple[str, ...]:
    """Each host:port of a text with commas between them, or of a sequence. Raises RecognizerError for others."""
    urls = tuple(part.strip() for part in (url.split(",") if isinstance(url, str) else url))
    for part in urls:
        if "://" in part:
            raise RecognizerError(f"{part}: is not host:port; leave out what comes before //, e.g. {DEFAULT_URL}")
        host, port = part.rpartition(":")[::2]
        if not _is_host(host) or not _is_port(port):
            raise RecognizerError(f"{part or 'an empty URL'}: is not host:port; write it as in {DEFAULT_URL}")
    if not urls:
        raise RecognizerError(f"no server is named; give host:port, e.g. {DEFAULT_URL}")
    for number, part in enumerate(urls):
        earlier = next((url for url in urls[:number] if _place(url) == _place(part)), None)
        if earlier:
            problem = "is given twice" if earlier == part else f"is the same server as {earlier}"
            raise RecognizerError(f"{part}: {problem}; name each server once")
    return urls


def split(url: str) -> tuple[str, int]:
    """Host and port of host:port; an IPv6 address without its brackets."""
    host, _, port = url.rpartition(":")
    return host.strip("[]"), int(port)


def resolve(urls: Sequence[str]) -> list[Address]:
    """An address for each server at `urls`: the URL itself where its host has one; none for a host that is not found.

    A host with addresses of both families, IPv4 and IPv6, has each of its servers in both: one of them is taken.
    """
    addresses: dict[str, Address] = {}
    for url in urls:
        host, port = split(url)
        families: dict[int, list[str]] = {}
        with suppress(OSError):
            for family, *_, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                families.setdefault(family, []).append(str(where[0]))
        if not families:
            continue
        found = max(families.values(), key=len)
        several = [f"[{each}]:{port}" if ":" in each else f"{each}:{port}" for each in sorted(set(found))]
        # gRPC itself finds the one of its addresses that answers, and the one that it moves to.
        for shown in several if len(several) > 1 else [url]:
            addresses.setdefault(shown, Address(url, shown))
    return list(addresses.values())


def _is_host(text: str) -> bool:
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return bool(text) and (":" not in text or text.startswith("["))


def _is_port(text: str) -> bool:
    return text.isdecimal() and 0 < int(text) < 2**16


def _place(url: str) -> tuple[str, int]:
    """The same for all ways to write an address. Names are not looked up: a proxy may tell apart two that share one."""
    host, port = split(url.lower())
    with suppress(ValueError):
        host = str(ip_address(host))
    return "localhost" if host in _THIS_MACHINE else host, port


def _is_fixed(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_late(error: RecognizerError) -> bool:
    cause = error.__cause__
    return isinstance(cause, InferenceServerException) and cause.status() == "StatusCode.DEADLINE_EXCEEDED"


def _reason(error: RecognizerError) -> str:
    cause = error.__cause__
    return one_line(cause.message()) if isinstance(cause, InferenceServerException) else str(error)


def worst(errors: dict[Target, RecognizerError]) -> RecognizerError:
    """The error to raise where no target can be asked: what a server says rather than that there is none."""
    told = sorted(errors, key=lambda target: (isinstance(errors[target], ServerUnavailableError), target.name))
    error = errors[told[0]]
    answering = [target for target in told if not isinstance(errors[target], ServerUnavailableError)]
    said = str(error)
    if len({str(errors[target]) for target in answering}) > 1:
        said = "; ".join(f"{target.name}: {errors[target]}" for target in answering)
    absent = ", ".join(target.name for target in told[1:] if target not in answering)
    return type(error)(f"{said}; {absent} can't be reached" if absent else said)
