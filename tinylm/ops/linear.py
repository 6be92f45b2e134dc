"""The linear map."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinylm.autograd import Array, fused


@fused
def linear(x: Array, W: Array, b: Array | None = None) -> Array:
    r"""Linear map of the last axis, ``x W + b``.

    Rows are the vectors, as Vaswani et al. 2017 write them (section 3.2.2), so that W has the
    shape (in, out).

    Parameters
    ----------
    x : ndarray, shape (..., in)
    W : ndarray, shape (in, out)
    b : ndarray, shape (out,), optional

    Returns
    -------
    ndarray, shape (..., out)

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> tl.linear(np.array([1.0, 2.0]), W=np.array([[3.0], [4.0]]), b=np.array([5.0]))
    array([16.])
    """
    y = x @ W
    return y if b is None else y + b


@linear.check
def _(x: Array, W: Array, b: Array | None) -> None:
    if np.ndim(W) != 2:
        raise ValueError(f"linear: W has shape {np.shape(W)}: wanted (in, out)")
    if np.ndim(x) < 1 or np.shape(x)[-1] != np.shape(W)[0]:
        raise ValueError(
            f"linear: x has shape {np.shape(x)}, and W has {np.shape(W)}: "
            f"wanted (..., {np.shape(W)[0]}) for x"
        )
    if b is not None and np.shape(b) != np.shape(W)[1:]:
        raise ValueError(
            f"linear: b has shape {np.shape(b)}, and W has {np.shape(W)}: wanted {np.shape(W)[1:]}"
        )


@linear.kernel
def _(x: Any, W: Any, b: Any) -> tuple[Any, Any]:
    rows = x.reshape(math.prod(x.shape[:-1]), W.shape[0])
    y = np.matmul(rows, W)  # one product over all leading axes
    if b is not None:
        y = np.add(y, b, out=y if y.dtype == np.result_type(y, b) else None)
    return y.reshape(*x.shape[:-1], W.shape[1]), (rows, W, x.shape, b is not None)


@linear.vjp
def _(residuals: Any, cotangent: Any) -> tuple[Any, Any, Any]:
    rows, W, shape, biased = residuals
    d_y = cotangent.reshape(rows.shape[0], W.shape[1])
    d_x = np.matmul(d_y, W.T).reshape(shape)
    return d_x, np.matmul(rows.T, d_y), np.sum(d_y, axis=0) if biased else None
