"""Large files over HTTP: what is there already is not fetched again, and nothing unverified is left under its name."""

from __future__ import annotations

import hashlib
import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from nemo_triton.errors import ClientError, one_line

Report: TypeAlias = Callable[[int, "int | None"], None]
"""Is told the bytes that are there and the bytes in all, or None where the server does not say."""

_CHUNK_BYTES = 1 << 20
_SILENCE_SECONDS = 60


class DownloadError(ClientError):
    """A file that could not be fetched, or that is not the one it should be."""


def download(url: str, target: Path, sha256: str, report: Report = lambda done, total: None) -> None:
    """Fetch `url` to `target`, going on from `target`.part where an earlier transfer broke off.

    A transfer that breaks off is taken up again for as long as it gets further. Nothing is fetched where `target`
    exists, since only a file with the right `sha256` (hexadecimal) is given that name.

    Raises DownloadError, one line that names the URL: it cannot be fetched, what came so far is kept; or the checksum
    is wrong, the file is removed.
    """
    if target.exists():
        return
    part = target.with_name(f"{target.name}.part")
    furthest = _size(part)
    while (reason := _transfer(url, part, report)) is not None:
        if _size(part) <= furthest:
            raise DownloadError(f"{url}: {reason}; run this again to go on, or name another --mirror")
        furthest = _size(part)
    actual = digest([part])
    if actual != sha256:
        part.unlink()
        raise DownloadError(
            f"{url}: wrong file, its SHA-256 is {actual[:12]}… and not {sha256[:12]}…; it was removed, "
            "run this again or name another --mirror"
        )
    part.replace(target)


def digest(files: Iterable[Path]) -> str:
    """SHA-256, hexadecimal, of the bytes of all files, one file after the other. Raises OSError."""
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                total.update(chunk)
    return total.hexdigest()


def _transfer(url: str, part: Path, report: Report) -> str | None:
    """Append to `part` what is missing; why it broke off, or None where the server has no more to give."""
    start = _size(part)
    # urllib sends no Range of its own; a server that does not know ranges answers with the whole file and status 200.
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=_SILENCE_SECONDS) as response:
            if response.status != http.HTTPStatus.PARTIAL_CONTENT:
                start = 0
            length = response.headers["Content-Length"]
            total = start + int(length) if length else None
            done = start
            with part.open("ab" if start else "wb") as file:
                while chunk := response.read(_CHUNK_BYTES):
                    file.write(chunk)
                    done += len(chunk)
                    report(done, total)
    except urllib.error.HTTPError as error:
        # All bytes were there already: whether they are the right ones is for the checksum to say.
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            return None
        return f"the server answers {error.code} ({one_line(error.reason)})"
    except urllib.error.URLError as error:
        return f"cannot be reached ({one_line(error.reason)})"
    except (http.client.HTTPException, ssl.SSLError, ConnectionError, TimeoutError) as error:
        return f"could not be fetched ({one_line(error) or type(error).__name__})"
    # http.client ends a body that is too short without a word where it is read in chunks.
    if total is not None and done < total:
        return f"the transfer broke off at {done} of {total} bytes"
    return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
