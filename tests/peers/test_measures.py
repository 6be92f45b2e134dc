"""Other libraries as witnesses of the measures: sacrebleu, rouge_score, scikit-learn."""

import pytest
import sklearn.metrics
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

import tinylm as tl

WORDS = st.sampled_from(
    [
        "the",
        "cat",
        "The",
        "cats",
        "sat,",
        "on.",
        "(mat)",
        "3.50",
        "1,000",
        "-5",
        "2-3",
        "don't",
        "U.S.",
        "x&amp;y",
        "&lt;b&gt;",
        "<skipped>",
        "a_b",
        "...",
        "кошка",
        "на",
        "Кошка,",
        "η",
        "γάτα",
        "ΓΆΤΑ,",
        "猫。",
        "猫が座る",
        "قطة،",
        "بيت",
        "हिन्दी।",
        "😀",
        "é",
        "é",
        "İ",
        "ß",
        "\u2028",
        "\x1c",
        "\r",
        "-",
        "'",
        '"',
        "&quot;",
        "&amp;lt;",
        "-\n",
    ]
)
LINES = st.lists(WORDS, max_size=15).map(" ".join) | st.text(max_size=30)
CORPORA = st.integers(1, 3).flatmap(
    lambda several: st.lists(
        st.tuples(LINES, st.lists(LINES, min_size=several, max_size=several)),
        min_size=1,
        max_size=4,
    )
)


@given(CORPORA, st.booleans(), st.sampled_from(["13a", "char", "none"]), st.booleans())
@example([("a b. c, d 3.5", ["a b. c, d 3.5"])], False, "13a", True)
@settings(max_examples=400)
def test_bleu(pairs, lowercase, tokenize, close):
    texts, references = map(list, zip(*pairs, strict=True))
    if close:  # to be translations of each other
        texts = [those[0].replace("a", "e", 1) + text[:5] for text, those in pairs]
    peer = BLEU(lowercase=lowercase, tokenize=tokenize, force=True)
    expected = peer.corpus_score(texts, [list(stream) for stream in zip(*references, strict=True)])
    got = tl.bleu(texts, references, lowercase, tokenize)
    assert got == pytest.approx(expected.score, rel=1e-9, abs=1e-9)


@given(CORPORA, st.booleans())
@settings(max_examples=400)
def test_rouge(pairs, close):
    texts, references = map(list, zip(*pairs, strict=True))
    if close:
        texts = [those[0].replace("a", "e", 1) + text[:5] for text, those in pairs]
    kinds = ["rouge1", "rouge2", "rougeL"]
    peer = RougeScorer(kinds, use_stemmer=False)
    each = [peer.score_multi(those, text) for text, those in zip(texts, references, strict=True)]
    got = tl.rouge(texts, references)
    for kind in kinds:
        for i in range(3):
            expected = sum(scores[kind][i] for scores in each) / len(each)
            assert got[kind][i] == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 2), min_size=1, max_size=40), st.booleans())
@settings(max_examples=300)
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_confusion_and_matthews(pairs, words):
    predicted, actual = map(list, zip(*pairs, strict=True))
    if words:
        predicted, actual = ([f"κ{label}" for label in labels] for labels in (predicted, actual))
    expected = sklearn.metrics.confusion_matrix(
        actual, predicted, labels=sorted({*predicted, *actual})
    )
    assert tl.confusion_matrix(predicted, actual).tolist() == expected.tolist()
    expected = sklearn.metrics.matthews_corrcoef(actual, predicted)
    assert tl.matthews(predicted, actual) == pytest.approx(expected, rel=1e-9, abs=1e-9)
