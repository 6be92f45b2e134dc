"""Functions to be summarized, as `summarize.py` takes them, and what its rivals write about them."""

import re
from collections import Counter
from typing import NamedTuple

import numpy as np
from documented import functions, split

import tinylm as tl
from tinylm.evaluation.rouge import words_of

ENDS = re.compile(r"(?<=[.!?:])\s+|\n\s*\n|\n\s*-{3,}\n")
"""Of sentences, paragraphs and headings."""

MOST = 24
"""Words of a line; longer ones are left out."""

CEILING = "(sentence with most ROUGE-1)"


class Pair(NamedTuple):
    """Words of the name; those of name, parameters and class; the rest of the text; the line."""

    name: list
    signature: list
    rest: str
    line: str


def pair(function):
    """The line is the first sentence of the documentation, in words of lower case."""
    first, *rest = ENDS.split(function.doc.strip(), maxsplit=1)
    a, name = function.arguments, words_of(function.name)
    names = [x.arg for x in a.posonlyargs + a.args + a.kwonlyargs if x.arg not in ("self", "cls")]
    signature = words_of(" ".join([*name, *names, function.within]))
    return Pair(name, signature, "".join(rest), " ".join(words_of(first)))


def pairs(run):
    """To learn from; and to be summarized: with something to read, and a line that is nowhere else."""
    parts = ([pair(x) for x in part] for part in split(functions(run), run.rng))
    train, test = ([x for x in part if 2 <= len(x.line.split()) < MOST] for part in parts)
    known = {x.line for x in train}
    return train, [x for x in test if x.line not in known and len(words_of(x.rest)) > 5]


def rivals(train, test):
    """The lines of each rival for the test functions, and of extraction that knows the answer."""
    expected, alike = unigrams(train), nearest(train)
    written = {}
    for function in test:
        sentences = [x for x in ENDS.split(function.rest) if words_of(x)]
        for rival, line in {
            "first sentence of the rest": sentences[0],
            "best sentence by its words": max(sentences, key=expected),
            '"return the" and the name': " ".join(["return the", *function.name]),
            "line of the function most alike": alike(function.signature),
            CEILING: max(sentences, key=lambda x: tl.rouge([x], [function.line])["rouge1"].f1),
        }.items():
            written.setdefault(rival, []).append(" ".join(words_of(line)))
    return written


def unigrams(train):
    """The expected ROUGE-1 of a sentence, by how often its words were in the first one as well."""
    seen, shared = Counter(), Counter()
    for function in train:
        words = set(words_of(function.rest))
        seen.update(words)
        shared.update(words & set(function.line.split()))
    prior = shared.total() / seen.total()
    length = np.mean([len(function.line.split()) for function in train])

    def expected(sentence):
        words = words_of(sentence)
        kept = sum((shared[w] + 5 * prior) / (seen[w] + 5) for w in set(words))
        return 2 * kept / (len(words) + length)

    return expected


def nearest(train):
    """The line of the function whose signature has the largest cosine, words weighed by rarity."""
    counts = Counter(word for function in train for word in set(function.signature))
    weight = {word: np.log(len(train) / count) ** 2 for word, count in counts.items()}
    known = [(set(function.signature), function.line) for function in train]
    norms = [1e-9 + sum(weight[word] for word in words) ** 0.5 for words, _ in known]

    def alike(signature):
        asked = set(signature)
        scores = [sum(weight[w] for w in asked & words) for words, _ in known]
        return known[int(np.argmax(np.divide(scores, norms)))][1]

    return alike


def ranked(test, written):
    """Rows of a table: some of what was written, by its ROUGE-1."""
    each = [tl.rouge([a], [x.line])["rouge1"].f1 for a, x in zip(written, test, strict=True)]
    for i in np.argsort(each)[::-1][(np.linspace(0.02, 0.95, 8) * len(each)).astype(int)]:
        name, line = "_".join(test[i].name), test[i].line
        yield {"function": name, "its line": line, "written": written[i], "ROUGE-1": each[i]}
