"""Accuracy, precision, recall, F1, confusion, Matthews: by hand, and against counts in a loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinylm as tl

LABELS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


def test_by_hand():
    actual = ["cat", "cat", "cat", "dog", "dog", "bird"]
    predicted = ["cat", "cat", "dog", "dog", "bird", "cow"]
    assert tl.accuracy(predicted, actual) == 0.5
    assert tl.precision(predicted, actual, None) == {"bird": 0, "cat": 1, "cow": 0, "dog": 0.5}
    assert tl.recall(predicted, actual, None) == {"bird": 0, "cat": 2 / 3, "cow": 0, "dog": 0.5}
    assert tl.f1(predicted, actual, None) == {"bird": 0, "cat": 0.8, "cow": 0, "dog": 0.5}
    assert tl.precision(predicted, actual) == 1.5 / 4
    assert tl.f1(predicted, actual) == 1.3 / 4
    assert tl.recall(predicted, actual, "micro") == 0.5


@given(LABELS)
def test_against_loops(pairs):
    predicted, actual = map(list, zip(*pairs, strict=True))
    precisions, recalls, f1s = {}, {}, {}
    for label in sorted({*predicted, *actual}):
        tp = sum(p == label and a == label for p, a in pairs)
        said, true = predicted.count(label), actual.count(label)
        precisions[label] = tp / said if said else 0
        recalls[label] = tp / true if true else 0
        both = precisions[label] + recalls[label]
        f1s[label] = 2 * precisions[label] * recalls[label] / both if both else 0
    for measure, expected in ((tl.precision, precisions), (tl.recall, recalls), (tl.f1, f1s)):
        assert measure(predicted, actual, None) == pytest.approx(expected)
        assert measure(predicted, actual) == pytest.approx(np.mean(list(expected.values())))
        assert measure(predicted, actual, "micro") == pytest.approx(tl.accuracy(predicted, actual))


def test_matthews_by_hand():
    """(TP TN - FP FN) / sqrt(...), with 3, 2, 1 and 2 of them."""
    predicted, actual = [1, 1, 1, 0, 0, 1, 0, 0], [1, 1, 1, 0, 0, 0, 1, 1]
    assert tl.confusion_matrix(predicted, actual).tolist() == [[2, 1], [2, 3]]
    expected = (3 * 2 - 1 * 2) / ((3 + 1) * (3 + 2) * (2 + 1) * (2 + 2)) ** 0.5
    assert tl.matthews(predicted, actual) == pytest.approx(expected)
    assert tl.matthews([1, 0, 0], [0, 1, 1]) == -1
    assert tl.matthews([1, 1, 1], [0, 1, 1]) == 0, "what is constant tells nothing"
    many = np.tile([0, 1, 2], 10**6)
    assert tl.matthews(many, many) == pytest.approx(1), "counts whose squares are no small integers"


@given(LABELS)
def test_confusion_and_correlation_against_loops(pairs):
    """Gorodkin's: the covariance of one-hot labels, summed over the classes."""
    predicted, actual = map(list, zip(*pairs, strict=True))
    labels = sorted({*predicted, *actual})
    counts = tl.confusion_matrix(predicted, actual)
    for i, true in enumerate(labels):
        for j, said in enumerate(labels):
            assert counts[i, j] == pairs.count((said, true))
    X, Y = (
        np.equal.outer(x, labels) - np.mean(np.equal.outer(x, labels), axis=0)
        for x in (predicted, actual)
    )
    size = np.sqrt(np.sum(X * X) * np.sum(Y * Y))
    expected = np.sum(X * Y) / size if size > 1e-9 else 0
    assert tl.matthews(predicted, actual) == pytest.approx(expected, abs=1e-12)


def test_impossible_calls():
    for measure in (tl.accuracy, tl.precision, tl.recall, tl.f1, tl.matthews, tl.confusion_matrix):
        for wrong in (([], []), ([1], [1, 2]), ([[1]], [[1]])):
            with pytest.raises(ValueError, match="wanted two rows of one length, not empty"):
                measure(*wrong)
        with pytest.raises(ValueError, match="predicted holds int64, actual holds <U1: wanted one"):
            measure([1, 2], ["1", "2"])
    with pytest.raises(ValueError, match="average='weighted': wanted 'macro', 'micro' or None"):
        tl.f1([1], [1], "weighted")
