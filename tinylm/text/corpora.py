"""Corpora: real text from where every machine has it, from a file or folder, or downloaded once."""

from __future__ import annotations

import hashlib
import os
import stat
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinylm.download import DownloadError, fetch
from tinylm.text.cleaning import drop_near_duplicates


class CorpusError(ValueError):
    """A corpus that cannot be read or used; the message says which and why."""


@dataclass(frozen=True)
class Download:
    """A file that is fetched on request, once, and known by its checksum."""

    name: str
    url: str
    sha256: str
    size: int


TINYSHAKESPEARE = Download(
    "tinyshakespeare.txt",
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    1_115_394,
)

JOIN = "\n\n"
"""What stands between two documents of a corpus."""


def corpus(source: str | os.PathLike[str]) -> str:
    r"""The text of a corpus.

    Parameters
    ----------
    source : str or path
        "python-docs": the prose that every CPython carries in `pydoc_data.topics`, about 370,000
        characters without the topics that repeat others. "python-code": the source of the
        standard library, about 11 million. "tinyshakespeare": downloaded once, 1,115,394
        characters. Or the path of a text file, or of a folder of them, in UTF-8; files in it that
        are no text are left out.

    Returns
    -------
    str

    Raises
    ------
    CorpusError
        If there is no such corpus, or it is empty or no text.

    Examples
    --------
    >>> import tinylm as tl
    >>> "lambda" in tl.corpus("python-docs")
    True
    """
    return JOIN.join(documents(source))


def documents(source: str | os.PathLike[str]) -> list[str]:
    """The documents of a corpus: topics, or files; near duplicates dropped where there are many.

    Raises
    ------
    CorpusError
        As `corpus`.
    """
    if source == "python-docs":
        return drop_near_duplicates(_python_docs())
    if source == "python-code":
        return drop_near_duplicates(_python_code())
    if source == "tinyshakespeare":
        return [_read(_downloaded(TINYSHAKESPEARE))]
    path = Path(source)
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        raise CorpusError(
            f"{source}: no such file or folder, and no corpus of that name "
            "(python-docs, python-code, tinyshakespeare)"
        ) from None
    except (OSError, ValueError) as error:
        raise CorpusError(f"{source}: {getattr(error, 'strerror', error)}") from None
    if is_folder:
        found = [text for file in _files(path) if (text := _text_or_none(file))]
        if not found:
            raise CorpusError(f"{path}: no text in this folder")
        return drop_near_duplicates(found)
    return [_read(path)]


def split(texts: Sequence[str], fraction: float = 0.1) -> tuple[str, str]:
    """Training text and validation text.

    Many documents are split by document: in the order of their checksums, each goes to validation
    if it still fits into the fraction. If that leaves more than half of the room, as with a
    single one, the longest of the others gives its end. So nothing depends on a seed.

    Parameters
    ----------
    texts : sequence of str
        The documents of a corpus.
    fraction : float
        The largest share of the characters that validation takes, in (0, 1).

    Returns
    -------
    training, validation : str

    Raises
    ------
    CorpusError
        If one of the two would be empty.

    Examples
    --------
    >>> from tinylm.text import split
    >>> split(["0123456789"], fraction=0.2)
    ('01234567', '89')
    """
    if not 0 < fraction < 1:
        raise ValueError(f"split: fraction={fraction}: wanted 0 < fraction < 1")
    room = round(fraction * sum(map(len, texts)))
    enough = room / 2
    texts, held_out = list(texts), []
    for i in sorted(range(len(texts)), key=lambda i: fingerprint(texts[i])):
        if len(texts[i]) <= room:
            held_out.append(i)
            room -= len(texts[i])
    training = [text for i, text in enumerate(texts) if i not in held_out]
    validation = [texts[i] for i in sorted(held_out)]
    if training and room > enough:  # few documents, and hardly one that fits
        longest = max(range(len(training)), key=lambda i: len(training[i]))
        cut = len(training[longest]) - room
        validation.append(training[longest][cut:])
        training[longest] = training[longest][:cut]
    if not training or not validation:
        raise CorpusError(
            f"{sum(map(len, texts))} characters in {len(texts)} documents are too few to hold out "
            f"{fraction:.0%} for validation"
        )
    return JOIN.join(training), JOIN.join(validation)


def fingerprint(text: str) -> str:
    """The sha256 of a text: what a run remembers of its corpus."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _python_docs() -> list[str]:
    from pydoc_data.topics import topics

    return [topics[label] for label in sorted(topics)]


def _python_code() -> list[str]:
    library = Path(sysconfig.get_paths()["stdlib"])
    left_out = {"site-packages", "test", "tests", "idle_test"}
    files = [file for file in _files(library) if file.suffix == ".py"]
    kept = [file for file in files if not left_out & set(file.relative_to(library).parts)]
    return [text for file in kept if (text := _text_or_none(file))]


def _files(folder: Path) -> list[Path]:
    """Every file below a folder, in a fixed order; nothing hidden."""
    found = [file for file in folder.rglob("*") if file.is_file()]
    return sorted(
        file
        for file in found
        if not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def _text_or_none(file: Path) -> str | None:
    try:
        return _read(file)
    except CorpusError:
        return None


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{path}: not a text file: byte 0x{data[error.start]:02x} at offset {error.start} "
            "is not UTF-8"
        ) from None
    if "\0" in text:
        raise CorpusError(
            f"{path}: not a text file: a NUL character at offset {text.index(chr(0))}"
        )
    if not text.strip():
        raise CorpusError(f"{path}: there is no text in this file")
    return text


def cache_folder() -> Path:
    """Where downloads are kept: $TINYLM_CACHE, or tinylm in the user's cache folder."""
    if os.environ.get("TINYLM_CACHE"):
        return Path(os.environ["TINYLM_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinylm"


def _downloaded(download: Download) -> Path:
    """The path of the downloaded file; fetched if it is not there or not the right one."""
    path = cache_folder() / download.name
    try:
        return fetch(download.url, path, download.sha256, download.size)
    except DownloadError as error:
        raise CorpusError(f"{download.name}: {error}. A copy put at {path} would be used") from None
