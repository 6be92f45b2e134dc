"""Beam search: the likeliest sequences that a model can write, of those that a few beams meet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.autograd import Nest
from tinylm.nn import Reader, as_prompt, as_stops
from tinylm.ops import log_softmax


@dataclass(frozen=True)
class Beams:
    """What a search has found, the best first.

    Parameters
    ----------
    ids : ndarray of int, shape (..., K, T + max_new_tokens)
        The prompt and what follows; after a stop token, stop tokens.
    scores : ndarray of float64, shape (..., K)
        The log-probability of what follows, divided by its length to the power of the penalty;
        -inf where fewer than K sequences were found.
    """

    ids: Any
    scores: Any

    @property
    def best(self) -> Any:
        """The ids of the best, shape (..., T + max_new_tokens)."""
        return self.ids[..., 0, :]


def beam_search(
    model: Any,
    params: Nest,
    prompt_ids: Any,
    max_new_tokens: int,
    num_beams: int = 4,
    length_penalty: float = 1.0,
    stop: Any = None,
) -> Beams:
    """Continue a prompt with sequences of a large probability.

    At every step each of the K beams is continued with every token, and the K likeliest of all
    these go on: Lowerre 1976, "The Harpy speech recognition system"; Sutskever et al. 2014,
    "Sequence to sequence learning with neural networks", section 3.2. One that ends with a stop
    token, and was among the K likeliest, is kept beside them with the score
    ``log p(new tokens) / length ** length_penalty``, where the length counts the new tokens, the
    stop token among them. (Wu et al. 2016, "Google's neural machine translation system", eq. (14),
    divide by ``((5 + length) / 6) ** length_penalty``.) The search of a prompt ends when K are kept
    and the likeliest beam, scored as if it ended here, is no better than the worst of them; with
    one beam it ends with the first that does, and is greedy.

    Parameters
    ----------
    model : GPT
        Or any other that `tinylm.nn.Reader` takes.
    params : nest
    prompt_ids : ndarray of int, shape (..., T)
        At least one token.
    max_new_tokens : int
    num_beams : int
        K.
    length_penalty : float
        0 compares log-probabilities, which favours short sequences, and 1 their means.
    stop : int or list of int, optional
        Tokens that end a sequence.

    Returns
    -------
    Beams

    Raises
    ------
    ValueError
        If the prompt is empty, a number is out of its range, or the logits are not numbers.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> model = tl.GPT(vocab_size=4, context_length=8, d_model=8, num_heads=1, num_layers=1)
    >>> params = model.init(np.random.default_rng(0))
    >>> found = tl.beam_search(model, params, [1, 2], max_new_tokens=3, num_beams=2, stop=0)
    >>> found.ids.shape, found.scores.shape, found.best.shape
    ((2, 5), (2,), (5,))
    """
    ids, stops = as_prompt("beam_search", prompt_ids), as_stops("beam_search", stop)
    for parameter, value, fits, wanted in (
        ("max_new_tokens", max_new_tokens, max_new_tokens >= 1, "at least 1"),
        ("num_beams", num_beams, num_beams >= 1, "at least 1"),
        ("length_penalty", length_penalty, -10 <= length_penalty <= 10, "a number from -10 to 10"),
    ):
        if not fits:
            raise ValueError(f"beam_search: {parameter}={value!r}: wanted {wanted}")
    *leading, T = ids.shape
    read, beams = Reader(model, params), ids.reshape(math.prod(leading), 1, T)
    B, fill = len(beams), stops[0] if stops.size else 0
    log_p, is_open = np.zeros((B, 1)), np.ones(B, bool)
    found_ids = np.full((B, num_beams, T + max_new_tokens), fill)
    found_scores = np.full((B, num_beams), -np.inf)
    for length in range(1, max_new_tokens + 1):
        each = log_p[..., None] + log_softmax(read(beams))
        *_, K, V = each.shape
        each = each.reshape(B, K * V)
        # so many that there are K to go on with, even if all beams end with every stop token
        log_p, likeliest = _largest(max(2, 1 + stops.size) * num_beams, each)
        order, tokens = np.divmod(likeliest, V)
        beams = np.concatenate([_rows(beams, order), tokens[..., None]], axis=-1)
        ends = np.isin(tokens, stops) | (length == max_new_tokens)

        counts = ends & is_open[:, None] & (np.arange(ends.shape[1]) < num_beams)
        new_scores = np.where(counts, log_p / length**length_penalty, -np.inf)
        room = ((0, 0), (0, 0), (0, max_new_tokens - length))
        new_ids = np.pad(beams, room, constant_values=fill)
        found_scores, best = _largest(num_beams, np.append(found_scores, new_scores, axis=1))
        found_ids = _rows(np.append(found_ids, new_ids, axis=1), best)

        log_p, going_on = _largest(num_beams, np.where(ends, -np.inf, log_p))
        beams, order = _rows(beams, going_on), _rows(order, going_on)
        is_open &= log_p[:, 0] / length**length_penalty > found_scores[:, -1]
        if not is_open.any():
            break
        read.reorder(order)
    return Beams(
        found_ids.reshape(*leading, *found_ids.shape[1:]),
        found_scores.reshape(*leading, num_beams),
    )


def _largest(count: int, x: Any) -> tuple[Any, Any]:
    """The largest numbers of each row, the largest first, and where they are."""
    places = np.argsort(-x, axis=-1, kind="stable")[:, :count]
    return _rows(x, places), places


def _rows(x: Any, places: Any) -> Any:
    """Of each row of x, what is at some places of its own."""
    return x[np.arange(len(x))[:, None], places]
