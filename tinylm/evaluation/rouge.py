"""ROUGE: how much of reference summaries is in summaries, in words, pairs of words and order."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from tinylm.evaluation.overlap import Overlap, ngrams, paired


def words_of(text: str) -> list[str]:
    """Runs of the letters a to z and digits, in lower case; no other script has any.

    Examples
    --------
    >>> from tinylm.evaluation.rouge import words_of
    >>> words_of("It's 3.50, naïve")
    ['it', 's', '3', '50', 'na', 've']
    """
    return re.findall("[a-z0-9]+", text.lower())


def rouge(
    hypotheses: Sequence[str], references: Sequence[str | Sequence[str]]
) -> dict[str, Overlap]:
    r"""ROUGE-1, ROUGE-2 and ROUGE-L: means over the pairs of hypothesis and reference.

    ROUGE-n counts the n-grams that both have, each as often as in the text that has fewer of it;
    ROUGE-L the length of the longest common subsequence of their words, LCS. Over the number of
    those in the reference it is the recall, over that in the hypothesis the precision, and their
    harmonic mean F1: Lin 2004, "ROUGE: a package for automatic evaluation of summaries", sections
    2 and 3.1, eqs. (1) to (4) with beta = 1. Words are those of its script, without stemming.

    Parameters
    ----------
    hypotheses : sequence of str
    references : sequence of str, or of sequences of str
        For each hypothesis one reference, or several, of which the one with the best F1 counts.

    Returns
    -------
    dict
        "rouge1", "rouge2", "rougeL": each with ``.precision``, ``.recall`` and ``.f1``.

    Raises
    ------
    ValueError
        If there are not as many references as hypotheses, or one has none.

    Examples
    --------
    >>> import tinylm as tl
    >>> scores = tl.rouge(["police kill the gunman"], ["police killed the gunman"])
    >>> scores["rougeL"].f1, scores["rouge2"].f1
    (0.75, 0.3333333333333333)
    """
    found: dict[str, list[Overlap]] = {kind: [] for kind in KINDS}
    for text, those in paired("rouge", hypotheses, references):
        if not those:
            raise ValueError(f"rouge: {text!r} has no reference: wanted at least one")
        hypothesis, right = words_of(text), [words_of(one) for one in those]
        for kind, overlap in KINDS.items():
            each = [overlap(hypothesis, one) for one in right]
            found[kind].append(max(each, key=lambda one: one.f1))
    return {kind: Overlap(*np.mean(each, axis=0).tolist()) for kind, each in found.items()}


def _rouge_n(n: int) -> Callable[[list[str], list[str]], Overlap]:
    def overlap(hypothesis: list[str], reference: list[str]) -> Overlap:
        written, wanted = ngrams(hypothesis, n), ngrams(reference, n)
        return Overlap.of((written & wanted).total(), written.total(), wanted.total())

    return overlap


def _rouge_l(hypothesis: list[str], reference: list[str]) -> Overlap:
    common = longest_common_subsequence(hypothesis, reference)
    return Overlap.of(common, len(hypothesis), len(reference))


KINDS = {"rouge1": _rouge_n(1), "rouge2": _rouge_n(2), "rougeL": _rouge_l}


def longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Its length: ``L[i, j] = max(L[i-1, j], L[i, j-1], L[i-1, j-1] + (a_i = b_j))``.

    Cormen et al., *Introduction to algorithms*, "Longest common subsequence"; a row at a time.

    Examples
    --------
    >>> from tinylm.evaluation.rouge import longest_common_subsequence
    >>> longest_common_subsequence("ABCBDAB", "BDCABA")
    4
    """
    numbers = {word: number for number, word in enumerate(dict.fromkeys(b))}
    codes = np.array([numbers[word] for word in b], dtype=int)
    row = np.zeros(len(b) + 1, dtype=int)
    for word in a:
        longer = row[:-1] + (codes == numbers.get(word, -1))
        row[1:] = np.maximum.accumulate(np.maximum(row[1:], longer))
    return int(row[-1])
