"""What clients may do with the server by default: send requests by gRPC, and read about models.

Triton itself opens everything to everyone who reaches it. Administration lets a client load models, which run code, and
write files. HTTP and metrics let everyone who reaches their ports end Triton 2.51 (docs/security_server.md), so they
listen on this machine only.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping, Sequence

from server.python_library import LaunchError

OPEN = "--open"
"""Option of this launcher with the names of what stays open, separated by commas."""
ADMIN, HTTP_INFERENCE = "admin", "http-inference"
HELP = f"""\
Options of this command, beside Triton's:
  {OPEN} <list>
	Leave closed parts of the server open, separated by commas. {ADMIN}: administration by gRPC and HTTP (model control,
	shared memory, traces, logs). {HTTP_INFERENCE}: inference by HTTP. Default is none.

"""
KEY_VARIABLE = "NEMO_TRITON_ADMIN_KEY"
"""Environment variable with the value of the header that opens what is closed; by default a random value."""
KEY_HEADER = "nemo-triton-admin"
_ADMINISTRATION = ("model-repository", "shared-memory", "trace", "logging")
_LOCAL_HTTP = "--http-address=127.0.0.1"
"""Metrics listen there too, without a --metrics-address."""
_GRPC, _HTTP = "--grpc-restricted-protocol", "--http-restricted-api"


def restrict(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """Close administration and inference by HTTP, except to requests with the header, and HTTP to other machines.

    Options of the user's own replace these.

    Args:
        arguments: The command's arguments.
        environment: The process's environment variables.

    Returns:
        The arguments for Triton.

    Raises:
        LaunchError: `--open` has an unknown name, or the environment's key has a character that headers can't carry.
    """
    opened, others = _split(arguments)
    secret = environment.get(KEY_VARIABLE) or secrets.token_hex(16)
    if not re.fullmatch(r"[\w.-]+", secret, re.ASCII):
        raise LaunchError(f"{KEY_VARIABLE}: has a character that a header can't carry; use letters, digits, . _ -")
    key = f"{KEY_HEADER}={secret}"
    administration = () if ADMIN in opened else _ADMINISTRATION
    inference = () if HTTP_INFERENCE in opened else ("inference",)
    flags = [_LOCAL_HTTP]
    for option, closed in ((_GRPC, administration), (_HTTP, (*inference, *administration))):
        if closed:
            flags.append(f"{option}={','.join(closed)}:{key}")
    given = {argument.partition("=")[0] for argument in others}
    return [*(flag for flag in flags if flag.partition("=")[0] not in given), *others]


def _split(arguments: Sequence[str]) -> tuple[set[str], list[str]]:
    """The names that `--open` gives, and the other arguments."""
    opened: set[str] = set()
    others: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        option, equals, value = argument.partition("=")
        if option == OPEN:
            opened.update((value if equals else next(remaining, "")).split(","))
        else:
            others.append(argument)
    unknown = opened - {ADMIN, HTTP_INFERENCE}
    if unknown:
        raise LaunchError(f"{OPEN}={','.join(sorted(unknown))}: is unknown; use {ADMIN}, {HTTP_INFERENCE} or both")
    return opened, others
