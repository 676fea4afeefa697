"""Folders of Kaldi and LibriSpeech, and what is counted as skipped in other folders."""

import os
from pathlib import Path

import pytest
from manifest_files import write, write_wav

from nemo_triton.audio_decoders import is_transport_stream
from nemo_triton.errors import ManifestError
from nemo_triton.manifest import Utterance, find_audio, is_manifest, read_manifest

pytestmark = pytest.mark.fast


def kaldi(folder: Path) -> Path:
    write_wav(folder / "wavs" / "a b.wav")
    write(folder / "wav.scp", "call1 wavs/a b.wav", "call2 sph2pipe -f wav /x.sph |", "call3 data/raw.ark:17", "call4")
    write(folder / "text", "call1 TWO  coffees", "call5 other")
    return folder


def test_kaldi_without_segments(tmp_path: Path) -> None:
    folder = kaldi(tmp_path / "data")
    for path in (folder, folder / "wav.scp"):
        manifest = read_manifest(path)
        assert manifest.utterances == [Utterance(folder / "wavs" / "a b.wav", "TWO  coffees")]
        command, archive, empty = manifest.problems
        assert command.startswith(f"{folder}/wav.scp:2: a command (ends in |), which is not run; ")
        assert archive.startswith(f"{folder}/wav.scp:3: a place in an archive (.ark); ")
        assert empty.startswith(f"{folder}/wav.scp:4: no path after the name of the recording; ")
        assert [utterance.other_fields for utterance in manifest.utterances] == [{"utt_id": "call1"}]
        listed = find_audio([path])
        assert (listed.utterances, listed.problems) == (manifest.utterances, manifest.problems)


def test_kaldi_runs_no_command(tmp_path: Path) -> None:
    write(tmp_path / "wav.scp", f"a touch {tmp_path}/ran |", f"b touch {tmp_path}/ran|", "c a.wav")
    assert len(read_manifest(tmp_path).problems) == 2
    assert not (tmp_path / "ran").exists()


def test_kaldi_with_segments(tmp_path: Path) -> None:
    folder = kaldi(tmp_path / "data")
    write(folder / "text", "s1 one", "s2", "s4 four", "s4 again")
    rows = ["s1 call1 0 1.5", "s2 call1 1.5 -1", "s3 call1 3 4 1", "s4 call2 0 1", "s5 gone 0 1", "s6 call1 2 1"]
    write(folder / "segments", *rows, "s7 call1 x y", "s8 call1 0 nan", "s9 call1 0 1 0 9", "sa call2 1 2", "sb")
    manifest = read_manifest(folder)
    wav = folder / "wavs" / "a b.wav"
    assert manifest.utterances == [
        Utterance(wav, "one", offset=0.0),
        Utterance(wav, "", offset=1.5),
        Utterance(wav, None, offset=3.0, channel=1),
    ]
    assert [(utterance.duration, utterance.line) for utterance in manifest.utterances] == [(1.5, 1), (None, 2), (1, 3)]
    assert [utterance.other_fields["utt_id"] for utterance in manifest.utterances] == ["s1", "s2", "s3"]
    problems = [problem.removeprefix(f"{folder}/") for problem in manifest.problems]
    assert [problem.split(": ")[0] for problem in problems] == [
        *("wav.scp:2", "wav.scp:3", "wav.scp:4"),
        *("segments:6", "segments:7", "segments:8", "segments:9", "segments:11", "text:4", "segments:5"),
    ]
    assert "starts at 2 and ends at 1" in problems[3] and "s4 is listed twice" in problems[8]
    assert "the recording gone is not in wav.scp" in problems[9]
    assert manifest.notes == [f"{folder}/segments: 2 segments skipped, because {folder}/wav.scp:2 can't be used"]


def test_kaldi_counts_a_single_skipped_segment(tmp_path: Path) -> None:
    folder = kaldi(tmp_path)
    write(folder / "segments", "s1 call1 0 1", "s2 call2 0 1")
    skipped = "1 segment skipped, because"
    assert read_manifest(folder).notes == [f"{folder}/segments: {skipped} {folder}/wav.scp:2 can't be used"]


def test_kaldi_texts_are_a_problem_only_if_they_are_required(tmp_path: Path) -> None:
    write(tmp_path / "wav.scp", "a a.wav", "b b.wav")
    assert [utterance.text for utterance in read_manifest(tmp_path).utterances] == [None, None]
    with pytest.raises(ManifestError, match="no text; add a line for a to the file text"):
        read_manifest(tmp_path, text_required=True)
    write(tmp_path / "text", "b bear")
    manifest = read_manifest(tmp_path, text_required=True)
    assert [utterance.text for utterance in manifest.utterances] == ["bear"]
    assert manifest.problems == [f"{tmp_path}/wav.scp:1: no text; add a line for a to the file text"]


