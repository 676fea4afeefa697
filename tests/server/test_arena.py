"""After which batches the onnxruntime backend gives memory back."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import small_models as small
from onnx import TensorProto, helper

pytestmark = [pytest.mark.fast, pytest.mark.usefixtures("backend_modules")]

FROM_BYTES = "shrink_arena_from_bytes"


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """X float32 [n] -> SUM float32 [1], by a matrix of one megabyte per number."""
    wide = np.ones((1, 2**18), np.float32)
    nodes = [
        helper.make_node("Reshape", ["X", "column"], ["rows"]),
        helper.make_node("Mul", ["rows", "wide"], ["matrix"]),
        helper.make_node("ReduceMax", ["matrix"], ["SUM"], keepdims=0),
    ]
    constants = {"wide": wide, "column": np.array([-1, 1])}
    model = small.model(nodes, [("X", TensorProto.FLOAT, ["n"])], [("SUM", TensorProto.FLOAT, [])], constants)
    file = tmp_path / "model.onnx"
    file.write_bytes(model.SerializeToString())
    return file


def resident_megabytes() -> float:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@pytest.mark.parametrize(
    ("parameters", "keeps"), [({}, True), ({FROM_BYTES: "400"}, False), ({FROM_BYTES: "4000"}, True)]
)
def test_memory_after_a_large_batch(graph: Path, parameters: dict[str, str], keeps: bool) -> None:
    from session import open_session

    entries = {name: {"string_value": value} for name, value in parameters.items()}
    session, options = open_session(graph, {"name": "wide", "parameters": entries})

    def run(numbers: int) -> None:
        feeds = {"X": np.ones(numbers, np.float32)}
        session.run(None, feeds, options.of(feeds))

    run(1)
    before = resident_megabytes()
    run(200)
    after = resident_megabytes()
    assert (after - before > 150) == keeps
    run(1)


def test_one_batch_of_each_minute_gives_memory_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import arena

    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    options = arena.RunOptions({FROM_BYTES: "1000"})
    usual = options.of({"X": np.zeros(1)})
    shrinks = []
    for now, numbers in ((1059, 1), (1060, 1), (1061, 1), (1080, 1000), (1130, 1), (1140, 1), (1141, 1)):
        if options.of({"X": np.zeros(numbers)}) is not usual:
            shrinks.append(now)
    assert shrinks == [1060, 1080, 1140]


def test_the_setting_of_the_c_backend_holds_for_every_batch() -> None:
    from arena import SHRINK, RunOptions

    options = RunOptions({SHRINK: "cpu:0", FROM_BYTES: "1000"})
    assert options.of({"X": np.zeros(1)}).get_run_config_entry(SHRINK) == "cpu:0"


def test_without_an_arena_nothing_is_given_back(graph: Path) -> None:
    from session import open_session

    parameters = {"enable_mem_arena": {"string_value": "0"}, FROM_BYTES: {"string_value": "1"}}
    session, options = open_session(graph, {"name": "wide", "parameters": parameters})
    feeds = {"X": np.ones(3, np.float32)}
    assert session.run(None, feeds, options.of(feeds))[0] == 1


def test_a_number_of_bytes_that_is_none() -> None:
    from arena import RunOptions
    from checks import ConfigError

    with pytest.raises(ConfigError, match=f"parameter {FROM_BYTES} is '10 MB'; expected a whole number"):
        RunOptions({FROM_BYTES: "10 MB"})
