"""Synthesise random coffee orders with free voices, for training and for the demo.

Needs the Debian packages flite (CMU Flite, BSD-like licence) and espeak-ng (GPL-3, which doesn't cover the recordings).
Writes FOLDER/manifest.jsonl and FLAC files, 16 kHz, mono, 16 bits.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import click
import numpy as np
import soundfile
import soxr
from coffee_orders import random_order

from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.terminal import options

FLITE_VOICES = ("awb", "kal16", "rms", "slt")
ESPEAK_VOICES = ("en-us", "en-us+f2", "en-us+m3", "en-gb", "en-gb+f4", "en-gb-scotland", "en-029+f3")


def speak(text: str, voice: str, rate: float, wav: Path) -> None:
    """Write `text`, spoken by `voice` at `rate` times its normal speed, to the file `wav`."""
    if voice in FLITE_VOICES:
        command = ["flite", "-voice", voice, "--setf", f"duration_stretch={1 / rate:.3f}", "-t", text, "-o", str(wav)]
    else:
        command = ["espeak-ng", "-v", voice, "-s", str(round(160 * rate)), "-w", str(wav), text]
    subprocess.run(command, check=True, capture_output=True)


def read_aloud(text: str, voice: str, rng: random.Random) -> np.ndarray:
    """Speech of `text`, int16 [samples], 16 kHz, with 0.1 to 1 s of faint noise at both ends."""
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "speech.wav"
        speak(text, voice, rng.uniform(0.85, 1.15), wav)
        samples, rate = soundfile.read(wav, dtype="float32")
    samples = soxr.resample(samples, rate, SAMPLE_RATE)
    before, after = (int(rng.uniform(0.1, 1.0) * SAMPLE_RATE) for _ in range(2))
    samples = np.pad(samples * (rng.uniform(0.2, 0.8) / np.abs(samples).max()), (before, after))
    noise = np.random.default_rng(rng.randrange(2**32)).standard_normal(len(samples))
    samples += (10 ** rng.uniform(-4.0, -2.7)) * noise
    recording: np.ndarray = np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)
    return recording


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--count", default=500, show_default=True, help="Number of recordings.")
@click.option(
    "--fragments",
    default=0.0,
    show_default=True,
    help="Fraction of recordings that are fragments of 2-5 words, 0 to 1.",
)
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same orders.")
def main(folder: Path, count: int, fragments: float, seed: int) -> None:
    for program in ("flite", "espeak-ng"):
        if shutil.which(program) is None:
            raise click.UsageError(f"{program} is not installed; install the Debian package {program}")
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    voices = FLITE_VOICES + ESPEAK_VOICES
    with (folder / "manifest.jsonl").open("w") as manifest:
        for index in range(count):
            text = random_order(rng, shortest=rng.random() < fragments)
            voice = voices[index % len(voices)]
            samples = read_aloud(text, voice, rng)
            name = f"{index:04d}_{voice}.flac"
            soundfile.write(folder / name, samples, SAMPLE_RATE)
            row = {
                "audio_filepath": name,
                "duration": round(len(samples) / SAMPLE_RATE, 3),
                "text": text,
                "voice": voice,
            }
            manifest.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    options.run(main)
