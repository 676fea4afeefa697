"""read_manifest and find_audio on good and bad files."""

import json
import os
from pathlib import Path

import pytest
from manifest_files import write, write_wav

from nemo_triton.errors import ManifestError
from nemo_triton.manifest import Utterance, find_audio, read_manifest

pytestmark = pytest.mark.fast


def test_nemo_json_lines(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "flac" / "a.wav")
    manifest = read_manifest(
        write(
            tmp_path / "m.jsonl",
            '{"audio_filepath": "flac/a.wav", "duration": 0.01, "text": "caf\u00e9 \u2028 two"}',
            "",
            json.dumps({"audio_filepath": str(wav)}),
        )
    )
    assert manifest.utterances == [Utterance(wav, "caf\u00e9 \u2028 two"), Utterance(wav, None)]
    assert manifest.problems == []


@pytest.mark.parametrize("header", ["filename,transcript", '"filename", "transcript"', "audio_filepath,text"])
def test_csv_with_either_pair_of_column_names(tmp_path: Path, header: str) -> None:
    wav = write_wav(tmp_path / "a.wav")
    path = write(tmp_path / "m.csv", header, '"a.wav","one, two"', "a.wav,")
    assert read_manifest(path).utterances == [Utterance(wav, "one, two"), Utterance(wav, "")]


def test_csv_from_a_spreadsheet(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav")
    path = tmp_path / "m.csv"
    path.write_bytes(b"\xef\xbb\xbffilename,transcript\r\na.wav,bear\r\n")
    assert read_manifest(path).utterances == [Utterance(wav, "bear")]


def test_leading_folders_of_a_moved_data_set_are_ignored(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "words" / "wavs" / "bear.wav")
    path = write(tmp_path / "words" / "m.csv", "filename,transcript", "./data/simple_test/wavs/bear.wav,bear")
    assert read_manifest(path).utterances == [Utterance(wav, "bear")]


def test_the_manifest_folder_goes_before_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    next_to_manifest = write_wav(tmp_path / "set" / "both.wav")
    write_wav(tmp_path / "both.wav")
    write_wav(tmp_path / "here.wav")
    path = write(tmp_path / "set" / "m.csv", "filename", "both.wav", "here.wav")
    monkeypatch.chdir(tmp_path)
    assert [utterance.audio for utterance in read_manifest(path).utterances] == [next_to_manifest, Path("here.wav")]


@pytest.mark.parametrize("name", ["audio\\o00.wav", ".\\audio\\o00.wav", "C:\\data\\audio\\o00.wav"])
def test_paths_of_windows(name: str, tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "audio" / "o00.wav")
    path = write(tmp_path / "m.jsonl", json.dumps({"audio_filepath": name}))
    assert read_manifest(path).utterances == [Utterance(wav)]
    wav.unlink()
    assert read_manifest(path).utterances == [Utterance(tmp_path / name)], "an error shows the name as it is written"
    as_named = write_wav(tmp_path / name)
    write_wav(wav)
    assert read_manifest(path).utterances == [Utterance(as_named)]


def test_a_linked_manifest_is_also_looked_up_where_the_link_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("data/both.wav", "data/target.wav", "data/sub/moved.wav", "data/clips/c.wav", "links/both.wav"):
        write_wav(tmp_path / name)
    write_wav(tmp_path / "target.wav")
    names = ("both.wav", "target.wav", "old/sub/moved.wav", "c.wav", "gone.wav")
    target = write(tmp_path / "data" / "m.csv", "filename", *names)
    (tmp_path / "links" / "second.csv").symlink_to(target)
    link = tmp_path / "links" / "m.csv"
    link.symlink_to("second.csv")
    monkeypatch.chdir(tmp_path)
    expected = ["links/both.wav", "data/target.wav", "data/sub/moved.wav", "data/clips/c.wav", "links/gone.wav"]
    assert [utterance.audio for utterance in read_manifest(link).utterances] == [tmp_path / name for name in expected]


def test_an_address_of_a_data_set_that_was_moved_here(tmp_path: Path) -> None:
    """Also a path from Windows with doubled slashes is no address."""
    (tmp_path / "data").mkdir()
    wav = write_wav(tmp_path / "data" / "a.wav")
    names = ("s3://bucket/data/a.wav", "file:///old/data/a.wav", "C://old//data//a.wav")
    path = write(tmp_path / "m.jsonl", *(json.dumps({"audio_filepath": name}) for name in names))
    assert [utterance.audio for utterance in read_manifest(path).utterances] == [wav] * 3


def test_an_address_of_a_local_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.jsonl", json.dumps({"audio_filepath": "file:///a.wav"}), '{"audio_filepath": "C://a.wav"}'
    )
    manifest = read_manifest(path)
    assert manifest.problems == [f"{path}:1: file:///a.wav: is an address; write the path without file://"]
    assert [utterance.line for utterance in manifest.utterances] == [2]


