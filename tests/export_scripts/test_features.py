"""The feature stage in ragged batches, compared with NeMo's front ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
import soundfile
import torch
from feeds import open_graph, ragged_feeds
from locations import DEMO_MANIFEST, SHARED, SPEECH
from nemo.collections.asr.parts.preprocessing.features import FilterbankFeatures

from export_scripts.checkpoints.nemo_reference import with_front_end
from export_scripts.operators.tuning import TUNINGS, Target
from export_scripts.stages.features import Edges, FrontEnd, features_graph
from nemo_triton.contract import SAMPLES

TOLERANCE = 2e-3
Samples = npt.NDArray[np.int16]


def nemo_front_end(mels: int = 80, window_size: int = 400, **settings: Any) -> FilterbankFeatures:
    return FilterbankFeatures(
        n_window_size=window_size, n_window_stride=160, n_fft=512, nfilt=mels, dither=0, **settings
    ).eval()


def front_end_of(nemo: FilterbankFeatures, edges: Edges) -> FrontEnd:
    return FrontEnd(
        sample_rate=16000,
        n_fft=512,
        hop_length=160,
        window=nemo.window.numpy(),
        mel=nemo.fb[0].numpy(),
        preemphasis=nemo.preemph or 0.0,
        magnitude_power=nemo.mag_power,
        log=nemo.log,
        log_guard=nemo.log_zero_guard_type,
        log_guard_value=nemo.log_zero_guard_value,
        normalization="none" if nemo.normalize in (None, "NA") else nemo.normalize,
        edges=edges,
    )


def session(front_end: FrontEnd, target: Target = "cpu") -> ort.InferenceSession:
    return open_graph(features_graph(front_end, TUNINGS[target]))


def run(graph: ort.InferenceSession, batch: Sequence[Samples]) -> list[npt.NDArray[np.float32]]:
    padded = [samples if len(samples) else np.zeros(1, np.int16) for samples in batch]
    features, frames = graph.run(None, ragged_feeds(SAMPLES, padded, [len(samples) for samples in batch]))
    for row, count in enumerate(frames[:, 0]):
        assert not features[row, count:].any(), "rows beyond an item's frames are zero"
    return [features[row, :count] for row, count in enumerate(frames[:, 0])]


def by_nemo(nemo: FilterbankFeatures, samples: Samples, edges: Edges) -> npt.NDArray[np.float32]:
    signal = torch.from_numpy(samples.astype(np.float32) / 32768)[None]
    with with_front_end(nemo, edges):
        features, frames = nemo(signal, torch.tensor([len(samples)]))
    result: npt.NDArray[np.float32] = features[0, :, : int(frames)].T.numpy()
    return result


@pytest.fixture(scope="module")
def signals() -> list[Samples]:
    """Speech and noise of 0.05 to 12 s; no length is a whole number of hops."""
    speech = [soundfile.read(file, dtype="int16")[0] for file in sorted(DEMO_MANIFEST.parent.glob("*.flac"))[:3]]
    noise = np.random.default_rng(3).normal(0, 3000, 192_077).astype(np.int16)
    return [noise, speech[0], speech[1][20_000:20_801], noise[:5000], speech[2][12_000:28_161], noise[:3217]]


@pytest.mark.parametrize("edges", ["zero", "reflect"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mels": 64, "window_size": 320},
        {"normalize": "all_features"},
        {"normalize": None},
        {"normalize": "NA", "mels": 128},
        {"preemph": None, "window": "hamming"},
        {"mag_power": 1.0, "log_zero_guard_type": "clamp", "log_zero_guard_value": 1e-5},
        {"lowfreq": 60, "highfreq": 7600, "mel_norm": None},
        {"log": False, "normalize": None},
        {"window_size": 401},
    ],
    ids=str,
)
@pytest.mark.parametrize("target", TUNINGS)
def test_equals_nemo_in_ragged_batches(
    settings: dict[str, Any], target: Target, edges: Edges, signals: list[Samples]
) -> None:
    nemo = nemo_front_end(**settings)
    exported = run(session(front_end_of(nemo, edges), target), signals)
    for samples, features in zip(signals, exported, strict=True):
        expected = by_nemo(nemo, samples, edges)
        assert features.shape == expected.shape
        scale = max(1.0, float(np.abs(expected).max()) / 100)
        np.testing.assert_allclose(features, expected, atol=TOLERANCE * scale, rtol=0)


@pytest.mark.parametrize("target", TUNINGS)
@pytest.mark.parametrize("edges", ["zero", "reflect"])
def test_features_are_the_same_in_a_batch(edges: Edges, target: Target, signals: list[Samples]) -> None:
    silence = np.zeros(16_000, np.int16)
    graph = session(front_end_of(nemo_front_end(), edges), target)
    batch = [*signals, silence, np.zeros(0, np.int16), np.full(1, 99, np.int16)]
    batched = run(graph, batch)
    for samples, features in zip(batch, batched, strict=True):
        (unbatched,) = run(graph, [samples])
        np.testing.assert_allclose(features, unbatched, atol=1e-4, rtol=0)
    assert not batched[len(signals)].any(), "features of digital silence are zero"


@pytest.mark.parametrize("target", TUNINGS)
@pytest.mark.parametrize(("edges", "of_one_sample"), [("zero", 0), ("reflect", 1)])
def test_very_short_audio(edges: Edges, of_one_sample: int, target: Target) -> None:
    graph = session(front_end_of(nemo_front_end(), edges), target)
    nothing, sample, hop = run(graph, [np.zeros(0, np.int16), np.ones(1, np.int16), np.ones(160, np.int16)])
    assert len(nothing) == 0
    assert len(sample) == of_one_sample
    assert len(hop) == of_one_sample + 1
    assert all(np.isfinite(features).all() for features in (nothing, sample, hop))


def test_equals_nemo_2_4() -> None:
    file = SHARED / "nemo" / "features_nemo_2.4.0.npz"
    if not file.exists():
        pytest.skip(f"no {file}")
    saved = np.load(file)
    for mels, window in ((64, 320), (80, 400)):
        names = [name.partition("/")[2] for name in saved if name.startswith(f"mel{mels}/")]
        batch = [
            saved[f"audio/{name}"]
            if f"audio/{name}" in saved
            else soundfile.read(next((SPEECH / "read").rglob(f"{name}.*")), dtype="int16")[0]
            for name in names
        ]
        assert len(names) == 7
        stage_features = run(session(front_end_of(nemo_front_end(mels, window), "reflect")), batch)
        for name, features in zip(names, stage_features, strict=True):
            expected = saved[f"mel{mels}/{name}"].T
            assert len(features) <= len(expected) < len(features) + 16, "NeMo pads to a multiple of 16"
            np.testing.assert_allclose(features, expected[: len(features)], atol=TOLERANCE, rtol=0)


def test_every_setting_changes_the_name() -> None:
    base = front_end_of(nemo_front_end(), "zero")
    others = [
        dataclasses.replace(base, preemphasis=0.96),
        dataclasses.replace(base, edges="reflect"),
        dataclasses.replace(base, mel=base.mel + 1e-6),
        dataclasses.replace(base, normalization="none"),
    ]
    assert len({front_end.name for front_end in [base, *others]}) == 5
    assert dataclasses.replace(base).name == base.name
