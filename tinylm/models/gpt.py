"""GPT: a Transformer decoder that predicts the next token."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.autograd import Array, Nest, name, recompute, within
from tinylm.models.options import ACTIVATIONS, check_option, check_options
from tinylm.nn import (
    Past,
    block,
    init_block,
    init_norm,
    normal,
    normalize,
    rotary,
    sinusoidal_encoding,
)
from tinylm.ops import cross_entropy, dropout, embedding, linear


@dataclass(frozen=True)
class GPT:
    """A causal language model.

    Radford et al. 2018, "Improving language understanding by generative pre-training", eq. (2);
    with the defaults, the layer of Radford et al. 2019 (GPT-2): pre-norm, learned positions, gelu
    by tanh, the head tied to the token embedding. With rotary positions, norm "rms", activation
    "silu", `gated` and no biases it is the layer of Touvron et al. 2023, "LLaMA: Open and
    efficient foundation language models", section 2.2.

    Parameters
    ----------
    vocab_size, context_length, d_model, num_heads, num_layers : int
        Sizes V, the largest T, C, H and the number of layers.
    d_ff : int, optional
        Width of the feed-forward networks; 4 * d_model if not given.
    positions : {"learned", "sinusoidal", "rotary", "none"}
        With "sinusoidal" the token embeddings are multiplied by sqrt(d_model), as in Vaswani et
        al. 2017, section 3.4.
    activation : {"gelu_tanh", "gelu", "relu", "silu"}
    norm : {"layer", "rms"}
    pre_norm : bool
    tied : bool
        Whether the head is the transposed token embedding.
    bias : bool
        Whether the linear maps have biases.
    dropout : float
        Rate while training, on the embeddings and on what each sublayer adds.
    recompute : bool
        Whether a layer's activations are computed again on the way back instead of kept.
    norm_eps : float
        Stands beside the variance in every norm.
    num_kv_heads : int, optional
        Heads of keys and values, a divisor of num_heads, for grouped-query attention; num_heads if
        not given.
    gated : bool
        Whether the feed-forward networks have a gate; with "silu" they are SwiGLU.

    Raises
    ------
    ValueError
        If a size or a choice is not possible; the message names it.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> model = tl.GPT(vocab_size=65, context_length=8, d_model=16, num_heads=2, num_layers=1)
    >>> params = model.init(np.random.default_rng(0))
    >>> ids = np.array([[1, 2, 3]])
    >>> model(params, ids).shape
    (1, 3, 65)
    >>> round(float(model.loss(params, ids, targets=np.array([[2, 3, 4]]))), 1)  # log(65) = 4.2
    4.2
    """

    vocab_size: int
    context_length: int
    d_model: int
    num_heads: int
    num_layers: int
    d_ff: int | None = None
    positions: str = "learned"
    activation: str = "gelu_tanh"
    norm: str = "layer"
    pre_norm: bool = True
    tied: bool = True
    bias: bool = True
    dropout: float = 0.0
    recompute: bool = False
    norm_eps: float = 1e-5
    num_kv_heads: int | None = None
    gated: bool = False

    def __post_init__(self) -> None:
        check_options(self)
        fits = self.num_kv_heads is None or (
            self.num_kv_heads >= 1 and self.num_heads % self.num_kv_heads == 0
        )
        check_option(self, "num_kv_heads", fits, f"a divisor of num_heads={self.num_heads}")
        if self.positions == "rotary":
            even = self.d_model // self.num_heads % 2 == 0
            check_option(self, "d_model", even, "an even d_model / num_heads, for rotary")

    def init(self, rng: np.random.Generator, dtype: Any = np.float32) -> dict[str, Any]:
        """Fresh parameters: normal with standard deviation 0.02, biases 0, gains 1.

        What adds to the residual stream starts smaller by sqrt(2 * num_layers): Radford et al.
        2019, section 2.3.
        """
        V, C = self.vocab_size, self.d_model
        output_std = 0.02 / math.sqrt(2 * max(self.num_layers, 1))
        d_ff, kv_heads = self.d_ff or 4 * C, self.num_kv_heads or self.num_heads
        kv_width = C // self.num_heads * kv_heads
        params: dict[str, Any] = {"token_embedding": normal(rng, V, C, dtype=dtype)}
        if self.positions == "learned":
            params["position_embedding"] = normal(rng, self.context_length, C, dtype=dtype)
        params["blocks"] = [
            init_block(rng, C, d_ff, self.bias, self.norm, output_std, dtype, kv_width, self.gated)
            for _ in range(self.num_layers)
        ]
        if self.pre_norm:
            params["norm"] = init_norm(C, self.norm, dtype)
        if not self.tied:
            params["head"] = normal(rng, C, V, dtype=dtype)
        return params

    def no_past(self) -> list[Past]:
        """For each layer an empty past, with room for the context."""
        return [Past(self.context_length) for _ in range(self.num_layers)]

    def __call__(
        self,
        params: Nest,
        ids: Any,
        rng: np.random.Generator | None = None,
        past: list[Past] | None = None,
    ) -> Array:
        """Logits of the next token at every position.

        Parameters
        ----------
        params : dict
        ids : ndarray of int, shape (..., T)
        rng : numpy.random.Generator, optional
            Given while training: it draws the dropout.
        past : list of Past, optional
            What `no_past` gave and earlier calls have filled: the ids go on from there.

        Returns
        -------
        ndarray, shape (..., T, V)

        Raises
        ------
        ValueError
            If there are more than `context_length` ids, or one is outside [0, V).
        """
        T = np.shape(ids)[-1] if np.ndim(ids) else 0
        start = past[0].length if past else 0
        if not 0 < T <= self.context_length - start:
            raise ValueError(
                f"GPT: ids has shape {np.shape(ids)}: wanted (..., T) with "
                f"1 <= T <= context_length = {self.context_length}"
                f"{f', {start} of which are past' if start else ''}"
            )

        x = name(embedding(params["token_embedding"], ids), "embedding")
        if self.positions == "learned":
            x = x + params["position_embedding"][start : start + T]
        elif self.positions == "sinusoidal":
            encoding = sinusoidal_encoding(start + T, self.d_model)[start:].astype(x.dtype)
            x = x * math.sqrt(self.d_model) + encoding
        x = name(x if rng is None else dropout(x, self.dropout, rng), "residual")
        for i, layer in enumerate(params["blocks"]):
            seed = None if rng is None else int(rng.integers(2**63))
            run = functools.partial(self._layer, seed=seed, past=past[i] if past else None)
            with within(f"blocks.{i}"):
                x = name((recompute(run) if self.recompute else run)(layer, x), "residual")
        if self.pre_norm:
            with within("norm"):
                x = normalize(params["norm"], x, self.norm_eps)
        head = np.swapaxes(params["token_embedding"], 0, 1) if self.tied else params["head"]
        return name(linear(x, head), "logits")

    def _layer(self, params: Nest, x: Array, seed: int | None, past: Past | None) -> Array:
        start = past.length if past else 0
        turn = functools.partial(rotary, positions=np.arange(start, start + x.shape[-2]))
        rng = None if seed is None else np.random.default_rng(seed)
        return block(
            params,
            x,
            self.num_heads,
            ACTIVATIONS[self.activation],
            causal=True,
            pre_norm=self.pre_norm,
            turn=turn if self.positions == "rotary" else None,
            drop=lambda x: x if rng is None else dropout(x, self.dropout, rng),
            past=past,
            eps=self.norm_eps,
        )

    def loss(
        self, params: Nest, ids: Any, targets: Any, rng: np.random.Generator | None = None
    ) -> Array:
        """Mean cross-entropy of the targets, in nats a token; those of -100 do not count."""
        return cross_entropy(self(params, ids, rng), targets)
