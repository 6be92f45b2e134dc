"""Generation: tokens drawn one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinylm.autograd import Nest
from tinylm.nn import Reader, as_prompt, as_stops
from tinylm.ops import softmax


def generate(
    model: Any,
    params: Nest,
    prompt_ids: Any,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    rng: np.random.Generator | None = None,
    stop: Any = None,
) -> Any:
    """Continue a prompt.

    Parameters
    ----------
    model : GPT
        Or any other that `tinylm.nn.Reader` takes.
    params : nest
    prompt_ids : ndarray of int, shape (..., T)
        At least one token; the model sees the last `context_length` of them.
    max_new_tokens : int
    temperature : float
        Divides the logits; 0 takes the likeliest token.
    top_k : int, optional
        Draw among the k likeliest tokens only: Fan et al. 2018, "Hierarchical neural story
        generation", section 5.
    top_p : float, optional
        Draw among the fewest likeliest tokens that have together at least this probability:
        Holtzman et al. 2020, "The curious case of neural text degeneration", section 3.1. With
        `top_k`, their probability among those k.
    rng : numpy.random.Generator, optional
        Draws the tokens; a fresh one if not given.
    stop : int or list of int, optional
        Tokens that end a sequence.

    Returns
    -------
    ndarray of int, shape (..., T + max_new_tokens)
        The prompt and what follows; after a stop token, the first of `stop`.

    Raises
    ------
    ValueError
        If the prompt is empty, a number is out of its range, or the logits are not numbers.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> model = tl.GPT(vocab_size=4, context_length=8, d_model=8, num_heads=1, num_layers=1)
    >>> params = model.init(np.random.default_rng(0))
    >>> tl.generate(model, params, [1, 2], 3, rng=np.random.default_rng(1)).shape
    (5,)
    """
    prompt, stops = as_prompt("generate", prompt_ids), as_stops("generate", stop)
    for parameter, value, fits, wanted in (
        ("max_new_tokens", max_new_tokens, max_new_tokens >= 0, "at least 0"),
        ("temperature", temperature, 0 <= temperature < np.inf, "finite, not negative"),
        ("top_k", top_k, top_k is None or top_k >= 1, "at least 1"),
        ("top_p", top_p, top_p is None or 0 < top_p <= 1, "0 < top_p <= 1"),
    ):
        if not fits:
            raise ValueError(f"generate: {parameter}={value!r}: wanted {wanted}")
    rng = np.random.default_rng() if rng is None else rng
    *leading, T = prompt.shape
    ids = np.full((*leading, T + max_new_tokens), stops[0] if stops.size else 0)
    ids[..., :T] = prompt
    read, ended = Reader(model, params), np.zeros(leading, bool)
    for t in range(T, T + max_new_tokens):
        token = next_token(read(ids[..., :t]), temperature, top_k, top_p, rng)
        ids[..., t] = np.where(ended, ids[..., t], token)
        ended |= np.isin(token, stops)
        if ended.all():
            break
    return ids


def next_token(
    logits: Any,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    rng: np.random.Generator,
) -> Any:
    """Draw one token for each row of logits, shape (..., V) -> (...)."""
    if temperature == 0:
        return np.argmax(logits, axis=-1)
    top = np.max(logits, axis=-1, keepdims=True)
    with np.errstate(over="ignore"):  # a temperature of next to nothing
        below = (logits - top) / temperature
    if top_k is None and top_p is None:
        return _drawn(np.exp(below), rng)
    order = np.argsort(-logits, axis=-1, kind="stable")
    below = np.take_along_axis(below, order, axis=-1)
    if top_k is not None:
        below[..., top_k:] = -np.inf
    probabilities = softmax(below)
    if top_p is not None:  # a token stays if those before it have not reached top_p
        probabilities[np.cumsum(probabilities, axis=-1) - probabilities >= top_p] = 0
    place = _drawn(probabilities, rng)
    return np.take_along_axis(order, place[..., None], axis=-1)[..., 0]


def _drawn(weights: Any, rng: np.random.Generator) -> Any:
    """An index for each row of weights, drawn in proportion to them."""
    cumulative = np.cumsum(weights, axis=-1)
    drawn = rng.random(cumulative.shape[:-1])[..., None] * cumulative[..., -1:]
    return np.sum(cumulative <= drawn, axis=-1)
