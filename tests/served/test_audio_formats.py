"""Served texts of recordings in many formats equal NeMo's texts of the same files."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from locations import AUDIO_FORMATS, BUILD, DEMO_CHECKPOINT, RNNT_CHECKPOINT

from nemo_triton.audio import as_float, load_audio
from nemo_triton.recognizer import AsyncRecognizer

READ_BY_NEMO_ITSELF = {
    "16_bit.wav",
    "24_bit.wav",
    "44_khz_stereo.flac",
    "8_khz_16_bit.wav",
    "8_khz_mu_law.wav",
    "float_at_a_thousandth.wav",
    "float_in_int16_units.wav",
    "music.mp3",
}
"""Formats that NeMo reads without the program ffmpeg, which not every machine has."""
NARROW = ("8_khz_16_bit.wav", "8_khz_mu_law.wav", "8_khz_gsm.wav", "phone.amr")
"""Telephone speech. Above 4 kHz, NeMo's features are its rounding errors, which can change a text (docs/inputs.md)."""


@pytest.mark.parametrize("model", [DEMO_CHECKPOINT.stem, RNNT_CHECKPOINT.stem])
async def test_the_text_of_a_file_is_that_of_nemo(triton_of_all: str, model: str) -> None:
    rows = [json.loads(line) for line in (BUILD / "nemo_transcripts.jsonl").read_text().splitlines()]
    expected = {
        row["audio"]: row["nemo"]
        for row in rows
        if (row["model"], row["set"]) == (model, AUDIO_FORMATS.name) and row["nemo"] is not None
    }
    formats = Counter(Path(audio).name for audio in expected)
    assert formats.keys() >= READ_BY_NEMO_ITSELF and len(set(formats.values())) == 1
    async with AsyncRecognizer(model, triton_of_all) as recognizer:
        transcripts = await asyncio.gather(*(recognizer.transcribe(load_audio(audio)) for audio in expected))
    wrong = [
        audio for audio, transcript in zip(expected, transcripts, strict=True) if transcript.text != expected[audio]
    ]
    assert [audio for audio in wrong if Path(audio).name not in NARROW] == []
    narrow = [audio for audio in expected if Path(audio).name in NARROW]
    assert len(wrong) <= len(narrow) / 4, wrong


@pytest.mark.parametrize("model", [DEMO_CHECKPOINT.stem, RNNT_CHECKPOINT.stem])
async def test_float_and_16_bit_requests_share_batches(triton_of_all: str, model: str) -> None:
    """The same samples in both types have the same text, in any mixture."""
    files = sorted(AUDIO_FORMATS.glob("*/16_bit.wav"))
    recordings = [load_audio(file) for file in files]
    assert {samples.dtype for samples in recordings} == {np.dtype(np.int16)}
    mixed = [samples for recording in recordings for samples in (recording, as_float(recording))] * 2
    async with AsyncRecognizer(model, triton_of_all) as recognizer:
        unbatched = [await recognizer.transcribe(recording) for recording in recordings]
        batched = await asyncio.gather(*map(recognizer.transcribe, mixed))
    assert [each.text for each in batched] == [each.text for each in unbatched for _ in range(2)] * 2