@pytest.mark.parametrize("address", ["https://host/a.wav", "S3://bucket/a.wav"])
def test_an_address_is_named(address: str, tmp_path: Path) -> None:
    lines = [json.dumps({"audio_filepath": name}) for name in ("a.wav", address, f"{address}?{'x' * 200}")]
    path = write(tmp_path / "m.jsonl", *lines, json.dumps({"audio_filepath": "a.wav", "text_filepath": address}))
    manifest = read_manifest(path)
    says = "is an address; download it first and give its path"
    assert len(manifest.utterances) == 1
    assert manifest.problems[0] == f"{path}:2: {address}: {says}"
    assert manifest.problems[1].endswith(f"xxx...: {says}") and len(manifest.problems[1]) < len(str(path)) + 200
    assert manifest.problems[2] == f"{path}:4: {address}: {says}"
    write(tmp_path / "wav.scp", f"a {address}", "b b.wav")
    assert read_manifest(tmp_path).problems == [f"{tmp_path}/wav.scp:1: {address}: {says}"]
    listed = find_audio([address, path])
    assert (len(listed.utterances), listed.problems[0]) == (1, f"{address}: {says}")


def test_missing_audio_is_expected_next_to_the_manifest(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "filename", "gone/a.wav")
    assert read_manifest(path).utterances == [Utterance(tmp_path / "gone" / "a.wav")]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"audio_filepath": "a.wav", "text": ', "not valid JSON"),
        ('["a.wav", "x"]', "not a JSON object"),
        ('{"text": "x"}', "no audio_filepath"),
        ('{"audio_filepath": "", "text": "x"}', "no audio_filepath"),
        ('{"audio_filepath": "a.wav"}', "no text"),
        ('{"audio_filepath": "a.wav", "text": null}', "no text"),
        ('{"audio_filepath": 7, "text": "x"}', "audio_filepath is 7"),
        ('{"audio_filepath": "a.wav", "text": ["x"]}', 'text is ["x"]'),
        ('{"audio_filepath": "a.wav", "text": "-"}', "no text"),
        ('{"audio_filepath": "a.wav", "text": "x", "offset": "3,5"}', 'offset is "3,5"; write seconds'),
        ('{"path": "", "sentence": "x"}', "no path"),
    ],
)
def test_a_bad_line_is_reported_and_the_others_are_read(tmp_path: Path, line: str, says: str) -> None:
    good = '{"audio_filepath": "a.wav", "text": "x"}'
    path = write(tmp_path / "m.jsonl", good, line, good)
    manifest = read_manifest(path, text_required=True)
    assert len(manifest.utterances) == 2
    [problem] = manifest.problems
    assert problem.startswith(f"{path}:2: ") and says in problem and "\n" not in problem


def test_a_bad_csv_row_is_reported_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "filename,transcript", 'a.wav,"two', 'lines"', ",bear", "b.wav", "c.wav,dog")
    manifest = read_manifest(path, text_required=True)
    assert [utterance.text for utterance in manifest.utterances] == ["two\nlines", "dog"]
    assert [problem.split(": ")[0] for problem in manifest.problems] == [f"{path}:4", f"{path}:5"]


def test_an_open_quote_in_a_csv_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "filename,transcript", "a.wav,bear", 'b.wav,"dog')
    manifest = read_manifest(path)
    assert [utterance.text for utterance in manifest.utterances] == ["bear"]
    assert "not valid CSV" in manifest.problems[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"RIFF\x00\xff\xfe\x80", "not a manifest"),
        (b"some words\nabout audio\n", "not a manifest"),
        (b"clip\tduration[ms]\na.mp3\t100\n", "not a manifest"),
        (b"[]", "is empty"),
        (b"filename,transcript\n", "no line after the header"),
        (b'{\n  "audio_filepath": "a.wav"\n}\n', "m.jsonl:1: not valid JSON"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"^[^\n]*$") as caught:
        read_manifest(path)
    assert str(path) in str(caught.value) and says in str(caught.value)


