"""What `examples/answer_questions.py` and `summarize.py` learn from, and what they are held to."""

import ast
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import answer_questions
import summarize
from docstrings.documented import Function, documented, functions, split
from docstrings.questions import Question, questions, verdict
from docstrings.summaries import Pair, hybrid, pairs
from docstrings.word_overlap import pieces, rivals, trained_counts, word_overlap

SCALED = '''
class Matrix:
    def scale(self, x, axis=-1, *, out=None):
        """Scale an array.

        Return the array, scaled: no copy.

        Parameters
        ----------
        x : array_like, optional
            What is to be
            scaled.  Numbers.

        Raises
        ------
        LinAlgError
            If x is odd.
        """

    def bare(self):
        return 0
'''


def asked_of(question, text, answer):
    begin = text.index(answer)
    return Question("", question, text, begin, begin + len(answer))


def test_documented_functions_and_the_questions_about_one(tmp_path):
    (tmp_path / "a.py").write_text(SCALED, encoding="utf-8")
    (scale,) = documented(tmp_path / "a.py")
    assert (scale.within, scale.name) == ("Matrix", "scale")
    made = {q.kind: q for q in questions(scale, np.random.default_rng(0))}
    assert {kind: q.answer for kind, q in made.items()} == {
        "default": "-1",  # but not None
        "returned": "the array, scaled",
        "type": "array_like",
        "meaning": "What is to be\n    scaled",
        "exception": "LinAlgError",
        "condition": "x is odd",
    }
    text = "scale(x, axis=-1, out=None)\nScale an array."
    assert all(q.text.startswith(text) for q in made.values())
    assert made["default"].begin == text.index("-1")
    assert "axis" in made["default"].asked
    assert all("scale" in q.asked for q in made.values())
    assert "if x is odd" in made["exception"].asked
    assert "LinAlgError" in made["condition"].asked


def test_no_python_has_no_functions(tmp_path):
    (tmp_path / "a.py").write_text("def f(:", encoding="utf-8")
    assert documented(tmp_path / "a.py") == []


def test_no_file_is_on_both_sides():
    found = [Function(f"{i % 31}.py", "", f"f{i}", None, "") for i in range(200)]
    train, test = split(found, np.random.default_rng(0))
    assert sorted([*train, *test]) == sorted(found)
    assert len({one.file for one in test}) == 3
    assert not {one.file for one in train} & {one.file for one in test}


def test_word_overlap_by_hand():
    text = "scale(x, axis=-1)\nReturn a copy, scaled."
    cut = ["scale", "x", "axis", "-1", "", "a copy", "scaled", ""]
    assert [piece.strip() for piece in pieces(text)] == cut
    assert word_overlap(asked_of("What is the default of axis in scale?", text, "-1")) == "-1"
    # words: scale x axis 1 return copy scaled; "copy" is 5 behind scale and 1 behind return: with
    # log 2 - (5 + 1) / 7 / 2 ahead of "x", at log 2 - (1 + 7) / 7 / 2
    assert word_overlap(asked_of("What does scale return?", text, "a copy")) == "a copy"
    assert word_overlap(asked_of("What does scale return?", "", "")) == ""
    # log 2 - (1 + 20) / 20 / 2 for what is right behind alpha, but -(6 + 4) / 20 / 2 for "far"
    rest = " ".join(f"w{i}" for i in range(13))
    text = f"alpha; near, beta one two three, far, {rest}"
    assert word_overlap(asked_of("alpha beta", text, "near")) == "near"


def test_trained_counts_by_hand():
    def default(p, value, rest):
        return asked_of(
            f"What is the default of {p} in f?", f"f({rest}{p}={value}, z=2)\nNot {p}", value
        )

    def returned(f, answer):
        return asked_of(f"What does {f} return?", f"{f}(x=1)\nReturn {answer}.", answer)

    train = [default(f"p{i}", "0", "x=1, " * (i % 3)) for i in range(60)]
    train += [returned(f"g{i}", "a list") for i in range(60)]
    answer = trained_counts(train)
    assert answer(default("order", "9", "u=4, v=5, ")) == "9"  # not 4, not 5
    assert (
        answer(returned("h", "some text")) == "some text"
    )  # in no training, but of one kind with "a list"
    assert answer(asked_of("What does h return?", "", "")) == ""
    made = rivals(train, [returned("h", "no text")])
    assert made == {"word overlap": ["no text"], "trained counts": ["no text"]}


