"""Word overlap, the rival of `answer_questions.py`."""

import functools
import re
from collections import Counter

import numpy as np

from tinylm.text import STOP_WORDS

CUT = re.compile(
    r"[,;:=()]|\.(?=\s|$)|\n(?=\s*\n|\s+[A-Z]|\w+ : )|-{3,}"
    r"|\b(?:[Rr]eturns?|[Rr]aise[sd]?|[Ii]f|[Ww]hen|[Uu]nless|is)\b|$"
)
"""Where the pieces end of which word overlap chooses one."""


@functools.cache
def content(text):
    """Its words but the plainest, in lower case, without the s of plurals."""
    return [w.rstrip("s") for w in re.findall(r"\w+", text.lower()) if w not in STOP_WORDS]


def pieces(text):
    """The parts of a text from which word overlap chooses."""
    cuts = list(CUT.finditer(text))
    begins = [0, *(cut.end() for cut in cuts)]
    return [text[begin : cut.start()] for begin, cut in zip(begins, cuts, strict=False)]


def word_overlap(question):
    """The piece with most of the question before it: rare words first, within three words, and near.

    Counting what comes after it as well, or a longer window, was worse in a trial.
    """
    asked, words = set(content(question.asked)), content(question.text)
    counts, best, last = Counter(words), (-np.inf, ""), 0
    where = {w: np.flatnonzero([word == w for word in words]) for w in asked & counts.keys()}
    for text in pieces(question.text):
        own = content(text)
        first, last = last, last + len(own)
        if not text.strip() or (own and set(own) <= asked):
            continue
        score = 0.0
        for word, at in where.items():
            far = min(first - at[at < first], default=len(words))
            score += (far <= 3) * np.log1p(1 / counts[word]) - far / len(words) / len(where)
        best = max(best, (score, text.strip()))
    return best[1]