def test_kaldi_counts_recordings_that_it_does_not_list(tmp_path: Path) -> None:
    folder = kaldi(tmp_path)
    write_wav(folder / "wavs" / "b.wav")
    assert read_manifest(folder).notes == [f"{folder}: 1 file skipped, not in wav.scp (1 .wav)"]


def test_kaldi_looks_only_into_folders_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = kaldi(tmp_path / "data")
    for name in ("wavs/more/c.wav", "exp/d.wav", "../other/e.wav", "wavs/.f.wav"):
        write_wav(folder / name)
    write(folder / "wav.scp", "call1 wavs/a b.wav", "call2 exp/../b.wav", "call3 ../other/gone.wav", "call4 no/a.wav")
    write_wav(folder / "b.wav")
    write_wav(folder / "g.flac")
    monkeypatch.chdir(folder)
    for path in (folder, folder / "wav.scp", Path("wav.scp"), Path("../data")):
        manifest = read_manifest(path)
        where = path.parent if path.name == "wav.scp" else path
        assert len(manifest.utterances) == 4
        assert manifest.notes == [f"{where}: 1 file skipped, not in wav.scp (1 .flac)"]


def test_an_empty_list_of_kaldi_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "wav.scp", "")
    assert is_manifest(path)
    with pytest.raises(ManifestError, match="is empty"):
        read_manifest(path)


def librispeech(folder: Path) -> Path:
    chapter = folder / "dev-clean" / "84" / "121123"
    for number in range(3):
        write_wav(chapter / f"84-121123-000{number}.flac")
    write(chapter / "84-121123.trans.txt", "84-121123-0000 GO DO YOU HEAR", "84-121123-0001", "84-121123-0003 GONE", "")
    other = folder / "dev-clean" / "1272" / "128104"
    write_wav(other / "1272-128104-0000.wav")
    write(other / "1272-128104.trans.txt", "1272-128104-0000 MISTER QUILTER", "../../x Y")
    write(folder / "SPEAKERS.TXT", "84 | F")
    return folder


def test_librispeech(tmp_path: Path) -> None:
    tree = librispeech(tmp_path / "LibriSpeech")
    chapter, other = tree / "dev-clean" / "84" / "121123", tree / "dev-clean" / "1272" / "128104"
    manifest = read_manifest(tree)
    assert manifest.utterances == [
        Utterance(other / "1272-128104-0000.wav", "mister quilter"),
        Utterance(chapter / "84-121123-0000.flac", "go do you hear"),
        Utterance(chapter / "84-121123-0001.flac", None),
        Utterance(chapter / "84-121123-0003.flac", "gone"),
    ]
    [problem] = manifest.problems
    assert problem.startswith(f"{other}/1272-128104.trans.txt:2: ")
    assert manifest.notes == [f"{tree}: 1 file skipped, not in a *.trans.txt (1 .flac)"]
    (chapter / "84-121123-0002.flac").unlink()
    manifest.notes.clear()
    assert find_audio([tree]) == read_manifest(tree) == manifest
    assert read_manifest(chapter).utterances == manifest.utterances[1:]
    required = read_manifest(tree, text_required=True)
    assert [utterance.text for utterance in required.utterances] == ["mister quilter", "go do you hear", "gone"]
    assert "84-121123.trans.txt:2: no text after the name" in required.problems[1]


def test_an_unreadable_transcript_costs_itself(tmp_path: Path) -> None:
    tree = librispeech(tmp_path)
    broken = tree / "dev-clean" / "84" / "121123" / "84-121123.trans.txt"
    broken.write_bytes(b"84-121123-0000 CAF\xc9\n")
    manifest = read_manifest(tree)
    assert [utterance.text for utterance in manifest.utterances] == ["mister quilter"]
    assert "line 1 has the byte 0xC9" in manifest.problems[1]


def test_flac_goes_before_a_converted_file(tmp_path: Path) -> None:
    flac = write_wav(tmp_path / "1-2-3.flac")
    write_wav(tmp_path / "1-2-3.mp3.wav")
    write_wav(tmp_path / "1-2-3.wav")
    write(tmp_path / "1-2.trans.txt", "1-2-3 YES")
    assert read_manifest(tmp_path).utterances == [Utterance(flac, "yes")]


