"""Functions to be summarized, as `summarize.py` takes them, and what its rivals write about them."""

import re
from collections import Counter
from typing import NamedTuple

import numpy as np
from docstrings.documented import enough, functions, split

import tinylm as tl
from tinylm.evaluation.rouge import words_of

ENDS = re.compile(r"(?<=[.!?])\s+|\n\s*\n|\n\s*-{3,}\n")
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
    """To learn from, to develop on, to be summarized; the last two have lines that are new."""
    rest, test = split(functions(run), run.rng)
    parts = ([pair(x) for x in part] for part in (*split(rest, run.rng), test))
    train, *held_out = ([x for x in part if 2 <= len(x.line.split()) < MOST] for part in parts)
    known = {x.line for x in train}
    new = (
        [x for x in part if x.line not in known and len(words_of(x.rest)) > 5] for part in held_out
    )
    parts = zip((train, *new), (16, 1, 1), ("learn from", "develop on", "summarize"), strict=True)
    return [enough(part, least, f"functions to {aim}") for part, least, aim in parts]


def sentences(function):
    """Of the rest."""
    return [x for x in ENDS.split(function.rest) if words_of(x)]


def rivals(train, test):
    """The lines of each rival for the test functions, and of extraction that knows the answer."""
    expected, alike = unigrams(train), nearest(train)
    written = {}
    for function in test:
        for rival, line in {
            "first sentence of the rest": sentences(function)[0],
            "best sentence by its words": max(sentences(function), key=expected),
            '"return the" and the name': " ".join(["return the", *function.name]),
            "line of the function most alike": alike(function.signature),
            CEILING: max(
                sentences(function), key=lambda x: tl.rouge([x], [function.line])["rouge1"].f1
            ),
        }.items():
            written.setdefault(rival, []).append(" ".join(words_of(line)))
    return written


def hybrid(train, develop, written_then, test, written):
    """The best sentence by its words where enough is expected of it, else what the model wrote.

    What is enough is where the mean of the three ROUGEs is largest in the development part.
    """
    expected = unigrams(train)

    def merit(text, function):
        return np.mean([score.f1 for score in tl.rouge([text], [function.line]).values()])

    own = [max(sentences(x), key=expected) for x in develop]
    order = np.argsort([-expected(text) for text in own])
    gains = [merit(own[i], develop[i]) - merit(written_then[i], develop[i]) for i in order]
    most = int(np.argmax(np.cumsum([0, *gains])))
    enough = expected(own[order[most - 1]]) if most else np.inf
    found = [max(sentences(x), key=expected) for x in test]
    return [x if expected(x) >= enough else line for x, line in zip(found, written, strict=True)]


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
