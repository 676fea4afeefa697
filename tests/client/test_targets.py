"""Several servers behind one client."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from bench_files import Spoken, answers
from google.protobuf import text_format
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.grpc.service_pb2 import ModelConfigResponse, RepositoryIndexResponse
from tritonclient.utils import InferenceServerException

from nemo_triton.audio import Samples, load_audio
from nemo_triton.endpoints import Targets, checked, resolve
from nemo_triton.errors import RecognizerError, ServerUnavailableError, UnavailableError
from nemo_triton.protocol import Transcript
from nemo_triton.recognizer import AsyncRecognizer, Recognizer, _make, list_recognizers
from server.process import Server, running_server

Serve: TypeAlias = Callable[..., AbstractContextManager[Server]]


@pytest.fixture(scope="module")
def serve(repository: Path, triton: Any) -> Serve:
    """A server of the CTC model, on a port of its own or at `grpc`."""
    only = ["--model-control-mode=explicit", f"--load-model={triton.model}"]

    def start(grpc: str | None = None, models: Path = repository) -> AbstractContextManager[Server]:
        return running_server(models, only, grpc=grpc)

    return start


@pytest.fixture(scope="module")
def pair(serve: Serve) -> Iterator[tuple[Server, Server]]:
    """Two that no test may end."""
    with serve() as one, serve() as other:
        yield one, other


@pytest.fixture
def mortal(serve: Serve) -> Iterator[tuple[Server, Server]]:
    """Two that a test may kill."""
    with serve() as one, serve() as other:
        yield one, other


@pytest.fixture(scope="module")
def recordings(spoken: Spoken) -> list[Samples]:
    return [load_audio(path) for path, _ in spoken]


@pytest.fixture(scope="module")
def texts(triton: Any, recordings: list[Samples]) -> list[str]:
    """What a single server says."""
    with Recognizer(triton.model, triton.url) as recognizer:
        return [recognizer.transcribe(samples).text for samples in recordings]


def served(server: Server, model: str) -> int:
    """How many recognitions a server that rests has answered, by its own count: it counts after it has answered."""
    with InferenceServerClient(server.grpc) as client:

        def count() -> int:
            return int(client.get_inference_statistics(model).model_stats[0].inference_stats.success.count)

        found, since = count(), time.monotonic()
        while time.monotonic() < since + 0.5:
            time.sleep(0.05)
            if (later := count()) != found:
                found, since = later, time.monotonic()
        return found


def both(pair: tuple[Server, Server]) -> str:
    return ",".join(server.grpc for server in pair)


def restart(serve: Serve, server: Server, stack: ExitStack) -> Server:
    """Another at the address of one that has ended."""
    server.process.wait()
    return stack.enter_context(serve(server.grpc))


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Loop:
    """Keeps `at_once` requests in flight until it is told to stop; what comes back, in the order it does."""

    def __init__(self, recognizer: AsyncRecognizer, recordings: list[Samples], at_once: int = 6) -> None:
        self.answers: list[tuple[int, Transcript]] = []
        self._recognizer, self._recordings = recognizer, recordings
        self._number, self._stopped = 0, False
        self._senders = [asyncio.ensure_future(self._send()) for _ in range(at_once)]

    async def _send(self) -> None:
        while not self._stopped:
            place = self._number % len(self._recordings)
            self._number += 1
            self.answers.append((place, await self._recognizer.transcribe(self._recordings[place])))

    async def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline
            for sender in self._senders:
                if sender.done():
                    sender.result()
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Raises what a request failed with."""
        self._stopped = True
        await asyncio.gather(*self._senders)
        assert len(self.answers) == self._number

    def check(self, texts: list[str]) -> None:
        assert [transcript.text for _, transcript in self.answers] == [texts[place] for place, _ in self.answers]

    def by_target(self, since: int = 0) -> Counter[str]:
        return Counter(transcript.target for _, transcript in self.answers[since:])