def test_a_missing_manifest_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path, problem in ((tmp_path / "gone.jsonl", "cannot be read"), (tmp_path, "is a folder; give a manifest")):
        with pytest.raises(ManifestError, match=problem):
            read_manifest(path)


def test_find_audio_lists_files_folders_and_manifests_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    expected = [write_wav(folder / name) for name in ("a.WAV", "b/c.flac", "b/d.wav")]
    write_wav(folder / "._a.wav")
    write(folder / "notes.txt", "not audio")
    single = tmp_path / "gone.xyz"
    listed = write_wav(tmp_path / "listed.wav")
    manifest = write(tmp_path / "m.csv", "filename,transcript", "listed.wav,bear")
    result = find_audio([single, folder, manifest])
    assert result.utterances == [Utterance(single), *map(Utterance, expected), Utterance(listed, "bear")]
    assert result.problems == []


def test_find_audio_takes_a_single_path(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "rec" / "a.wav")
    for path in (tmp_path / "rec", wav, write(tmp_path / "m.csv", "filename", "rec/a.wav")):
        assert find_audio(path).utterances == find_audio(str(path)).utterances == [Utterance(wav)]
        assert find_audio(iter([path])).utterances == [Utterance(wav)]


def test_find_audio_lists_every_format_of_libsndfile(tmp_path: Path) -> None:
    for ending in ("wav", "flac", "ogg", "mp3", "aiff", "aif", "au", "w64", "caf", "opus"):
        (tmp_path / f"a.{ending}").touch()
    (tmp_path / "a.raw").touch()
    assert len(find_audio([tmp_path]).utterances) == 10


def test_find_audio_reports_an_empty_folder_and_a_bad_manifest(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    bad = write(tmp_path / "bad.json", "words")
    good = tmp_path / "a.wav"
    result = find_audio([empty, bad, good])
    assert result.utterances == [Utterance(good)]
    assert [problem.split(": ")[0] for problem in result.problems] == [str(empty), str(bad)]


def test_impossible_paths_are_reported_and_the_others_are_read(tmp_path: Path) -> None:
    good = {"audio_filepath": "a.wav", "text": "a"}
    bad = [{"audio_filepath": "x" * 5000}, {"audio_filepath": "~no-such-user/a.wav"}, {"audio_filepath": "a\0b.wav"}]
    lines = [json.dumps(entry) for entry in (good, *bad)] + ["[" * 100_000, '{"duration": ' + "9" * 5000 + "}"]
    file = tmp_path / "manifest.jsonl"
    file.write_text("\n".join(lines))
    manifest = read_manifest(file)
    assert len(manifest.utterances) == 2
    numbers = [problem.removeprefix(f"{file}:").partition(":")[0] for problem in manifest.problems]
    assert numbers == ["2", "3", "5", "6"]
    assert all(problem.count("\n") == 0 for problem in manifest.problems)


def test_a_csv_with_an_odd_line_separator_in_a_text(tmp_path: Path) -> None:
    file = tmp_path / "manifest.csv"
    file.write_text("filename,transcript\na.wav,one\u2028two\nb.wav,three\n", encoding="utf-8")
    assert [utterance.text for utterance in read_manifest(file).utterances] == ["one\u2028two", "three"]


def test_find_audio_leaves_a_path_that_is_too_long_to_load_audio() -> None:
    result = find_audio(["x" * 5000])
    assert (len(result.utterances), result.problems) == (1, [])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ('"audio_filepath": "\\ud800.wav"', "audio_filepath has '\\ud800', which is not a character"),
        ('"audio_filepath": "a.wav", "text": "\\udc80"', "text has '\\udc80', which is not a character"),
        (f'"audio_filepath": "{"a/" * 500_000}"', "File name too long"),
    ],
)
def test_values_that_no_file_can_have(fields: str, says: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", '{"audio_filepath": "a.wav", "text": "bear"}', f"{{{fields}}}")
    manifest = read_manifest(path)
    assert [utterance.text for utterance in manifest.utterances] == ["bear"]
    assert manifest.problems[0].startswith(f"{path}:2: ") and says in manifest.problems[0]


def test_names_with_bytes_that_are_not_utf_8_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", '{"audio_filepath": "\\udcff.wav"}')
    assert os.fsencode(read_manifest(path).utterances[0].audio.name) == b"\xff.wav"


@pytest.mark.parametrize("name", ["a\0", "\ud800"])
def test_a_path_that_no_file_has_is_refused(name: str) -> None:
    with pytest.raises(ManifestError, match="cannot be read") as caught:
        read_manifest(name)
    assert str(caught.value).isprintable()
