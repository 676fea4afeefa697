"""Read a checkpoint's model_config.yaml, which anyone may have written, and keep what NeMo needs to restore a model.

NeMo imports and calls what the config names. Its own guard (safe_instantiate of NeMo 2.7.3) also allows functions, such
as those of nemo.collections.asr.parts that write files, and doesn't look at `target`, which it imports. So only classes
of recognizers are allowed here, and sections that restoring doesn't need are dropped.

Source: nemo/core/classes/common.py (Serialization.from_config_dict), nemo/utils/model_utils.py (_convert_config),
nemo/core/classes/modelPT.py of NeMo 2.7.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from export_scripts.checkpoints.archive import UNTRUSTED
from export_scripts.checkpoints.families import HYBRIDS, decoder_classes, refusal
from export_scripts.checkpoints.saved_decoding import AUX_CTC, BEAM_SEARCH, check_decoding, greedy_decoding
from export_scripts.errors import RefusedFileError, excerpt

MAX_CONFIG_BYTES = 4 * 2**20
"""A config with 8192 pieces, named twice, has 0.3 MB."""
MAX_DEPTH = 50

_ALLOWED_CLASSES = re.compile(
    r"nemo\.collections\.asr\.modules\.(\w+\.)?("
    r"AudioToMelSpectrogramPreprocessor|AudioToMFCCPreprocessor"
    r"|(ConvASREncoder|ConformerEncoder|SqueezeformerEncoder)(Adapter)?|RNNEncoder"
    r"|ConvASRDecoder|LSTMDecoder|RNNTDecoder|StatelessTransducerDecoder|RNNTJoint|SampledRNNTJoint|HATJoint)"
    r"|nemo\.collections\.common\.parts\.adapter_modules\.LinearAdapter"
    r"|nemo\.core\.classes\.mixins\.adapter_mixin_strategies\.\w+AdapterStrategy"
)
"""Classes of recognizers: networks without files. The export may still refuse them, by their name and with a reason."""
_PACKAGES = re.compile(
    r"(nemo|torch|torchaudio|lightning|pytorch_lightning|lhotse|apex|megatron|transformer_engine|omegaconf)(\.\w+)+"
)
"""What any section may name. Those that are dropped name optimizers, callbacks and data sets of the training."""
_CLASS_KEYS = ("_target_", "target", "cls")
"""Keys by which NeMo finds a class; `cls` is Hydra's before 1.0."""
_HYDRA_KEYS = ("_args_", "_partial_", "_recursive_", "_convert_")

_SECTIONS = {"preprocessor", "encoder", "decoder", "joint", "decoding", "loss", "labels", "model_defaults"}
_SECTIONS |= {"adapters", "tokenizer", "validation_ds"}
"""Sections that restoring and transcribing read. Of the others only plain values stay."""
_LOSSES_WITH_DURATIONS = ("tdt", "multiblank_rnnt")
"""Losses from which NeMo reads how many frames a label can skip. Others are for training only."""
_FILE_KEY = re.compile(r"(.*_)?(path|paths|file|filepath|files|dir|folder|lm_model)")


def read_saved_config(file: Path) -> dict[str, Any]:
    """Read a model_config.yaml as plain values: no tags, aliases or interpolations, which NeMo never saves.

    Raises:
        RefusedFileError: The file has one of these, or isn't a mapping.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if file.stat().st_size > MAX_CONFIG_BYTES:
        raise RefusedFileError(f"{excerpt(file.name)} has more than {MAX_CONFIG_BYTES >> 20} MiB; {UNTRUSTED}")
    try:
        text = file.read_text(encoding="utf-8")
        _check_yaml(text, file.name)
        # OmegaConf reads numbers such as 1e-5 by other rules than PyYAML.
        config = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError, OverflowError, RecursionError) as error:
        reason = excerpt(" ".join(str(error).split()))
        raise RefusedFileError(
            f"{file.name} is not readable as a NeMo config ({reason}); get the file again"
        ) from error
    if not isinstance(config, dict):
        raise RefusedFileError(f"{file.name} is not a mapping of names to values; get the file again")
    for path, _, value in _values(config):
        if isinstance(value, str) and "${" in value:
            raise RefusedFileError(
                f"{excerpt(path)} is {excerpt(value)}; NeMo resolves interpolations when it saves: save it again with "
                "NeMo's save_to"
            )
    return {str(name): value for name, value in config.items()}


def _check_yaml(text: str, name: str) -> None:
    """Refuse tags, which can construct objects, and aliases, which can grow without limit."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise RefusedFileError(f"{name} has the YAML tag {excerpt(tag)}; {UNTRUSTED}")
        if isinstance(event, yaml.AliasEvent):
            raise RefusedFileError(
                f"{name} has the YAML alias *{excerpt(event.anchor)}; save it again with NeMo's save_to"
            )
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise RefusedFileError(f"{name} is nested more than {MAX_DEPTH} deep; {UNTRUSTED}")