async def test_calls_are_split_evenly(
    pair: tuple[Server, Server], triton: Any, recordings: list[Samples], texts: list[str]
) -> None:
    before = [served(server, triton.model) for server in pair]
    async with AsyncRecognizer(triton.model, both(pair)) as recognizer:
        asked = []
        for samples in recordings * 4:
            asked.append(asyncio.ensure_future(recognizer.transcribe(samples)))
            await asyncio.sleep(0.1)
        answered = await asyncio.gather(*asked)
    assert [transcript.text for transcript in answered] == texts * 4
    counts = [served(server, triton.model) - earlier for server, earlier in zip(pair, before, strict=True)]
    assert sum(counts) == len(answered) and min(counts) > 0.4 * sum(counts)


async def test_calls_of_a_busy_client_follow_the_speed_of_the_servers(
    pair: tuple[Server, Server], triton: Any, recordings: list[Samples], texts: list[str]
) -> None:
    before = [served(server, triton.model) for server in pair]
    async with AsyncRecognizer(triton.model, both(pair)) as recognizer:
        loop = Loop(recognizer, recordings, 8)
        # They are of one speed, but how much of this machine each gets meanwhile differs.
        await loop.until(lambda: len(loop.answers) >= 200 and min(loop.by_target()[s.grpc] for s in pair) >= 40)
        await loop.stop()
        counted = await recognizer.counters_by_target()
    loop.check(texts)
    counts = [served(server, triton.model) - earlier for server, earlier in zip(pair, before, strict=True)]
    assert sum(counts) == len(loop.answers)
    assert loop.by_target() == dict(zip((server.grpc for server in pair), counts, strict=True))
    total = {joined.target: snapshot[triton.model].inferences for joined, snapshot in counted.items()}
    assert total == {server.grpc: served(server, triton.model) for server in pair}


def test_one_by_one_they_take_turns(pair: tuple[Server, Server], triton: Any, recordings: list[Samples]) -> None:
    with Recognizer(url=[server.grpc for server in pair]) as recognizer:
        targets = [recognizer.transcribe(samples).target for samples in recordings[:10]]
    assert set(targets) == {server.grpc for server in pair}
    assert all(one != next_one for one, next_one in pairwise(targets))
    assert list_recognizers(both(pair)) == [triton.model]


