"""Accuracy, precision, recall, F1, the confusion matrix and Matthews' correlation of labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def accuracy(predicted: Any, actual: Any) -> float:
    """Share of the predictions that are right.

    Parameters
    ----------
    predicted, actual : array_like, shape (N,)
        Labels: integers or strings.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the two are not rows of one length, or are empty.

    Examples
    --------
    >>> import tinylm as tl
    >>> tl.accuracy(["a", "b", "a", "a"], ["a", "b", "b", "a"])
    0.75
    """
    _, predicted, actual = _coded(predicted, actual)
    return float(np.mean(predicted == actual))


def precision(predicted: Any, actual: Any, average: str | None = "macro") -> Any:
    """Of those predicted to be of a class, the share that are: ``TP / (TP + FP)``.

    Van Rijsbergen 1979, *Information Retrieval*, ch. 7. A class that is never predicted has 0.

    Parameters
    ----------
    predicted, actual : array_like, shape (N,)
        Labels: integers or strings.
    average : {"macro", "micro", None}
        "macro": the mean over the classes; "micro": counts summed over the classes first; None:
        a dict with the value of each class.

    Returns
    -------
    float, or dict of label to float

    Raises
    ------
    ValueError
        If the labels are not rows of one length, or are empty, or there is no such average.

    Examples
    --------
    >>> import tinylm as tl
    >>> tl.precision(["a", "b", "a", "a"], ["a", "b", "b", "a"], average=None)
    {'a': 0.6666666666666666, 'b': 1.0}
    """
    return _averaged(predicted, actual, average, lambda tp, said, true: (tp, said))


def recall(predicted: Any, actual: Any, average: str | None = "macro") -> Any:
    """Of those that are of a class, the share predicted to be: ``TP / (TP + FN)``.

    Parameters, returns and errors as for `precision`.

    Examples
    --------
    >>> import tinylm as tl
    >>> tl.recall(["a", "b", "a", "a"], ["a", "b", "b", "a"], average=None)
    {'a': 1.0, 'b': 0.5}
    """
    return _averaged(predicted, actual, average, lambda tp, said, true: (tp, true))


def f1(predicted: Any, actual: Any, average: str | None = "macro") -> Any:
    """Harmonic mean of precision and recall: ``2 TP / (2 TP + FP + FN)``.

    Parameters, returns and errors as for `precision`.

    Examples
    --------
    >>> import tinylm as tl
    >>> tl.f1(["a", "b", "a", "a"], ["a", "b", "b", "a"], average="micro")
    0.75
    """
    return _averaged(predicted, actual, average, lambda tp, said, true: (2 * tp, said + true))


def confusion_matrix(predicted: Any, actual: Any) -> Any:
    """How often a label was predicted for each actual one.

    Parameters
    ----------
    predicted, actual : array_like, shape (N,)
        Labels: integers or strings.

    Returns
    -------
    ndarray of int, shape (K, K)
        ``[i, j]``: how often the i-th label was predicted to be the j-th, of all K labels that
        occur, in order.

    Raises
    ------
    ValueError
        If the labels are not rows of one length, or are empty.

    Examples
    --------
    >>> import tinylm as tl
    >>> tl.confusion_matrix(["a", "b", "a", "a"], ["a", "b", "b", "a"])
    array([[2, 0],
           [1, 1]])
    """
    classes, predicted, actual = _coded(predicted, actual)
    K = classes.size
    return np.bincount(K * actual + predicted, minlength=K * K).reshape(K, K)


def matthews(predicted: Any, actual: Any) -> float:
    r"""Correlation of predicted and actual labels: 1 if all are right, about 0 by chance.

    Of two classes ``(TP TN - FP FN) / sqrt((TP + FP) (TP + FN) (TN + FP) (TN + FN))``: Matthews
    1975, "Comparison of the predicted and observed secondary structure of T4 phage lysozyme". Of
    K, with c of s right, and class k predicted p_k times and actual t_k times, ``(c s - sum p_k
    t_k) / sqrt((s^2 - sum p_k^2) (s^2 - sum t_k^2))``: Gorodkin 2004, "Comparing two K-category
    assignments by a K-category correlation coefficient", eq. (8). 0 if one of the two is constant.

    Parameters
    ----------
    predicted, actual : array_like, shape (N,)
        Labels: integers or strings.

    Returns
    -------
    float
        From -1 to 1.

    Raises
    ------
    ValueError
        If the labels are not rows of one length, or are empty.

    Examples
    --------
    >>> import tinylm as tl
    >>> round(tl.matthews(["a", "b", "a", "a"], ["a", "b", "b", "a"]), 4)  # 2 / sqrt(3 * 2 * 1 * 2)
    0.5774
    """
    _, right, said, true = _counts(predicted, actual)
    c, s = int(right.sum()), int(said.sum())
    spread = (s * s - int(said @ said)) * (s * s - int(true @ true))
    return (c * s - int(said @ true)) / math.sqrt(spread) if spread else 0.0


def _averaged(predicted: Any, actual: Any, average: str | None, measure: Any) -> Any:
    if average not in ("macro", "micro", None):
        raise ValueError(f"{average=}: wanted 'macro', 'micro' or None")
    classes, *counts = _counts(predicted, actual)
    if average == "micro":
        counts = [np.sum(count, keepdims=True) for count in counts]
    part, whole = measure(*counts)
    values = np.where(whole == 0, 0.0, part / np.maximum(whole, 1))
    if average is None:
        return dict(zip(classes.tolist(), values.tolist(), strict=True))
    return float(np.mean(values))


def _counts(predicted: Any, actual: Any) -> tuple[Any, Any, Any, Any]:
    """The classes, and how often each was predicted rightly, was predicted, and was actual."""
    classes, predicted, actual = _coded(predicted, actual)
    return classes, *(
        np.bincount(codes, minlength=classes.size)
        for codes in (actual[predicted == actual], predicted, actual)
    )


def _coded(predicted: Any, actual: Any) -> tuple[Any, Any, Any]:
    """The classes in order, and the labels as places among them."""
    predicted, actual = _labels(predicted, actual)
    classes, codes = np.unique(np.concatenate([predicted, actual]), return_inverse=True)
    return classes, codes[: predicted.size], codes[predicted.size :]


def _labels(predicted: Any, actual: Any) -> tuple[Any, Any]:
    predicted, actual = np.asarray(predicted), np.asarray(actual)
    if predicted.ndim != 1 or predicted.shape != actual.shape or not predicted.size:
        raise ValueError(
            f"predicted has shape {predicted.shape}, actual has {actual.shape}: "
            "wanted two rows of one length, not empty"
        )
    if (predicted.dtype.kind in "biuf") != (actual.dtype.kind in "biuf"):
        raise ValueError(
            f"predicted holds {predicted.dtype}, actual holds {actual.dtype}: wanted one kind"
        )
    return predicted, actual
