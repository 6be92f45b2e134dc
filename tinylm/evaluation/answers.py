"""Answers: exact match and F1 of answers to questions, as the SQuAD benchmark defines them."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence

from tinylm.evaluation.overlap import Overlap, ngrams, paired

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def words_of_answer(answer: str) -> list[str]:
    """In lower case, without ASCII punctuation, and then without articles.

    Examples
    --------
    >>> from tinylm.evaluation.answers import words_of_answer
    >>> words_of_answer("The  Broncos' (3rd) title: a 24-10 win.")
    ['broncos', '3rd', 'title', '2410', 'win']
    """
    return _ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split()


def exact_match(predicted: Sequence[str], answers: Sequence[str | Sequence[str]]) -> float:
    """Share of the answers that are right to the word; case, punctuation and articles aside.

    Rajpurkar et al. 2016, "SQuAD: 100,000+ questions for machine comprehension of text", section
    6.1. The benchmark's script prints a hundred times this.

    Parameters
    ----------
    predicted : sequence of str
        An empty one says that there is no answer.
    answers : sequence of str, or of sequences of str
        For each question the right answer, or several, of which the nearest counts; none, or only
        empty ones, if there is no answer: Rajpurkar et al. 2018, "Know what you don't know".

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        If there are not as many predicted answers as questions.

    Examples
    --------
    >>> import tinylm as tl
    >>> tl.exact_match(["The Broncos!", "in 1815", ""], ["Broncos", ["1815", "June 1815"], []])
    0.6666666666666666
    """
    return _mean_of_best("exact_match", predicted, answers, lambda a, b: float(a == b))


def answer_f1(predicted: Sequence[str], answers: Sequence[str | Sequence[str]]) -> float:
    """Mean F1 of answers: the harmonic mean of the precision and the recall of their words.

    Words count as often as in the answer that has fewer of them; their order does not.

    Parameters, returns and errors as for `exact_match`.

    Examples
    --------
    >>> import tinylm as tl
    >>> tl.answer_f1(["in June 1815"], [["1815", "June 18, 1815"]])  # 2 of 3 words, and 2 of 3
    0.6666666666666666
    """
    return _mean_of_best("answer_f1", predicted, answers, _f1)


def _f1(answer: list[str], right: list[str]) -> float:
    if not answer or not right:
        return float(answer == right)
    common = (ngrams(answer, 1) & ngrams(right, 1)).total()
    return Overlap.of(common, len(answer), len(right)).f1


def _mean_of_best(
    name: str,
    predicted: Sequence[str],
    answers: Sequence[str | Sequence[str]],
    measure: Callable[[list[str], list[str]], float],
) -> float:
    best = []
    for answer, those in paired(name, predicted, answers):
        right = [words for words in map(words_of_answer, those) if words] or [[]]
        best.append(max(measure(words_of_answer(answer), one) for one in right))
    return sum(best) / len(best)