def test_the_slower_server_gets_less(pair: tuple[Server, Server], triton: Any, recordings: list[Samples]) -> None:
    slow, quick = pair
    with Recognizer(triton.model, slow.grpc) as other, ThreadPoolExecutor(16) as company, ThreadPoolExecutor(4) as ours:
        busy = [company.submit(other.transcribe, samples) for samples in recordings * 12]
        with Recognizer(triton.model, both(pair)) as recognizer:
            targets = Counter(done.target for done in ours.map(recognizer.transcribe, recordings * 3))
        assert not all(done.done() for done in busy), "the slow one was busy to the end"
    assert targets[quick.grpc] > targets[slow.grpc] > 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_server_that_ends_costs_no_utterance_and_is_taken_up_again(
    mortal: tuple[Server, Server],
    serve: Serve,
    triton: Any,
    recordings: list[Samples],
    texts: list[str],
    number: signal.Signals,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one, other = mortal
    with ExitStack() as stack:
        async with AsyncRecognizer(triton.model, both(mortal)) as recognizer:
            loop = Loop(recognizer, recordings)
            await loop.until(lambda: len(loop.answers) > 40)
            one.process.send_signal(number)
            await asyncio.to_thread(one.process.wait)
            ended = len(loop.answers)
            await loop.until(lambda: len(loop.answers) > ended + 40)
            assert loop.by_target(ended + 6).keys() == {other.grpc}
            back = await asyncio.to_thread(restart, serve, one, stack)
            started = len(loop.answers)
            await loop.until(lambda: loop.by_target(started)[one.grpc] > 20)
            await loop.stop()
            assert served(back, triton.model) == loop.by_target(started)[one.grpc]
    loop.check(texts)
    (warning,) = caplog.messages
    assert warning.startswith(f"{one.grpc}: left out until it is back, others are asked (")


async def test_a_server_that_hangs_costs_no_utterance(
    mortal: tuple[Server, Server], triton: Any, recordings: list[Samples], texts: list[str]
) -> None:
    one, other = mortal
    async with AsyncRecognizer(triton.model, both(mortal)) as recognizer:
        loop = Loop(recognizer, recordings)
        await loop.until(lambda: len(loop.answers) > 20)
        one.process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(1)
            stopping = asyncio.ensure_future(loop.stop())
            await asyncio.wait_for(stopping, 60)
            assert loop.answers[-1][1].target == other.grpc
        finally:
            one.process.send_signal(signal.SIGCONT)
    loop.check(texts)


def test_threads_lose_none_either(
    mortal: tuple[Server, Server], serve: Serve, triton: Any, recordings: list[Samples], texts: list[str]
) -> None:
    one, other = mortal
    with Recognizer(triton.model, both(mortal)) as recognizer, ThreadPoolExecutor(6) as threads, ExitStack() as stack:
        waiting = [threads.submit(recognizer.transcribe, samples) for samples in recordings * 10]
        waiting[60].result()
        one.process.kill()
        done = [future.result() for future in waiting]
        assert [transcript.text for transcript in done] == texts * 10
        assert {transcript.target for transcript in done[-40:]} == {other.grpc}
        restart(serve, one, stack)
        wait_for(lambda: recognizer.transcribe(recordings[0]).target == one.grpc)


def test_the_user_sees_one_line(
    mortal: tuple[Server, Server], start_command: Any, triton: Any, spoken: Spoken, texts: list[str]
) -> None:
    paths = [path for path, _ in spoken] * 15
    process = start_command("transcribe", *paths, "--url", both(mortal))
    lines = [process.stdout.readline() for _ in range(40)]
    mortal[0].process.kill()
    lines += process.stdout.read().splitlines(keepends=True)
    stderr = process.stderr.read()
    assert process.wait(timeout=60) == 0
    expected = [f"{path}\t{text}\n" for path, text in zip(paths, texts * 15, strict=True)]
    assert lines == expected
    assert stderr.startswith(f"warning: {mortal[0].grpc}: left out") and stderr.count("\n") == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_the_user_sees_when_a_server_is_back(
    mortal: tuple[Server, Server], serve: Serve, start_command: Any, processes: int
) -> None:
    one, _ = mortal
    load = ("--rate", 10, "--duration", 110, "--processes", processes)
    process = start_command("bench", "--url", both(mortal), *load)
    one.process.kill()
    gone = process.stderr.readline()
    assert gone.startswith(f"warning: {one.grpc}: left out until it is back")
    with ExitStack() as stack:
        restart(serve, one, stack)
        assert process.stderr.readline() == f"info: {one.grpc}: is back and asked again\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert stderr.startswith("error: interrupted") and stderr.count("\n") == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_bench_measures_all_servers(
    pair: tuple[Server, Server], run_command: Any, triton: Any, spoken: Spoken, tmp_path: Path, processes: int
) -> None:
    metrics = [f"http://{server.metrics}/metrics" for server in pair]
    files = ("--rows", tmp_path / "rows.jsonl", "--json", tmp_path / "out.json")
    load = ("--requests", 600, "--concurrency", 6, "--processes", processes)
    done = run_command("bench", "--url", both(pair), "--metrics-url", ",".join(metrics), *load, *files)
    assert (done.returncode, done.stderr) == (0, "")
    figures = json.loads((tmp_path / "out.json").read_text())
    (found,) = figures["loads"]
    rows = Counter(row["target"] for row in answers(tmp_path / "rows.jsonl"))
    assert sum(rows.values()) == 600 and min(rows[server.grpc] for server in pair) > 0.2 * 600
    assert {target["target"]: target["answered"] for target in found["targets"]} == rows
    assert {target["target"]: target["recognizer"]["inferences"] for target in found["targets"]} == rows
    assert found["recognizer"]["inferences"] == found["steps"][0]["inferences"] == 600
    assert found["counters_complete"] and found["usages"].keys() <= {*metrics}
    assert all(f"│ {target} " in done.stdout for target in rows)
    assert figures["metrics_problem"] is None


