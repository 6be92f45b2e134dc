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

    Where W_K and W_V hold fewer projections than W_Q, each of theirs serves as many neighbouring
    heads as there are for it: grouped-query attention, Ainslie et al. 2023, "GQA: Training
    generalized multi-query transformer models from multi-head checkpoints", section 2.2.

    Parameters
    ----------
    params : dict
        "W_Q", "W_K", "W_V", "W_O", each of shape (C, C), and optionally "b_Q", "b_K", "b_V",
        "b_O", each of shape (C,). In grouped-query attention W_K and W_V have the shape (C, G D),
        with G a divisor of H, and b_K and b_V (G D,).
    query : ndarray, shape (..., T, C)
    key, value : ndarray, shape (..., S, C)
    num_heads : int
        H, a divisor of C.
    mask : ndarray of bool, shape (..., T, S), optional
        True where a query may attend; the same for every head.
    causal : bool
        Position t attends to positions s <= t only.
    turn : callable, optional
        Applied to the queries and keys of every head, shape (..., H or G, T, D): rotary positions.
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

    head_dim = np.shape(params["W_Q"])[-1] // num_heads if num_heads > 0 else 0

    def heads(y: Array) -> Array:
        *leading, length, width = y.shape
        if not 1 <= head_dim <= width or width % head_dim or num_heads % (width // head_dim):
            raise ValueError(
                f"multi_head_attention: {num_heads} heads do not divide {width} features evenly"
            )
        y = np.reshape(y, (*leading, length, width // head_dim, head_dim))
        return np.swapaxes(y, -2, -3)

    def project(x: Array, kinds: str) -> list[Array]:
        """One product for projections of the same `x`: their matrices stand side by side.

        A single position is faster without, as putting them there costs more than the product.
        """
        W, b = ([params.get(f"{letter}_{kind}") for kind in kinds] for letter in "Wb")
        if x.shape[-2] == 1 or len(kinds) == 1:
            return [heads(linear(x, *its)) for its in zip(W, b, strict=True)]
        y = linear(x, np.concatenate(W, -1), None if b[0] is None else np.concatenate(b, -1))
        ends = np.cumsum([matrix.shape[-1] for matrix in W])
        return [heads(part) for part in np.split(y, ends[:-1], axis=-1)]

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
    if K.shape[-3] < num_heads:
        K, V = (np.repeat(x, num_heads // x.shape[-3], axis=-3) for x in (K, V))
    attended = np.swapaxes(attention(Q, K, V, mask, causal), -2, -3)
    *leading, H, D = attended.shape
    return linear(np.reshape(attended, (*leading, H * D)), params["W_O"], params.get("b_O"))


def init_multi_head(
    rng: np.random.Generator,
    d_model: int,
    bias: bool = True,
    output_std: float | None = 0.02,
    dtype: Any = np.float32,
    kv_width: int | None = None,
    std: float | None = 0.02,
) -> dict[str, Any]:
    """Parameters of `multi_head_attention`: normal weights, zero biases.

    `kv_width` is the width of W_K and W_V where it is less than `d_model`.
    """
    params = {}
    for kind in "QKVO":
        width = (kv_width or d_model) if kind in "KV" else d_model
        its = output_std if kind == "O" else std
        params[f"W_{kind}"] = normal(rng, d_model, width, std=its, dtype=dtype)
        if bias:
            params[f"b_{kind}"] = np.zeros(width, dtype)
    return params
