"""Restore NeMo's model from a .nemo file that anyone may have written.

What the file holds is checked before NeMo sees it, and NeMo gets the unpacked and checked files instead of the archive.
docs/security.md lists what is refused.
"""

from __future__ import annotations

import errno
import importlib
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from export_scripts.checkpoints.archive import unpack
from export_scripts.checkpoints.later_arguments import without_later_arguments
from export_scripts.checkpoints.saved_config import read_saved_config, restorable_config
from export_scripts.checkpoints.saved_decoding import AUX_CTC, searches_beams
from export_scripts.checkpoints.saved_weights import check_weights
from export_scripts.checkpoints.tokenizer_files import tokenizer_in
from export_scripts.errors import ExportError, RefusedFileError

if TYPE_CHECKING:
    from nemo.collections.asr.models import ASRModel

CONFIG, WEIGHTS = "model_config.yaml", "model_weights.ckpt"


@dataclass(frozen=True)
class SavedModel:
    """The files of a checkpoint.

    Attributes:
        file: Path of the .nemo file.
        folder: Temporary folder with its files.
        config: Its config as saved; nothing in it is checked but its form.
    """

    file: Path
    folder: Path
    config: dict[str, Any]


@contextmanager
def unpacked(file: Path) -> Iterator[SavedModel]:
    """Unpack a .nemo file into a temporary folder, which is removed when the block ends.

    Raises:
        ExportError: The file isn't a NeMo checkpoint, or has what a checkpoint doesn't need.
    """
    with TemporaryDirectory(prefix="nemo-") as name:
        folder = Path(name)
        try:
            unpack(file, folder)
            if not (folder / CONFIG).is_file():
                raise ExportError(f"{file}: not a NeMo checkpoint (no {CONFIG} in it); give a file that NeMo saved")
            config = read_saved_config(folder / CONFIG)
        except FileNotFoundError as error:
            raise ExportError(f"{file}: no such file; check the path") from error
        except RefusedFileError as error:
            raise ExportError(f"{file}: {error}") from error
        except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise ExportError(f"{file}: no space left in {folder.parent}; set TMPDIR to a larger disk") from error
            if isinstance(error, OSError) and error.errno is not None:
                raise ExportError(
                    f"{file}: can't be read ({error.strerror}); check the path and its permissions"
                ) from error
            raise ExportError(f"{file}: not a NeMo checkpoint ({first_line(error)}); get the file again") from error
        yield SavedModel(file, folder, config)


def restore(saved: SavedModel) -> ASRModel:
    """Restore a model of a class that can be exported, on the CPU, in evaluation mode and with greedy decoding.

    Raises:
        ExportError: The checkpoint has what a recognizer doesn't need, or NeMo can't restore it.
    """
    config = _checked_config(saved)
    # Imported late: NeMo takes half a minute, and a checkpoint that is refused should not wait for it.
    from nemo.core.connectors.save_restore_connector import SaveRestoreConnector
    from omegaconf import OmegaConf

    module, _, name = str(config["target"]).rpartition(".")
    try:
        # The class itself: its base class, ASRModel, hides why the class can't be built.
        model_class: Any = getattr(importlib.import_module(module), name)
        config = without_later_arguments(config)
        # Without a target NeMo builds the class that restores. NeMo 3.0 refuses targets of other packages than its own.
        del config["target"]
        OmegaConf.save(OmegaConf.create(config), saved.folder / CONFIG)
        connector = SaveRestoreConnector()
        connector.model_extracted_dir = str(saved.folder)
        model: ASRModel = model_class.restore_from(
            str(saved.folder), map_location="cpu", save_restore_connector=connector
        )
        # Adds NeMo's defaults for greedy decoding, which a config for beam search may lack.
        aux_ctc = saved.config.get(AUX_CTC)
        if AUX_CTC in config and isinstance(aux_ctc, dict) and searches_beams(aux_ctc):
            model.change_decoding_strategy({**model.cfg.aux_ctc.decoding}, decoder_type="ctc", verbose=False)
        if searches_beams(saved.config):
            model.change_decoding_strategy({**model.cfg.decoding}, verbose=False)
    except RefusedFileError as error:
        raise ExportError(f"{saved.file}: {error}") from error
    except Exception as error:
        # Restoring builds the classes that the config names, which may raise any error. Hydra's only names the class.
        raise ExportError(
            f"{saved.file}: NeMo can't restore it ({first_line(error.__cause__ or error)}); download it again, or "
            "check that it fits this version of NeMo"
        ) from error
    model.eval()
    model.freeze()
    return model


def restore_file(file: Path) -> ASRModel:
    """Unpack and restore a .nemo file; see `unpacked` and `restore`."""
    with unpacked(file) as saved:
        return restore(saved)


def _checked_config(saved: SavedModel) -> dict[str, Any]:
    """Check all files of a checkpoint, and return the config to restore it with.

    Raises:
        ExportError: The checkpoint has what a recognizer doesn't need.
    """
    try:
        config = restorable_config(saved.config)
        if config.get("tokenizer") is not None:
            config["tokenizer"] = tokenizer_in(saved.folder, config["tokenizer"])
        weights = saved.folder / WEIGHTS
        if not weights.is_file():
            raise RefusedFileError(f"no {WEIGHTS} in it; get the file again")
        check_weights(weights)
    except RefusedFileError as error:
        raise ExportError(f"{saved.file}: {error}") from error
    return config


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(":")
