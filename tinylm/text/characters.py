"""Characters as tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tinylm.text.tokenizer import Tokenizer
from tinylm.text.vocabulary import UnknownTokenError


class CharTokenizer(Tokenizer):
    """Each Unicode character is a token.

    Parameters
    ----------
    characters : str
        The characters, in the order of their ids.

    Examples
    --------
    >>> import tinylm as tl
    >>> tokenizer = tl.CharTokenizer.train("hello")
    >>> tokenizer.vocab_size, tokenizer.encode("hole"), tokenizer.decode([1, 0, 2, 3])
    (4, array([1, 3, 2, 0]), 'helo')
    """

    kind = "characters"

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self._codes = _code_points(characters)
        self._order = np.argsort(self._codes, kind="stable")
        self._sorted = self._codes[self._order]
        if not characters or (np.diff(self._sorted) == 0).any():
            raise ValueError("CharTokenizer: wanted one or more characters, each once")

    @classmethod
    def train(cls, text: str) -> CharTokenizer:
        """The tokenizer of the characters that occur in a text, in the order of their code points.

        Raises
        ------
        ValueError
            If the text is empty.
        """
        if not text:
            raise ValueError("CharTokenizer.train: the text is empty")
        return cls("".join(sorted(set(text))))

    @property
    def vocab_size(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> Any:
        codes = _code_points(text)
        place = np.minimum(np.searchsorted(self._sorted, codes), self.vocab_size - 1)
        unknown = np.flatnonzero(self._sorted[place] != codes)
        if unknown.size:
            at = int(unknown[0])
            raise UnknownTokenError(
                f"the character {text[at]!r} at position {at} is not among the "
                f"{self.vocab_size} that the tokenizer knows"
            )
        return self._order[place].astype(np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        index = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids))
        if index.size and index.dtype.kind not in "iu":
            raise TypeError(f"decode: ids hold {index.dtype}: wanted integers")
        index = index.astype(np.int64)
        if index.size and (index.min() < 0 or index.max() >= self.vocab_size):
            wrong = index[(index < 0) | (index >= self.vocab_size)][0]
            raise UnknownTokenError(f"id {wrong} is outside the vocabulary [0, {self.vocab_size})")
        return str(self._codes[index].tobytes(), "utf-32-le", "surrogatepass")

    def state(self) -> dict[str, Any]:
        return {"characters": list(self.characters)}  # JSON would join two halves of a surrogate

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> CharTokenizer:
        return cls("".join(state["characters"]))


def _code_points(text: str) -> Any:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))
