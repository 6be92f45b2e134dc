"""Questions about documented functions, made by patterns, and tables of answers."""

import ast
import re
from typing import NamedTuple

from docstrings.word_overlap import pieces

import tinylm as tl

KINDS = {
    "default": [
        "What is the default of {p} in {f}?",
        "Which value has {p} of {f} if none is given?",
        "If {p} is left out, what does {f} take for it?",
    ],
    "returned": [
        "What does {f} return?",
        "What is the result of {f}?",
        "What do you get from {f}?",
    ],
    "type": [
        "What type has {p} in {f}?",
        "What kind of thing is {p} of {f}?",
        "Of which type should {p} be for {f}?",
    ],
    "meaning": [
        "What does {p} mean in {f}?",
        "What is {p} for in {f}?",
        "What does {f} take as {p}?",
    ],
    "exception": [
        "Which exception does {f} raise {c}?",
        "What does {f} raise {c}?",
        "Which error comes of {f} {c}?",
    ],
    "condition": [
        "When does {f} raise {e}?",
        "In which case does {f} end with {e}?",
        "Why would {f} raise {e}?",
    ],
}
"""For each kind of question how it is asked, of the function f: one of these, by chance."""

CLAUSE = r"[^.;:\n]+(?:\n[^.;:\n]+)?"
STOP = r"(?=\.\s|\.$|[;:]|\n\s*\n|$)"
RETURNED = re.compile(rf"\b[Rr]eturns?\s+(?!s\b)(?P<returned>{CLAUSE}){STOP}")
RAISED = re.compile(
    r"\b(?P<e>\w+(?:Error|Exception|Warning|Exit|Interrupt))\b(?:\s+(?:is|will be))?(?:\s+raised)?\s+"
    rf"(?P<c>(?:[Ii]f|[Ww]hen|[Uu]nless)\s+(?P<condition>{CLAUSE})){STOP}"
)
PARAMETER = re.compile(
    rf"(?m)^(?P<p>\w+) : (?P<type>[^\n,({{]+?)(?=,|\n)[^\n]*\n[ \t]+(?P<meaning>{CLAUSE}){STOP}"
)
"""Where the answers stand; PARAMETER in documentation in the style of numpydoc."""


class Question(NamedTuple):
    """A question, the text to answer it from, and where the answer begins and ends in it."""

    kind: str
    asked: str
    text: str
    begin: int
    end: int

    @property
    def answer(self):
        """The answer, as it stands in the text."""
        return self.text[self.begin : self.end]


def questions(function, rng, most=2):
    """The questions about one function, at most so many of a kind."""
    signature, defaults = signed(function)
    text, f = f"{signature}\n{function.doc}", function.name
    found = {kind: [] for kind in KINDS}
    found["default"] = [({"p": p}, begin, end) for p, begin, end in defaults]
    for pattern in (RETURNED, RAISED, PARAMETER):
        for match in pattern.finditer(text, len(signature)):
            fields = {k: " ".join(v.split()) for k, v in match.groupdict().items()}
            if "c" in fields:
                fields["c"] = fields["c"][0].lower() + fields["c"][1:]
                found["exception"].append((fields, *match.span("e")))
            for kind in ("returned", "condition", "type", "meaning"):
                if kind in fields:
                    found[kind].append((fields, *match.span(kind)))
    for kind, those in found.items():
        for i in rng.permutation(len(those[:1] if kind == "returned" else those))[:most]:
            fields, begin, end = those[i]
            if re.search(r"\w", text[begin:end]):
                asked = KINDS[kind][rng.integers(3)].format(f=f, **fields)
                yield Question(kind, asked, text, begin, end)


def signed(function):
    """A signature as it is called, and where the defaults stand in it."""
    a, text, defaults = function.arguments, f"{function.name}(", []
    names = [x.arg for x in a.posonlyargs + a.args if x.arg not in ("self", "cls")]
    values = dict(zip(names[::-1], a.defaults[::-1], strict=False))
    values |= dict(zip((x.arg for x in a.kwonlyargs), a.kw_defaults, strict=True))
    for name in [*names, *(x.arg for x in a.kwonlyargs)]:
        text += name
        if values.get(name) is not None:
            value = ast.unparse(values[name])
            if value != "None":  # so many are that it would be a good guess
                defaults.append((name, len(text) + 1, len(text) + 1 + len(value)))
            text += f"={value}"
        text += ", "
    return text.removesuffix(", ") + ")", defaults


def by_kind(test, answers):
    """Rows of a table: exact match and F1 of everybody's answers, by kind of question."""
    for kind in [*KINDS, "all"]:
        of = [i for i, question in enumerate(test) if kind in (question.kind, "all")]
        right, row = [test[i].answer for i in of], {"kind": kind, "questions": len(of)}
        for who, texts in answers.items():
            own = [texts[i] for i in of]
            row[who] = (
                f"{tl.exact_match(own, right):.3f} / {tl.answer_f1(own, right):.3f}" if of else "-"
            )
        yield row


def right_and_wrong(test, answers, who):
    """Rows of a table: of every kind the first answer that is right, and the first that is not."""
    for kind in KINDS:
        for wanted in (1.0, 0.0):
            for i, q in enumerate(test):
                texts = {"answer": q.answer, who: answers[who][i]}
                texts |= {one: answers[one][i] for one in answers if one != who}
                if q.kind == kind and tl.exact_match([texts[who]], [q.answer]) == wanted:
                    texts = {one: " ".join(text.split())[:40] for one, text in texts.items()}
                    yield {"question": q.asked, **texts}
                    break


def verdict(test, answers):
    """A sentence: who is ahead of whom in either measure, and what no rival could do."""
    right = [question.answer for question in test]
    said = []
    for rival in [who for who in answers if who != "BERT"]:
        for name, measure in (("exact match", tl.exact_match), ("F1", tl.answer_f1)):
            ours, theirs = (measure(answers[who], right) for who in ("BERT", rival))
            ahead = "ahead of" if ours > theirs else "not ahead of"
            said.append(f"{ahead} {rival} in {name}, {ours:.3f} to {theirs:.3f}")
    could = tl.exact_match(right, [pieces(question.text) for question in test])
    return (
        f"BERT is {'; '.join(said)}. The rivals could have been right to the word in {could:.0%}: "
        "so many answers are one of the pieces that they choose from."
    )
