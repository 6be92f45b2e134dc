"""What a directory holds, ready to be used: a model, its parameters, its tokenizer, its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinylm.autograd import Nest
from tinylm.generation import generate
from tinylm.hub.fields import HubError
from tinylm.hub.generation_config import GenerationConfig
from tinylm.models import BERT
from tinylm.text import Tokenizer


@dataclass(frozen=True)
class Answer:
    """What a model says of some texts.

    Parameters
    ----------
    logits : ndarray
        As the model's own call gives them, with an axis B for the texts in front.
    ids : ndarray of int, shape (B, T)
        What the model was given.
    mask : ndarray of bool, shape (B, T), optional
        True at a real token, False at padding.
    """

    logits: Any
    ids: Any
    mask: Any = None


@dataclass(frozen=True)
class Pretrained:
    """A model that was read from a directory.

    Parameters
    ----------
    model : GPT or BERT
    params : dict
    tokenizer : Tokenizer, optional
        None if the directory has none; a call then takes ids.
    labels : tuple of str
        The names of the classes, for a classification.
    generation : GenerationConfig
        What `generate` does if it is not told.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> from tinylm.hub import Pretrained
    >>> sizes = dict(vocab_size=9, context_length=8, d_model=4, num_heads=2, num_layers=1)
    >>> model = tl.BERT(**sizes, task="sequence-classification")
    >>> classifier = Pretrained(model, model.init(np.random.default_rng(0)), labels=("no", "yes"))
    >>> logits = classifier(np.array([[1, 5, 2]])).logits
    >>> logits.shape, classifier.labels[np.argmax(logits[0])] in ("no", "yes")
    ((1, 2), True)
    """

    model: Any
    params: Nest
    tokenizer: Tokenizer | None = None
    labels: tuple[str, ...] = ()
    generation: GenerationConfig = field(default_factory=GenerationConfig)

    def __call__(self, first: Any, second: Any = None) -> Any:
        """What the model says of one text or several, of pairs of them, or of ids.

        Parameters
        ----------
        first : str, sequence of str, or ndarray of int
            Shorter texts are padded; the answer has an axis for the texts even if it is one. Ids
            are handed to the model as they are.
        second : str or sequence of str, optional
            The second text of each pair, for a BERT.

        Returns
        -------
        Answer or Encoded
            Encoded(hidden, pooled) from a BERT without a head.

        Raises
        ------
        HubError
            If there is no tokenizer for a text, or what is given is neither text nor ids.
        ValueError
            If the model cannot take it: what is too long is not cut.
        """
        inputs = self.encode(first, second)
        if isinstance(self.model, BERT):
            output = self.model(self.params, **inputs)
        else:  # it looks back only: what fills up a text stands behind it, and changes nothing
            output = self.model(self.params, inputs["ids"])
        if getattr(self.model, "task", "") is None:
            return output
        return Answer(output, inputs["ids"], inputs.get("mask"))

    def encode(self, first: Any, second: Any = None) -> dict[str, Any]:
        """The arguments of a BERT's call that some texts make: "ids", "segments", "mask".

        Parameters and errors as for a call; a GPT is given the ids alone.
        """
        if not _is_text(first):
            ids = np.asarray(first)
            if ids.dtype.kind not in "iu" or second is not None:
                raise HubError(
                    f"{type(self.model).__name__}: {ids.dtype} of shape {ids.shape}"
                    f"{' and a second text' if second is not None else ''}: "
                    "wanted a text, texts, pairs of texts, or integers"
                )
            return {"ids": ids}
        firsts = [first] if isinstance(first, str) else list(first)
        seconds = [second] * len(firsts) if second is None or isinstance(second, str) else second
        if len(seconds) != len(firsts):
            raise HubError(f"{len(firsts)} texts and {len(seconds)} second texts: wanted pairs")
        rows = [self._row(a, b) for a, b in zip(firsts, seconds, strict=True)]
        shape = len(rows), max(len(ids) for ids, _ in rows)
        inputs = {
            "ids": np.full(shape, getattr(self.model, "pad_id", 0)),
            "segments": np.zeros(shape, int),
            "mask": np.zeros(shape, bool),
        }
        for i, (ids, segments) in enumerate(rows):
            inputs["ids"][i, : len(ids)] = ids
            inputs["segments"][i, : len(ids)] = segments
            inputs["mask"][i, : len(ids)] = True
        return inputs

    def _row(self, first: str, second: str | None) -> tuple[Any, Any]:
        """The ids and segments of a text or a pair."""
        if self.tokenizer is None:
            raise HubError("the directory has no tokenizer: wanted ids")
        if hasattr(self.tokenizer, "encode_pair"):
            ids, segments = self.tokenizer.encode_pair(first, second)
            return ids, segments
        if second is not None:
            raise HubError(f"a pair of texts, for a {type(self.tokenizer).__name__}: wanted one")
        return self.tokenizer.encode(first), 0

    def generate(
        self,
        prompt: Any,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        rng: np.random.Generator | None = None,
    ) -> Any:
        """Continue a text or ids, up to a token that ends it.

        Parameters
        ----------
        prompt : str, or ndarray of int, shape (T,)
        max_new_tokens, temperature, top_k, top_p, rng
            As for `tinylm.generate`. What is not given is as generation_config.json says; if that
            says nothing, the likeliest token, and 20 of them.

        Returns
        -------
        str, or ndarray of int
            The prompt and what follows; as ids with the token that ends it, as text without.
        """
        if isinstance(prompt, str) and self.tokenizer is None:
            raise HubError("the directory has no tokenizer: wanted ids")
        ids = self._row(prompt, None)[0] if isinstance(prompt, str) else np.asarray(prompt)
        if isinstance(self.model, BERT) or ids.ndim != 1:
            raise HubError(
                f"generate: {type(self.model).__name__} and ids of shape {ids.shape}: "
                "wanted a GPT and one prompt"
            )
        config = self.generation
        if max_new_tokens is None:
            max_new_tokens = config.room(len(ids))
        if temperature is None:
            temperature = config.temperature if config.do_sample else 0.0
        continued = generate(
            self.model,
            self.params,
            ids,
            max_new_tokens,
            temperature,
            config.top_k if top_k is None else top_k,
            config.top_p if top_p is None else top_p,
            rng,
            stop=config.eos or None,
        )
        ends = len(ids) + np.flatnonzero(np.isin(continued[len(ids) :], config.eos))
        if isinstance(prompt, str) and self.tokenizer is not None:
            return self.tokenizer.decode(continued[: ends[0]] if len(ends) else continued)
        return continued[: ends[0] + 1] if len(ends) else continued


def _is_text(first: Any) -> bool:
    if isinstance(first, str):
        return True
    return isinstance(first, Sequence) and len(first) > 0 and all(isinstance(t, str) for t in first)
