"""Accuracy, precision, recall and F1 of predicted labels."""

from __future__ import annotations

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
    predicted, actual = _labels(predicted, actual)
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
    return _averaged(predicted, actual, average, lambda tp, fp, fn: (tp, tp + fp))


def recall(predicted: Any, actual: Any, average: str | None = "macro") -> Any:
    """Of those that are of a class, the share predicted to be: ``TP / (TP + FN)``.

    Parameters, returns and errors as for `precision`.

    Examples
    --------
    >>> import tinylm as tl
    >>> tl.recall(["a", "b", "a", "a"], ["a", "b", "b", "a"], average=None)
    {'a': 1.0, 'b': 0.5}
    """
    return _averaged(predicted, actual, average, lambda tp, fp, fn: (tp, tp + fn))


def f1(predicted: Any, actual: Any, average: str | None = "macro") -> Any:
    """Harmonic mean of precision and recall: ``2 TP / (2 TP + FP + FN)``.

    Parameters, returns and errors as for `precision`.

    Examples
    --------
    >>> import tinylm as tl
    >>> tl.f1(["a", "b", "a", "a"], ["a", "b", "b", "a"], average="micro")
    0.75
    """
    return _averaged(predicted, actual, average, lambda tp, fp, fn: (2 * tp, 2 * tp + fp + fn))


def _averaged(predicted: Any, actual: Any, average: str | None, measure: Any) -> Any:
    predicted, actual = _labels(predicted, actual)
    if average not in ("macro", "micro", None):
        raise ValueError(f"{average=}: wanted 'macro', 'micro' or None")
    classes = np.unique(np.concatenate([predicted, actual]))
    is_predicted, is_actual = predicted == classes[:, None], actual == classes[:, None]
    true_positive = np.sum(is_predicted & is_actual, axis=1)
    false_positive = np.sum(is_predicted & ~is_actual, axis=1)
    false_negative = np.sum(~is_predicted & is_actual, axis=1)
    if average == "micro":
        true_positive, false_positive, false_negative = (
            np.sum(count, keepdims=True)
            for count in (true_positive, false_positive, false_negative)
        )
    part, whole = measure(true_positive, false_positive, false_negative)
    values = np.where(whole == 0, 0.0, part / np.maximum(whole, 1))
    if average is None:
        return dict(zip(classes.tolist(), values.tolist(), strict=True))
    return float(np.mean(values))


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
