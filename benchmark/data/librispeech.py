"""LibriSpeech's development and test sets, from OpenSLR's archives.

Source: Panayotov et al., ICASSP 2015.
"""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path

from benchmark.data.download import DownloadError, Report, download
from nemo_triton.errors import one_line
from nemo_triton.manifest import Manifest
from nemo_triton.manifest.folders import list_folder
from nemo_triton.manifest.librispeech import read_librispeech

MIRROR = "https://www.openslr.org/resources/12"
LICENCE = "CC BY 4.0"

# From torchaudio's and TensorFlow Datasets' sources, which agree. OpenSLR itself publishes only MD5.
SHA256 = {
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
}


def archive_url(name: str, mirror: str = MIRROR) -> str:
    """URL of an archive. `mirror` is the folder of archives."""
    return f"{mirror.rstrip('/')}/{name}.tar.gz"


def fetch(name: str, folder: Path, mirror: str = MIRROR, report: Report = lambda done, total: None) -> Manifest:
    """Download and unpack a set, and read its transcripts.

    The archive stays in `folder` until `remove_archive`, so that a later failure does not repeat the download.

    Args:
        name: Name of the set, a key of SHA256.
        folder: Folder for the archive and the unpacked audio.
        mirror: URL of the folder of archives.
        report: Function that is called with the progress of the download.

    Returns:
        The utterances, texts in lower case. Whether their audio exists is not checked.

    Raises:
        DownloadError: The archive can't be downloaded, has a wrong checksum or can't be unpacked.
    """
    archive = _archive(name, folder)
    download(archive_url(name, mirror), archive, SHA256[name], report)
    _unpack(archive, folder)
    tree = folder / "LibriSpeech" / name
    manifest = read_librispeech(tree, list_folder(tree), text_required=True)
    if not manifest.utterances:
        raise DownloadError(f"{archive}: no utterance in LibriSpeech/{name}; remove this file and run this again")
    return manifest


def remove_archive(name: str, folder: Path) -> None:
    """Delete the archive, once the unpacked files are checked."""
    _archive(name, folder).unlink(missing_ok=True)


def _archive(name: str, folder: Path) -> Path:
    return folder / f"{name}.tar.gz"


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DownloadError(
            f"{archive}: cannot be unpacked ({one_line(error)}); remove this file and run this again"
        ) from error
