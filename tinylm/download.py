"""Downloads: a file that is known by its checksum, fetched on request, in parts if need be."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from tinylm.files import held

SCHEMES = ("https",)
CHUNK = 2**20


class DownloadError(ValueError):
    """A file that could not be fetched, or is not the right one; the message says which and why."""


def fetch(url: str, path: Path, sha256: str, size: int | None = None) -> Path:
    """The path of a downloaded file; fetched if it is not there or not the right one.

    What has come so far stands beside it in a file that ends in ".part", from where the next call
    goes on. The file itself has its name only when its checksum is the right one.

    Parameters
    ----------
    url : str
        With https, and so wherever the server sends us on to.
    path : Path
        Where the file shall be; the folder is made if need be.
    sha256 : str
        Of the whole file, as 64 hexadecimal digits.
    size : int, optional
        Of the whole file; of more nothing is read.

    Raises
    ------
    DownloadError
        If the connection fails or breaks off, or another file comes.
    """
    if path.exists() and digest(path) == sha256:
        return path
    part = path.with_name(f"{path.name}.{sha256[:16]}.part")
    made = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with held(path.parent, wait=True):
            if not path.exists() or digest(path) != sha256:  # another may have fetched it
                _complete(url, part, sha256, size)
                part.replace(path)
    finally:
        if made and not any(path.parent.iterdir()):
            path.parent.rmdir()
    return path


def _complete(url: str, part: Path, sha256: str, size: int | None) -> None:
    """Receive what is missing of a file; of a wrong one nothing is kept."""
    _receive(url, part, size)
    came = digest(part)
    if came != sha256:
        length = part.stat().st_size
        part.unlink()
        raise DownloadError(
            f"{url} sent {length} bytes with the sha256 {came}: wanted {sha256}; nothing was kept"
        )


def digest(path: Path) -> str:
    """The sha256 of a file."""
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            sha256.update(chunk)
    return sha256.hexdigest()


def _receive(url: str, part: Path, size: int | None) -> None:
    """Append what is missing of a file to what there is of it."""
    import http.client  # these take a while to load, and are seldom needed
    import urllib.error

    have = part.stat().st_size if part.exists() else 0
    try:
        with _opened(url, have) as answer:
            missing = _append(answer, part, have, size)
    except DownloadError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        if have and isinstance(error, urllib.error.HTTPError) and error.code == 416:
            return  # there is no more than what we have
        raise DownloadError(f"could not be downloaded from {url}: {error}") from None
    if missing:
        raise DownloadError(
            f"could not be downloaded from {url}: it broke off, {missing} bytes before the end; "
            "the next call goes on there"
        )


def _append(answer: Any, part: Path, have: int, size: int | None) -> int:
    """Write what comes; return how much was promised and did not come."""
    promised = int(answer.headers.get("Content-Length", 0))
    if answer.status != 206:  # it sends the whole file
        have = 0
    elif not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        raise DownloadError(f"{answer.url} sent another part than the one from byte {have} on")
    if size is not None:  # one more, to be seen in the checksum
        promised = min(promised, size + 1 - have)
    got = 0
    with part.open("ab") as file:
        file.truncate(have)
        while chunk := answer.read(CHUNK if size is None else min(CHUNK, size + 1 - have - got)):
            file.write(chunk)
            got += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    return max(0, promised - got)


def _opened(url: str, start: int) -> Any:
    """The answer to a request for a file from some byte on."""
    import urllib.request

    class SameSchemes(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *args: Any) -> Any:
            _check_scheme(args[-1])
            return super().redirect_request(*args)

    _check_scheme(url)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})  # noqa: S310  # checked
    return urllib.request.build_opener(SameSchemes).open(request, timeout=30)


def _check_scheme(url: str) -> None:
    if url.split(":", maxsplit=1)[0].lower() not in SCHEMES:
        raise DownloadError(f"{url}: wanted {' or '.join(SCHEMES)}")