def test_other_folders_are_no_manifests(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav")
    with pytest.raises(ManifestError, match=r"is a folder; give a manifest, .* Kaldi's wav\.scp or LibriSpeech's"):
        read_manifest(tmp_path)


def test_skipped_files_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    wav = write_wav(folder / "a.wav")
    for name in ("notes.txt", "b/notes.TXT", "b/order.pdf", ".hidden.txt", ".git/config", "README"):
        write(folder / name)
    (folder / "gone.wav").symlink_to(tmp_path / "gone.wav")
    listed = find_audio([folder])
    assert (listed.utterances, listed.problems) == ([Utterance(wav)], [])
    assert listed.notes == [
        f"{folder}: 5 files skipped, not audio (2 .txt, 1 .pdf, 1 .wav that is no file, 1 without suffix)"
    ]


def test_many_kinds_of_skipped_files_stay_one_line(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav")
    for number in range(9):
        write(tmp_path / f"a.x{number}")
    write(tmp_path / "a.x0\n\x1b[2J")
    [note] = find_audio([tmp_path]).notes
    assert note.startswith(f"{tmp_path}: 10 files skipped, not audio (1 .") and note.endswith(", 5 others)")
    assert note.isprintable()


def test_a_folder_with_skipped_files_only_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path / "a.txt")
    listed = find_audio([tmp_path])
    assert listed.problems == [
        f"{tmp_path}: no audio file in this folder; give a folder with e.g. .wav or .flac files (skipped: 1 .txt)"
    ]
    assert (listed.utterances, listed.notes) == ([], [])


def test_what_phones_and_browsers_record_is_listed(tmp_path: Path) -> None:
    suffixes = (
        "m4a",
        "mp4",
        "m4b",
        "aac",
        "webm",
        "mka",
        "mkv",
        "amr",
        "3gp",
        "wma",
        "mov",
        "avi",
        "oga",
        "opus",
        "spx",
    )
    for suffix in (*suffixes, "ac3", "M4A"):
        (tmp_path / f"{suffix}.{suffix}").touch()
    (tmp_path / "ts.ts").write_bytes((b"\x47" + bytes(187)) * 4)
    listed = find_audio([tmp_path])
    assert (len(listed.utterances), listed.notes) == (len(suffixes) + 3, [])


@pytest.mark.parametrize("size", [188, 192, 204])
@pytest.mark.parametrize("place", [0, 4, 187])
def test_transport_streams_may_be_cut_off_at_their_start(size: int, place: int, tmp_path: Path) -> None:
    path = tmp_path / "a.TS"
    path.write_bytes(bytes(place) + (b"\x47" + bytes(size - 1)) * 4)
    assert find_audio([tmp_path]).utterances == [Utterance(path)]


@pytest.mark.parametrize("content", [b"", b"G" * 100, b"Give = 7;\n" * 500, b"G" + b" " * 187 + b"Go\n" * 300])
def test_typescript_is_no_audio(content: bytes, tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav")
    for name in ("index.ts", "module.mts", "INDEX.TS"):
        (tmp_path / name).write_bytes(content)
    listed = find_audio([tmp_path])
    assert (listed.utterances, listed.problems) == ([Utterance(wav)], [])
    assert listed.notes == [f"{tmp_path}: 3 files skipped, not audio (2 .ts, 1 .mts)"]


def test_a_transport_stream_that_cannot_be_opened_is_left_to_its_reader(tmp_path: Path) -> None:
    assert is_transport_stream(tmp_path / "gone.ts")


def test_a_pipe_is_no_recording(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    listed = find_audio([tmp_path])
    assert listed.utterances == [Utterance(wav)]
    assert listed.notes == [f"{tmp_path}: 1 file skipped, not audio (1 .wav that is no file)"]


def test_hidden_recordings_are_skipped_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / ".home" / "recordings"
    wav = write_wav(folder / "a.wav")
    for name in (".cache/b.wav", ".cache/c/d.flac", "b/.e.wav"):
        write_wav(folder / name)
    # What macOS writes beside a.wav, and what is hidden but no recording.
    for name in ("._a.wav", "__MACOSX/._a.wav", ".cache/f.txt", ".cache/84-1.trans.txt", ".git/HEAD", ".g.ts"):
        write(folder / name, "words")
    os.mkfifo(folder / ".pipe.wav")
    (folder / ".linked").symlink_to(tmp_path)
    listed = find_audio([folder])
    assert (listed.utterances, listed.problems) == ([Utterance(wav)], [])
    assert listed.notes == [f"{folder}: 3 files skipped, hidden (2 .wav, 1 .flac)"]


def test_linked_folders_are_skipped_and_counted(tmp_path: Path) -> None:
    folder, other = tmp_path / "recordings", write_wav(tmp_path / "other" / "b.wav").parent
    wav = write_wav(folder / "a.wav")
    (folder / "a_link.wav").symlink_to(wav)
    (folder / "other").symlink_to(other)
    single = f"{folder}: 1 linked folder skipped (other); give its path, too, to read it"
    assert find_audio([folder]).notes == [single]
    for number in range(6):
        # Each leads to a parent.
        write(folder / f"{number}" / "up").unlink()
        (folder / f"{number}" / "up").symlink_to(folder)
    listed = find_audio([folder])
    assert (listed.utterances, listed.problems) == ([Utterance(wav), Utterance(folder / "a_link.wav")], [])
    assert listed.notes == [
        f"{folder}: 7 linked folders skipped (0/up, 1/up, 2/up, 3/up, 4/up, ...); give their paths, too, to read them"
    ]
    (tmp_path / "link").symlink_to(other)
    assert [utterance.audio.name for utterance in find_audio([tmp_path / "link"]).utterances] == ["b.wav"]


def test_a_folder_with_hidden_recordings_only_is_a_problem(tmp_path: Path) -> None:
    write_wav(tmp_path / ".a.wav")
    listed = find_audio([tmp_path])
    assert listed.problems == [f"{tmp_path}: no audio file in this folder; give a folder with e.g. .wav or .flac files"]
    assert listed.notes == [f"{tmp_path}: 1 file skipped, hidden (1 .wav)"]


def test_recordings_beside_a_tree_of_librispeech_are_counted(tmp_path: Path) -> None:
    tree = librispeech(tmp_path)
    write_wav(tree / "a.wav")
    write_wav(tree / ".b.wav")
    (tree / "linked").symlink_to(tree)
    left_out = [
        f"{tree}: 1 file skipped, hidden (1 .wav)",
        f"{tree}: 1 linked folder skipped (linked); give its path, too, to read it",
    ]
    unlisted = f"{tree}: 2 files skipped, not in a *.trans.txt (1 .flac, 1 .wav)"
    assert read_manifest(tree).notes == [unlisted, *left_out]
    unlisted = f"{tree}: 3 files skipped, not in a *.trans.txt (2 .flac, 1 .wav)"
    assert read_manifest(tree, text_required=True).notes == [unlisted, *left_out]
    assert find_audio([tree]).notes == [f"{tree}: 1 file skipped, not audio (1 .txt)", *left_out]


def test_find_audio_lists_recordings_with_and_without_transcripts(tmp_path: Path) -> None:
    """Texts are not needed to transcribe."""
    first, last = write_wav(tmp_path / "a.wav"), write_wav(tmp_path / "z" / "call.m4a.wav")
    chapter = librispeech(tmp_path) / "dev-clean" / "84" / "121123"
    broken = tmp_path / "z" / "z.trans.txt"
    broken.write_bytes(b"call CAF\xc9\n")
    listed = find_audio([tmp_path])
    assert listed.utterances == [
        Utterance(first),
        Utterance(tmp_path / "dev-clean" / "1272" / "128104" / "1272-128104-0000.wav", "mister quilter"),
        Utterance(chapter / "84-121123-0000.flac", "go do you hear"),
        Utterance(chapter / "84-121123-0001.flac"),
        Utterance(chapter / "84-121123-0002.flac"),
        Utterance(chapter / "84-121123-0003.flac", "gone"),
        Utterance(last),
    ]
    assert [utterance.line for utterance in listed.utterances] == [0, 1, 1, 2, 0, 3, 0]
    assert [problem.split(": ")[0] for problem in listed.problems] == [
        f"{tmp_path}/dev-clean/1272/128104/1272-128104.trans.txt:2",
        str(broken),
    ]


def test_other_texts_with_the_suffix_of_librispeech_hide_no_recording(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "meeting.wav")
    write(tmp_path / "meeting.trans.txt", "Hello and welcome.", "", "So let us begin.")
    listed = find_audio([tmp_path])
    assert (listed.utterances, listed.problems) == ([Utterance(wav)], [])
    assert listed.notes == [f"{tmp_path}: 1 file skipped, not audio (1 .txt)"]
    with pytest.raises(ManifestError, match="is a folder; give a manifest"):
        read_manifest(tmp_path)


def test_librispeech_without_texts_says_that_they_are_required(tmp_path: Path) -> None:
    write_wav(tmp_path / "1-2-0000.flac")
    write(tmp_path / "1-2.trans.txt", "1-2-0000")
    with pytest.raises(ManifestError, match=r"1-2\.trans\.txt:1: no text after the name"):
        read_manifest(tmp_path, text_required=True)
