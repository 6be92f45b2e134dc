"""Multi-head attention: several attentions side by side, each in its own projection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinylm.autograd import Array, Nest
from tinylm.nn.initializers import normal
from tinylm.nn.past import Past
from tinylm.ops import attention, linear


def multi_head_attention(
    params: Nest,
    query: Array,
    key: Array,
    value: Array,
    num_heads: int,
    mask: Any = None,
    causal: bool = False,
    turn: Callable[[Array], Array] | None = None,
    past: Past | None = None,
) -> Array:
    r"""Multi-head attention, ``Concat(head_1, ..., head_H) W_O``.

    ``head_i = Attention(query W_Q_i, key W_K_i, value W_V_i)``: Vaswani et al. 2017, section
    3.2.2. The H projections of one kind stand side by side in one matrix: W_Q_i is
    ``W_Q[:, i*D:(i+1)*D]``, with ``D = C / H``.

    Parameters
    ----------
    params : dict
        "W_Q", "W_K", "W_V", "W_O", each of shape (C, C), and optionally "b_Q", "b_K", "b_V",
        "b_O", each of shape (C,).
    query : ndarray, shape (..., T, C)
    key, value : ndarray, shape (..., S, C)
    num_heads : int
        H, a divisor of C.
    mask : ndarray of bool, shape (..., T, S), optional
        True where a query may attend; the same for every head.
    causal : bool
        Position t attends to positions s <= t only.
    turn : callable, optional
        Applied to the queries and keys of every head, shape (..., H, T, D): rotary positions.
    past : Past, optional
        Keys and values of earlier positions, which come before these, and to which these are added.

    Returns
    -------
    ndarray, shape (..., T, C)

    Raises
    ------
    ValueError
        If H does not divide C, or the shapes do not fit.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> params = {W: np.eye(4) for W in ("W_Q", "W_K", "W_V", "W_O")}
    >>> x = np.arange(8.0).reshape(2, 4)
    >>> tl.multi_head_attention(params, x, x, x, num_heads=2, causal=True)[0]
    array([0., 1., 2., 3.])
    """
    for argument, x in (("query", query), ("key", key), ("value", value), ("mask", mask)):
        if x is not None and np.ndim(x) < 2:
            raise ValueError(
                f"multi_head_attention: {argument} has shape {np.shape(x)}: wanted two axes or more"
            )

    def heads(y: Array) -> Array:
        *leading, length, width = y.shape
        if num_heads < 1 or width % num_heads:
            raise ValueError(
                f"multi_head_attention: {num_heads} heads do not divide {width} features evenly"
            )
        y = np.reshape(y, (*leading, length, num_heads, width // num_heads))
        return np.swapaxes(y, -2, -3)

    def project(x: Array, kinds: str) -> list[Array]:
        """One product for projections of the same `x`: their matrices stand side by side."""
        W, b = ([params.get(f"{letter}_{kind}") for kind in kinds] for letter in "Wb")
        y = linear(x, _side_by_side(W), None if b[0] is None else _side_by_side(b))
        return [
            heads(part) for part in ([y] if len(kinds) == 1 else np.split(y, len(kinds), axis=-1))
        ]

    if query is key and key is value:
        Q, K, V = project(query, "QKV")
    else:
        (Q,), (K,), (V,) = project(query, "Q"), project(key, "K"), project(value, "V")
    if turn is not None:
        Q, K = turn(Q), turn(K)
    if past is not None:
        K, V = past.extended(K, V)
        T, S = Q.shape[-2], K.shape[-2]
        if causal and T > 1:
            earlier = np.tri(T, S, S - T, dtype=bool)
            mask = earlier if mask is None else earlier & mask
        causal = False  # which counts both from the start
    if mask is not None:
        mask = np.expand_dims(mask, -3)  # the axis of the heads
    attended = np.swapaxes(attention(Q, K, V, mask, causal), -2, -3)
    *leading, H, D = attended.shape
    return linear(np.reshape(attended, (*leading, H * D)), params["W_O"], params.get("b_O"))


def _side_by_side(matrices: list[Array]) -> Array:
    return matrices[0] if len(matrices) == 1 else np.concatenate(matrices, axis=-1)


def init_multi_head(
    rng: np.random.Generator,
    d_model: int,
    bias: bool = True,
    output_std: float = 0.02,
    dtype: Any = np.float32,
) -> dict[str, Any]:
    """Parameters of `multi_head_attention`: normal weights, zero biases."""
    params = {
        f"W_{kind}": normal(
            rng, d_model, d_model, std=output_std if kind == "O" else 0.02, dtype=dtype
        )
        for kind in "QKVO"
    }
    if bias:
        params |= {f"b_{kind}": np.zeros(d_model, dtype) for kind in "QKVO"}
    return params
