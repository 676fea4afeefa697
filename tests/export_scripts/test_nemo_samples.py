"""Recordings read by the client's reader and by NeMo's have the same samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_formats import write_all

from export_scripts.checkpoints.nemo_reference import nemo_samples
from nemo_triton.audio import Channel, as_float
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.manifest import Utterance
from nemo_triton.utterances import load_utterance

NAMES = (
    "16_bit.wav",
    "24_bit.wav",
    "float_at_a_thousandth.wav",
    "float_in_int16_units.wav",
    "8_khz_mu_law.wav",
    "8_khz_16_bit.wav",
    "44_khz_stereo.flac",
    "music.mp3",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    samples, _ = soundfile.read(next(DEMO_MANIFEST.parent.glob("*.flac")), dtype="float32")
    folder = tmp_path_factory.mktemp("formats")
    write_all(samples, folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("offset", "duration"), [(None, None), (None, 0.5), (0.0, 1.0001), (0.71234, 1.23456), (1.5, None)]
)
def test_samples_are_those_of_nemo(folder: Path, name: str, offset: float | None, duration: float | None) -> None:
    utterance = Utterance(folder / name, duration=duration, offset=offset)
    expected = nemo_samples(utterance)
    assert expected is not None and len(expected) > 8000
    np.testing.assert_array_equal(as_float(load_utterance(utterance)), expected)


@pytest.mark.parametrize("channel", [0, "right", "average"])
def test_channels_are_those_of_nemo(folder: Path, channel: Channel) -> None:
    utterance = Utterance(folder / "44_khz_stereo.flac", channel=channel)
    expected = nemo_samples(utterance)
    assert expected is not None
    np.testing.assert_array_equal(as_float(load_utterance(utterance)), expected)


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def without_size(content: bytes) -> bytes:
    """A WAV whose recorder died: NeMo reads no samples."""
    place = content.index(b"data") + 4
    return content[:place] + bytes(4) + content[place + 4 :]


def with_wrong_bytes(content: bytes) -> bytes:
    """NeMo reads what is before them by ffmpeg."""
    place = len(content) // 2
    return content[:place] + b"\xff" * 400 + content[place + 400 :]


@pytest.mark.parametrize(
    ("name", "damage"),
    [("44_khz_stereo.flac", half), ("44_khz_stereo.flac", with_wrong_bytes), ("16_bit.wav", without_size)],
)
def test_damaged_files_are_no_reference(
    folder: Path, name: str, damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(damage((folder / name).read_bytes()))
    assert len(load_utterance(Utterance(path))) > SAMPLE_RATE
    assert nemo_samples(Utterance(path)) is None


def test_files_that_nemo_reads_by_ffmpeg_are_no_reference(folder: Path) -> None:
    assert nemo_samples(Utterance(folder / "phone.m4a")) is None
