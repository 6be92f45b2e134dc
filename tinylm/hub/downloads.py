"""Directories by name: fetched on request only, and only what the caller has pinned."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from tinylm.download import DownloadError, fetch
from tinylm.hub.fields import HubError
from tinylm.hub.weights import PLAIN_NAME

HUGGING_FACE = "https://huggingface.co"
OWNER_AND_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")


def download(
    name: str,
    revision: str,
    sha256: Mapping[str, str],
    directory: str | os.PathLike[str],
    base_url: str = HUGGING_FACE,
) -> Path:
    """Fetch the files of a model, for `tinylm.from_pretrained`.

    A download that breaks off is taken up where it ended, and a file has its name only when its
    checksum is the one that was given.

    Parameters
    ----------
    name : str
        As "openai-community/gpt2".
    revision : str
        The commit, 40 hexadecimal digits: a branch may be another tomorrow.
    sha256 : mapping of str to str
        For each file that is wanted its checksum, 64 hexadecimal digits.
    directory : str or path
        Where the files shall be; those that are there and right are not fetched again.
    base_url : str
        Of the server.

    Returns
    -------
    Path
        The directory.

    Raises
    ------
    HubError
        If an argument is not of that form, a download fails or breaks off, or another file comes.

    Examples
    --------
    >>> from tinylm.hub import download
    >>> download("openai-community/gpt2", "main", {"config.json": "0" * 64}, "gpt2")
    Traceback (most recent call last):
        ...
    tinylm.hub.fields.HubError: download: revision='main': wanted 40 hexadecimal digits
    """
    _check("name", name, OWNER_AND_NAME, "an owner and a name, or a name")
    _check("revision", revision, COMMIT, "40 hexadecimal digits")
    for file, checksum in sha256.items():
        _check("sha256", file, PLAIN_NAME, "the name of a file")
        _check(f"sha256 of {file}", checksum, SHA256, "64 hexadecimal digits")
    folder = Path(directory)
    try:
        for file, checksum in sha256.items():
            fetch(f"{base_url}/{name}/resolve/{revision}/{file}", folder / file, checksum)
    except DownloadError as error:
        raise HubError(f"download: {error}") from None
    return folder


def _check(argument: str, value: str, pattern: re.Pattern[str], wanted: str) -> None:
    if not pattern.fullmatch(value):
        raise HubError(f"download: {argument}={value!r}: wanted {wanted}")
