"""Checkpoints that other NeMo releases saved: settings that greedy search doesn't need don't keep them from opening.

The sections are the defaults of NeMo's own dataclasses, with the keys that differ between releases.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import nemo
import numpy as np
import pytest
import soundfile
import torch
from architectures import NEW_NEMO, UNIFIED, Block
from fixture_types import CheckpointFile
from locations import DEMO_MANIFEST
from nemo.collections.asr.parts.submodules.ctc_decoding import CTCBPEDecodingConfig
from nemo.collections.asr.parts.submodules.rnnt_decoding import RNNTBPEDecodingConfig
from omegaconf import OmegaConf
from tiny_models import read_config, rewrite_config

from export_scripts.checkpoints.checkpoint import open_checkpoint
from export_scripts.checkpoints.families import decoder_class_of
from export_scripts.checkpoints.restore import restore_file
from export_scripts.checkpoints.saved_decoding import greedy_decoding, unknown_settings
from export_scripts.errors import ExportError
from export_scripts.stages.encoder import check_encoder

CTC, RNNT = "conformer", "conformer_transducer"
DEFAULTS: dict[str, Any] = {CTC: CTCBPEDecodingConfig, RNNT: RNNTBPEDecodingConfig}
K2: Block = {"search_beam": 20.0, "output_beam": 10.0, "min_active_states": 30, "max_active_states": 10000}
RELEASES = ("2.5", "2.6", "2.7", "3.0", "later")


def saved_by(release: str, architecture: str) -> Block:
    """The decoding section that a release saves after change_decoding_strategy, which adds all defaults.

    The defaults are those of the installed release, 2.7 or 3.0, with the differences of the others.
    """
    decoding: Any = OmegaConf.to_container(OmegaConf.structured(DEFAULTS[architecture]), enum_to_str=True)
    if release in ("2.5", "2.6"):
        del decoding["greedy"]["boosting_tree"]["key_phrase_items_list"]
        decoding["greedy"].pop("enable_per_stream_biasing", None)
    if release in ("3.0", "later"):
        decoding |= {"strip_lang_tags": False, "lang_tag_pattern": r"\s*<[a-z]{2}-[A-Z]{2}>"}
        decoding.get("wfst", {}).pop("k2_decoding_cfg", None)
    else:
        for argument in ("strip_lang_tags", "lang_tag_pattern"):
            decoding.pop(argument, None)
        if "wfst" in decoding:
            decoding["wfst"]["k2_decoding_cfg"] = K2
    if release == "later":
        decoding["later"] = None
        decoding["confidence_cfg"]["later"] = 1
        decoding["confidence_cfg"]["method_cfg"]["later"] = 1
        decoding["greedy"]["confidence_method_cfg"]["later"] = 1
        decoding["greedy"]["boosting_tree"]["later"] = 1
        decoding["greedy"]["later"] = False
    section: Block = decoding | {"greedy": decoding["greedy"] | {"max_symbols": 3}}
    return section


def transcript(model: Any) -> str:
    signal, _ = soundfile.read(sorted(DEMO_MANIFEST.parent.glob("*.flac"))[0], dtype="float32")
    audio = torch.from_numpy(np.asarray(signal))[None]
    model.preprocessor.featurizer.dither = 0.0
    with torch.inference_mode():
        encoded, length, *_ = model.forward(input_signal=audio, input_signal_length=torch.tensor([audio.shape[1]]))
        return str(decoder_class_of(model).hypotheses(model, encoded, length)[0].text)


def with_config(checkpoint: Path, file: Path, **changes: object) -> Path:
    file.write_bytes(checkpoint.read_bytes())
    rewrite_config(file, **changes)
    return file


@pytest.mark.parametrize("strategy", ["greedy", "greedy_batch", "beam"])
@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("architecture", [CTC, RNNT])
def test_each_release_opens_with_the_same_text(
    architecture: str, release: str, strategy: str, checkpoint_file: CheckpointFile, tmp_path: Path
) -> None:
    checkpoint = checkpoint_file(architecture, NEW_NEMO)
    short = {"strategy": "greedy_batch", "greedy": {"max_symbols": 3}}
    expected = transcript(restore_file(with_config(checkpoint, tmp_path / "short.nemo", decoding=short)))
    assert expected
    section = saved_by(release, architecture) | {"strategy": strategy}
    model: Any = restore_file(with_config(checkpoint, tmp_path / "model.nemo", decoding=section))
    assert transcript(model) == expected
    if architecture == RNNT:
        assert model.decoding.decoding.max_symbols == 3
    assert unknown_settings({"decoding": section}) == []


def test_what_changes_the_text_stays() -> None:
    section = saved_by("3.0", RNNT) | {"durations": [0, 1, 2], "temperature": 1.5}
    section["greedy"] |= {"max_symbols": 7, "loop_labels": False}
    kept = greedy_decoding(section)
    assert (kept["strategy"], kept["durations"], kept["temperature"]) == ("greedy_batch", [0, 1, 2], 1.5)
    assert (kept["greedy"]["max_symbols"], kept["greedy"]["loop_labels"]) == (7, False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"strip_lang_tags": True},
            "decoding.strip_lang_tags is True; the export doesn't remove language tags from a text: set it to false in "
            "the config",
        ),
        (
            {"greedy": {"boosting_tree": {"key_phrases_list": ["latte"]}, "boosting_tree_alpha": 0.5}},
            "decoding.greedy.boosting_tree.key_phrases_list is ['latte']; the export doesn't boost phrases: set it to "
            "null in the config",
        ),
        (
            {"greedy": {"boosting_tree": {"model_path": "tree.nemo"}}},
            "decoding.greedy.boosting_tree.model_path names the file tree.nemo, which the export doesn't read; set it "
            "to null in the config",
        ),
    ],
)
def test_what_would_change_the_text_is_refused(
    change: Block, message: str, checkpoint_file: CheckpointFile, tmp_path: Path
) -> None:
    file = with_config(
        checkpoint_file(RNNT, NEW_NEMO), tmp_path / "model.nemo", decoding=saved_by("3.0", RNNT) | change
    )
    with pytest.raises(ExportError) as error:
        restore_file(file)
    assert str(error.value) == f"{file}: {message}"


def test_settings_that_no_release_had_are_named(checkpoint_file: CheckpointFile, tmp_path: Path) -> None:
    section = saved_by("later", RNNT) | {"frames_to_skip": 2, "search": {"width": 5}}
    section["greedy"]["penalty"] = 0.5
    checkpoint = open_checkpoint(
        str(with_config(checkpoint_file(RNNT, NEW_NEMO), tmp_path / "model.nemo", decoding=section))
    )
    assert checkpoint.unknown_settings == (
        "decoding.frames_to_skip: 2",
        "decoding.search: {'width': 5}",
        "decoding.greedy.penalty: 0.5",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"att_chunk_context_size": None, "conv_context_style": "regular"},
        {"conv_context_style": "dcc"},
        {**UNIFIED, "att_context_size": [-1, -1]},
        {**UNIFIED, "att_context_size": [4, 2]},
    ],
)
def test_arguments_of_nemo_3_that_compute_the_same_for_a_whole_file(
    arguments: Block, checkpoint_file: CheckpointFile, tmp_path: Path
) -> None:
    """With NeMo 3.0, whose encoder has these arguments, the expected text is NeMo's own."""
    checkpoint = checkpoint_file(CTC, NEW_NEMO)
    encoder = read_config(checkpoint)["encoder"] | arguments
    opened = open_checkpoint(str(with_config(checkpoint, tmp_path / "model.nemo", encoder=encoder)))
    check_encoder(opened.model.encoder)
    assert transcript(opened.model) == transcript(restore_file(checkpoint))


