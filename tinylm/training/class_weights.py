"""Class weights: what makes rare classes count as much as common ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinylm.ops import IGNORED


def balanced_weights(labels: Any, num_classes: int) -> Any:
    r"""Weights with which each class has the same share of the loss: ``N / (K N_k)``.

    King and Zeng 2001, "Logistic regression in rare events data", section 4.2: the weight of a
    class is its share of the population over that of the sample, here ``1/K`` over ``N_k / N``.

    Parameters
    ----------
    labels : array_like of int
        Those of the training data; those of -100 do not count.
    num_classes : int
        K.

    Returns
    -------
    ndarray, shape (K,)
        For `cross_entropy`.

    Raises
    ------
    ValueError
        If a class has no label, or a label is outside [0, K).

    Examples
    --------
    >>> import tinylm as tl
    >>> tl.balanced_weights([0, 0, 0, 1], num_classes=2)
    array([0.66666667, 2.        ])
    """
    labels = np.asarray(labels)
    labels = labels[labels != IGNORED]
    if labels.dtype.kind not in "iu" or np.any((labels < 0) | (labels >= num_classes)):
        raise ValueError(
            f"balanced_weights: labels of {labels.dtype}, {np.unique(labels)[:9].tolist()} among "
            f"them: wanted integers in [0, {num_classes})"
        )
    counts = np.bincount(labels, minlength=num_classes)
    if not counts.all():
        raise ValueError(
            f"balanced_weights: class {np.argmin(counts)} has no label: it has no weight"
        )
    return labels.size / (num_classes * counts)
