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
    if W.ndim != 2:
        raise ValueError(f"linear: W has shape {W.shape}: wanted (in, out)")
    if x.ndim < 1 or x.shape[-1] != W.shape[0]:
        raise ValueError(
            f"linear: x has shape {x.shape}, and W has {W.shape}: wanted (..., {W.shape[0]}) for x"
        )
    if b is not None and b.shape != W.shape[1:]:
        raise ValueError(
            f"linear: b has shape {b.shape}, and W has {W.shape}: wanted {W.shape[1:]}"
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
    d_b = np.matmul(np.ones(len(d_y), d_y.dtype), d_y) if biased else None
    return d_x, np.matmul(rows.T, d_y), d_b
