"""Vocabulary: tokens, and the ids that stand for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


class UnknownTokenError(ValueError):
    """A token that is not in the vocabulary."""


class Vocabulary:
    """A list of distinct tokens; a token's place in it is its id.

    Parameters
    ----------
    tokens : sequence of str
    unknown : str, optional
        The token that stands for all that are not in the vocabulary; without one they are errors.

    Raises
    ------
    ValueError
        If a token stands twice in the list, or `unknown` is not among them.

    Examples
    --------
    >>> from tinylm.text import Vocabulary
    >>> vocabulary = Vocabulary.from_counts({"the": 9, "cat": 2, "sat": 1}, min_count=2)
    >>> vocabulary.tokens, vocabulary.id("cat"), vocabulary.id("mat")
    (['<unk>', 'the', 'cat'], 2, 0)
    """

    def __init__(self, tokens: Sequence[str], unknown: str | None = None) -> None:
        self.tokens = list(tokens)
        self.unknown = unknown
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        if len(self.ids) != len(self.tokens):
            twice = next(t for i, t in enumerate(self.tokens) if self.ids[t] != i)
            raise ValueError(f"Vocabulary: the token {twice!r} stands in it twice")
        if unknown is not None and unknown not in self.ids:
            raise ValueError(f"Vocabulary: unknown={unknown!r} is not one of the tokens")

    @classmethod
    def from_counts(
        cls, counts: Mapping[str, int], size: int | None = None, min_count: int = 1,
        unknown: str | None = "<unk>",
    ) -> Vocabulary:  # fmt: skip
        """The tokens that are frequent enough, the most frequent first, ties in their own order.

        Parameters
        ----------
        counts : mapping of str to int
        size : int, optional
            How many tokens at most, `unknown` included.
        min_count : int
            How often a token must occur.
        unknown : str or None
            As for the class; it gets the id 0.
        """
        if size is not None and size < 1:
            raise ValueError(f"Vocabulary.from_counts: size={size}: wanted at least 1")
        first = [] if unknown is None else [unknown]
        frequent = [t for t, count in counts.items() if count >= min_count and t != unknown]
        frequent.sort(key=lambda token: (-counts[token], token))
        return cls((first + frequent)[:size], unknown)

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self.ids

    def id(self, token: str) -> int:
        """The id of a token; raises `UnknownTokenError` if there is none."""
        found = self.ids.get(token)
        if found is None:
            if self.unknown is None:
                raise UnknownTokenError(f"{token!r} is not among the {len(self)} tokens")
            return self.ids[self.unknown]
        return found

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The tokens of some ids; raises `UnknownTokenError` for an id that there is not."""
        decoded = []
        for i in ids:
            if not 0 <= i < len(self.tokens):
                raise UnknownTokenError(f"id {i} is outside the vocabulary [0, {len(self)})")
            decoded.append(self.tokens[i])
        return decoded
