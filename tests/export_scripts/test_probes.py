"""Recordings of any format from folders and manifests, and errors for those that can't be used."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from locations import DEMO_MANIFEST

from export_scripts.errors import ExportError
from export_scripts.recordings import read_recordings
from export_scripts.verify.probes import read_probes
from nemo_triton.audio import as_float, load_audio

pytestmark = pytest.mark.fast

TONE = np.sin(np.arange(24_000) / 20) * 0.5


def test_a_manifest_gives_the_same_recordings_as_its_folder() -> None:
    listed, in_folder = read_recordings(DEMO_MANIFEST), read_recordings(DEMO_MANIFEST.parent)
    assert len(listed.signals) == 22 and all(samples.dtype == np.int16 for samples in listed.signals)
    assert listed.names == in_folder.names and listed.trace().sha256 == in_folder.trace().sha256


@pytest.mark.parametrize(
    ("name", "rate", "channels", "subtype"),
    [
        ("a.flac", 16_000, 1, "PCM_16"),
        ("a.wav", 16_000, 1, "FLOAT"),
        ("a.WAV", 44_100, 2, "PCM_24"),
        ("a.ogg", 8_000, 1, "VORBIS"),
        ("a.opus", 48_000, 1, "OPUS"),
        ("a.mp3", 16_000, 2, "MPEG_LAYER_III"),
        ("a.aif", 16_000, 2, "PCM_16"),
    ],
)
def test_recordings_equal_the_audio_that_the_client_sends(
    name: str, rate: int, channels: int, subtype: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    container = {".opus": "OGG", ".aif": "AIFF"}.get(file.suffix.lower())
    soundfile.write(file, np.repeat(TONE[:, None], channels, axis=1), rate, subtype=subtype, format=container)
    (tmp_path / "notes.txt").write_text("no audio")
    (tmp_path / "._a.wav").write_text("no audio either")
    recordings = read_recordings(tmp_path)
    assert recordings.names == (name,)
    np.testing.assert_array_equal(recordings.signals[0], load_audio(file))
    assert np.abs(as_float(recordings.signals[0])).max() > 0.3


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("text", "not readable as audio (it holds text); record or copy it again"),
        ("empty", "has no samples; leave it out"),
        ("nan", "holds NaN or infinite samples; write it again from its source"),
        ("raw", "not readable as audio (Format not recognised); convert it to WAV or FLAC"),
    ],
)
def test_a_recording_that_cannot_be_used(kind: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / ("one.raw" if kind == "raw" else "one.wav")
    if kind == "text":
        file.write_text("no audio")
    elif kind == "raw":
        file.write_bytes((TONE * 32767).astype(np.int16).tobytes())
    else:
        soundfile.write(file, np.full(0 if kind == "empty" else 9, np.nan), 16_000, subtype="FLOAT")
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(json.dumps({"audio_filepath": str(DEMO_MANIFEST.parent / "0000_awb.flac")}) + "\n\n")
    with manifest.open("a") as lines:
        lines.write(json.dumps({"audio_filepath": file.name}))
    with pytest.raises(ExportError) as refusal:
        read_recordings(manifest)
    message = str(refusal.value)
    assert message == f"{manifest}:3: {file}: {says}"


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.jsonl", b"", "a.jsonl: the manifest is empty"),
        ("a.jsonl", b"\n{}\n", "a.jsonl:2: no audio_filepath"),
        ("a.jsonl", b"no json\n", "a.jsonl: not a manifest"),
        ("a.jsonl", b'{"audio_filepath": 5}', "a.jsonl:1: audio_filepath is 5; write it as a string"),
        ("a.jsonl", b'{"audio_filepath": "gone.wav"}', "gone.wav: no such file"),
        ("a.jsonl", b'{"audio_filepath": "a.wav", "offset": -2}', "a.jsonl:1: offset is -2; write seconds"),
        ("a.csv", b"filename,transcript\n", "a.csv: there is no line after the header"),
        ("a.flac", b"fLaC\xff\xfe", "a.flac: is audio, not a manifest; give a .jsonl or .csv file"),
    ],
)
def test_a_manifest_that_cannot_be_used(name: str, content: bytes, complaint: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ExportError) as refusal:
        read_recordings(tmp_path / name)
    assert complaint in str(refusal.value)


@pytest.mark.parametrize("byte_order_mark", [b"", b"\xef\xbb\xbf"])
def test_every_kind_of_manifest(byte_order_mark: bytes, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", TONE, 16_000)
    for name, content in (("a.jsonl", b'{"audio_filepath": "a.wav"}'), ("a.csv", b"filename,transcript\na.wav,tone")):
        (tmp_path / name).write_bytes(byte_order_mark + content)
        recordings = read_recordings(tmp_path / name)
        assert recordings.names == ("a.wav",) and len(recordings.signals[0]) == len(TONE)


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot be read"):
        read_recordings(tmp_path / ("x" * 5000))


def test_probes_are_no_longer_than_the_model_takes() -> None:
    probes = read_probes(None)
    longest = max(map(len, probes.recordings.signals)) / 16_000
    kept = probes.up_to(math.ceil(longest))
    assert kept.recordings == probes.recordings
    assert 0 < len(kept.derived.names) < len(probes.derived.names) and "6 joined" not in kept.derived.names
    with pytest.raises(ExportError, match=r"^demo commands: \S+ is longer than the 1 seconds"):
        probes.up_to(1)


def test_a_folder_without_recordings(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r": no audio file in this folder; give a folder with e\.g\. \.wav or"):
        read_recordings(tmp_path)


def test_reports_have_no_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path stays; of an absolute path only the last part is kept."""
    monkeypatch.chdir(tmp_path)
    speech = Path("some") / "speech"
    speech.mkdir(parents=True)
    soundfile.write(speech / "a.wav", TONE, 16_000)
    assert read_probes(speech).recordings.source == "some/speech"
    assert read_probes(speech.absolute()).recordings.source == "speech"
    assert read_probes(None).recordings.source == "demo commands"
