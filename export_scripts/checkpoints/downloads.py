"""Download a pretrained model by its name."""

from __future__ import annotations

import difflib
import re
import textwrap
from pathlib import Path

from export_scripts.checkpoints.catalogue import CATALOGUE, find
from export_scripts.checkpoints.refused_models import refusal_of
from export_scripts.checkpoints.restore import first_line
from export_scripts.errors import ExportError

_UNREACHED = re.compile(r"host=\\*'([^'\\]+)\\*'.*Max retries exceeded", re.DOTALL)
"""What urllib3 says if it gets no connection, quoted by other libraries."""


def download(name: str) -> Path:
    """Download a checkpoint through NeMo, or return the copy in NeMo's cache.

    Args:
        name: Name in NeMo's list or in the catalogue, or OWNER/NAME at Hugging Face.

    Raises:
        ExportError: The model is of a kind that can't be exported (nothing is downloaded then), is unknown, or the
            download fails.
    """
    reason = refusal_of(name)
    if reason:
        raise ExportError(f"{name}: {reason}")
    from nemo.collections.asr.models import ASRModel

    listed = find(name)
    try:
        if listed and listed.location and name not in ASRModel.get_available_model_names():
            return _from_catalogue(listed.location)
        return Path(ASRModel.from_pretrained(name, return_model_file=True))
    except FileNotFoundError as error:
        raise ExportError(
            f"{name}: neither a .nemo file nor a pretrained model that NeMo knows; {_listed_like(name)}see --list, or "
            "give a file's path"
        ) from error
    except Exception as error:
        # NeMo's downloads raise any error of its HTTP library and its cache.
        reason = first_line(error)
        unreached = _UNREACHED.search(reason)
        reason = f"{unreached[1]} can't be reached" if unreached else textwrap.shorten(reason, 120)
        raise ExportError(
            f"{name}: no such file, and it could not be downloaded ({reason}); {_listed_like(name)}check the path, or "
            "the name and the network"
        ) from error


def _listed_like(name: str) -> str:
    """For errors: the listed model of the most similar name; empty if there is none, or if this one is listed."""
    names = {model.served_as: model.name for model in CATALOGUE}
    base = name.rpartition("/")[2]
    alike = [] if base in names else difflib.get_close_matches(base, names, n=1, cutoff=0.8)
    return f"do you mean {names[alike[0]]}? Or " if alike else ""


def _from_catalogue(location: str) -> Path:
    """Download a model that this release of NeMo doesn't list, the way NeMo does it."""
    from nemo.utils.cloud import maybe_download_from_cloud
    from nemo.utils.data_utils import resolve_cache_dir

    folder, _, filename = location.rpartition("/")
    cache = resolve_cache_dir() / Path(filename).stem
    version = Path(folder).parent.name
    return Path(maybe_download_from_cloud(f"{folder}/", filename, cache_dir=cache, subfolder=version))
