"""Cross-entropy of integer targets under logits: the loss of a language model."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinylm.autograd import Array, fused, name
from tinylm.ops.softmax import kept_log_softmax, log_softmax

IGNORED = -100
"""The target that does not count."""


@fused
def cross_entropy(logits: Array, targets: Any, ignore_index: int = IGNORED) -> Array:
    r"""Mean negative log-likelihood of the targets, in nats.

    ``-(1/n) sum_i log softmax(logits_i)[target_i]``, over the n targets that count: Bengio et al.
    2003, "A neural probabilistic language model", section 2.

    Parameters
    ----------
    logits : ndarray, shape (..., V)
    targets : ndarray of int, shape (...)
    ignore_index : int
        A target of this value does not count, and no gradient flows to its logits.

    Returns
    -------
    ndarray, shape ()

    Raises
    ------
    TypeError
        If the targets are not integers.
    ValueError
        If the shapes do not fit, a target is outside [0, V), or no target counts.

    Notes
    -----
    Named intermediate: "log_probabilities".

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> float(tl.cross_entropy(np.log([[0.5, 0.5], [0.25, 0.75]]), [0, 0]) / np.log(2))
    1.5
    """
    return _mean_of_targets(log_softmax.formula(logits), targets, ignore_index)


@cross_entropy.program
def _(logits: Array, targets: Any, ignore_index: int) -> Array:
    """From log-probabilities that are kept, and exponentiated on the way back."""
    return _mean_of_targets(kept_log_softmax(logits, -1), targets, ignore_index)


def _mean_of_targets(log_probabilities: Array, targets: Any, ignore_index: int) -> Array:
    counted = np.not_equal(targets, ignore_index)
    index = np.where(counted, targets, 0)[..., None]
    log_probabilities = name(log_probabilities, "log_probabilities")
    likelihood = np.take_along_axis(log_probabilities, index, axis=-1)[..., 0]
    return -np.sum(np.where(counted, likelihood, 0)) / int(np.count_nonzero(counted))


@cross_entropy.check
def _(logits: Array, targets: Any, ignore_index: int) -> None:
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


@cross_entropy.kernel
def _(logits: Any, targets: Any, ignore_index: int) -> tuple[Any, Any]:
    rows = logits.reshape(-1, logits.shape[-1])
    targets = np.ravel(targets)
    counted = np.flatnonzero(targets != ignore_index)
    at = (counted, targets[counted])
    weights = rows - np.max(rows, axis=-1, keepdims=True)
    score = weights[at]
    np.exp(weights, out=weights)
    own = weights[at]
    weights[at] = 0
    others = np.sum(weights, axis=-1)  # 1 - p is others / total, with all its digits
    total = others[counted] + own
    # -log p, as log1p where p is near 1
    near = score > -1
    loss = np.where(near, np.log1p(others[counted] / np.where(near, own, 1)), np.log(total) - score)
    return np.sum(loss) / counted.size, (weights, others, total, at, logits.shape)


@cross_entropy.vjp
def _(residuals: Any, cotangent: Any) -> Any:
    weights, others, total, at, shape = residuals
    factor = np.zeros_like(others)
    factor[at[0]] = cotangent / at[0].size / total
    d_logits = weights * factor[:, None]
    d_logits[at] = -(others * factor)[at[0]]
    return d_logits.reshape(shape)
