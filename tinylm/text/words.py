"""Words as tokens, and characters for the words that are too rare."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from tinylm.text.tokenizer import Tokenizer
from tinylm.text.vocabulary import UnknownTokenError, Vocabulary

PIECE = re.compile(r" ?\w+|\s|[^\w\s]")
"""A word with the space before it, another white space, or a punctuation mark: together, all."""


class WordTokenizer(Tokenizer):
    """Frequent words are tokens, with the space before them; others are spelled out.

    Every character of the training text is a token as well, so that any text of these characters
    can be encoded, and decoded to the very same text.

    Parameters
    ----------
    vocabulary : Vocabulary
    stop_words : iterable of str
        Words that `encode` leaves out, whatever their case.

    Examples
    --------
    >>> import tinylm as tl
    >>> tokenizer = tl.WordTokenizer.train("the cat and the hat", vocab_size=12)
    >>> tokenizer.decode(tokenizer.encode("the chat"))
    'the chat'
    >>> quiet = tl.WordTokenizer.train("the cat and the hat", 12, stop_words=["the", "and"])
    >>> quiet.decode(quiet.encode("the cat and the hat"))
    ' cat hat'
    """

    kind = "words"

    def __init__(self, vocabulary: Vocabulary, stop_words: Iterable[str] = ()) -> None:
        self.vocabulary = vocabulary
        self.stop_words = frozenset(word.casefold() for word in stop_words)

    @classmethod
    def train(
        cls,
        text: str,
        vocab_size: int,
        stop_words: Iterable[str] = (),
        unknown: str | None = None,
        alphabet: str = "",
        min_count: int = 1,
    ) -> WordTokenizer:
        """The tokenizer of the most frequent words of a text.

        Parameters
        ----------
        text : str
        vocab_size : int
            How many tokens at most.
        stop_words : iterable of str
            As for the class; `tinylm.text.STOP_WORDS` is a small list.
        unknown : str, optional
            A token, such as "<unk>", that stands for every rare word instead of its spelling.
        alphabet : str
            Characters that are tokens even if they do not occur in the text.
        min_count : int
            How often a word must occur to be a token.

        Raises
        ------
        ValueError
            If the text is empty, or the characters alone are more than `vocab_size`.
        """
        if not text:
            raise ValueError("WordTokenizer.train: the text is empty")
        stop_words = list(stop_words)
        stopped = {word.casefold() for word in stop_words}
        counts = Counter(p for p in PIECE.findall(text) if p.strip().casefold() not in stopped)
        if unknown is not None:
            vocabulary = Vocabulary.from_counts(counts, vocab_size, min_count, unknown)
            return cls(vocabulary, stop_words)
        characters = sorted(set(text + alphabet))
        if vocab_size < len(characters):
            raise ValueError(
                f"WordTokenizer.train: vocab_size={vocab_size}: wanted at least "
                f"{len(characters)}, the number of different characters"
            )
        words = Vocabulary.from_counts(
            {p: n for p, n in counts.items() if len(p) > 1}, min_count=min_count, unknown=None
        )
        tokens = (characters + words.tokens)[:vocab_size]
        return cls(Vocabulary(tokens), stop_words)

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str) -> Any:
        ids: list[int] = []
        for match in PIECE.finditer(text):
            piece = match.group()
            if self.stop_words and piece.strip().casefold() in self.stop_words:
                continue
            if piece in self.vocabulary or self.vocabulary.unknown is not None:
                ids.append(self.vocabulary.id(piece))
                continue
            for offset, character in enumerate(piece):
                if character not in self.vocabulary:
                    raise UnknownTokenError(
                        f"the character {character!r} at position {match.start() + offset} is "
                        f"not among the {self.vocab_size} tokens that the tokenizer knows"
                    )
                ids.append(self.vocabulary.id(character))
        return np.array(ids, dtype=np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.vocabulary.decode(int(i) for i in ids))

    def state(self) -> dict[str, Any]:
        return {
            "tokens": self.vocabulary.tokens,
            "unknown": self.vocabulary.unknown,
            "stop_words": sorted(self.stop_words),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> WordTokenizer:
        return cls(Vocabulary(state["tokens"], state["unknown"]), state["stop_words"])
