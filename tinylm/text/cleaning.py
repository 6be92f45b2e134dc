"""Cleaning text: characters, white space, case, duplicate documents, stop words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

Form = Literal["NFC", "NFKC", "NFD", "NFKD"]

STOP_WORDS = frozenset(
    [
        "a", "about", "after", "all", "also", "an", "and", "any", "are", "as", "at", "be",
        "because", "been", "but", "by", "can", "could", "did", "do", "does", "for", "from",
        "had", "has", "have", "he", "her", "him", "his", "how", "i", "if", "in", "into", "is",
        "it", "its", "just", "like", "me", "more", "most", "my", "no", "not", "of", "on",
        "only", "or", "other", "our", "out", "over", "she", "so", "some", "such", "than",
        "that", "the", "their", "them", "then", "there", "these", "they", "this", "to", "too",
        "up", "us", "was", "we", "were", "what", "when", "where", "which", "who", "will",
        "with", "would", "you", "your",
    ]
)  # fmt: skip
"""The commonest English words that carry little of a text's topic; a small list to begin with."""


def clean(
    text: str, form: Form | None = "NFC", control: bool = True, whitespace: bool = True,
    case: bool = False,
) -> str:  # fmt: skip
    r"""Text with its accidental differences removed.

    Parameters
    ----------
    text : str
    form : {"NFC", "NFKC", "NFD", "NFKD", None}
        Unicode normalization form: "NFC" makes one character of a letter and its accent.
    control : bool
        Remove control and format characters (categories Cc and Cf), but keep tabs and newlines;
        "\r\n" and "\r" become "\n".
    whitespace : bool
        One space for a run of them within a line, none at the end of a line, at most one empty
        line in a row.
    case : bool
        Fold upper into lower case.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If there is no such form.

    Examples
    --------
    >>> from tinylm.text import clean
    >>> clean("Cafe\u0301  \x00 au\t lait \r\n", case=True)
    'café au lait\n'
    """
    if form not in ("NFC", "NFKC", "NFD", "NFKD", None):
        raise ValueError(f"clean: form={form!r}: wanted NFC, NFKC, NFD, NFKD or None")

    def normalized(text: str) -> str:
        return text if form is None else unicodedata.normalize(form, text)

    if control:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        unwanted = {c for c in set(text) if unicodedata.category(c) in ("Cc", "Cf")} - {"\t", "\n"}
        text = text.translate({ord(c): None for c in unwanted})
    text = normalized(text)
    if case:
        text = normalized(text.casefold())
    if whitespace:
        text = re.sub(r"[^\S\n]+", " ", text)
        text = re.sub(r" (?=\n|$)", "", text)
        text = re.sub(r"\n{3,}", "\n\n", text)
    return text


def drop_near_duplicates(texts: Sequence[str], threshold: float = 0.5) -> list[str]:
    """The documents without those that repeat, for the most part, what longer ones say.

    The containment of Broder 1997, "On the resemblance and containment of documents": the share
    of a document's 32-character shingles that stand in documents kept already, estimated from
    every eighth (by its hash). Exact duplicates have containment 1.

    Parameters
    ----------
    texts : sequence of str
    threshold : float
        A document is dropped if its containment is above this.

    Returns
    -------
    list of str
        The kept documents, in their order.

    Examples
    --------
    >>> from tinylm.text import drop_near_duplicates
    >>> long = "The quick brown fox jumps over the lazy dog, and then it does so once more."
    >>> drop_near_duplicates([long[:70], "Something else.", long, long]) == ["Something else.", long]
    True
    """
    kept: list[int] = []
    seen: set[int] = set()
    exact: set[str] = set()
    for i in sorted(range(len(texts)), key=lambda i: -len(texts[i])):
        shingles = _shingles(texts[i])
        repeated = len(shingles & seen) / len(shingles) if shingles else 0.0
        if texts[i] not in exact and repeated <= threshold:
            kept.append(i)
            seen |= shingles
            exact.add(texts[i])
    return [texts[i] for i in sorted(kept)]


def _shingles(text: str) -> set[int]:
    """Hashes of an eighth of the 32-character shingles of a text."""
    codes: Any = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    hashes = codes.astype(np.uint64)
    factor = 0x9E3779B97F4A7C15  # hashes of 2k characters from those of k, five times
    for k in (1, 2, 4, 8, 16):
        if len(hashes) <= k:
            return set()
        hashes = hashes[:-k] * np.uint64(pow(factor, k, 2**64)) + hashes[k:]
    hashes ^= hashes >> np.uint64(32)
    hashes *= np.uint64(factor)
    hashes ^= hashes >> np.uint64(29)
    return set(hashes[hashes % np.uint64(8) == 0].tolist())
