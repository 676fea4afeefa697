"""Find the files that a manifest names."""

from __future__ import annotations

import os
from functools import lru_cache
from itertools import chain
from pathlib import Path

from nemo_triton.manifest.folders import is_folder

_COMMON_VOICE_FOLDER = "clips"
_REMEMBERED_FILES = 1000


class Lookup:
    """The files that a manifest names.

    Args:
        folder: Folder of the manifest.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        clips = folder / _COMMON_VOICE_FOLDER
        self._clips = [clips] if is_folder(clips) else []
        # Lists of segments name the same file many times.
        self._remembered = lru_cache(maxsize=_REMEMBERED_FILES)(self._find)

    def find(self, name: str) -> Path:
        """Find a file.

        Returns:
            The first that exists: next to the manifest, in the working directory, in clips/ next to the manifest
            (Common Voice), or next to the manifest without some leading folders of `name`, because data sets are often
            moved. Then the same with slashes for the backslashes of `name`, as Windows writes them. If none exists, the
            path next to the manifest.

        Raises:
            OSError: The name is too long.
            RuntimeError: The name starts with ~ and an unknown user.
        """
        return self._remembered(name)

    def _find(self, name: str) -> Path:
        if name.startswith("~"):
            name = str(Path(name).expanduser())
        if name.startswith("/"):
            return Path(name)
        path = self._existing(name)
        if path is None and "\\" in name and os.sep == "/":
            path = self._existing(name.replace("\\", "/"))
        return path or self._folder / name

    def _existing(self, name: str) -> Path | None:
        beside = self._folder / name
        if beside.is_file():
            return beside
        path = Path(name)
        # Built one by one: the first of a path with thousands of folders is too long, which raises an error.
        tails = (self._folder.joinpath(*path.parts[start:]) for start in range(1, len(path.parts)))
        candidates = chain([path], (clips / path for clips in self._clips), tails)
        return next((candidate for candidate in candidates if candidate.is_file()), None)