def test_trained_counts_weigh_how_often_a_kind_was_wrong():
    asked, text = "What does f return?", "f(x=1)\nReturn a list."
    short = [asked_of(asked, "f(x=1)", "1")] * 30 + [asked_of(asked, "f(x=1)", "f")] * 40
    answer = trained_counts(short + [asked_of(asked, text, "a list")] * 20)
    assert answer(asked_of(asked, text, "a list")) == "a list"  # 20 of 20, and "1" 30 of 90


def test_the_verdict_names_both_rivals_and_both_measures():
    test = [asked_of("", "f(a=one two)", "one two")]
    answers = {"word overlap": ["one"], "trained counts": ["one two"], "BERT": ["one two"]}
    assert verdict(test, answers).startswith(
        "BERT is ahead of word overlap in exact match, 1.000 to 0.000; ahead of word overlap in F1, "
        "1.000 to 0.667; not ahead of trained counts in exact match, 1.000 to 1.000; not ahead of "
        "trained counts in F1, 1.000 to 1.000. The rivals could have been right to the word in 100%"
    )


def test_what_is_read_by_hand():
    question = asked_of("axis", "f(axis=-1)\n\nSum.", "-1")
    ids, segments, places = answer_questions.read(question, lambda text: [10 + len(text)])
    assert ids == [2, 14, 3, 11, 11, 14, 11, 11, 11, 11, 3, 3, 13, 11]
    assert segments == [0, 0, 0, 16, 16, 1, 2, 3, 4, 5, 6, 6, 7, 8]
    assert [question.text[a:b] for a, b in places[5:9]] == ["axis", "=", "-", "1"]
    rng = np.random.default_rng(0)
    batch, ends = next(answer_questions.batches([question], [(ids, segments, places)], 16, rng))
    assert batch["ids"].tolist() == [ids]
    assert ends.tolist() == [[7, 8]]


def told(rest, line):
    return Pair(["f"], ["f"], rest, line)


@pytest.mark.parametrize(
    ("wrote", "chosen"),
    [
        (["bad", "zzz"], ["Good.", "b"]),  # the sentence only where much is expected of it
        (["zzz", "zzz"], ["Good.", "Bad."]),
        (["bad", "good"], ["a", "b"]),  # a draw, so what the model wrote
    ],
)
def test_hybrid_by_hand(wrote, chosen):
    train = [told("Good bad things.", "good"), told("Bad good.", "good")]
    develop = [told("Bad.", "bad"), told("Good.", "good")]
    test = [told("Good.", ""), told("Bad.", "")]
    assert hybrid(train, develop, wrote, test, ["a", "b"]) == chosen


def test_fewer_rows_than_a_batch_are_one_batch():
    train = [told("Details and more.", "make it"), told("More.", "take it")]
    (sources, written), targets = next(
        summarize.batches(train, summarize.Words(train), 16, np.random.default_rng(0))
    )
    assert len(sources) == len(written) == len(targets) == 2


def test_what_is_refused(tmp_path):
    run = SimpleNamespace(data=str(tmp_path / "none"), quick=True, rng=np.random.default_rng(0))
    with pytest.raises(SystemExit, match="--data must be a folder with Python files, got .*none"):
        functions(run)
    run.data = tmp_path
    (tmp_path / "a.py").write_text(SCALED, encoding="utf-8")
    with pytest.raises(SystemExit, match="found 1 documented functions, need 100"):
        functions(run)
    a = ast.parse("def f(): 0").body[0].args
    with pytest.raises(SystemExit, match="found 1 files with documented functions, need 2"):
        split([Function("a.py", "", "f", a, "x")] * 9, run.rng)
    for i in range(4):
        lines = [f'def f{i}_{j}():\n    "Only {i} {j}."\n' for j in range(30)]
        (tmp_path / f"{i}.py").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(SystemExit, match="found 0 functions to develop on, need 1"):
        pairs(run)
