"""Softmax and its logarithm.

Both subtract the row's maximum first. The value does not depend on what is subtracted, so that in
exact arithmetic this changes neither the value nor the gradient; in floating point it keeps the
exponentials from overflowing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinylm.autograd import Array, derivative, fused, name, stop_gradient, traceable


@fused
def softmax(x: Array, axis: int = -1) -> Array:
    r"""Softmax: positive weights that sum to one.

    ``exp(x_i) / sum_j exp(x_j)``, Bridle 1990, "Probabilistic interpretation of feedforward
    classification network outputs", eq. (7). A row of nothing but ``-inf`` has nothing to choose
    from: it gives zeros, and a zero gradient.

    Parameters
    ----------
    x : ndarray
        Logits, of any shape.
    axis : int
        The axis along which the weights sum to one.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`.

    Notes
    -----
    Named intermediate: "normalizer".

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> tl.softmax(np.log([1.0, 2.0, 5.0]))
    array([0.125, 0.25 , 0.625])
    """
    e = np.exp(x - row_maximum(x, axis))
    total = name(np.sum(e, axis=axis, keepdims=True), "normalizer")
    return e / np.where(total == 0, 1, total)


@softmax.program
def _(x: Array, axis: int) -> Array:
    """The weights are kept, and read on the way back."""
    return _kept_softmax(x, axis)


@traceable
def _kept_softmax(x: Array, axis: int) -> Array:
    return softmax.formula(x, axis)


derivative(_kept_softmax)(lambda c, y, x, axis: y * (c - np.sum(c * y, axis=axis, keepdims=True)))


@softmax.kernel
def _(x: Any, axis: int) -> tuple[Any, Any]:
    y = x - row_maximum(x, axis)
    np.exp(y, out=y)
    total = np.sum(y, axis=axis, keepdims=True)
    y /= np.where(total == 0, 1, total)
    return y, (y, axis)


@softmax.vjp
def _(residuals: Any, cotangent: Any) -> Any:
    y, axis = residuals
    d_x = cotangent - np.sum(cotangent * y, axis=axis, keepdims=True)
    d_x *= y
    return d_x


@fused
def log_softmax(x: Array, axis: int = -1) -> Array:
    r"""Logarithm of softmax, ``x_i - log(sum_j exp(x_j))``.

    Bridle 1990, as for `softmax`; written as
    ``(x_i - x_max) - log1p(sum over j != argmax of exp(x_j - x_max))``, which is the same and
    loses nothing when one logit stands far above the others: at ``[37.4, 0]`` the value and the
    gradient are -5.7e-17 and 5.7e-17, where ``log(1 + 5.7e-17)`` would make them 0.

    Parameters
    ----------
    x : ndarray
        Logits, of any shape.
    axis : int
        The axis along which the probabilities sum to one.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`; nan along a row of nothing but ``-inf``.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> np.exp(tl.log_softmax(np.log([1.0, 2.0, 5.0])))
    array([0.125, 0.25 , 0.625])
    """
    if np.size(x) == 0:
        return x
    x = np.moveaxis(x, axis, -1)
    top = np.argmax(np.real(stop_gradient(x)), axis=-1, keepdims=True)
    is_top = np.arange(x.shape[-1]) == top
    # the largest less itself is 0, and so is its gradient: as 1 - 1 it would swallow small ones
    shifted = np.where(is_top, 0, x - np.take_along_axis(x, top, axis=-1))
    others = np.where(is_top, -np.inf, shifted)
    return np.moveaxis(shifted - np.log1p(np.sum(np.exp(others), axis=-1, keepdims=True)), -1, axis)


@log_softmax.program
def kept_log_softmax(x: Array, axis: int) -> Array:
    """Log-probabilities that are kept, and exponentiated on the way back."""
    return _kept_log_softmax(x, axis)


@traceable
def _kept_log_softmax(x: Array, axis: int) -> Array:
    shifted = x - row_maximum(x, axis)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


derivative(_kept_log_softmax)(
    lambda c, y, x, axis: c - np.exp(y) * np.sum(c, axis=axis, keepdims=True)
)


def row_maximum(x: Array, axis: int) -> Any:
    """The row's maximum, as a constant; 0 for a row of nothing but -inf."""
    top = np.max(np.real(stop_gradient(x)), axis=axis, keepdims=True, initial=-np.inf)
    return np.where(np.isneginf(top), 0, top)
