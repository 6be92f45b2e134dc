"""The position-wise feed-forward network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinylm.autograd import Array, Nest
from tinylm.nn.initializers import normal
from tinylm.ops import linear


def feed_forward(params: Nest, x: Array, activation: Callable[[Array], Array]) -> Array:
    """Two linear maps with an activation between, ``activation(x W_1 + b_1) W_2 + b_2``.

    Vaswani et al. 2017, eq. (2), where the activation is relu. With a gate,
    ``(activation(x W_1) * x V) W_2``: Shazeer 2020, "GLU variants improve Transformer", eq. (6),
    where silu makes it SwiGLU.

    Parameters
    ----------
    params : dict
        "W_1", shape (C, d_ff), "W_2", shape (d_ff, C), and optionally "b_1" and "b_2"; for a gate
        "V", shape (C, d_ff), and optionally "c".
    x : ndarray, shape (..., C)
    activation : callable

    Returns
    -------
    ndarray, shape (..., C)

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> from tinylm.nn import feed_forward
    >>> feed_forward({"W_1": np.eye(2), "W_2": np.eye(2)}, np.array([-1.0, 2.0]), tl.relu)
    array([0., 2.])
    """
    hidden = activation(linear(x, params["W_1"], params.get("b_1")))
    if "V" in params:
        hidden = hidden * linear(x, params["V"], params.get("c"))
    return linear(hidden, params["W_2"], params.get("b_2"))


def init_feed_forward(
    rng: np.random.Generator,
    d_model: int,
    d_ff: int,
    bias: bool = True,
    output_std: float | None = 0.02,
    dtype: Any = np.float32,
    gated: bool = False,
    std: float | None = 0.02,
) -> dict[str, Any]:
    """Parameters of `feed_forward`: normal weights, zero biases."""
    params = {
        "W_1": normal(rng, d_model, d_ff, std=std, dtype=dtype),
        "W_2": normal(rng, d_ff, d_model, std=output_std, dtype=dtype),
    }
    if gated:
        params["V"] = normal(rng, d_model, d_ff, std=std, dtype=dtype)
    if gated and bias:
        params["c"] = np.zeros(d_ff, dtype)
    if bias:
        params |= {"b_1": np.zeros(d_ff, dtype), "b_2": np.zeros(d_model, dtype)}
    return params
