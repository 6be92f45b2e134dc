"""Overlap: what the measures of written text share, which count what two texts have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple


class Overlap(NamedTuple):
    """How much of two texts is the same.

    Parameters
    ----------
    precision : float
        Of what was written, the share that is in the reference.
    recall : float
        Of the reference, the share that was written.
    f1 : float
        Their harmonic mean.
    """

    precision: float
    recall: float
    f1: float

    @classmethod
    def of(cls, common: int, written: int, wanted: int) -> Overlap:
        """From the number of what is common, and of what each text has; 0 where there is nothing.

        Examples
        --------
        >>> from tinylm.evaluation.overlap import Overlap
        >>> Overlap.of(common=1, written=2, wanted=4)
        Overlap(precision=0.5, recall=0.25, f1=0.3333333333333333)
        """
        if not common:
            return cls(0.0, 0.0, 0.0)
        precision, recall = common / written, common / wanted
        return cls(precision, recall, 2 * precision * recall / (precision + recall))


def ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    """How often each run of n tokens occurs.

    Examples
    --------
    >>> from tinylm.evaluation.overlap import ngrams
    >>> ngrams(["a", "b", "a", "b"], 2)
    Counter({('a', 'b'): 2, ('b', 'a'): 1})
    """
    return Counter(zip(*(tokens[i:] for i in range(n)), strict=False))


def paired(
    measure: str, texts: Sequence[str], references: Sequence[str | Sequence[str]]
) -> list[tuple[str, list[str]]]:
    """Each text with its references, of which it may have one or several.

    Raises
    ------
    ValueError
        If the two are not of one length, or are empty.
    TypeError
        If something else than text is among them; a text alone is no sequence of texts here.
    """
    if isinstance(texts, str) or isinstance(references, str):
        raise TypeError(f"{measure}: one text alone: wanted a list of them, [text]")
    if len(texts) != len(references) or not len(texts):
        raise ValueError(
            f"{measure}: {len(texts)} texts, and references for {len(references)}: "
            "wanted as many, and at least one"
        )
    pairs = [
        (text, [those] if isinstance(those, str) else list(those))
        for text, those in zip(texts, references, strict=True)
    ]
    for text, those in pairs:
        for one in (text, *those):
            if not isinstance(one, str):
                raise TypeError(f"{measure}: {one!r} among the texts: wanted str")
    return pairs
