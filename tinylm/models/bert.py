"""BERT: a Transformer encoder that reads a text from both sides, and what is built on it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tinylm.autograd import Array, Nest, name, within
from tinylm.models.options import ACTIVATIONS, check_option, check_options
from tinylm.nn import block, init_block, init_norm, normal, normalize
from tinylm.ops import IGNORED, cross_entropy, dropout, embedding, linear

TASKS = (
    None,
    "masked-lm",
    "sequence-classification",
    "token-classification",
    "question-answering",
)


class Encoded(NamedTuple):
    """What the encoder makes of a text.

    Parameters
    ----------
    hidden : ndarray, shape (..., T, C)
        Of each token.
    pooled : ndarray, shape (..., C)
        Of the whole text.
    """

    hidden: Any
    pooled: Any


@dataclass(frozen=True)
class BERT:
    """A bidirectional encoder with a head for one task.

    Devlin et al. 2019, "BERT: Pre-training of deep bidirectional Transformers for language
    understanding": the encoder of Vaswani et al. 2017, post-norm, on the sum of the embeddings of
    token, position and segment (section 3, figure 2), and one more layer for the task (section 4,
    figure 4).

    Parameters
    ----------
    vocab_size, context_length, d_model, num_heads, num_layers : int
        Sizes V, the largest T, C, H and the number of layers.
    d_ff : int, optional
        Width of the feed-forward networks; 4 * d_model if not given.
    num_segments : int
        A pair of texts has two.
    activation : {"gelu_tanh", "gelu", "relu", "silu"}
    dropout : float
        Rate while training, on the embeddings, on what each sublayer adds, and on what a classifier
        reads.
    norm_eps : float
        Stands beside the variance in every norm.
    pad_id : int
        The token that fills up shorter texts of a batch. The mask says where it stands, not the id.
    task : {None, "masked-lm", "sequence-classification", "token-classification", \
"question-answering"}
        None for the encoder alone.
    num_labels : int
        Of the two classifications.
    class_weights : sequence of float, optional
        How much each label counts in the loss of a classification: `balanced_weights` makes all
        count alike that are not equally frequent.

    Raises
    ------
    ValueError
        If a size or a choice is not possible; the message names it.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> sizes = dict(vocab_size=50, context_length=8, d_model=16, num_heads=2, num_layers=1)
    >>> model = tl.BERT(**sizes, task="sequence-classification", num_labels=3)
    >>> params = model.init(np.random.default_rng(0))
    >>> ids = np.array([[1, 7, 9, 2], [1, 8, 2, 0]])
    >>> model(params, ids, mask=ids != model.pad_id).shape
    (2, 3)
    >>> batch = {"ids": ids, "mask": ids != model.pad_id}
    >>> round(float(model.loss(params, batch, targets=[2, 0])), 1)  # log(3) = 1.1
    1.1
    """

    vocab_size: int
    context_length: int
    d_model: int
    num_heads: int
    num_layers: int
    d_ff: int | None = None
    num_segments: int = 2
    activation: str = "gelu"
    dropout: float = 0.1
    norm_eps: float = 1e-12
    pad_id: int = 0
    task: str | None = None
    num_labels: int = 2
    class_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_options(self)
        check_option(
            self, "pad_id", 0 <= self.pad_id < self.vocab_size, "a token of the vocabulary"
        )
        check_option(self, "task", self.task in TASKS, " or ".join(map(str, TASKS)))
        if self.class_weights is not None:
            weights = tuple(map(float, self.class_weights))
            object.__setattr__(self, "class_weights", weights)
            fits = len(weights) == self.num_labels and all(0 <= w < math.inf for w in weights)
            wanted = f"num_labels={self.num_labels} numbers, none below 0, for a classification"
            fits = fits and str(self.task).endswith("classification")
            check_option(self, "class_weights", fits, wanted)

    def init(self, rng: np.random.Generator, dtype: Any = np.float32) -> dict[str, Any]:
        """Fresh parameters: normal with standard deviation 0.02, biases 0, gains 1."""
        C = self.d_model
        params: dict[str, Any] = {
            "token_embedding": normal(rng, self.vocab_size, C, dtype=dtype),
            "position_embedding": normal(rng, self.context_length, C, dtype=dtype),
            "segment_embedding": normal(rng, self.num_segments, C, dtype=dtype),
            "embedding_norm": init_norm(C, dtype=dtype),
            "blocks": [
                init_block(rng, C, self.d_ff or 4 * C, dtype=dtype) for _ in range(self.num_layers)
            ],
        }

        def affine(width: int) -> dict[str, Any]:
            return {"W": normal(rng, C, width, dtype=dtype), "b": np.zeros(width, dtype)}

        if self.task in (None, "sequence-classification"):
            params["pooler"] = affine(C)
        if self.task == "masked-lm":
            norm, bias = init_norm(C, dtype=dtype), np.zeros(self.vocab_size, dtype)
            params["head"] = affine(C) | {"norm": norm, "bias": bias}
        elif self.task is not None:
            params["head"] = affine(2 if self.task == "question-answering" else self.num_labels)
        return params

    def __call__(
        self,
        params: Nest,
        ids: Any,
        segments: Any = None,
        mask: Any = None,
        rng: np.random.Generator | None = None,
    ) -> Any:
        """What the task asks for: logits, or the encoded text if there is no task.

        Parameters
        ----------
        params : dict
        ids : ndarray of int, shape (..., T)
        segments : ndarray of int, shape (..., T), optional
            The segment of each token; 0 everywhere if not given.
        mask : ndarray of bool, shape (..., T), optional
            True at a real token, False at padding, which no token attends to. Without one every
            token is real, `pad_id` as well.
        rng : numpy.random.Generator, optional
            Given while training: it draws the dropout.

        Returns
        -------
        ndarray or Encoded
            For no task Encoded(hidden, pooled), (..., T, C) and (..., C); "masked-lm"
            (..., T, V); "sequence-classification" (..., num_labels); "token-classification"
            (..., T, num_labels); "question-answering" (..., T, 2), for start and end.

        Raises
        ------
        TypeError
            If the mask is not boolean.
        ValueError
            If there are more than `context_length` ids, one is outside [0, V), or segments or mask
            have another shape.
        """
        drop = self._dropping(rng)
        hidden = self._encode(params, drop, ids, segments, mask)
        if self.task is None:
            return Encoded(hidden, self._pool(params, hidden))
        return self._head(params, hidden, drop)

    def embed(self, params: Nest, ids: Any, segments: Any = None, mask: Any = None) -> Array:
        """A vector of length 1 for each text: the mean of what its real tokens have become.

        Reimers and Gurevych 2019, "Sentence-BERT", section 3, the strategy MEAN. The product of
        two such vectors is the cosine of their angle. Parameters and errors as for a call.

        Returns
        -------
        ndarray, shape (..., C)

        Examples
        --------
        >>> import numpy as np, tinylm as tl
        >>> model = tl.BERT(vocab_size=9, context_length=8, d_model=4, num_heads=1, num_layers=1)
        >>> params = model.init(np.random.default_rng(0), np.float64)
        >>> vector = model.embed(params, [1, 5, 3])
        >>> round(float(vector @ vector), 12)
        1.0
        """
        hidden = self._encode(params, self._dropping(None), ids, segments, mask)
        if mask is not None:
            if not np.any(mask, axis=-1).all():
                raise ValueError("BERT: mask leaves a text without a token, and no mean of them")
            hidden = np.where(np.asarray(mask)[..., None], hidden, 0)
        total = np.sum(hidden, axis=-2)  # in the direction of the mean
        return total / np.linalg.norm(total, axis=-1, keepdims=True)

    def loss(
        self, params: Nest, ids: Any, targets: Any, rng: np.random.Generator | None = None
    ) -> Array:
        """Mean cross-entropy of the targets, in nats; those of -100 do not count.

        Parameters
        ----------
        params : dict
        ids : ndarray of int, shape (..., T), or dict
            A dict has the arguments of a call: "ids", and perhaps "segments" and "mask".
        targets : ndarray of int
            For "masked-lm" and "token-classification" (..., T); for "sequence-classification"
            (...); for "question-answering" (..., 2): the positions of the first and last token of
            the answer.
        rng : numpy.random.Generator, optional
            As for a call.

        Returns
        -------
        ndarray, shape ()

        Raises
        ------
        ValueError
            If there is no task, or the targets do not fit.
        """
        check_option(self, "task", self.task is not None, "a task, for a loss")
        drop, targets = self._dropping(rng), np.asarray(targets)
        inputs = ids if isinstance(ids, dict) else {"ids": ids}
        hidden = self._encode(params, drop, **inputs)
        if self.task == "masked-lm":  # logits where they count: few of T, and V is large
            if targets.shape != hidden.shape[:-1]:
                raise ValueError(
                    f"BERT: targets has shape {targets.shape}: wanted that of ids, "
                    f"{hidden.shape[:-1]}"
                )
            counted = targets != IGNORED
            hidden, targets = hidden[counted], targets[counted]
        logits = self._head(params, hidden, drop)
        if self.task == "question-answering":
            logits = np.swapaxes(logits, -1, -2)  # the classes are the T positions
        return cross_entropy(logits, targets, weights=self.class_weights)

    def target_weight(self, targets: Any) -> float:
        """What the mean of the loss divides by: the number of its targets, or their weights' sum."""
        counted = targets[targets != IGNORED]
        if self.class_weights is None:
            return int(counted.size)
        return float(np.sum(np.take(self.class_weights, counted)))

    def _dropping(self, rng: np.random.Generator | None) -> Callable[[Array], Array]:
        return lambda x: x if rng is None else dropout(x, self.dropout, rng)

    def _encode(
        self,
        params: Nest,
        drop: Callable[[Array], Array],
        ids: Any,
        segments: Any = None,
        mask: Any = None,
    ) -> Array:
        T = np.shape(ids)[-1] if np.ndim(ids) else 0
        if not 0 < T <= self.context_length:
            raise ValueError(
                f"BERT: ids has shape {np.shape(ids)}: wanted (..., T) with "
                f"1 <= T <= context_length = {self.context_length}"
            )
        for argument, given in (("segments", segments), ("mask", mask)):
            if given is not None and np.shape(given) != np.shape(ids):
                raise ValueError(
                    f"BERT: {argument} has shape {np.shape(given)}: wanted that of ids, "
                    f"{np.shape(ids)}"
                )
        if mask is not None:
            mask = np.asarray(mask)
            if mask.dtype != bool:
                raise TypeError(f"BERT: mask holds {mask.dtype}: wanted bool, True = real token")
            mask = mask[..., None, :]  # for every query the same keys

        x = name(embedding(params["token_embedding"], ids), "embedding")
        x = x + params["position_embedding"][:T]
        segments = np.zeros(np.shape(ids), int) if segments is None else segments
        x = x + embedding(params["segment_embedding"], segments)
        with within("embedding_norm"):
            x = normalize(params["embedding_norm"], x, self.norm_eps)
        x = name(drop(x), "residual")
        layer = functools.partial(
            block,
            num_heads=self.num_heads,
            activation=ACTIVATIONS[self.activation],
            mask=mask,
            pre_norm=False,
            drop=drop,
            eps=self.norm_eps,
        )
        for i, layer_params in enumerate(params["blocks"]):
            with within(f"blocks.{i}"):
                x = name(layer(layer_params, x), "residual")
        return x

    def _pool(self, params: Nest, hidden: Array) -> Array:
        """What has become of the first token, [CLS], which stands for the whole text."""
        pooler = params["pooler"]
        return np.tanh(linear(hidden[..., 0, :], pooler["W"], pooler["b"]))

    def _head(self, params: Nest, hidden: Array, drop: Callable[[Array], Array]) -> Array:
        head = params["head"]
        if self.task == "masked-lm":
            with within("head"):
                hidden = ACTIVATIONS[self.activation](linear(hidden, head["W"], head["b"]))
                hidden = normalize(head["norm"], hidden, self.norm_eps)
            tied = np.swapaxes(params["token_embedding"], 0, 1)
            return name(linear(hidden, tied, head["bias"]), "logits")
        if self.task == "sequence-classification":
            hidden = self._pool(params, hidden)
        if self.task != "question-answering":
            hidden = drop(hidden)
        return name(linear(hidden, head["W"], head["b"]), "logits")
