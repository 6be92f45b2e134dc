"""One layer of a Transformer: its sublayers, each with its residual and its norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinylm.autograd import Array, Nest, within
from tinylm.nn.feed_forward import feed_forward, init_feed_forward
from tinylm.nn.multi_head import init_multi_head, multi_head_attention
from tinylm.nn.past import DecoderPast, Past
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
    """One layer of self-attention and feed-forward: of an encoder, or of GPT.

    Vaswani et al. 2017, section 3.1; the norm stands where `sublayers` says. Where there are several,
    each is computed within ``tl.interpret.within(f"blocks.{i}")``, by which its intermediates are
    told from those of the others.

    Parameters
    ----------
    params : dict
        "attention", "norm_1", "feed_forward", "norm_2".
    x : ndarray, shape (..., T, C)
    num_heads : int
    activation : callable
    mask, causal, turn, past
        As in `multi_head_attention`.
    pre_norm, drop, eps
        As in `sublayers`.

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
        with within("attention"):
            return multi_head_attention(
                params["attention"], x, x, x, num_heads, mask, causal, turn, past
            )

    def think(x: Array) -> Array:
        with within("feed_forward"):
            return feed_forward(params["feed_forward"], x, activation)

    return sublayers(params, x, [attend, think], pre_norm, drop, eps)


def decoder_block(
    params: Nest,
    x: Array,
    memory: Array,
    num_heads: int,
    activation: Callable[[Array], Array],
    mask: Any = None,
    memory_mask: Any = None,
    causal: bool = True,
    pre_norm: bool = True,
    drop: Callable[[Array], Array] = lambda x: x,
    past: DecoderPast | None = None,
    eps: float = 1e-5,
) -> Array:
    """One layer of a decoder: self-attention, attention to an encoder's output, feed-forward.

    Vaswani et al. 2017, section 3.1, figure 1 on the right.

    Parameters
    ----------
    params : dict
        "attention", "norm_1", "cross_attention", "norm_2", "feed_forward", "norm_3".
    x : ndarray, shape (..., T, C)
    memory : ndarray, shape (..., S, C)
        The encoder's output: the keys and values of the second attention.
    num_heads : int
    activation : callable
    mask, causal
        As in `multi_head_attention`, of the self-attention.
    memory_mask : ndarray of bool, shape (..., T, S), optional
        True where a position of x may attend to one of the memory.
    pre_norm, drop, eps
        As in `sublayers`.
    past : DecoderPast, optional
        Keys and values of earlier positions, and those of the memory, once they are computed.

    Returns
    -------
    ndarray, shape (..., T, C)

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> from tinylm.nn import decoder_block, init_decoder_block
    >>> params = init_decoder_block(np.random.default_rng(0), d_model=4, d_ff=16)
    >>> x, memory = np.zeros((3, 4)), np.zeros((5, 4))
    >>> decoder_block(params, x, memory, num_heads=2, activation=tl.relu).shape
    (3, 4)
    """

    def attend(x: Array) -> Array:
        with within("attention"):
            return multi_head_attention(
                params["attention"], x, x, x, num_heads, mask, causal, past=past
            )

    def consult(x: Array) -> Array:
        known = None if past is None else past.memory
        new = memory if known is None else memory[..., known.length :, :]
        with within("cross_attention"):
            return multi_head_attention(
                params["cross_attention"], x, new, new, num_heads, memory_mask, past=known
            )

    def think(x: Array) -> Array:
        with within("feed_forward"):
            return feed_forward(params["feed_forward"], x, activation)

    return sublayers(params, x, [attend, consult, think], pre_norm, drop, eps)


def sublayers(
    params: Nest,
    x: Array,
    functions: list[Callable[[Array], Array]],
    pre_norm: bool,
    drop: Callable[[Array], Array],
    eps: float,
) -> Array:
    """What adds to the residual stream, one function after the other, each with a norm.

    Post-norm, ``x = norm(x + f(x))``, is Vaswani et al. 2017, section 3.1; pre-norm,
    ``x = x + f(norm(x))``, is Radford et al. 2019, "Language models are unsupervised multitask
    learners", section 2.3.

    Parameters
    ----------
    params : dict
        "norm_1" for the first function, "norm_2" for the second, and so on.
    x : ndarray, shape (..., T, C)
    functions : list of callable
    pre_norm : bool
    drop : callable
        Applied to what each function adds: dropout.
    eps : float
        Of the norms.

    Returns
    -------
    ndarray, shape (..., T, C)

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm.nn import init_norm, sublayers
    >>> params = {"norm_1": init_norm(2, dtype=float)}
    >>> sublayers(params, np.array([2.0, 4.0]), [np.negative], True, np.abs, eps=0.0)
    array([3., 5.])
    """

    def norm(place: int, x: Array) -> Array:
        with within(f"norm_{place}"):
            return normalize(params[f"norm_{place}"], x, eps)

    for place, function in enumerate(functions, start=1):
        if pre_norm:
            added = drop(function(norm(place, x)))
            x = x + added
        else:
            x = norm(place, x + drop(function(x)))
    return x


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
    output_std: float | None = 0.02,
    dtype: Any = np.float32,
    kv_width: int | None = None,
    gated: bool = False,
    std: float | None = 0.02,
) -> dict[str, Any]:
    """Parameters of `block`; what adds to the residual stream has the deviation `output_std`."""
    attention = init_multi_head(rng, d_model, bias, output_std, dtype, kv_width, std)
    feed_forward = init_feed_forward(rng, d_model, d_ff, bias, output_std, dtype, gated, std)
    return {
        "norm_1": init_norm(d_model, norm, dtype),
        "attention": attention,
        "norm_2": init_norm(d_model, norm, dtype),
        "feed_forward": feed_forward,
    }


def init_decoder_block(
    rng: np.random.Generator,
    d_model: int,
    d_ff: int,
    bias: bool = True,
    norm: str = "layer",
    output_std: float | None = 0.02,
    dtype: Any = np.float32,
    std: float | None = 0.02,
) -> dict[str, Any]:
    """Parameters of `decoder_block`."""
    return {
        **init_block(rng, d_model, d_ff, bias, norm, output_std, dtype, std=std),
        "cross_attention": init_multi_head(rng, d_model, bias, output_std, dtype, std=std),
        "norm_3": init_norm(d_model, norm, dtype),
    }
