"""BERT in pre-training: both tasks of the paper, on one run of one encoder."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tinylm.autograd import Array, Nest
from tinylm.models.bert import BERT
from tinylm.models.options import check_option
from tinylm.nn import normal
from tinylm.ops import IGNORED, cross_entropy, linear


class BERTPretraining:
    """Hidden tokens, and whether one text follows another.

    Devlin et al. 2019, "BERT", section 3.1 and appendix A.2: the loss is the sum of the mean
    cross-entropies of both tasks; the second reads the pooled text. `transfer` takes the encoder
    from these parameters into a BERT for another task.

    Parameters
    ----------
    model : BERT
        With task "masked-lm".

    Raises
    ------
    ValueError
        If the model has another task.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> model = tl.models.BERTPretraining(tl.BERT(50, 8, 16, 2, 1, task="masked-lm"))
    >>> params = model.init(np.random.default_rng(0))
    >>> targets = {"tokens": np.array([[-100, 7, -100]]), "follows": np.array([1])}
    >>> loss = model.loss(params, {"ids": np.array([[2, 4, 3]])}, targets)
    >>> bool(abs(loss - np.log(50) - np.log(2)) < 0.2)  # it knows nothing yet
    True
    """

    def __init__(self, model: BERT) -> None:
        check_option(model, "task", model.task == "masked-lm", "masked-lm, for pre-training")
        self.model, self.encoder = model, dataclasses.replace(model, task=None)
        self.dropout = model.dropout

    def init(self, rng: np.random.Generator, dtype: Any = np.float32) -> dict[str, Any]:
        """Fresh parameters: those of the encoder, "head" for tokens and "follows" for texts."""
        W = normal(rng, self.model.d_model, 2, dtype=dtype)
        follows = {"W": W, "b": np.zeros(2, dtype)}
        head = self.model.init(rng, dtype)["head"]
        return self.encoder.init(rng, dtype) | {"head": head, "follows": follows}

    def loss(
        self, params: Nest, ids: Any, targets: Any, rng: np.random.Generator | None = None
    ) -> Array:
        """The sum of both mean cross-entropies, in nats.

        Parameters
        ----------
        params : dict
        ids : dict
            The arguments of BERT, as `sentence_pairs` gives them.
        targets : dict
            "tokens", ndarray of int, shape (B, T), -100 where they do not count; "follows",
            shape (B,).
        rng : numpy.random.Generator, optional
            Given while training: it draws the dropout.
        """
        hidden, pooled = self.encoder(params, **ids, rng=rng)
        counted = targets["tokens"] != IGNORED
        head = self.model._head  # noqa: SLF001  # the same head, as its own loss has it
        logits = head(params, hidden[counted], lambda x: x)
        follows = linear(pooled, params["follows"]["W"], params["follows"]["b"])
        return cross_entropy(logits, targets["tokens"][counted]) + cross_entropy(
            follows, targets["follows"]
        )

    def target_weight(self, targets: Any) -> int:
        """How many pairs there are: in shards, the hidden tokens of each count with its pairs."""
        return len(targets["follows"])
