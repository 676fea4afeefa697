"""LibriSpeech's development and test sets, from OpenSLR's archives: Panayotov et al., ICASSP 2015."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path

from benchmark.data.download import DownloadError, Report, download
from nemo_triton.errors import one_line
from nemo_triton.manifest import Manifest, Utterance

MIRROR = "https://www.openslr.org/resources/12"
LICENCE = "CC BY 4.0"

# The four in torchaudio's and TensorFlow Datasets' sources, which agree; OpenSLR itself publishes MD5 only.
SHA256 = {
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
}


def archive_url(name: str, mirror: str = MIRROR) -> str:
    """Where the archive of the set `name` is; `mirror` is the folder that holds the archives."""
    return f"{mirror.rstrip('/')}/{name}.tar.gz"


def fetch(name: str, folder: Path, mirror: str = MIRROR, report: Report = lambda done, total: None) -> Manifest:
    """The utterances of the set `name`, texts in lower case, its audio unpacked below `folder`.

    The archive is left in `folder` for `remove_archive`, so that whatever goes wrong until then is not fetched again.
    Transcripts without audio are not looked for here.

    Raises DownloadError for an archive that cannot be fetched, has a wrong checksum or cannot be unpacked.
    """
    archive = _archive(name, folder)
    download(archive_url(name, mirror), archive, SHA256[name], report)
    _unpack(archive, folder)
    manifest = _read_transcripts(folder / "LibriSpeech" / name)
    if not manifest.utterances:
        raise DownloadError(f"{archive}: no utterance in LibriSpeech/{name}; remove this file and run this again")
    return manifest


def remove_archive(name: str, folder: Path) -> None:
    """Free the space of the archive, once what was unpacked from it is known to be right."""
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


def _read_transcripts(folder: Path) -> Manifest:
    manifest = Manifest()
    for transcripts in sorted(folder.glob("*/*/*.trans.txt")):
        for number, line in enumerate(transcripts.read_text(encoding="utf-8").splitlines(), start=1):
            name, _, text = line.partition(" ")
            if text.strip():
                manifest.utterances.append(Utterance(transcripts.with_name(f"{name}.flac"), text.strip().lower()))
            else:
                manifest.problems.append(f"{transcripts}:{number}: no text after the name of the utterance; left out")
    return manifest
