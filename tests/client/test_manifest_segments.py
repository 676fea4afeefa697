"""offset, duration and channel in manifests, and the names of segments."""

import json
from pathlib import Path
from typing import Any

import pytest
from manifest_files import write, write_wav

from nemo_triton.manifest import Utterance, read_manifest

pytestmark = pytest.mark.fast


def read_entry(folder: Path, fields: str) -> Utterance:
    """Read a manifest with one line. `fields` is JSON without braces."""
    [utterance] = read_manifest(write(folder / "m.jsonl", f'{{"audio_filepath": "call.wav", {fields}}}')).utterances
    return utterance


def test_a_segment_has_its_offset_duration_and_channel(tmp_path: Path) -> None:
    utterance = read_entry(tmp_path, '"offset": 12.5, "duration": 2.5, "channel": 1, "text": "bear"')
    assert utterance == Utterance(tmp_path / "call.wav", "bear", offset=12.5, channel=1)
    assert (utterance.duration, utterance.line) == (2.5, 1)


def test_segments_of_one_recording_differ(tmp_path: Path) -> None:
    segments: list[dict[str, Any]] = [
        {"offset": 0},
        {"offset": 1.5},
        {"offset": 1.5, "channel": "left"},
        {"offset": 1.5, "channel": "right"},
    ]
    segments += [{"offset": 0, "duration": 1.5}, {"offset": 1.5, "duration": 3}, {"channel": 0}, {"channel": "average"}]
    lines = [json.dumps({"audio_filepath": "call.wav", **segment}) for segment in segments]
    utterances = read_manifest(write(tmp_path / "m.jsonl", *lines)).utterances
    assert [utterance.name.removeprefix(f"{tmp_path}/") for utterance in utterances] == [
        "call.wav",
        "call.wav [from 1.5 s]",
        "call.wav [from 1.5 s, left]",
        "call.wav [from 1.5 s, right]",
        "call.wav [0-1.5 s]",
        "call.wav [1.5-4.5 s]",
        "call.wav [channel 0]",
        "call.wav [average]",
    ]
    assert len(set(utterances[:4])) == 4


def test_a_recording_with_a_duration_only_keeps_its_name(tmp_path: Path) -> None:
    utterance = read_entry(tmp_path, '"duration": 3.25')
    assert (utterance.name, utterance.duration) == (str(tmp_path / "call.wav"), 3.25)


def test_rounding_errors_do_not_show_in_a_name() -> None:
    assert Utterance(Path("a.wav"), None, 0.1, offset=12.5).name == "a.wav [12.5-12.6 s]"


@pytest.mark.parametrize("value", ["null", "0", "0.0", "-1", "-1.0", '""', '"-1"'])
def test_a_duration_that_does_not_cut_is_unknown(value: str, tmp_path: Path) -> None:
    assert read_entry(tmp_path, f'"duration": {value}').duration is None


@pytest.mark.parametrize("value", ["null", '""'])
def test_a_missing_offset_or_channel_is_unknown(value: str, tmp_path: Path) -> None:
    utterance = read_entry(tmp_path, f'"offset": {value}, "channel": {value}')
    assert (utterance.offset, utterance.channel) == (None, None)


@pytest.mark.parametrize("field", ["offset", "duration"])
@pytest.mark.parametrize(("value", "expected"), [("3", 3.0), ("1e-3", 0.001), ('" 2.5 "', 2.5), ('".5"', 0.5)])
def test_numbers(field: str, value: str, expected: float, tmp_path: Path) -> None:
    assert getattr(read_entry(tmp_path, f'"{field}": {value}'), field) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0", 0), ("3", 3), ("2.0", 2), ('"1"', 1), ('"left"', "left"), ('"right"', "right"), ('"average"', "average")],
)
def test_channels(value: str, expected: Any, tmp_path: Path) -> None:
    assert read_entry(tmp_path, f'"channel": {value}').channel == expected


