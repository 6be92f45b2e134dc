"""The Transformer as it was published: an encoder, and a decoder that attends to its output."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.autograd import Array, Nest, name, within
from tinylm.beam import Beams, beam_search
from tinylm.models.options import ACTIVATIONS, check_option, check_options
from tinylm.nn import (
    DecoderPast,
    block,
    decoder_block,
    init_block,
    init_decoder_block,
    init_norm,
    normal,
    normalize,
    sinusoidal_encoding,
)
from tinylm.ops import IGNORED, cross_entropy, dropout, embedding, linear


@dataclass(frozen=True)
class Transformer:
    """A model from one sequence to another.

    Vaswani et al. 2017, "Attention is all you need", section 3 and figure 1; with the defaults,
    the layers of the paper: post-norm, relu, sinusoidal positions, the head tied to the
    embeddings.

    Parameters
    ----------
    vocab_size, context_length, d_model, num_heads, num_encoder_layers, num_decoder_layers : int
        Sizes V of the target, the largest T and S, C, H and the numbers of layers.
    d_ff : int, optional
        Width of the feed-forward networks; 4 * d_model if not given.
    source_vocab_size : int, optional
        Given, the source has embeddings of its own; else it shares those of the target.
    activation : {"relu", "gelu", "gelu_tanh", "silu"}
    norm : {"layer", "rms"}
    pre_norm : bool
    final_norm : bool, optional
        Whether one more norm ends the encoder and the decoder; as `pre_norm` if not given.
        PyTorch's ``nn.Transformer`` always has it.
    bias : bool
        Whether the linear maps have biases.
    dropout : float
        Rate while training, on the embeddings and on what each sublayer adds: section 5.4.
    label_smoothing : float
        Of the loss: section 5.4, where it is 0.1.
    norm_eps : float
        Stands beside the variance in every norm.
    pad_id : int, optional
        The token that fills a batch up: in the source nothing attends to it, and among the
        targets of the loss it does not count.

    Raises
    ------
    ValueError
        If a size or a choice is not possible; the message names it.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> model = tl.Transformer(65, 8, d_model=16, num_heads=2, num_encoder_layers=1,
    ...                        num_decoder_layers=1, pad_id=0)
    >>> params = model.init(np.random.default_rng(0))
    >>> source, target = np.array([[5, 6, 7, 0]]), np.array([[1, 7, 6]])
    >>> model(params, source, target).shape
    (1, 3, 65)
    >>> model.loss(params, (source, target), targets=np.array([[7, 6, 5]])).shape
    ()
    """

    vocab_size: int
    context_length: int
    d_model: int
    num_heads: int
    num_encoder_layers: int
    num_decoder_layers: int
    d_ff: int | None = None
    source_vocab_size: int | None = None
    activation: str = "relu"
    norm: str = "layer"
    pre_norm: bool = False
    final_norm: bool | None = None
    bias: bool = True
    dropout: float = 0.0
    label_smoothing: float = 0.0
    norm_eps: float = 1e-5
    pad_id: int | None = None

    def __post_init__(self) -> None:
        check_options(self)
        fits = self.pad_id is None or 0 <= self.pad_id < self.vocab_size
        check_option(self, "pad_id", fits, "a token of the vocabulary")

    def init(self, rng: np.random.Generator, dtype: Any = np.float32) -> dict[str, Any]:
        """Fresh parameters: normal numbers, biases 0, gains 1.

        The paper does not say how large. Here a map of n features has the standard deviation
        ``n ** -0.5`` (`tinylm.nn.normal`), and embeddings have ``d_model ** -0.5``.
        """
        C, d_ff = self.d_model, self.d_ff or 4 * self.d_model
        params: dict[str, Any] = {}
        for stack, init_layer, num_layers in (
            ("encoder", init_block, self.num_encoder_layers),
            ("decoder", init_decoder_block, self.num_decoder_layers),
        ):
            sizes = {"norm": self.norm, "output_std": None, "std": None, "dtype": dtype}
            layers = [init_layer(rng, C, d_ff, self.bias, **sizes) for _ in range(num_layers)]
            params[stack] = {"blocks": layers}
            if self.pre_norm if self.final_norm is None else self.final_norm:
                params[stack]["norm"] = init_norm(C, self.norm, dtype)
        tables = {"token_embedding": self.vocab_size, "source_embedding": self.source_vocab_size}
        return params | {
            name: normal(rng, V, C, std=C**-0.5, dtype=dtype) for name, V in tables.items() if V
        }

    def no_past(self) -> list[DecoderPast]:
        """For each layer of the decoder an empty past, with room for the context."""
        return [DecoderPast(self.context_length) for _ in range(self.num_decoder_layers)]

    def __call__(
        self,
        params: Nest,
        source_ids: Any,
        target_ids: Any,
        rng: np.random.Generator | None = None,
    ) -> Array:
        """Logits of the next token at every position of the target.

        Parameters
        ----------
        params : dict
        source_ids : ndarray of int, shape (..., S)
        target_ids : ndarray of int, shape (..., T)
        rng : numpy.random.Generator, optional
            Given while training: it draws the dropout.

        Returns
        -------
        ndarray, shape (..., T, V)

        Raises
        ------
        ValueError
            If there are more than `context_length` ids, or one is outside its vocabulary.
        """
        memory = self.encode(params, source_ids, rng)
        return self.decode(params, target_ids, memory, self.source_mask(source_ids), rng)

    def source_mask(self, source_ids: Any) -> Any:
        """Where the source has no padding, shape (..., S); None without a `pad_id`."""
        return None if self.pad_id is None else np.not_equal(source_ids, self.pad_id)

    def encode(
        self, params: Nest, source_ids: Any, rng: np.random.Generator | None = None
    ) -> Array:
        """The encoder's output, to which the decoder attends, shape (..., S, C)."""
        mask = self.source_mask(source_ids)
        table = params.get("source_embedding", params["token_embedding"])
        with within("encoder"):
            x = self._embedded(table, source_ids, rng)
            for i, layer in enumerate(params["encoder"]["blocks"]):
                with within(f"blocks.{i}"):
                    x = block(
                        layer,
                        x,
                        self.num_heads,
                        ACTIVATIONS[self.activation],
                        mask=None if mask is None else mask[..., None, :],
                        pre_norm=self.pre_norm,
                        drop=lambda x: self._dropped(x, rng),
                        eps=self.norm_eps,
                    )
                    x = name(x, "residual")
            return name(self._normalized(params["encoder"], x), "memory")

    def decode(
        self,
        params: Nest,
        target_ids: Any,
        memory: Array,
        source_mask: Any = None,
        rng: np.random.Generator | None = None,
        past: list[DecoderPast] | None = None,
    ) -> Array:
        """Logits of the next token, given the encoder's output.

        Parameters
        ----------
        params : dict
        target_ids : ndarray of int, shape (..., T)
        memory : ndarray, shape (..., S, C)
            Its leading axes broadcast against those of the target.
        source_mask : ndarray of bool, shape (..., S), optional
            As from `source_mask`.
        rng : numpy.random.Generator, optional
        past : list of DecoderPast, optional
            What `no_past` gave and earlier calls with this memory have filled: the ids go on from
            there.

        Returns
        -------
        ndarray, shape (..., T, V)
        """
        start = past[0].length if past else 0
        with within("decoder"):
            x = self._embedded(params["token_embedding"], target_ids, rng, start)
            for i, layer in enumerate(params["decoder"]["blocks"]):
                with within(f"blocks.{i}"):
                    x = decoder_block(
                        layer,
                        x,
                        memory,
                        self.num_heads,
                        ACTIVATIONS[self.activation],
                        memory_mask=None if source_mask is None else source_mask[..., None, :],
                        pre_norm=self.pre_norm,
                        drop=lambda x: self._dropped(x, rng),
                        past=past[i] if past else None,
                        eps=self.norm_eps,
                    )
                    x = name(x, "residual")
            x = self._normalized(params["decoder"], x)
        return name(linear(x, np.swapaxes(params["token_embedding"], 0, 1)), "logits")

    def loss(
        self, params: Nest, ids: Any, targets: Any, rng: np.random.Generator | None = None
    ) -> Array:
        """Mean cross-entropy of the targets, in nats a token, with label smoothing.

        Parameters
        ----------
        params : dict
        ids : tuple of two ndarrays of int, shapes (..., S) and (..., T)
            Of the source and of the target.
        targets : ndarray of int, shape (..., T)
            The next token at each position of the target; `pad_id` and -100 do not count.
        rng : numpy.random.Generator, optional
        """
        source_ids, target_ids = ids
        targets = np.where(self._counted(targets), targets, np.int64(IGNORED))
        logits = self(params, source_ids, target_ids, rng)
        return cross_entropy(logits, targets, label_smoothing=self.label_smoothing)

    def target_weight(self, targets: Any) -> int:
        """How many targets the loss is the mean of."""
        return int(np.count_nonzero(self._counted(targets)))

    def _counted(self, targets: Any) -> Any:
        counted = np.not_equal(targets, IGNORED)
        return counted if self.pad_id is None else counted & np.not_equal(targets, self.pad_id)

    def translate(
        self,
        params: Nest,
        source_ids: Any,
        max_new_tokens: int,
        start: int,
        stop: Any,
        num_beams: int = 1,
        length_penalty: float = 1.0,
    ) -> Beams:
        """Write the likeliest target of each source that a search finds.

        Parameters
        ----------
        params : dict
        source_ids : ndarray of int, shape (..., S)
        max_new_tokens : int
            At most `context_length`.
        start : int
            The token with which every target begins.
        stop : int or list of int
            Tokens that end it.
        num_beams, length_penalty
            As in `beam_search`; with one beam the search is greedy. In Vaswani et al. 2017,
            section 6.1, there are 4.

        Returns
        -------
        Beams
            `ids` of shape (..., num_beams, 1 + max_new_tokens), and their scores.

        Raises
        ------
        ValueError
            If a number is out of its range.
        """
        if max_new_tokens > self.context_length:
            wanted = f"wanted at most {self.context_length}, the context_length"
            raise ValueError(f"Transformer: {max_new_tokens=}: {wanted}")
        memory, mask = self.encode(params, source_ids), self.source_mask(source_ids)
        *leading, S, C = memory.shape
        B = math.prod(leading)
        writer = _Writer(  # with an axis for the beams, which share the memory
            self, memory.reshape(B, 1, S, C), None if mask is None else mask.reshape(B, 1, S)
        )
        prompt = np.full((*leading, 1), start)
        return beam_search(writer, params, prompt, max_new_tokens, num_beams, length_penalty, stop)

    def _embedded(
        self, table: Array, ids: Any, rng: np.random.Generator | None, start: int = 0
    ) -> Array:
        """Scaled embeddings and positions from `start` on: sections 3.4 and 3.5."""
        T = np.shape(ids)[-1] if np.ndim(ids) else 0
        if not 0 < T <= self.context_length - start:
            raise ValueError(
                f"Transformer: ids of shape {np.shape(ids)} after {start} others: wanted (..., T) "
                f"with 1 <= T, and together at most context_length = {self.context_length}"
            )
        x = name(embedding(table, ids), "embedding") * math.sqrt(self.d_model)
        x = x + sinusoidal_encoding(start + T, self.d_model)[start:].astype(x.dtype)
        return name(self._dropped(x, rng), "residual")

    def _dropped(self, x: Array, rng: np.random.Generator | None) -> Array:
        return x if rng is None else dropout(x, self.dropout, rng)

    def _normalized(self, stack: Nest, x: Array) -> Array:
        if "norm" not in stack:
            return x
        with within("norm"):
            return normalize(stack["norm"], x, self.norm_eps)


@dataclass(frozen=True)
class _Writer:
    """A decoder before its memory: a model that goes on with a target, as a GPT does."""

    model: Transformer
    memory: Any
    source_mask: Any

    @property
    def context_length(self) -> int:
        return self.model.context_length

    def no_past(self) -> list[DecoderPast]:
        return self.model.no_past()

    def __call__(self, params: Nest, ids: Any, past: list[DecoderPast] | None = None) -> Array:
        return self.model.decode(params, ids, self.memory, self.source_mask, past=past)
