"""What a word is for BERT: text without control characters, cut at white space and punctuation."""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Callable

UNWANTED = ("Cc", "Cf", "Co", "Cs")
"""Categories of characters that are removed: control, format, private use, half surrogate pairs."""

CJK = [
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
]  # fmt: skip
"""Characters that are words by themselves. BERT's own code lets the sixth range begin at U+2B820,
the library `tokenizers`, with which its checkpoints are used, at U+2B920."""


def words(
    text: str, lowercase: bool = True, strip_accents: bool | None = None, split_cjk: bool = True
) -> list[str]:
    r"""The words of a text, as BERT sees them (Devlin et al. 2019, and the code beside it).

    In this order: control characters and U+FFFD are removed, and all white space becomes spaces;
    a Chinese character is set apart; accents are removed (nonspacing marks of the decomposed
    text); letters become lower case, each by itself; what is left is cut at spaces, and around
    every punctuation mark: all visible ASCII but letters and digits, and the categories P. The
    categories are those of the Unicode version that Python has; the library `tokenizers` has an
    older one, and takes marks and punctuation for letters where they are newer than it.

    Parameters
    ----------
    text : str
    lowercase : bool
    strip_accents : bool, optional
        As `lowercase` if not given.
    split_cjk : bool

    Examples
    --------
    >>> from tinylm.text.bert_words import words
    >>> words("Don't\u00a0pay 5\u20ac\x07 for CAF\u00c9s in \u6771\u4eac!")
    ['don', "'", 't', 'pay', '5€', 'for', 'cafes', 'in', '東', '京', '!']
    """
    text = _mapped(text, _cleaned)
    if split_cjk:
        text = _mapped(text, lambda c: f" {c} " if _is_cjk(c) else c)
    if lowercase if strip_accents is None else strip_accents:
        text = unicodedata.normalize("NFD", text)
        text = _mapped(text, lambda c: "" if unicodedata.category(c) == "Mn" else c)
    if lowercase:
        text = _mapped(text, str.lower)  # by itself, a sigma is the same at the end of a word
    return _mapped(text, lambda c: f" {c} " if _is_punctuation(c) else c).split()


def _mapped(text: str, change: Callable[[str], str]) -> str:
    """A text with every character changed, each different one looked at once."""
    return text.translate({ord(character): change(character) for character in set(text)})


def _cleaned(character: str) -> str:
    category = unicodedata.category(character)
    if character in "\t\n\r" or category[0] == "Z":
        return " "
    return "" if character == "\ufffd" or category in UNWANTED else character


def _is_cjk(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in CJK)


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character)[0] == "P"