TIMES = ["NaN", "Infinity", "-0.5", "-2", "1e999", "1" + "0" * 400, "[]", "{}", "true", '"long"', '"1_0"', '"nan"']


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("duration", value) for value in TIMES),
        *(("offset", value) for value in [*TIMES, "-1"]),
        *(("channel", value) for value in ["-1", "1.5", "NaN", "true", "[]", '"each"', '"Left"', '"A"', "1e999"]),
    ],
)
def test_junk_is_a_problem_that_names_the_field(field: str, value: str, tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.jsonl", '{"audio_filepath": "a.wav"}', f'{{"audio_filepath": "a.wav", "{field}": {value}}}'
    )
    manifest = read_manifest(path)
    assert len(manifest.utterances) == 1
    [problem] = manifest.problems
    assert problem.startswith(f"{path}:2: {field} is ") and problem.isprintable() and "; write " in problem


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv"])
@pytest.mark.parametrize("others", [{}, {"offset": 0.0}, {"duration": 1.0}, {"duration": 1.0, "offset": 0.0}])
@pytest.mark.parametrize(
    ("field", "value", "fix"),
    [
        ("channel", "agent", "write 0, 1, ..., left, right or average"),
        *((field, "00:03", "write seconds without minutes, such as 3.5") for field in ("duration", "offset")),
        *((field, "1:02:03,5", "write seconds without minutes, such as 3.5") for field in ("duration", "offset")),
        *((field, "3,5", "write seconds with a decimal point, such as 3.5") for field in ("duration", "offset")),
        *((field, "3,5 s", "write seconds, such as 3.5") for field in ("duration", "offset")),
    ],
)
def test_what_people_write_costs_its_line(
    name: str, others: dict[str, float], field: str, value: str, fix: str, tmp_path: Path
) -> None:
    """Whether the field would cut a segment or only inform."""
    fields = {"filename": "a.wav", **others, field: value}
    good = {**fields, field: ""}
    if name == "m.csv":
        rows = [",".join(good), *(",".join(f'"{cell}"' for cell in row.values()) for row in (good, fields, good))]
    else:
        rows = ["", *map(json.dumps, (good, fields, good))]
    path = write(tmp_path / name, *rows)
    manifest = read_manifest(path)
    assert [utterance.line for utterance in manifest.utterances] == [2, 4]
    assert manifest.problems == [f'{path}:3: {field} is "{value}"; {fix}']


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_decimal_commas_of_tables_without_commas(delimiter: str, tmp_path: Path) -> None:
    rows = [("path", "Offset", "duration", "text"), ("a.wav", " 12,25", "3,5", "1,5"), ("a.wav", "0,5", "1.000,5", "")]
    path = write(tmp_path / "m.csv", *(delimiter.join(row) for row in rows), delimiter.join(("a.wav", "3,", "", "")))
    manifest = read_manifest(path)
    assert manifest.utterances == [Utterance(tmp_path / "a.wav", "1,5", offset=12.25)]
    assert manifest.utterances[0].duration == 3.5
    assert manifest.problems == [
        f'{path}:3: duration is "1.000,5"; write seconds, such as 3.5',
        f'{path}:4: offset is "3,"; write seconds, such as 3.5',
    ]


def test_each_is_refused_with_a_hint(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", '{"audio_filepath": "a"}', '{"audio_filepath": "a", "channel": "each"}')
    assert read_manifest(path).problems == [f'{path}:2: channel is "each"; write one line per channel']


def test_segments_in_a_csv(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "call.wav")
    path = write(
        tmp_path / "m.csv",
        "filename,offset,duration,channel,transcript",
        "call.wav,0.5,1.25,left,bear",
        "call.wav,,,,ant",
        "call.wav,soon,1,0,dog",
    )
    manifest = read_manifest(path)
    assert manifest.utterances == [Utterance(wav, "bear", offset=0.5, channel="left"), Utterance(wav, "ant")]
    assert [utterance.duration for utterance in manifest.utterances] == [1.25, None]
    assert manifest.problems == [f'{path}:4: offset is "soon"; write seconds, such as 3.5']


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"start": 1.5, "end": 3}, "start and end are not used"),
        ({"Start_Time": "00:01", "end_time": "00:03", "duration": 2}, "start_time and end_time are not used"),
        ({"begin": 1}, "begin is not used"),
        ({"start": 1.5, "offset": 1.5}, None),
        ({"duration": 2, "started": 1}, None),
    ],
)
@pytest.mark.parametrize("name", ["m.jsonl", "m.csv"])
def test_other_fields_with_times_are_said_once(
    name: str, fields: dict[str, Any], says: str | None, tmp_path: Path
) -> None:
    entry = {"filename": "a.wav", **fields}
    if name == "m.csv":
        row = ",".join(map(str, entry.values()))
        path = write(tmp_path / name, ",".join(entry), row, row, ",x")
    else:
        path = write(tmp_path / name, json.dumps(entry), json.dumps(entry), "[]")
    manifest = read_manifest(path)
    assert (len(manifest.utterances), len(manifest.problems)) == (2, 1)
    expected = [f"{path}: {says}, whole files are; to cut segments, write offset and duration in seconds"]
    assert manifest.notes == (expected if says else [])


def test_a_manifest_with_offsets_in_some_lines_is_one_of_segments(tmp_path: Path) -> None:
    lines = ['{"path": "a.wav", "start": 1}', '{"path": "a.wav", "start": 1, "OFFSET": 1}']
    assert read_manifest(write(tmp_path / "m.jsonl", *lines)).notes == []
