"""Several servers behind one client: which server gets a request, and errors of servers that can't be used."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from bench_files import Spoken
from several_servers import Loop, Serve, both, settled_count

from nemo_triton.audio import Samples
from nemo_triton.errors import RecognizerError, ServerUnavailableError
from nemo_triton.loadtest.servers import Servers
from nemo_triton.recognizer import AsyncRecognizer, Recognizer, list_recognizers
from server.process import Server, running_server


async def test_concurrent_requests_are_split_evenly(
    pair: tuple[Server, Server], triton: Any, recordings: list[Samples], served_texts: list[str]
) -> None:
    before = [settled_count(server, triton.model) for server in pair]
    async with AsyncRecognizer(triton.model, both(pair)) as recognizer:
        # As many as fit both encoders' queues: a refused request moves to the other server.
        rounds = [await asyncio.gather(*map(recognizer.transcribe, recordings)) for _ in range(4)]
    answered = [transcript for transcripts in rounds for transcript in transcripts]
    assert [transcript.text for transcript in answered] == served_texts * 4
    counts = [settled_count(server, triton.model) - earlier for server, earlier in zip(pair, before, strict=True)]
    assert sum(counts) == len(answered) and min(counts) > 0.4 * sum(counts)


async def test_a_closed_loop_uses_both_servers(
    pair: tuple[Server, Server], triton: Any, recordings: list[Samples], served_texts: list[str]
) -> None:
    before = [settled_count(server, triton.model) for server in pair]
    async with AsyncRecognizer(triton.model, both(pair)) as recognizer:
        loop = Loop(recognizer, recordings, concurrency=8)
        # The servers are equal, but their share of this machine's cores varies.
        await loop.until(lambda: len(loop.answers) >= 200 and min(loop.by_endpoint()[s.grpc] for s in pair) >= 40)
        await loop.stop()
        counted = await Servers(recognizer).counters_by_period()
    loop.check(served_texts)
    counts = [settled_count(server, triton.model) - earlier for server, earlier in zip(pair, before, strict=True)]
    assert sum(counts) == len(loop.answers)
    assert loop.by_endpoint() == dict(zip((server.grpc for server in pair), counts, strict=True))
    total = {period.endpoint: snapshot[triton.model].inferences for period, snapshot in counted.items()}
    assert total == {server.grpc: settled_count(server, triton.model) for server in pair}


def test_sequential_requests_alternate_between_servers(
    pair: tuple[Server, Server], triton: Any, recordings: list[Samples]
) -> None:
    with Recognizer(url=[server.grpc for server in pair]) as recognizer:
        endpoints = [recognizer.transcribe(samples).endpoint for samples in recordings[:10]]
    assert set(endpoints) == {server.grpc for server in pair}
    assert all(first != second for first, second in pairwise(endpoints))
    assert list_recognizers(both(pair)) == [triton.model]


def test_the_slower_server_gets_fewer_requests(
    pair: tuple[Server, Server], triton: Any, recordings: list[Samples]
) -> None:
    slow, quick = pair
    with (
        Recognizer(triton.model, slow.grpc) as other,
        ThreadPoolExecutor(16) as others,
        ThreadPoolExecutor(4) as threads,
    ):
        busy = [others.submit(other.transcribe, samples) for samples in recordings * 12]
        with Recognizer(triton.model, both(pair)) as recognizer:
            answers = Counter(done.endpoint for done in threads.map(recognizer.transcribe, recordings * 3))
        assert not all(done.done() for done in busy), "the slow server was busy to the end"
    assert answers[quick.grpc] > answers[slow.grpc] > 0


def test_different_exports_are_refused_with_both_servers_named(
    pair: tuple[Server, Server], serve: Serve, run_command: Any, repository: Path, triton: Any, tmp_path: Path
) -> None:
    shutil.copytree(repository, tmp_path / "models")
    config = tmp_path / "models" / triton.model / "config.pbtxt"
    with Recognizer(triton.model, triton.url) as recognizer:
        parity_id = str(recognizer.model.parity_id)
    config.write_text(config.read_text().replace(parity_id, "0123456789abcdef"))
    with serve(models=tmp_path / "models") as another:
        done = run_command(
            "transcribe", "nemo_triton/demo_speech/manifest.jsonl", "--url", f"{pair[0].grpc},{another.grpc}"
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    for named in (pair[0].grpc, another.grpc, parity_id, "0123456789abcdef", "serve the same export"):
        assert named in done.stderr


def test_a_missing_server_is_one_warning(
    pair: tuple[Server, Server], run_command: Any, spoken: Spoken, served_texts: list[str], absent_url: str
) -> None:
    done = run_command("transcribe", spoken[0][0], "--url", f"{absent_url},{pair[0].grpc}")
    assert (done.returncode, done.stdout) == (0, f"{served_texts[0]}\n")
    assert done.stderr.startswith(f"warning: {absent_url}: not used until it recovers") and done.stderr.count("\n") == 1


def test_the_error_names_each_server_if_all_are_missing(run_command: Any, spoken: Spoken, absent_url: str) -> None:
    done = run_command("transcribe", spoken[0][0], "--url", f"{absent_url},127.0.0.1:1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert absent_url in done.stderr and "127.0.0.1:1" in done.stderr
    with pytest.raises(ServerUnavailableError, match=absent_url):
        list_recognizers(["127.0.0.1:1", absent_url])


def test_the_same_error_of_several_servers_is_printed_once(
    triton_of_all: str, repository: Path, run_command: Any, spoken: Spoken, absent_url: str
) -> None:
    error = "error: several models are served; choose one with --model: coffee_ctc, coffee_rnnt"
    with running_server(repository) as other:
        both = f"{triton_of_all},{other.grpc}"
        for urls, expected in ((both, error), (f"{both},{absent_url}", f"{error}; {absent_url} can't be reached")):
            done = run_command("transcribe", spoken[0][0], "--url", urls)
            assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{expected}\n")


def test_different_errors_of_several_servers_name_each_server(
    pair: tuple[Server, Server], triton_of_all: str, run_command: Any, spoken: Spoken
) -> None:
    done = run_command("transcribe", spoken[0][0], "--url", f"{triton_of_all},{pair[0].grpc}", "--model", "none")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    for server, known in ((triton_of_all, "coffee_ctc, coffee_rnnt"), (pair[0].grpc, "coffee_ctc")):
        assert f"{server}: model none is not served; recognizers served: {known}" in done.stderr


def test_closing_a_client_ends_its_thread(pair: tuple[Server, Server], triton: Any) -> None:
    recognizer = Recognizer(triton.model, both(pair))
    watch = recognizer._watch
    assert watch.is_alive()
    with suppress(RecognizerError):
        recognizer.close()
    assert not watch.is_alive()
