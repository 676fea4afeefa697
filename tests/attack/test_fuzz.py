"""Short runs of the fuzzers with fixed seeds."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import strategies as st
from locations import DEMO_CHECKPOINT, DEMO_MANIFEST, ROOT
from tritonclient.grpc import model_config_pb2
from written_pages import words_of

from benchmark.core.model_control import only
from server.process import running_server
from verification.fuzz.campaign import ENDED, Results, Settings, fuzz
from verification.fuzz.cases import Case, FuzzRequest
from verification.fuzz.folder_run import Results as FolderResults
from verification.fuzz.folder_run import texts_of, transcribe_folder
from verification.fuzz.inputs import Input
from verification.fuzz.isolated import IsolatedReader
from verification.fuzz.known_faults import CLASSIFICATION, SHAPE_OVERFLOW, SHAPE_WITHOUT_DATA
from verification.fuzz.page import readers_summary, requests_summary, transcribe_summary
from verification.fuzz.reader import Reader, UnexpectedResult, examine
from verification.fuzz.readers import READERS
from verification.fuzz.targets import Target
from verification.page_sections import write_section

MODEL = DEMO_CHECKPOINT.stem
REQUESTS = 600
FILES = 60


@pytest.fixture(scope="module")
def settings(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    findings = tmp_path_factory.mktemp("findings")
    return Settings(
        repository=repository, models=[MODEL], manifest=DEMO_MANIFEST, requests=REQUESTS, findings=findings, patience=60
    )


@pytest.fixture(scope="module")
def results(settings: Settings) -> Results:
    return fuzz(settings)


@pytest.fixture(scope="module")
def targets(repository: Path) -> list[Target]:
    files = [repository / name / "config.pbtxt" for name in (MODEL, f"{MODEL}_encoder", f"{MODEL}_decoder")]
    return [Target.of(text_format.Parse(file.read_text(), model_config_pb2.ModelConfig())) for file in files]


def test_no_mutated_request_ends_the_server_or_changes_a_text(results: Results) -> None:
    assert [finding.outcome for finding in results.findings] == []
    assert results.unexplained == []
    assert results.wrong == []
    assert results.sent >= REQUESTS
    assert results.good > 0


def test_mutated_requests_reach_every_stage(results: Results) -> None:
    answered = {model for protocol, model, result in results.counts if (protocol, result) == ("gRPC", "answered")}
    assert {MODEL, f"{MODEL}_encoder", f"{MODEL}_decoder", "audio"} <= answered


def test_inference_by_http_is_closed(results: Results) -> None:
    by_http = {result for protocol, _, result in results.counts if protocol == "HTTP"}
    assert "refused: 403 restricted" in by_http
    assert by_http <= {f"refused: {status}" for status in ("403 restricted", 400, 404, 405)}


def test_a_request_that_ends_the_server_is_identified_and_no_valid_request_is_lost(settings: Settings) -> None:
    # With this seed, request 76 is of a known fault.
    results = fuzz(replace(settings, known_faults=True, seed=5, requests=80))
    (finding,) = results.findings
    assert finding.outcome == f"{ENDED}: tritonserver was killed by SIGFPE"
    assert (finding.request.fault, finding.request.mutations) == (CLASSIFICATION, ("classification",))
    assert FuzzRequest.read(finding.file) == finding.request
    assert results.wrong == []
    assert results.good > 0


@pytest.mark.fast
def test_a_file_that_is_not_a_request(tmp_path: Path) -> None:
    for content in ("", "[]", "{}", '{"outcome": "x", "content": "", "mutations": []}'):
        (tmp_path / "request.json").write_text(content)
        with pytest.raises(ValueError, match=r"request\.json: not a request of the fuzzer; give a file that it wrote"):
            FuzzRequest.read(tmp_path / "request.json")


def test_a_seed_and_a_number_determine_a_request(targets: list[Target]) -> None:
    for protocol in ("gRPC", "HTTP"):
        requests = [Case(protocol, 3, number).build(targets) for number in range(150)]
        assert requests == [Case(protocol, 3, number).build(targets) for number in range(150)]
        assert len({request.content for request in requests}) > 120


def test_a_mutation_that_is_left_out_does_not_change_the_others(targets: list[Target]) -> None:
    case = next(case for number in range(99) if len((case := Case("gRPC", 0, number)).mutations) > 1)
    (first, *_, last) = case.mutations
    shrunk = case.without(first)
    assert list(shrunk.mutations) == list(case.mutations)[1:]
    assert shrunk.without(last).build(targets).mutations == tuple(case.mutations.values())[1:-1]


def test_known_faults_are_left_out(targets: list[Target]) -> None:
    faults = {Case("gRPC", 0, number).build(targets).fault for number in range(600)}
    faults |= {Case("HTTP", 0, number).build(targets).fault for number in range(600)}
    assert faults == {"", CLASSIFICATION, SHAPE_OVERFLOW, SHAPE_WITHOUT_DATA}


@pytest.mark.fast
@pytest.mark.parametrize("reader", READERS)
def test_readers_give_a_result_or_their_documented_error(reader: str, tmp_path: Path) -> None:
    with IsolatedReader(READERS[reader], tmp_path, tmp_path / "findings") as isolated:
        files, read, wrong = isolated.examine(seed=0, examples=FILES)
    assert wrong == ""
    assert files >= FILES // 2
    assert read < files


def test_mutated_files_and_lines_cost_good_ones_nothing(repository: Path, tmp_path: Path) -> None:
    with running_server(repository, only(repository, MODEL)) as server:
        speech = texts_of(DEMO_MANIFEST, MODEL, server.grpc)
        results = transcribe_folder(tmp_path, speech, model=MODEL, url=server.grpc, files=FILES * 5, seed=1)
    assert len(set(speech.values())) > 10
    assert results.wrong == []
    assert results.good == FILES * 10
    assert min(results.lines, results.mutated_with_text) > FILES and results.warnings, "there are many of each kind"


@pytest.mark.fast
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError("file.wav: two\nlines"), "not one printable line"),
        (OSError("no name"), "does not name the file"),
        (KeyError("file"), "file"),
    ],
)
def test_another_error_is_unexpected(error: Exception, says: str, tmp_path: Path) -> None:
    def fail(path: Path, given: Input) -> None:
        raise error

    reader = Reader("any", READERS["audio"](tmp_path).inputs, fail, OSError)
    with pytest.raises((UnexpectedResult, KeyError), match=says):
        reader.check(tmp_path, Input.of("wav", b"x"))


def reader_that(act: Callable[[], object], folder: Path) -> Reader:
    def read(path: Path, given: Input) -> None:
        act()

    return Reader("any", st.just(Input.of("wav", b"x")), read, OSError)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hang() -> None:
    time.sleep(60)


def print_traceback() -> None:
    os.write(2, b"Traceback (most recent call last)")


@pytest.mark.fast
@pytest.mark.parametrize(
    ("act", "says"), [(crash, "Segmentation fault"), (hang, "Timeout"), (print_traceback, "printed: Traceback")]
)
def test_a_reader_whose_libraries_fail(act: Callable[[], object], says: str, tmp_path: Path) -> None:
    folder, findings = tmp_path / "any", tmp_path / "findings"
    folder.mkdir()
    with IsolatedReader(partial(reader_that, act), folder, findings, hang_seconds=1) as reader:
        files, read, wrong = reader.examine(seed=0, examples=3)
    assert (files, read) == (0, 0) and says in wrong
    if act is not print_traceback:
        assert (findings / "any_seed_0" / "file.wav").read_bytes() == b"x"


@pytest.mark.fast
def test_of_two_faults_of_a_reader_one_is_said(tmp_path: Path) -> None:
    def fail(path: Path, given: Input) -> None:
        raise KeyError("first") if path.read_bytes() == b"x" else ValueError("second")

    inputs = st.sampled_from([Input.of("wav", b"x"), Input.of("wav", b"y")])
    with pytest.raises((KeyError, ValueError), match=r"first|second") as caught:
        examine(Reader("any", inputs, fail, OSError), tmp_path, seed=0, examples=50)
    assert any("file.wav" in note or "Input" in note for note in caught.value.__notes__)


@pytest.mark.fast
def test_memory_is_limited(tmp_path: Path) -> None:
    def allocate(path: Path, given: Input) -> None:
        bytearray(100 * 2**20)

    reader = Reader("any", READERS["audio"](tmp_path).inputs, allocate, OSError)
    with pytest.raises(UnexpectedResult, match="allocated 100 MiB"):
        reader.check(tmp_path, Input.of("wav", b"x"))


@pytest.mark.fast
def test_the_committed_page_has_the_words_of_the_programs(tmp_path: Path) -> None:
    page = tmp_path / "fuzz.md"
    page.write_text("<!-- a:begin -->\nold\n<!-- a:end -->\n")
    committed = words_of((ROOT / "docs" / "fuzz.md").read_text())
    write_section(page, "a", readers_summary([("any", 2, 1, 1.0, "")], seed=0))
    assert "old" not in page.read_text()
    assert words_of(readers_summary([("any", 2, 1, 1.0, "")], seed=0)) <= committed
    headings = {line for line in words_of(transcribe_summary(FolderResults(), seed=0)) if line.startswith("|")}
    assert headings <= committed
    headings = {line for line in words_of(requests_summary(Results(), seed=0, patience=60)) if line.startswith("|")}
    assert headings <= committed
    with pytest.raises(ValueError, match="has no <!-- b:begin -->"):
        write_section(page, "b", "")
