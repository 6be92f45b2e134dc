"""One layer of a Transformer: attention and feed-forward, each with its residual and its norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinylm.autograd import Array, Nest
from tinylm.nn.feed_forward import feed_forward, init_feed_forward
from tinylm.nn.multi_head import init_multi_head, multi_head_attention
from tinylm.nn.past import Past
from tinylm.ops import layer_norm, rms_norm


def block(
    params: Nest,
    x: Array,
    num_heads: int,
    activation: Callable[[Array], Array],
    mask: Any = None,
    causal: bool = False,
    pre_norm: bool = True,
    turn: Callable[[Array], Array] | None = None,
    drop: Callable[[Array], Array] = lambda x: x,
    past: Past | None = None,
    eps: float = 1e-5,
) -> Array:
    """One layer of self-attention and feed-forward.

    Post-norm, ``x = norm(x + sublayer(x))``, is Vaswani et al. 2017, section 3.1; pre-norm,
    ``x = x + sublayer(norm(x))``, is Radford et al. 2019, "Language models are unsupervised
    multitask learners", section 2.3.

    Parameters
    ----------
    params : dict
        "attention", "norm_1", "feed_forward", "norm_2".
    x : ndarray, shape (..., T, C)
    num_heads : int
    activation : callable
    mask, causal, turn, past
        As in `multi_head_attention`.
    pre_norm : bool
    drop : callable
        Applied to what each sublayer adds: dropout.
    eps : float
        Of the norms.

    Returns
    -------
    ndarray, shape (..., T, C)

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> from tinylm.nn import block, init_block
    >>> params = init_block(np.random.default_rng(0), d_model=4, d_ff=16)
    >>> block(params, np.zeros((3, 4)), num_heads=2, activation=tl.gelu, causal=True).shape
    (3, 4)
    """

    def attend(x: Array) -> Array:
        attended = multi_head_attention(
            params["attention"], x, x, x, num_heads, mask, causal, turn, past
        )
        return drop(attended)

    def think(x: Array) -> Array:
        return drop(feed_forward(params["feed_forward"], x, activation))

    if pre_norm:
        x = x + attend(normalize(params["norm_1"], x, eps))
        return x + think(normalize(params["norm_2"], x, eps))
    x = normalize(params["norm_1"], x + attend(x), eps)
    return normalize(params["norm_2"], x + think(x), eps)


def normalize(params: Nest, x: Array, eps: float = 1e-5) -> Array:
    """Layer norm if there is a gain and a bias among the parameters, rms norm if a gain only."""
    if "bias" in params:
        return layer_norm(x, params["gain"], params["bias"], eps)
    return rms_norm(x, params["gain"], eps)


def init_norm(d_model: int, norm: str = "layer", dtype: Any = np.float32) -> dict[str, Any]:
    """Parameters of `normalize`, for norm "layer" or "rms"."""
    params = {"gain": np.ones(d_model, dtype)}
    return params | {"bias": np.zeros(d_model, dtype)} if norm == "layer" else params


def init_block(
    rng: np.random.Generator,
    d_model: int,
    d_ff: int,
    bias: bool = True,
    norm: str = "layer",
    output_std: float = 0.02,
    dtype: Any = np.float32,
    kv_width: int | None = None,
    gated: bool = False,
) -> dict[str, Any]:
    """Parameters of `block`."""
    return {
        "norm_1": init_norm(d_model, norm, dtype),
        "attention": init_multi_head(rng, d_model, bias, output_std, dtype, kv_width),
        "norm_2": init_norm(d_model, norm, dtype),
        "feed_forward": init_feed_forward(rng, d_model, d_ff, bias, output_std, dtype, gated),
    }
