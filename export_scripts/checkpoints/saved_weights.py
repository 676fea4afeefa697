"""Check that a checkpoint's weights are undamaged tensors and nothing else, before PyTorch reads them."""

from __future__ import annotations

import pickletools
import re
import zipfile
from pathlib import Path

from export_scripts.checkpoints.archive import UNTRUSTED
from export_scripts.errors import RefusedFileError, excerpt

MAX_PICKLE_BYTES = 16 * 2**20
"""The pickle has names and shapes of tensors only; that of a model of 1 billion weights has 0.2 MB."""

_ALLOWED = re.compile(
    r"collections\.OrderedDict"
    r"|torch\.(Float|Double|Half|BFloat16|Long|Int|Short|Char|Byte|Bool)Storage"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)"
    r"|torch\.Size"
)
"""What the pickle of a state dict names."""
_NAMES = ("GLOBAL", "INST")
"""Opcodes with a name, which torch.save writes."""
_HIDDEN_NAMES = ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4")
"""Opcodes that take a name from the stack or a registry, which torch.save doesn't write."""


def check_weights(file: Path) -> None:
    """Refuse a file of torch.save that has anything but tensors.

    NeMo 2.7.3 reads weights with `weights_only=True`, and NeMo 3.0 unless TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set. This
    comes before it, says what it refuses, and holds for any version of NeMo. PyTorch doesn't compare checksums when it
    reads, so NeMo itself would use damaged weights.

    Raises:
        RefusedFileError: The file isn't PyTorch's zip archive, its pickle names anything but tensors, or a checksum is
            wrong.
    """
    try:
        for opcode, argument, _ in pickletools.genops(_pickle_of(file)):
            name = str(argument).replace(" ", ".")
            if opcode.name in _NAMES and not _ALLOWED.fullmatch(name):
                raise RefusedFileError(f"{file.name} would run {excerpt(name)}; {UNTRUSTED}")
            if opcode.name in _HIDDEN_NAMES:
                raise RefusedFileError(f"{file.name} hides the name of what it would run ({opcode.name}); {UNTRUSTED}")
    except (zipfile.BadZipFile, OSError, RuntimeError, EOFError, ValueError, IndexError) as error:
        # The zip archive or the pickle is damaged, or in another format.
        raise RefusedFileError(
            f"{file.name} is not a file of torch.save since PyTorch 1.6 ({excerpt(error)}); save the checkpoint again "
            "with NeMo"
        ) from error


def _pickle_of(file: Path) -> bytes:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise RefusedFileError(f"{file.name} is a compressed zip archive, torch.save's are not; {UNTRUSTED}")
        paths = [member.filename for member in members]
        if len(set(paths)) < len(paths) or sum(member.file_size for member in members) > file.stat().st_size:
            raise RefusedFileError(f"{file.name} has members that overlap; {UNTRUSTED}")
        pickles = [member for member in members if member.filename.endswith(".pkl")]
        if [member.filename.rpartition("/")[2] for member in pickles] != ["data.pkl"]:
            raise RefusedFileError(f"{file.name} has no single data.pkl, as a file of torch.save has; {UNTRUSTED}")
        if pickles[0].file_size > MAX_PICKLE_BYTES:
            raise RefusedFileError(f"{file.name} has a pickle of more than {MAX_PICKLE_BYTES >> 20} MiB; {UNTRUSTED}")
        damaged = archive.testzip()
        if damaged is not None:
            raise RefusedFileError(
                f"{file.name} is damaged: {excerpt(damaged)} has another checksum than when it was saved; "
                "get the file again"
            )
        return archive.read(pickles[0])
