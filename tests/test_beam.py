"""Beam search: against all sequences there are, greedy search, and a search by hand."""

import functools
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinylm as tl


class Table:
    """Logits by what was written before; remembers the widths that it was shown."""

    context_length = 9

    def __init__(self, logits):
        self.logits, self.seen = functools.cache(logits), []

    def __call__(self, params, ids):
        self.seen.append(ids.shape)
        flat = [self.logits(tuple(row)) for row in ids.reshape(-1, ids.shape[-1]).tolist()]
        logits = np.reshape(flat, (*ids.shape[:-1], 1, len(flat[0])))
        return np.broadcast_to(logits, (*ids.shape, len(flat[0])))


def random_table(V, seed):
    """Other logits after every prefix."""
    return Table(lambda prefix: 2 * np.random.default_rng([seed, *prefix]).standard_normal(V))


def log_probabilities(model, prefix):
    logits = model.logits(tuple(prefix))
    return [v - math.log(math.fsum(map(math.exp, logits))) for v in logits]


def every_sequence(model, prompt, V, longest, length_penalty, stops):
    """(score, new tokens) of all that ends with a stop token or is as long as can be."""
    for length in range(1, longest + 1):
        for new in itertools.product(range(V), repeat=length):
            ended = new[-1] in stops or length == longest
            if not ended or any(token in stops for token in new[:-1]):
                continue
            log_p = math.fsum(
                log_probabilities(model, (*prompt, *new[:t]))[new[t]] for t in range(length)
            )
            yield log_p / length**length_penalty, new


def search_in_loops(model, prompt, longest, K, length_penalty, stops):
    """(score, new tokens) of what is found, with no more of each than the docstring says."""
    going_on, found = [(0.0, ())], []
    for length in range(1, longest + 1):
        candidates = sorted(
            (
                (log_p + more, (*new, token))
                for log_p, new in going_on
                for token, more in enumerate(log_probabilities(model, (*prompt, *new)))
            ),
            reverse=True,
        )
        ends = [new[-1] in stops or length == longest for _, new in candidates]
        for (log_p, new), end in list(zip(candidates, ends, strict=True))[:K]:
            found += [(log_p / length**length_penalty, new)] if end else []
        found = sorted(found, reverse=True)[:K]
        going_on = [c for c, end in zip(candidates, ends, strict=True) if not end][:K]
        full = len(found) == K
        if not going_on or (full and going_on[0][0] / length**length_penalty <= found[-1][0]):
            break
    return found


@given(
    st.integers(0, 99),
    st.sampled_from([-0.5, 0.0, 0.6, 1.0, 2.0]),
    st.sampled_from([(2, (1,)), (3, ()), (3, (0,)), (3, (2, 1))]),
    st.sampled_from([1, 3, 4]),
)
def test_with_enough_beams_all_sequences_are_found_in_their_order(
    seed, length_penalty, case, longest
):
    (V, stops), prompt = case, (1, 0)
    model = random_table(V, seed)
    found = tl.beam_search(
        model, None, list(prompt), longest, V**longest + 1, length_penalty, list(stops)
    )
    expected = sorted(
        every_sequence(model, prompt, V, longest, length_penalty, stops), reverse=True
    )
    assert len(expected) <= V**longest
    for place, (score, new) in enumerate(expected):
        assert found.scores[place] == pytest.approx(score, rel=1e-12)
        ids = found.ids[place].tolist()
        assert ids[: 2 + len(new)] == [*prompt, *new]
        assert set(ids[2 + len(new) :]) <= {*stops[:1]}
    assert np.isneginf(found.scores[len(expected) :]).all()
    assert found.best.tolist() == found.ids[0].tolist()