@pytest.mark.parametrize("processes", [1, 2])
def test_bench_outlasts_one_of_its_servers(
    mortal: tuple[Server, Server], start_command: Any, run_command: Any, spoken: Spoken, tmp_path: Path, processes: int
) -> None:
    rows, output = tmp_path / "rows.jsonl", tmp_path / "out.json"
    load = ("--requests", 600, "--concurrency", 6, "--processes", processes)
    command = ("bench", "--url", both(mortal), *load, "--rows", rows, "--json", output)
    process = start_command(*command)
    wait_for(lambda: rows.exists() and rows.read_bytes().count(b"\n") > 100)
    mortal[0].process.kill()
    stdout, stderr = process.communicate(timeout=100)
    assert process.returncode == 0
    assert stderr.startswith(f"warning: {mortal[0].grpc}: left out") and stderr.count("\n") == 1
    found = answers(rows)
    assert sorted(row["number"] for row in found) == list(range(600))
    assert Counter(row["error"] for row in found) == {None: 600}
    asked_again = sum(row["attempts"] for row in found) - 600
    assert 1 <= asked_again <= 6, "what was in flight where one went away"
    (figures,) = json.loads(output.read_text())["loads"]
    assert (figures["answered"], figures["failed"], figures["counters_complete"]) == (600, 0, False)
    assert figures["retries"] == asked_again
    assert "servers that came or went" in stdout
    again = run_command(*command, "--resume")
    assert again.returncode == 0 and len(answers(rows)) == 600


