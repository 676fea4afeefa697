"""Download large files over HTTP: transfers resume, and a file gets its name only after its checksum matches."""

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
"""Called with the bytes received so far and the total bytes, or None if the server does not send the total."""

_CHUNK_BYTES = 1 << 20
_READ_TIMEOUT_SECONDS = 60


class DownloadError(ClientError):
    """A file can't be downloaded, or its checksum is wrong."""


def download(url: str, target: Path, sha256: str, report: Report = lambda done, total: None) -> None:
    """Download a file, and resume from `target`.part if an earlier transfer broke off.

    A broken transfer is retried as long as each attempt gets further.

    Args:
        url: URL of the file.
        target: File to write. If it exists, nothing is downloaded, since only verified files get this name.
        sha256: Expected checksum, hexadecimal.
        report: Function that is called with the progress.

    Raises:
        DownloadError: The transfer failed (the part is kept), or the checksum is wrong (the file is removed).
    """
    if target.exists():
        return
    part = target.with_name(f"{target.name}.part")
    received = _size(part)
    while (reason := _transfer(url, part, report)) is not None:
        if _size(part) <= received:
            raise DownloadError(f"{url}: {reason}; run this again to resume, or name another --mirror")
        received = _size(part)
    actual = digest([part])
    if actual != sha256:
        part.unlink()
        raise DownloadError(
            f"{url}: wrong file, its SHA-256 is {actual[:12]}… and not {sha256[:12]}…; it was removed; "
            "run this again or name another --mirror"
        )
    part.replace(target)


def digest(files: Iterable[Path]) -> str:
    """SHA-256, hexadecimal, of the concatenated bytes of all files.

    Raises:
        OSError: A file can't be read.
    """
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                total.update(chunk)
    return total.hexdigest()


def _transfer(url: str, part: Path, report: Report) -> str | None:
    """Append the missing bytes to `part`; return why the transfer broke off, or None when it is complete."""
    start = _size(part)
    # A server without ranges answers with the whole file and status 200.
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=_READ_TIMEOUT_SECONDS) as response:
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
        # All bytes are here already; the checksum decides whether they are right.
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            return None
        return f"the server answers {error.code} ({one_line(error.reason)})"
    except urllib.error.URLError as error:
        return f"cannot be reached ({one_line(error.reason)})"
    except (http.client.HTTPException, ssl.SSLError, ConnectionError, TimeoutError) as error:
        return f"cannot be downloaded ({one_line(error) or type(error).__name__})"
    # http.client reports no error for a body that is too short when it is read in chunks.
    if total is not None and done < total:
        return f"the transfer broke off at {done} of {total} bytes"
    return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
