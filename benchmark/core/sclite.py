"""Count words with NIST's sclite (Debian package sctk), to check our counts."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from nemo_triton.errors import ClientError
from nemo_triton.loadtest.wer import ErrorCounts, Pair

_DEBIAN = Path("/usr/lib/sctk/bin/sclite")
_SUM = re.compile(r"\|\s*Sum\s*\|\s*\d+\s+\d+\s*\|\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)")


class ScliteError(ClientError):
    """No counts came from sclite."""


def find_sclite() -> Path | None:
    """Path of the program, from PATH or Debian's sctk; None if it is not installed."""
    path = shutil.which("sclite")
    return Path(path) if path else _DEBIAN if _DEBIAN.exists() else None


def write_trn(file: Path, texts: Sequence[str]) -> None:
    """Write a file in sclite's trn format: one text per line, with an id at its end."""
    lines = [f"{text} (speaker-{number:06d})\n" for number, text in enumerate(texts)]
    file.write_text("".join(lines), encoding="utf-8")


def count_words(sclite: Path, pairs: Sequence[Pair], folder: Path) -> ErrorCounts:
    """Count words and errors with sclite.

    Args:
        sclite: Path of the program.
        pairs: Reference and hypothesis of each utterance.
        folder: Folder where the transcripts are kept, as ref.trn and hyp.trn.

    Raises:
        ScliteError: sclite can't read the transcripts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reference, hypothesis = folder / "ref.trn", folder / "hyp.trn"
    write_trn(reference, [pair.reference for pair in pairs])
    write_trn(hypothesis, [pair.hypothesis for pair in pairs])
    command = [str(sclite), "-r", str(reference), "trn", "-h", str(hypothesis), "trn", "-i", "rm", "-s"]
    ended = subprocess.run([*command, "-e", "utf-8", "-o", "rsum", "stdout"], capture_output=True, text=True)
    counts = _SUM.search(ended.stdout)
    if counts is None:
        last = (ended.stderr or ended.stdout).strip().splitlines()[-1:] or ["no output"]
        raise ScliteError(f"{hypothesis}: sclite can't score it ({last[0].strip()})")
    hits, substitutions, deletions, insertions = map(int, counts.groups())
    return ErrorCounts(hits, substitutions, insertions, deletions)
