"""Cross-entropy of integer targets under logits: the loss of a language model."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinylm.autograd import Array, fused, name
from tinylm.ops.softmax import kept_log_softmax, log_softmax

IGNORED = -100
"""The target that does not count."""


@fused
def cross_entropy(
    logits: Array,
    targets: Any,
    ignore_index: int = IGNORED,
    label_smoothing: float = 0.0,
    weights: Any = None,
) -> Array:
    r"""Mean negative log-likelihood of the targets, in nats.

    ``-(1/n) sum_i log softmax(logits_i)[target_i]``, over the n targets that count: Bengio et al.
    2003, "A neural probabilistic language model", section 2.

    With label smoothing epsilon, the expectation under ``q_i(c) = (1 - epsilon) [c = target_i] +
    epsilon / V`` instead: Szegedy et al. 2016, "Rethinking the Inception architecture for computer
    vision", section 7. With weights w, ``-sum_i sum_c q_i(c) w_c log softmax(logits_i)[c]``,
    divided by ``sum_i w[target_i]``, which is the mean that PyTorch computes.

    Parameters
    ----------
    logits : ndarray, shape (..., V)
    targets : ndarray of int, shape (...)
    ignore_index : int
        A target of this value does not count, and no gradient flows to its logits.
    label_smoothing : float
        epsilon, from 0 to 1.
    weights : ndarray, shape (V,), optional
        How much each class counts; not negative.

    Returns
    -------
    ndarray, shape ()

    Raises
    ------
    TypeError
        If the targets are not integers.
    ValueError
        If the shapes do not fit, a target is outside [0, V), no target counts, the smoothing is
        not from 0 to 1, or a weight is negative or not finite.

    Notes
    -----
    Named intermediate: "log_probabilities".

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> logits = np.log([[0.5, 0.5], [0.25, 0.75]])
    >>> float(tl.cross_entropy(logits, [0, 0]) / np.log(2))
    1.5
    >>> float(tl.cross_entropy(logits, [0, 1], weights=[1.0, 0.0]) / np.log(2))
    1.0
    """
    log_probabilities = log_softmax.formula(logits)
    return _mean_of_targets(log_probabilities, targets, ignore_index, label_smoothing, weights)


@cross_entropy.program
def _(
    logits: Array, targets: Any, ignore_index: int, label_smoothing: float, weights: Any
) -> Array:
    """From log-probabilities that are kept, and exponentiated on the way back."""
    log_probabilities = kept_log_softmax(logits, -1)
    return _mean_of_targets(log_probabilities, targets, ignore_index, label_smoothing, weights)


def _mean_of_targets(
    log_probabilities: Array, targets: Any, ignore_index: int, label_smoothing: float, weights: Any
) -> Array:
    counted, label_smoothing = np.not_equal(targets, ignore_index), float(label_smoothing)
    index = np.where(counted, targets, 0)
    log_probabilities = name(log_probabilities, "log_probabilities")
    likelihood = np.take_along_axis(log_probabilities, index[..., None], axis=-1)[..., 0]
    total = int(np.count_nonzero(counted))
    if weights is not None:
        weights = np.asarray(weights).astype(log_probabilities.dtype)
        likelihood = likelihood * weights[index]
        log_probabilities = log_probabilities * weights
        total = np.sum(np.where(counted, weights[index], 0))
    if label_smoothing:
        uniform = np.mean(log_probabilities, axis=-1)
        likelihood = (1 - label_smoothing) * likelihood + label_smoothing * uniform
    return -np.sum(np.where(counted, likelihood, 0)) / total


@cross_entropy.check
def _(logits: Array, targets: Any, ignore_index: int, label_smoothing: float, weights: Any) -> None:
    targets = np.asarray(targets)
    if targets.dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: targets holds {targets.dtype}: wanted integers")
    if logits.ndim < 1 or logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"cross_entropy: targets has shape {targets.shape}, and logits has "
            f"{logits.shape}: wanted one target for each row of logits"
        )
    counted = targets[targets != ignore_index]
    if counted.size == 0:
        raise ValueError("cross_entropy: no target counts, and there is no mean of nothing")
    V = logits.shape[-1]
    if counted.min() < 0 or counted.max() >= V:
        wrong = counted[(counted < 0) | (counted >= V)][0]
        raise ValueError(f"cross_entropy: target {wrong} is outside the vocabulary [0, {V})")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: {label_smoothing=}: wanted a number from 0 to 1")
    if weights is not None:
        _check_weights(np.asarray(weights), counted, V)


def _check_weights(weights: Any, counted: Any, V: int) -> None:
    if weights.shape != (V,) or weights.dtype.kind not in "biuf":
        raise ValueError(
            f"cross_entropy: weights holds {weights.dtype} in the shape {weights.shape}: "
            f"wanted numbers, ({V},)"
        )
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("cross_entropy: weights: wanted finite numbers, none below 0")
    if not weights[counted].any():
        raise ValueError("cross_entropy: every target that counts has the weight 0")


@cross_entropy.kernel
def _(
    logits: Any, targets: Any, ignore_index: int, label_smoothing: float, weights: Any
) -> tuple[Any, Any]:
    rows = logits.reshape(-1, logits.shape[-1])
    targets = np.ravel(targets)
    counted = np.flatnonzero(targets != ignore_index)
    at = (counted, targets[counted])
    own_share, all_share, count = _shares(label_smoothing, weights, at, rows.dtype)
    e = rows - np.max(rows, axis=-1, keepdims=True)
    score = e[at]
    mean_score = np.mean(e * all_share, axis=-1)[counted] if label_smoothing else 0
    np.exp(e, out=e)
    own = e[at]
    e[at] = 0
    others = np.sum(e, axis=-1)[counted]  # 1 - p is others / total, with all its digits
    total = others + own
    # -log p, as log1p where p is near 1
    near = score > -1
    loss = np.where(near, np.log1p(others / np.where(near, own, 1)), np.log(total) - score)
    loss = loss * own_share
    if label_smoothing:
        loss += float(np.mean(all_share)) * np.log(total) - mean_score
    residuals = (e, own, others, total, at, own_share / count, all_share / count, logits.shape)
    return np.sum(loss) / count, residuals


def _shares(label_smoothing: float, weights: Any, at: Any, dtype: Any) -> tuple[Any, Any, Any]:
    """What the target of each row counts beyond the rest, what every class does, and the sum."""
    label_smoothing = float(label_smoothing)
    if weights is None:
        return 1 - label_smoothing, label_smoothing, at[0].size
    weights = np.asarray(weights, np.result_type(dtype, np.float64))
    weights = (weights / np.mean(weights[at[1]])).astype(dtype)  # so that their sum is the number
    return (1 - label_smoothing) * weights[at[1]], label_smoothing * weights, at[0].size


@cross_entropy.vjp
def _(residuals: Any, cotangent: Any) -> Any:
    e, own, others, total, at, own_share, all_share, shape = residuals
    mean_share = float(np.mean(all_share))
    factor = np.zeros_like(e, shape=len(e))
    factor[at[0]] = cotangent * (own_share + mean_share) / total
    d_logits = e * factor[:, None]
    d_logits[at] = cotangent * (mean_share * own - own_share * others) / total
    if mean_share:
        d_logits[at[0]] -= cotangent * all_share / shape[-1]
    return d_logits.reshape(shape)
