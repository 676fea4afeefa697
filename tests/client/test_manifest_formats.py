"""JSON arrays, names of fields, gzip and encodings."""

import codecs
import gzip
import json
import os
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from manifest_files import write, write_wav

from nemo_triton.errors import ManifestError
from nemo_triton.manifest import Manifest, Utterance, decoding, find_audio, is_manifest, read_manifest

pytestmark = pytest.mark.fast

GOOD = {"audio_filepath": "a.wav", "text": "bear"}


def refusal(path: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    message = str(caught.value)
    assert message.isprintable() and message.startswith(str(path))
    return message


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_array(indent: int | None, tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav")
    path = write(tmp_path / "m.json", "", json.dumps([GOOD, GOOD, {**GOOD, "text": "a, {b}"}], indent=indent))
    manifest = read_manifest(path)
    assert manifest.utterances == [Utterance(wav, "bear"), Utterance(wav, "bear"), Utterance(wav, "a, {b}")]
    assert [utterance.line for utterance in manifest.utterances] == ([2] * 3 if indent is None else [3, 7, 11])
    assert manifest.problems == []


@pytest.mark.parametrize(
    ("element", "says"),
    [
        ('{"audio_filepath": "a.wav", "text": }', "not valid JSON (Expecting value, line 3)"),
        ('{"audio_filepath": "a.wav" "text": "b"}', "not valid JSON (Expecting ',' delimiter, line 3)"),
        ("7", "not a JSON object"),
        ("word", "not valid JSON"),
        ('{"text": "b"}', "no audio_filepath"),
        ('{"audio_filepath": "a.wav", "offset": -3}', "offset is -3"),
        ('{"audio_filepath": "a.wav", "duration": ' + "9" * 5000 + "}", "not usable JSON"),
    ],
)
@pytest.mark.parametrize("compact", [False, True])
def test_a_bad_element_costs_itself(element: str, says: str, compact: bool, tmp_path: Path) -> None:
    good = json.dumps(GOOD)
    content = f"[\n{good},\n{element}, {good}, {good}]" if compact else f"[\n{good},\n{element},\n{good},\n{good}\n]"
    path = write(tmp_path / "m.json", content)
    manifest = read_manifest(path)
    assert [utterance.line for utterance in manifest.utterances] == ([2, 3, 3] if compact else [2, 4, 5])
    [problem] = manifest.problems
    assert problem.startswith(f"{path}:3: ") and says in problem


def test_a_string_without_end_costs_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "m.json", "[", json.dumps(GOOD), ',{"audio_filepath": "b.wav}', f",{json.dumps(GOOD)}]")
    manifest = read_manifest(path)
    assert [utterance.line for utterance in manifest.utterances] == [2, 4]
    assert [problem.split(": ")[0] for problem in manifest.problems] == [f"{path}:3"]


@pytest.mark.parametrize("length", [4050, 4096, 5000, 70_000, 2_000_000])
def test_long_elements_of_an_array(length: int, tmp_path: Path) -> None:
    """The reader looks at some thousand characters first."""
    for text in ("x" * length, "\u2028" * (length // 6), "1234567890 " * (length // 11)):
        path = write(tmp_path / "m.json", json.dumps([{**GOOD, "text": text}, GOOD, {**GOOD, "duration": 1e-9}]))
        manifest = read_manifest(path)
        assert [utterance.text for utterance in manifest.utterances] == [text, "bear", "bear"]
        assert manifest.problems == []


def test_an_array_with_many_bad_elements_is_read_in_linear_time(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text("[" + '{"audio_filepath": "a" 1},\n' * 50_000 + json.dumps(GOOD) + "]")
    started = time.process_time()
    manifest = read_manifest(path)
    assert (len(manifest.utterances), len(manifest.problems)) == (1, 50_000)
    assert time.process_time() - started < 20, "quadratic time would be minutes"


@pytest.mark.parametrize("end", ["", "\n", ",", ",]", "]\n\n"])
def test_the_end_of_an_array_may_be_missing(end: str, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(f"[{json.dumps(GOOD)}{end}")
    assert (len(read_manifest(path).utterances), read_manifest(path).problems) == (1, [])


def test_text_after_an_array_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "m.json", f"[{json.dumps(GOOD)}]", json.dumps(GOOD))
    manifest = read_manifest(path)
    assert len(manifest.utterances) == 1
    assert manifest.problems[0].startswith(f"{path}:1: text after the end of the JSON array; ")


@pytest.mark.parametrize("content", ["[" * 100_000, '[{"a":' * 100_000, '[{"a":\n' * 100_000 + "1"])
def test_deep_nesting(content: str, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(content)
    assert "not usable JSON (nested too deeply)" in refusal(path)


@pytest.mark.parametrize(
    "fields",
    [
        ("audio_filepath", "text"),
        ("audio_filename", "text"),
        ("audio_file", "normalized_text"),
        ("filename", "transcript"),
        ("path", "sentence"),
        ("file_name", "transcription"),
        ("wav_filename", "transcript"),
        ("audio", "text"),
    ],
)
def test_names_of_fields(fields: tuple[str, str], tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav")
    path = write(tmp_path / "m.jsonl", json.dumps({fields[0]: "a.wav", fields[1]: "bear"}))
    assert read_manifest(path).utterances == [Utterance(wav, "bear")]


@pytest.mark.parametrize("names", [("Audio_FilePath", "TEXT"), (" path ", "Sentence"), ("FileName", "\tTranscript")])
def test_names_of_fields_may_differ_by_case_and_blanks(names: tuple[str, str], tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav")
    line = json.dumps({names[0]: "a.wav", names[1]: "bear", "Offset": 0.5, "CHANNEL": 1})
    path = write(tmp_path / "m.jsonl", line, line.replace("0.5", '"soon"'))
    manifest = read_manifest(path)
    assert manifest.utterances == [Utterance(wav, "bear", offset=0.5, channel=1)]
    assert manifest.problems == [f'{path}:2: offset is "soon"; write seconds, such as 3.5']


@pytest.mark.parametrize(
    ("fields", "others"),
    [
        ({"audio_filepath": "a.wav", "text": "bear", "utt_id": "u1", "Speaker": 7}, {"utt_id": "u1", "Speaker": 7}),
        ({"path": "a.wav", "sentence": "bear", "client_id": None, "": ["x"]}, {"client_id": None, "": ["x"]}),
        ({"Path": "a.wav", "TEXT": "bear", "offset": 1, "Duration": 2, "channel": "", "lang": "en"}, {"lang": "en"}),
        ({"filename": "a.wav", "path": "clips/a.mp3", "text": "bear"}, {"path": "clips/a.mp3"}),
        (
            {"path": "a.wav", "audio": {"array": [0.5]}, "text": "bear", "normalized_text": "a"},
            {"normalized_text": "a"},
        ),
        ({"path": "a.wav", "audio": "17", "text": "bear", "pred_text": "bare"}, {"audio": "17", "pred_text": "bare"}),
    ],
)
def test_fields_that_are_not_used_are_kept(fields: dict[str, object], others: object, tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav")
    path = write(tmp_path / "m.jsonl", json.dumps(fields))
    [utterance] = read_manifest(path, keep_fields=True).utterances
    assert utterance.other_fields == others
    assert [entry.other_fields for entry in read_manifest(path).utterances] == [{}]
    assert utterance == Utterance(wav, "bear", offset=utterance.offset), "other fields are not compared"
    assert "other_fields" not in repr(utterance)


def test_columns_that_are_not_used_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "id,filename, speaker ,duration", "1,a.wav,awb,3", "2,b.wav")
    assert [utterance.other_fields for utterance in read_manifest(path, keep_fields=True).utterances] == [
        {"id": "1", "speaker": "awb"},
        {"id": "2"},
    ]


def test_a_field_that_is_nested_deeply_costs_its_line(tmp_path: Path) -> None:
    lines = [f'{{"audio_filepath": "a.wav", "words": {"[" * depth}{"]" * depth}}}' for depth in (101, 102, 500)]
    path = write(tmp_path / "m.jsonl", *lines)
    assert len(read_manifest(path).utterances) == 3
    manifest = read_manifest(path, keep_fields=True)
    assert [utterance.line for utterance in manifest.utterances] == [1]
    says = "words is nested more than 100 deep; leave it out"
    assert manifest.problems == [f"{path}:2: {says}", f"{path}:3: {says}"]


def test_other_fields_of_many_lines_need_little_memory(tmp_path: Path) -> None:
    """Their names are kept once."""
    others = {f"a_field_with_a_long_name_{'x' * 100}_{number}": number for number in range(20)}
    path = write(tmp_path / "m.jsonl", *[json.dumps({**GOOD, **others})] * 2000)
    tracemalloc.start()
    try:
        manifest = read_manifest(path, keep_fields=True)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(manifest.utterances) == 2000
    assert size < 2000 * 2000, "the names of each line would be 20 * 150 bytes more"


def test_the_audio_object_of_hugging_face(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav")
    rows: list[dict[str, object]] = [
        {"audio": {"path": "a.wav", "bytes": None}},
        {"Audio": {"array": [0.0], "path": "a.wav", "sampling_rate": 16000}},
        {"path": "a.wav", "audio": {"path": "gone.wav"}},
        {"path": "a.wav", "audio": [0.0]},
        {"path": None, "audio": "a.wav"},
    ]
    path = write(tmp_path / "m.jsonl", *(json.dumps({**row, "text": "bear"}) for row in rows))
    assert read_manifest(path) == Manifest([Utterance(wav, "bear")] * len(rows))


@pytest.mark.parametrize(
    ("audio", "says"),
    [
        ({"bytes": "UklGRg==", "path": None}, "audio is an object without a path; write the path of the audio file"),
        ({"path": ""}, "audio is an object without a path; write the path of the audio file"),
        ({}, "audio is an object without a path; write the path of the audio file"),
        ({"path": 3}, "path is 3; write it as a string"),
        ({"path": "\ud800"}, "audio has '\\ud800', which is not a character; write it as Unicode"),
        ("{'path': 'a.wav'}", "audio is \"{'path': 'a.wav'}\"; write only the path of the audio file"),
        ([0.5, 1], "audio is [0.5, 1]; write it as a string"),
        (17, "audio is 17; write it as a string"),
        ("", "no audio; add the path of the audio file"),
    ],
)
def test_other_audio_objects_cost_themselves(audio: object, says: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", json.dumps(GOOD), json.dumps({"audio": audio, "text": "x"}), json.dumps(GOOD))
    manifest = read_manifest(path)
    assert ([utterance.line for utterance in manifest.utterances], manifest.problems) == ([1, 3], [f"{path}:2: {says}"])


@pytest.mark.parametrize(("text", "expected"), [("-", None), (" - ", None), ("", ""), ("--", "--"), ("a - b", "a - b")])
def test_unknown_and_empty_texts(text: str, expected: str | None, tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", json.dumps({**GOOD, "text": text}))
    assert read_manifest(path).utterances[0].text == expected


def test_texts_in_files(tmp_path: Path) -> None:
    write(tmp_path / "texts" / "a.txt", "two large", "coffees")
    (tmp_path / "binary.txt").write_bytes(b"\xe9")
    (tmp_path / "long.txt").write_bytes(b"a" * (2**20 + 1))
    (tmp_path / "long.gz").write_bytes(gzip.compress(b"a" * (2**20 + 1)))
    names = ["texts/a.txt", "gone.txt", "texts", "binary.txt", "long.txt", "long.gz"]
    lines = [json.dumps({"audio_filepath": "a.wav", "text_filepath": name}) for name in names]
    path = write(tmp_path / "m.jsonl", *lines, '{"audio_filepath": "a.wav", "text_filepath": 3}')
    manifest = read_manifest(path)
    assert [utterance.text for utterance in manifest.utterances] == ["two large coffees"]
    for number, (problem, says) in enumerate(
        zip(
            manifest.problems,
            [*["no such file"] * 2, "not UTF-8 text", *["has more than 1 MiB of text"] * 2, "text_filepath is 3"],
            strict=True,
        ),
        start=2,
    ):
        assert problem.startswith(f"{path}:{number}: text_filepath ") and says in problem


CONTENTS = {
    "m.jsonl": json.dumps(GOOD),
    "m.ndjson": json.dumps(GOOD),
    "m.JSONLines": json.dumps(GOOD),
    "m.json": json.dumps([GOOD], indent=1),
    "m.csv": "filename,transcript\na.wav,bear\n",
    "m.tsv": "path\tsentence\na.wav\tbear\n",
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_every_format_with_gzip_and_encodings(name: str, compressed: bool, encoding: str, tmp_path: Path) -> None:
    content = CONTENTS[name].replace("bear", "caf\u00e9 \U0001f600").encode(encoding)
    content = codecs.BOM_UTF16_BE + content if encoding == "utf-16-be" else content
    path = tmp_path / (f"{name}.GZ" if compressed else name)
    path.write_bytes(gzip.compress(content) if compressed else content)
    expected = [Utterance(tmp_path / "a.wav", "caf\u00e9 \U0001f600")]
    assert is_manifest(path)
    assert read_manifest(path).utterances == find_audio([path]).utterances == expected


def test_text_from_windows_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes("filename,transcript\r\na.wav,bear\r\nb.wav,caf\u00e9\r\n".encode("cp1252"))
    message = refusal(path)
    assert "not UTF-8 text" in message and "line 3 has the byte 0xE9" in message
    assert message.endswith("convert it with iconv -f CP1252 -t UTF-8")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("filename".encode("utf-16-le"), "not a manifest (not UTF-8 text): starts with a NUL"),
        ("filename".encode("utf-16-be"), "not a manifest (not UTF-8 text): starts with a NUL"),
        ("filename".encode("utf-32"), "not a manifest (UTF-32 text)"),
        (codecs.BOM_UTF16_LE + b"a", "not valid UTF-16 text"),
        (codecs.BOM_UTF16_LE + b"\x00\xd8a\x00", "not valid UTF-16 text"),
        (gzip.compress(b"filename\na.wav\n")[:-9], "cannot be unpacked"),
        (gzip.compress(b"filename\na.wav\n")[:12] + b"\xff" * 9, "cannot be unpacked"),
        (b"\x1f\x8b", "cannot be unpacked"),
        (gzip.compress(b""), "is empty"),
        (codecs.BOM_UTF8, "is empty"),
    ],
)
def test_other_contents_are_refused(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(content)
    assert says in refusal(path)


@pytest.mark.parametrize("suffix", ["wav", "flac", "OGG", "mp3"])
def test_a_recording_is_no_manifest(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"call.{suffix}"
    soundfile.write(path, np.zeros(16000), 16000, format=suffix)
    expected = f"{path}: is audio, not a manifest; give a .jsonl or .csv file that lists recordings"
    assert refusal(path) == expected
    # Without a NUL.
    path.write_bytes(b"caf\xe9")
    assert refusal(path) == expected


def test_a_large_recording_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "call.wav")
    os.truncate(path, 2**40)
    assert "is audio, not a manifest" in refusal(path)


def test_other_binary_files_are_no_manifests(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(b"PK\x03\x04\x14\x00\x00\xff\xfe")
    assert refusal(path) == f"{path}: not a manifest (not text); give JSON lines, a CSV or a TSV"


def test_a_text_file_may_have_the_name_of_a_recording(tmp_path: Path) -> None:
    path = write(tmp_path / "m.ts", json.dumps(GOOD))
    assert read_manifest(path).utterances == [Utterance(tmp_path / "a.wav", "bear")]


def test_a_gzip_bomb_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "LARGEST_FILE", 2**24)
    path = tmp_path / "m.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n" * (2**24 + 1)))
    assert path.stat().st_size < 2**16
    good = write(tmp_path / "good.csv", "filename", "a.wav")
    listed = find_audio([path, good])
    assert listed.problems == [f"{path}: has more than 16 MiB of text; split it"]
    assert len(listed.utterances) == 1


@pytest.mark.parametrize("name", ["a.wav", "a.gz", "a.wav.gz", "scp", "a.csv.bz2", "a.txt"])
def test_other_names_are_no_manifests(name: str) -> None:
    assert not is_manifest(Path(name))


def test_clips_is_searched_after_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, in_clips = write_wav(tmp_path / "here" / "a.wav"), write_wav(tmp_path / "set" / "clips" / "b.wav")
    write_wav(tmp_path / "set" / "clips" / "a.wav")
    monkeypatch.chdir(here.parent)
    path = write(tmp_path / "set" / "m.tsv", "path\tsentence", "a.wav\tbear", "b.wav\tant", "c.wav\tdog")
    assert [utterance.audio for utterance in read_manifest(path).utterances] == [
        Path("a.wav"),
        in_clips,
        tmp_path / "set" / "c.wav",
    ]


@pytest.mark.parametrize("damage", ["x", "", "//", '"', "\ufffd"])
def test_a_damaged_first_line_of_json_lines_costs_itself(damage: str, tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl", damage + '"audio_filepath": "a.wav"}', '{"audio_filepath": "b.wav", "text": "b"}'
    )
    manifest = read_manifest(path)
    assert [(utterance.line, utterance.text) for utterance in manifest.utterances] == [(2, "b")]
    (problem,) = manifest.problems
    assert problem.startswith(f"{path}:1: not valid JSON")
