"""Word overlap, the rival of `answer_questions.py`: untrained, and with counts of what was right."""

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
    for text, cut in zip(pieces(question.text), CUT.finditer(question.text), strict=False):
        own = content(text)
        first, last = last, last + len(own) + len(content(cut[0]))
        if not text.strip() or (own and set(own) <= asked):
            continue
        score = 0.0
        for word, at in where.items():
            far = min(first - at[at < first], default=len(words))
            score += (far <= 3) * np.log1p(1 / counts[word]) - far / len(words) / len(where)
        best = max(best, (score, text.strip()))
    return best[1]


def trained_counts(train):
    """The piece of a kind that was most often right in training, as a function of the question.

    Of one kind are pieces with the same cuts around them, as far behind a word of the question, of
    like length, of questions with the same frequent words: those of a fiftieth of the questions.
    """
    usual = Counter(word for question in train for word in question.asked.split())
    right, seen = Counter(), Counter()

    def kinds(question):
        asked = set(content(question.asked))
        form = tuple(w for w in question.asked.split() if usual[w] > len(train) / 50)
        before, words = "", []
        for text, cut in zip(pieces(question.text), CUT.finditer(question.text), strict=False):
            own, after = content(text), cut[0].strip().lower() or cut[0]
            if text.strip():
                far = next((i for i, word in enumerate(words[:-4:-1]) if word in asked), 3)
                known = bool(own and set(own) <= asked)
                yield text.strip(), (form, before, after, far, known, min(len(own), 6))
            before, words = after, words + own + content(cut[0])

    for question in train:
        for text, kind in kinds(question):
            seen[kind] += 1
            right[kind] += text == question.answer.strip()

    def answer(question):
        found = list(kinds(question))
        return max(found, key=lambda x: (right[x[1]] + 0.01) / (seen[x[1]] + 1), default=("",))[0]

    return answer


def rivals(train, test):
    """The answers of word overlap and of trained counts."""
    each = {"word overlap": word_overlap, "trained counts": trained_counts(train)}
    return {who: list(map(answer, test)) for who, answer in each.items()}