@given(
    st.integers(0, 999),
    st.integers(1, 4),
    st.sampled_from([-0.5, 0.0, 1.0, 2.0]),
    st.sampled_from([[], [0], [0, 3], [2, 1, 0]]),
)
def test_a_search_is_the_transcription(seed, K, length_penalty, stops):
    model, prompt = random_table(5, seed), [1, 0]
    found = tl.beam_search(model, None, prompt, 5, K, length_penalty, stops)
    expected = search_in_loops(model, prompt, 5, K, length_penalty, stops)
    assert np.isfinite(found.scores).sum() == len(expected)
    for ids, got, (score, new) in zip(found.ids.tolist(), found.scores, expected, strict=False):
        assert got == pytest.approx(score, rel=1e-12)
        assert ids == [1, 0, *new, *[(stops or [None])[0]] * (5 - len(new))]


@given(st.integers(0, 99), st.sampled_from([None, 2, [0, 3]]))
def test_one_beam_is_greedy(seed, stop):
    model, prompts = random_table(5, seed), np.random.default_rng(seed).integers(0, 5, (2, 3, 2))
    greedy = tl.generate(model, None, prompts, 6, temperature=0, stop=stop)
    found = tl.beam_search(model, None, prompts, 6, num_beams=1, stop=stop)
    assert found.ids.shape == (2, 3, 1, 8)
    assert found.best.tolist() == greedy.tolist()


@given(st.integers(0, 99), st.integers(2, 4), st.sampled_from([0.0, 1.0, 2.0]))
def test_scores_are_those_of_the_sequences_and_prompts_are_searched_apart(seed, K, length_penalty):
    model, prompts = random_table(4, seed), [[1, 0], [2, 3], [0, 0]]
    found = tl.beam_search(model, None, prompts, 5, K, length_penalty, stop=0)
    assert (np.diff(found.scores) <= 0).all()
    for prompt, ids, scores in zip(prompts, found.ids, found.scores, strict=True):
        alone = tl.beam_search(model, None, prompt, 5, K, length_penalty, stop=0)
        assert alone.ids.tolist() == ids.tolist()
        assert alone.scores.tolist() == scores.tolist()
        known = {new: s for s, new in every_sequence(model, prompt, 4, 5, length_penalty, (0,))}
        for row, score in zip(ids[:, 2:].tolist(), scores, strict=True):
            length = row.index(0) + 1 if 0 in row else 5
            assert score == pytest.approx(known.pop(tuple(row[:length])), rel=1e-12)


def by_hand(prefix):
    """After the start 9: a has 0.6 and b 0.4; after a both have 0.5, after b, b has 0.9; 0 ends.

    Tokens: 0 the end, 1 a, 2 b.
    """
    p = {
        (9,): (0.0, 0.6, 0.4),
        (9, 1): (0.2, 0.4, 0.4),
        (9, 2): (0.05, 0.05, 0.9),
        (9, 2, 2): (0.8, 0.1, 0.1),
    }.get(prefix, (0.5, 0.25, 0.25))
    with np.errstate(divide="ignore"):
        return np.log(p)


def test_a_search_by_hand():
    model = Table(by_hand)
    assert tl.generate(model, None, [9], 3, temperature=0, stop=0).tolist() == [9, 1, 1, 0]
    found = tl.beam_search(model, None, [9], 3, num_beams=2, length_penalty=1.0, stop=0)
    # a .6, b .4; then bb .36 and aa .24 before ab .24, a0 .12 and b0; then bb0 .288 and aa0 .12
    assert found.ids.tolist() == [[9, 2, 2, 0], [9, 1, 1, 0]]
    np.testing.assert_allclose(found.scores, np.log([0.288, 0.12]) / 3, rtol=1e-12)
    short = tl.beam_search(model, None, [9], 3, num_beams=5, length_penalty=0.0, stop=0)
    assert short.ids[:2].tolist() == [[9, 2, 2, 0], [9, 1, 0, 0]]
    np.testing.assert_allclose(short.scores[:2], np.log([0.288, 0.12]), rtol=1e-12)


