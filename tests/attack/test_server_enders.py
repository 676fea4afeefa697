"""Requests that end Triton: what the program reports, and the table of the committed page."""

from __future__ import annotations

from pathlib import Path

import pytest
from locations import DEMO_CHECKPOINT, ROOT

from verification.attack.hostile_requests import REQUESTS
from verification.attack.server_enders import (
    CLOSED,
    LAUNCHES,
    attempt_all,
    short,
    table,
)

PAGE = ROOT / "docs" / "security_server.md"


def committed_table() -> list[str]:
    after = PAGE.read_text(encoding="utf-8").partition("server-enders:begin -->")[2]
    return after.partition("<!--")[0].strip().splitlines()


def test_a_server_that_ends_is_reported_and_replaced(repository: Path) -> None:
    names = ["negative shape", "parameter `classification` on TEXT", "no data"]
    requests = [next(request for request in REQUESTS if (request.protocol, request.name) == ("gRPC", n)) for n in names]
    results = list(attempt_all(repository, DEMO_CHECKPOINT.stem, (), requests))
    assert [request for request, _, _ in results] == requests
    assert [serves for _, _, serves in results] == [True, False, True]
    assert [short(result) for _, result, _ in results][::2] == ["refused: INVALID_ARGUMENT"] * 2
    assert results[1][1].startswith("**server ends**")


@pytest.mark.fast
@pytest.mark.parametrize(
    ("result", "cell"),
    [
        ("answered: coffee_ctc", "answered"),
        ('answered: 400 {"error":"inference: header"}', "refused: 400"),
        ("answered: 200 {}", "answered: 200"),
        ('answered: 403 {"error":"This API is restricted"}', "refused: restricted"),
        ("refused: NOT_FOUND: Unable to find: region", "refused: NOT_FOUND"),
        ("connection closed: [Errno 104] reset: by peer", "connection closed"),
        ("**server ends** (SIGSEGV)", "**server ends** (SIGSEGV)"),
    ],
)
def test_cells_say_what_happened(result: str, cell: str) -> None:
    assert short(result) == cell


@pytest.mark.fast
def test_the_committed_table_has_every_request() -> None:
    committed = committed_table()
    written = table({request: [""] * len(LAUNCHES) for request in REQUESTS}).splitlines()
    columns = 3

    def left(row: str) -> list[str]:
        return [cell.strip() for cell in row.split("|")[1 : columns + 1]]

    assert [left(row) for row in committed] == [left(row) for row in written]


@pytest.mark.fast
def test_the_committed_table_shows_no_open_door() -> None:
    committed = committed_table()[2:]
    ended = [
        request.name
        for request, row in zip(REQUESTS, committed, strict=True)
        if (request.protocol, request.access) in CLOSED and "ends" in row.split("|")[-2]
    ]
    assert not ended