def test_other_exports_are_named_with_both_servers(
    pair: tuple[Server, Server], serve: Serve, run_command: Any, repository: Path, triton: Any, tmp_path: Path
) -> None:
    shutil.copytree(repository, tmp_path / "models")
    config = tmp_path / "models" / triton.model / "config.pbtxt"
    with Recognizer(triton.model, triton.url) as recognizer:
        parity_id = str(recognizer.model.parity_id)
    config.write_text(config.read_text().replace(parity_id, "0123456789abcdef"))
    with serve(models=tmp_path / "models") as another:
        done = run_command("transcribe", "nemo_triton/demo_speech", "--url", f"{pair[0].grpc},{another.grpc}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    for named in (pair[0].grpc, another.grpc, parity_id, "0123456789abcdef", "serve the same export"):
        assert named in done.stderr


async def test_another_export_that_comes_back_is_left_out(
    mortal: tuple[Server, Server],
    serve: Serve,
    repository: Path,
    triton: Any,
    recordings: list[Samples],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copytree(repository, tmp_path / "models")
    config = tmp_path / "models" / triton.model / "config.pbtxt"
    one, other = mortal
    async with AsyncRecognizer(triton.model, both(mortal)) as recognizer:
        config.write_text(config.read_text().replace(str(recognizer.model.parity_id), "0123456789abcdef"))
        one.process.kill()
        one.process.wait()
        with serve(one.grpc, tmp_path / "models"):
            await asyncio.sleep(6)
            targets = {(await recognizer.transcribe(samples)).target for samples in recordings[:6]}
    assert targets == {other.grpc}
    assert [message.split(":")[0] for message in caplog.messages] == ["127.0.0.1"]


def test_a_server_that_is_not_there_is_one_warning(
    pair: tuple[Server, Server], run_command: Any, spoken: Spoken, texts: list[str], absent_url: str
) -> None:
    done = run_command("transcribe", spoken[0][0], "--url", f"{absent_url},{pair[0].grpc}")
    assert (done.returncode, done.stdout) == (0, f"{texts[0]}\n")
    assert done.stderr.startswith(f"warning: {absent_url}: left out") and done.stderr.count("\n") == 1


def test_where_none_is_there_each_is_named(run_command: Any, spoken: Spoken, absent_url: str) -> None:
    done = run_command("transcribe", spoken[0][0], "--url", f"{absent_url},127.0.0.1:1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert absent_url in done.stderr and "127.0.0.1:1" in done.stderr
    with pytest.raises(ServerUnavailableError, match=absent_url):
        list_recognizers(["127.0.0.1:1", absent_url])


def test_where_each_server_wants_a_model_named_it_is_said_once(
    triton_of_all: str, repository: Path, run_command: Any, spoken: Spoken, absent_url: str
) -> None:
    asking = "error: name the model to ask; recognizers served: coffee_ctc, coffee_rnnt"
    with running_server(repository) as other:
        both = f"{triton_of_all},{other.grpc}"
        for urls, expected in ((both, asking), (f"{both},{absent_url}", f"{asking}; {absent_url} can't be reached")):
            done = run_command("transcribe", spoken[0][0], "--url", urls)
            assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{expected}\n")


def test_what_servers_say_differently_is_said_with_their_names(
    pair: tuple[Server, Server], triton_of_all: str, run_command: Any, spoken: Spoken
) -> None:
    done = run_command("transcribe", spoken[0][0], "--url", f"{triton_of_all},{pair[0].grpc}", "--model", "none")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    for server, known in ((triton_of_all, "coffee_ctc, coffee_rnnt"), (pair[0].grpc, "coffee_ctc")):
        assert f"{server}: model none is not served; recognizers served: {known}" in done.stderr


def test_shared_memory_is_for_one_server(pair: tuple[Server, Server], run_command: Any) -> None:
    done = run_command("bench", "--url", both(pair), "--shared-memory")
    assert (done.returncode, done.stdout) == (2, "")
    assert "shared memory is for one server, on this machine" in done.stderr and done.stderr.count("\n") == 1


class Names:
    """Takes the place of the system's resolver for one name, whose addresses come and go as those of pods do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str = "triton.headless") -> None:
        self.name = name
        self.addresses: list[str] = []
        self._resolve = socket.getaddrinfo
        monkeypatch.setattr("socket.getaddrinfo", self._answer)

    def _answer(self, host: Any, port: Any, *arguments: Any, **more: Any) -> Any:
        if host != self.name:
            return self._resolve(host, port, *arguments, **more)
        if not self.addresses:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.addresses]


async def test_a_name_with_several_addresses_is_a_server_at_each(
    serve: Serve,
    triton: Any,
    recordings: list[Samples],
    texts: list[str],
    absent_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names, port = Names(monkeypatch), absent_url.rpartition(":")[2]
    pods = [f"127.0.0.{number}:{port}" for number in (1, 2, 3)]
    with ExitStack() as stack:
        for pod in pods[:2]:
            stack.enter_context(serve(pod))
        names.addresses = ["127.0.0.1", "127.0.0.2"]
        async with AsyncRecognizer(triton.model, f"{names.name}:{port}") as recognizer:
            loop = Loop(recognizer, recordings)
            await loop.until(lambda: min(loop.by_target()[pod] for pod in pods[:2]) > 10)
            assert loop.by_target().keys() == {*pods[:2]}
            stack.enter_context(serve(pods[2]))
            names.addresses.append("127.0.0.3")
            await loop.until(lambda: loop.by_target()[pods[2]] > 10)
            names.addresses.remove("127.0.0.1")
            await asyncio.sleep(4)
            since = len(loop.answers)
            await loop.until(
                lambda: len(loop.answers) > since + 60 and all(loop.by_target(since)[pod] for pod in pods[1:])
            )
            assert loop.by_target(since).keys() == {*pods[1:]}
            names.addresses.clear()
            await asyncio.sleep(4)
            since = len(loop.answers)
            # A resolver that fails takes no server away. On a busy machine one of them may be slow for a while.
            await loop.until(
                lambda: len(loop.answers) > since + 30 and all(loop.by_target(since)[pod] for pod in pods[1:])
            )
            assert loop.by_target(since).keys() == {*pods[1:]}
            await loop.stop()
        loop.check(texts)


async def test_a_request_at_a_server_that_leaves_the_name_and_ends_is_asked_for_at_the_last_one(
    serve: Serve,
    triton: Any,
    recordings: list[Samples],
    texts: list[str],
    absent_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # gRPC itself looks up a name with a single address, and does not ask the resolver of this test.
    names, port = Names(monkeypatch, "localhost"), absent_url.rpartition(":")[2]
    names.addresses = ["127.0.0.1", "127.0.0.2"]
    with serve(f"127.0.0.1:{port}"), serve(f"127.0.0.2:{port}") as leaving:
        async with AsyncRecognizer(triton.model, f"{names.name}:{port}") as recognizer:
            leaving.process.send_signal(signal.SIGSTOP)
            asked = [asyncio.ensure_future(recognizer.transcribe(samples)) for samples in recordings[:2]]
            await asyncio.sleep(0.2)
            names.addresses.remove("127.0.0.2")
            deadline = time.monotonic() + 30
            while recognizer.targets != [f"localhost:{port}"]:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            assert [request.done() for request in asked].count(False) == 1
            leaving.process.kill()
            answered = await asyncio.gather(*asked)
    assert [transcript.text for transcript in answered] == texts[:2]


class DyingConnection:
    """As Triton's client of a server that a certain request ends, and that is back soon after."""

    def __init__(self, config: Any) -> None:
        self.asked = 0
        self.alive = True
        self._config = config

    def infer(self, **arguments: Any) -> None:
        self.asked += 1
        self.alive = False
        raise InferenceServerException("Socket closed", "StatusCode.UNAVAILABLE")

    def is_server_live(self, client_timeout: float) -> bool:
        if not self.alive:
            raise InferenceServerException("Connection refused", "StatusCode.UNAVAILABLE")
        return True

    def get_model_repository_index(self, client_timeout: float) -> Any:
        return RepositoryIndexResponse(
            models=[RepositoryIndexResponse.ModelIndex(name=self._config.name, state="READY")]
        )

    def get_model_config(self, model_name: str, client_timeout: float) -> Any:
        return ModelConfigResponse(config=self._config)


def test_a_request_that_ends_servers_is_not_handed_round_for_ever(repository: Path, triton: Any) -> None:
    # None of our models can be ended by a request.
    text = (repository / triton.model / "config.pbtxt").read_text()
    connections = [DyingConnection(text_format.Parse(text, ModelConfig())) for _ in range(3)]
    unopened = iter(connections)
    targets = Targets(("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"), None, lambda address: next(unopened))
    _make(targets.connect(triton.model))
    asking = targets.recognition(targets.model, {}, 60)
    step: Any = next(asking)
    with pytest.raises(UnavailableError, match="Socket closed") as failed:
        while True:
            if step.method == "infer":
                # Whoever ended before is back by now.
                for connection in connections:
                    connection.alive = True
                _make(targets.look())
            try:
                answer = getattr(step.target.connection, step.method)(**step.arguments)
            except InferenceServerException as error:
                step = asking.throw(error)
            else:
                step = asking.send(answer)
    assert [connection.asked for connection in connections] == [2, 2, 2]
    assert failed.value.attempts == 6


def test_addresses_of_both_families_are_one_server(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = {
        "dual": ["::1", "127.0.0.1"],
        "pods": ["fd00::1", "fd00::2", "10.0.0.1", "10.0.0.2"],
        "plain": ["10.0.0.2", "10.0.0.1", "10.0.0.1"],
    }

    def answer(host: str, port: int, **more: Any) -> Any:
        if host not in hosts:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET6 if ":" in each else socket.AF_INET, 1, 6, "", (each, port)) for each in hosts[host]]

    monkeypatch.setattr("socket.getaddrinfo", answer)

    def shown(*urls: str) -> list[str]:
        return [address.shown for address in resolve(urls)]

    assert shown("dual:1") == ["dual:1"]
    assert shown("pods:1") == ["[fd00::1]:1", "[fd00::2]:1"]
    assert shown("plain:1", "dual:2", "gone:3") == ["10.0.0.1:1", "10.0.0.2:1", "dual:2"]


@pytest.mark.parametrize("url", ["", "localhost", "localhost:", "localhost:x", "a:1,", "a:1,a:1", "::1:8001", [], ":1"])
def test_what_is_not_a_list_of_servers_is_refused(url: Any) -> None:
    with pytest.raises(RecognizerError, match=r"host:port|given twice"):
        checked(url)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("localhost:8001", "127.0.0.1:8001"),
        ("[::1]:8001", "localhost:8001"),
        ("[fd00::1]:1", "[FD00:0::1]:1"),
        ("Triton:1", "triton:01"),
    ],
)
def test_one_server_by_two_ways_to_write_it_is_refused(one: str, other: str) -> None:
    with pytest.raises(RecognizerError, match=re.escape(f"{other}: is the same server as {one}; name each")):
        checked([one, "else:1", other])


def test_lists_of_servers() -> None:
    assert checked("localhost:1,localhost:2,127.0.0.2:1") == ("localhost:1", "localhost:2", "127.0.0.2:1")
    assert checked("a:1, b:2") == checked(["a:1", "b:2"]) == ("a:1", "b:2")
    assert checked("[::1]:8001") == ("[::1]:8001",)


def test_a_client_that_is_closed_leaves_no_thread(pair: tuple[Server, Server], triton: Any) -> None:
    recognizer = Recognizer(triton.model, both(pair))
    watch = recognizer._watch
    assert watch.is_alive()
    with suppress(RecognizerError):
        recognizer.close()
    assert not watch.is_alive()