def test_many_stop_tokens_leave_enough_beams_to_go_on():
    """Of two beams, 2 and 3, only the sixth continuation is the second that does not end."""
    table = {
        (9,): [0.01, 0.01, 0.5, 0.48],
        (9, 2): [0.4, 0.24, 0.35, 0.01],
        (9, 3): [0.24, 0.24, 0.1, 0.09, 0.09, 0.08, 0.08, 0.08],
        (9, 3, 2): [0.99, 0.01],
    }

    def logits(prefix):
        p = table.get(prefix, [1 / 8] * 8)
        return np.log(np.array([*p, *[1e-9] * (8 - len(p))]))

    found = tl.beam_search(Table(logits), None, [9], 3, num_beams=2, stop=[0, 1])
    assert found.ids.tolist() == [[9, 2, 0, 0], [9, 3, 2, 0]]
    np.testing.assert_allclose(
        found.scores, [np.log(0.5 * 0.4) / 2, np.log(0.48 * 0.1 * 0.99) / 3], rtol=1e-7
    )


def test_when_a_search_ends():
    """Two are kept, and the best of what goes on is worse than both."""
    model = Table(
        lambda prefix: np.log([0.4, 0.58, 0.02] if prefix == (1,) else [0.98, 0.01, 0.01])
    )
    found = tl.beam_search(model, None, [1], 8, num_beams=2, stop=0)
    assert model.seen == [(1, 1, 1), (1, 2, 2)]
    np.testing.assert_allclose(found.scores, [np.log(0.58 * 0.98) / 2, np.log(0.4)], rtol=1e-12)
    longer = Table(model.logits)
    tl.beam_search(longer, None, [1], 8, num_beams=2)
    assert len(longer.seen) == 8


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("stop", [None, 3])
def test_kept_keys_and_values_follow_their_beams(rng, positions, stop):
    sizes = {"vocab_size": 7, "context_length": 9, "d_model": 8, "num_heads": 2, "num_layers": 2}
    model = tl.GPT(**sizes, positions=positions)
    params = model.init(rng, np.float64)
    params["token_embedding"] *= 50

    class Forgetful:
        context_length = 9

        def __call__(self, params, ids):
            return model(params, ids)

    prompts = rng.integers(0, 7, (3, 2))
    for max_new_tokens in (7, 11):  # past the context, where the window moves
        one, other = (
            tl.beam_search(m, params, prompts, max_new_tokens, 3, stop=stop)
            for m in (model, Forgetful())
        )
        assert one.ids.tolist() == other.ids.tolist()
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"prompt_ids": []},
            r"prompt_ids of float64 and shape \(0,\): wanted one or more integers",
        ),
        ({"prompt_ids": 3}, r"shape \(\)"),
        ({"max_new_tokens": 0}, "max_new_tokens=0: wanted at least 1"),
        ({"num_beams": 0}, "num_beams=0: wanted at least 1"),
        ({"length_penalty": float("nan")}, "length_penalty=nan: wanted a number from -10 to 10"),
        ({"length_penalty": 1e9}, "length_penalty=1000000000.0"),
        ({"stop": 0.5}, "stop=0.5: wanted a token or a list of them"),
        ({"stop": "end"}, "stop='end'"),
    ],
)
def test_impossible_calls(arguments, message):
    with pytest.raises(ValueError, match=f"beam_search: .*{message}"):
        tl.beam_search(
            random_table(3, 0), None, **{"prompt_ids": [0], "max_new_tokens": 2, **arguments}
        )


def test_logits_that_are_not_numbers():
    for logits in ([np.nan, 0.0], [-np.inf, -np.inf], [np.inf, 0.0]):
        with pytest.raises(ValueError, match="logits are not finite"):
            tl.beam_search(Table(lambda prefix, x=logits: x), None, [0], 2)


def test_no_prompts_give_no_beams():
    model = tl.GPT(vocab_size=4, context_length=8, d_model=8, num_heads=1, num_layers=1)
    params = model.init(np.random.default_rng(0))
    found = tl.beam_search(model, params, np.zeros((0, 2), int), 3, num_beams=2)
    assert found.ids.shape == (0, 2, 5)
