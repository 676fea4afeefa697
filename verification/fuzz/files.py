"""Mutated run logs and certificates, as hypothesis strategies."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

_TEXTS = st.sampled_from(
    [
        *("", " ", "a\0b", "a\nb", "\x1b[2Ja", "\ud800", "\udc80", "\U0001f600", "\u2028", "a/" * 40_000, "x" * 300),
        *("NaN", "1e999"),
    ]
) | st.text(max_size=20)


def mutated_json_lines(lines: list[dict[str, Any]]) -> st.SearchStrategy[bytes]:
    """JSON lines in which some values, at any depth, are replaced or missing."""
    names = sorted({key for _, key in _places(lines) if isinstance(key, str)})
    values = _json(st.sampled_from([*names, "", "x"]))

    @st.composite
    def build(draw: st.DrawFn) -> bytes:
        rows: list[Any] = json.loads(json.dumps(lines))
        for _ in range(draw(st.integers(0, 3))):
            container, key = draw(st.sampled_from(list(_places(rows))))
            if not (key in container if isinstance(container, dict) else key < len(container)):
                continue
            if draw(st.booleans()):
                container[key] = draw(values)
            else:
                del container[key]
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        if draw(st.integers(0, 5)) == 0 and content:
            place = draw(st.integers(0, len(content) - 1))
            content = content[:place] + draw(st.binary(max_size=4) | st.just(b"[" * 100_000)) + content[place + 1 :]
        return content

    return build()


def _json(names: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.sampled_from([10**400, -(10**300), 2**63])
        | st.floats()
        | _TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
        max_leaves=6,
    )


def _places(value: Any) -> Any:
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


_PEM = (
    b"-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQ1Y=\n-----END CERTIFICATE-----\n",
    b"-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQ==\n-----END PRIVATE KEY-----\n",
    b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIBvTBX\n-----END ENCRYPTED PRIVATE KEY-----\n",
    b"-----BEGIN CERTIFICATE-----\n",
    b"-----BEGIN \0-----\n",
)


def pem_files() -> st.SearchStrategy[bytes]:
    """The content of a PEM file: blocks that hold no certificate, and random bytes."""
    return st.lists(st.sampled_from(_PEM) | st.binary(max_size=60), max_size=4).map(b"".join)