@pytest.mark.parametrize(
    ("section", "argument", "value"),
    [("encoder", "later", 2), ("preprocessor", "later", 0.5), ("decoder", "later", False)],
)
def test_arguments_that_may_change_the_model_are_refused(
    section: str, argument: str, value: object, checkpoint_file: CheckpointFile, tmp_path: Path
) -> None:
    checkpoint = checkpoint_file(CTC, NEW_NEMO)
    changed = copy.deepcopy(read_config(checkpoint)[section]) | {argument: value}
    file = with_config(checkpoint, tmp_path / "model.nemo", **{section: changed})
    with pytest.raises(ExportError) as error:
        restore_file(file)
    assert str(error.value) == (
        f"{file}: {section}.{argument} is {value}, which NeMo {nemo.__version__} doesn't know; choose a checkpoint "
        "that this version of NeMo can restore"
    )


def test_the_reason_of_nemo_is_told(checkpoint_file: CheckpointFile, tmp_path: Path) -> None:
    checkpoint = checkpoint_file(CTC, NEW_NEMO)
    encoder = read_config(checkpoint)["encoder"] | {"subsampling": "seventhfold"}
    file = with_config(checkpoint, tmp_path / "model.nemo", encoder=encoder)
    with pytest.raises(ExportError, match="seventhfold"):
        restore_file(file)
