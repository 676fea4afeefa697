"""Find the files that a manifest names."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from itertools import chain
from pathlib import Path

from nemo_triton.manifest.folders import is_folder

_COMMON_VOICE_FOLDER = "clips"
_REMEMBERED_FILES = 1000
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
"""With two letters or more before the colon, because one is a drive of Windows."""
_LOCAL_ADDRESS = "file://"
_LONGEST_ADDRESS = 100


def check_no_address(name: str) -> None:
    """Refuse an address, such as that of a website or a bucket, with a clear message.

    Raises:
        ValueError: It is one.
    """
    if name.lower().startswith(_LOCAL_ADDRESS):
        raise ValueError(f"{name[:_LONGEST_ADDRESS]}: is an address; write the path without {_LOCAL_ADDRESS}")
    if _ADDRESS.match(name):
        shown = name if len(name) <= _LONGEST_ADDRESS else f"{name[:_LONGEST_ADDRESS]}..."
        raise ValueError(f"{shown}: is an address; download it first and give its path")


class Lookup:
    """The files that a manifest names.

    Args:
        manifest: The manifest. If it is a link, the folder of the file that it leads to is searched, too.
    """

    def __init__(self, manifest: Path) -> None:
        self._folder = manifest.parent
        self._folders = [self._folder]
        if manifest.is_symlink():
            self._folders.append(Path(os.path.realpath(manifest)).parent)
        clips = (folder / _COMMON_VOICE_FOLDER for folder in self._folders)
        self._clips = [folder for folder in clips if is_folder(folder)]
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
            ValueError: The name is an address, such as that of a website.
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
        if path is None:
            check_no_address(name)
        return path or self._folder / name

    def _existing(self, name: str) -> Path | None:
        for folder in self._folders:
            beside = folder / name
            if beside.is_file():
                return beside
        path = Path(name)
        # Built one by one: the first of a path with thousands of folders is too long, which raises an error.
        tails = (
            folder.joinpath(*path.parts[start:]) for folder in self._folders for start in range(1, len(path.parts))
        )
        candidates = chain([path], (clips / path for clips in self._clips), tails)
        return next((candidate for candidate in candidates if candidate.is_file()), None)