def restorable_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a config that NeMo needs to restore a model for greedy decoding.

    Args:
        config: A config of a class that can be exported.

    Raises:
        RefusedFileError: The config names code that no recognizer needs, or files.
    """
    target = str(config.get("target", ""))
    model_class = target.rpartition(".")[2]
    kinds = decoder_classes(model_class)
    if not kinds:
        raise RefusedFileError(refusal(model_class))
    decoder = kinds[0]
    for path, key, value in _values(config):
        if key in ("_target_", "cls") and value is not None and not _PACKAGES.fullmatch(str(value)):
            raise RefusedFileError(_names_code(path, value))
    if not re.fullmatch(rf"{re.escape(decoder.module)}\.(\w+\.)?\w+", target):
        raise RefusedFileError(_names_code("target", target))
    sections = _SECTIONS | ({AUX_CTC} if model_class in HYBRIDS else set())
    kept = {name: value for name, value in config.items() if name in sections or not isinstance(value, (dict, list))}
    del kept["target"]
    if isinstance(aux_ctc := kept.get(AUX_CTC), dict):
        kept[AUX_CTC] = dict(aux_ctc)
    if isinstance(loss := kept.get("loss"), dict) and loss.get("loss_name") not in _LOSSES_WITH_DURATIONS:
        del kept["loss"]
    for _, parent in _with_decoding(kept):
        parent["decoding"] = {name: value for name, value in parent["decoding"].items() if name not in BEAM_SEARCH}
    if isinstance(validation := kept.get("validation_ds"), dict):
        kept["validation_ds"] = {name: value for name, value in validation.items() if isinstance(value, (int, float))}
    for path, key, value in _values(kept):
        if key in _CLASS_KEYS and value is not None and not _ALLOWED_CLASSES.fullmatch(str(value)):
            raise RefusedFileError(_names_code(path, value))
        if key in _HYDRA_KEYS:
            raise RefusedFileError(f"{excerpt(path)} is an instruction to Hydra that no recognizer has; {UNTRUSTED}")
        if _FILE_KEY.fullmatch(key) and value and not path.startswith("tokenizer."):
            raise RefusedFileError(
                f"{excerpt(path)} names the file {excerpt(value)}, which the export doesn't read; set it to "
                "null in the config"
            )
    for path, parent in _with_decoding(kept):
        check_decoding(parent["decoding"], path)
        parent["decoding"] = greedy_decoding(parent["decoding"])
    return {**kept, "target": f"{decoder.module}.{model_class}"}


def _with_decoding(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the parts of a config that have a section `decoding`, with the path of that section."""
    for path, parent in (("decoding", config), (f"{AUX_CTC}.decoding", config.get(AUX_CTC))):
        if isinstance(parent, dict) and isinstance(parent.get("decoding"), dict):
            yield path, parent


def _names_code(path: str, value: object) -> str:
    return f"{excerpt(path)} names {excerpt(value)}, which is no part of NeMo's recognizers; {UNTRUSTED}"


def _values(section: object, path: str = "", key: str = "") -> Iterator[tuple[str, str, object]]:
    """Yield each value of nested sections with its path, such as encoder.jasper.0.filters, and its key."""
    if path:
        yield path, key, section
    if isinstance(section, dict):
        for name, value in section.items():
            yield from _values(value, f"{path}.{name}" if path else str(name), str(name))
    elif isinstance(section, list):
        for index, value in enumerate(section):
            yield from _values(value, f"{path}.{index}", "")
