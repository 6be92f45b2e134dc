"""Generation: what is drawn, how often, and from what."""

import numpy as np
import pytest

import tinylm as tl
import tinylm.nn
from tinylm.generation import next_token


class Fixed:
    """The same logits everywhere; remembers what it was shown."""

    context_length = 3

    def __init__(self, logits):
        self.logits = np.array(logits, dtype=np.float32)
        self.seen = []

    def __call__(self, params, ids):
        self.seen.append(np.array(ids))
        return np.broadcast_to(self.logits, (*np.shape(ids), len(self.logits)))


LOGITS = np.log([0.5, 0.3, 0.15, 0.05])


def shares(rng, **options):
    options = {"temperature": 1.0, "top_k": None, "top_p": None, **options}
    drawn = next_token(np.tile(LOGITS, (40_000, 1)), rng=rng, **options)
    return np.bincount(drawn, minlength=4) / drawn.size


def test_frequencies_are_the_probabilities(rng):
    np.testing.assert_allclose(shares(rng), [0.5, 0.3, 0.15, 0.05], atol=0.01)
    squared = np.array([0.25, 0.09, 0.0225, 0.0025])
    np.testing.assert_allclose(shares(rng, temperature=0.5), squared / squared.sum(), atol=0.01)
    np.testing.assert_allclose(shares(rng, top_k=2), [0.625, 0.375, 0, 0], atol=0.01)
    np.testing.assert_allclose(shares(rng, top_p=0.79), [0.625, 0.375, 0, 0], atol=0.01)
    np.testing.assert_allclose(shares(rng, top_p=0.81), [0.5263, 0.3158, 0.1579, 0], atol=0.01)
    assert shares(rng, top_p=1e-9).tolist() == [1, 0, 0, 0]
    assert shares(rng, top_k=1).tolist() == [1, 0, 0, 0]
    assert shares(rng, temperature=0).tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose(shares(rng, top_k=99, top_p=1.0), [0.5, 0.3, 0.15, 0.05], atol=0.01)


def test_the_prompt_comes_back_and_the_window_slides():
    model = Fixed([0.0, 9.0, 0.0])
    ids = tl.generate(model, None, [2, 0], 4, temperature=0)
    assert ids.tolist() == [2, 0, 1, 1, 1, 1]
    assert [seen.tolist() for seen in model.seen] == [[2, 0], [2, 0, 1], [0, 1, 1], [1, 1, 1]]
    assert tl.generate(model, None, [2, 0], 0).tolist() == [2, 0]


def test_many_prompts_at_once(rng):
    model = Fixed([0.0, 0.0, 0.0])
    ids = tl.generate(model, None, [[0, 1], [2, 2], [1, 0]], 5, rng=rng)
    assert ids.shape == (3, 7)
    assert ids[:, :2].tolist() == [[0, 1], [2, 2], [1, 0]]
    assert len({tuple(row) for row in ids[:, 2:].tolist()}) > 1


def test_a_seed_draws_the_same_again():
    model = Fixed([0.1, 0.2, 0.3])
    one, two = (tl.generate(model, None, [0], 20, rng=np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, tl.generate(model, None, [0], 20, rng=np.random.default_rng(6)))


def test_impossible_logits_are_never_drawn(rng):
    drawn = next_token(np.tile([-np.inf, 0.0, -1e30], (1000, 1)), 1.0, None, None, rng)
    assert set(drawn.tolist()) == {1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt_ids": []}, r"shape \(0,\): wanted one or more integers"),
        ({"prompt_ids": [0.5]}, "prompt_ids of float64"),
        ({"prompt_ids": 3}, r"shape \(\)"),
        ({"max_new_tokens": -1}, "max_new_tokens=-1: wanted at least 0"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_k": 0}, "top_k=0: wanted at least 1"),
        ({"top_p": 0.0}, "top_p=0.0: wanted 0 < top_p <= 1"),
        ({"top_p": 1.5}, "top_p=1.5"),
    ],
)
def test_impossible_calls(arguments, message):
    with pytest.raises(ValueError, match=f"generate: .*{message}"):
        tl.generate(Fixed([0.0]), None, **{"prompt_ids": [0], "max_new_tokens": 1, **arguments})


def test_top_p_takes_the_fewest(rng):
    model = Fixed(np.log([0.25, 0.5, 0.25]))
    drawn = tl.generate(model, None, np.zeros((200, 1), int), 1, top_p=0.5, rng=rng)[:, 1]
    assert set(drawn.tolist()) == {1}
    drawn = tl.generate(model, None, np.zeros((200, 1), int), 1, top_p=0.51, rng=rng)[:, 1]
    assert set(drawn.tolist()) == {0, 1}
    drawn = tl.generate(model, None, np.zeros((200, 1), int), 1, top_k=2, top_p=0.6, rng=rng)[:, 1]
    assert set(drawn.tolist()) == {1}, "of the two, the likeliest has 2/3"


def test_temperatures_of_next_to_nothing(rng):
    for logits in ([-3.0, -1.0, -2.0], [1.0, 3.0, 2.0]):
        drawn = tl.generate(Fixed(np.array(logits)), None, [0], 5, temperature=1e-320, rng=rng)
        assert drawn.tolist() == [0, 1, 1, 1, 1, 1]


def test_logits_that_are_not_numbers():
    for logits in ([np.nan, 0.0], [-np.inf, -np.inf], [np.inf, 0.0]):
        for temperature in (0.0, 1.0):
            with pytest.raises(ValueError, match="logits are not finite"):
                tl.generate(Fixed(np.array(logits)), None, [0], 1, temperature=temperature)


MODELS = [
    {"positions": "learned"},
    {"positions": "rotary", "norm": "rms", "bias": False},
    {"positions": "sinusoidal", "pre_norm": False, "tied": False},
    {"positions": "none", "activation": "relu"},
    {"positions": "rotary", "num_heads": 4, "num_kv_heads": 2, "gated": True},
    {"num_layers": 0},
]


@pytest.mark.parametrize("options", MODELS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_of_kept_keys_and_values_are_those_of_the_whole(rng, options, dtype):
    sizes = {"vocab_size": 11, "context_length": 9, "d_model": 8, "num_heads": 2, "num_layers": 3}
    model = tl.GPT(**{**sizes, **options})
    params = model.init(rng, dtype)
    ids = rng.integers(0, 11, (2, 3, 9))
    whole = model(params, ids)
    past, pieces, start = model.no_past(), [], 0
    for stop in (1, 4, 5, 9) if past else ():
        pieces.append(model(params, ids[..., start:stop], past=past))
        start = stop
    if past:
        error = np.max(np.abs(np.concatenate(pieces, axis=-2) - whole))
        assert error < (1e-6 if dtype == np.float32 else 1e-14)
        with pytest.raises(ValueError, match="context_length = 9, 9 of which are past"):
            model(params, ids[..., :1], past=past)

    class Forgetful:
        context_length = 9

        def __call__(self, params, ids):
            return model(params, ids)

    for temperature in (0, 1.0):
        with_past, without = (
            tl.generate(m, params, ids[0, :, :2], 12, temperature, rng=np.random.default_rng(5))
            for m in (model, Forgetful())
        )
        assert with_past.tolist() == without.tolist()


def test_what_ends_stays_ended():
    """Each row says its own length: the stop token comes when that many are there."""

    class Counting:
        context_length = 9

        def __call__(self, params, ids):
            self.steps = np.shape(ids)[-1]
            ends = ids[..., :1] == self.steps
            return np.where(ends[..., None], [0.0, 0.0, 9.0], [0.0, 9.0, 0.0])

    model = Counting()
    ids = tl.generate(model, None, [[2], [4]], 6, temperature=0, stop=2)
    assert ids.tolist() == [[2, 1, 2, 2, 2, 2, 2], [4, 1, 1, 1, 2, 2, 2]]
    assert model.steps == 4, "nothing is left to be said"
    ids = tl.generate(model, None, [3], 4, temperature=0, stop=[0, 2])
    assert ids.tolist() == [3, 1, 1, 2, 0], "filled up with the first of them"
    for nothing in (None, []):
        assert tl.generate(model, None, [9], 2, temperature=0, stop=nothing).tolist() == [9, 1, 1]
    with pytest.raises(ValueError, match="generate: stop=0.5: wanted a token"):
        tl.generate(model, None, [3], 4, stop=0.5)


def test_prompts_of_small_integers():
    assert tl.generate(Fixed([0.0] * 300 + [9.0]), None, np.uint8([7]), 2, 0).tolist() == [
        7,
        300,
        300,
    ]
    assert tl.generate(Fixed([0.0, 9.0]), None, np.uint64([1]), 1, 0).dtype == np.int64


def test_a_past_has_an_end():
    past = tl.nn.Past(3)
    past.extended(np.ones((2, 2, 4)), np.ones((2, 2, 4)))
    with pytest.raises(ValueError, match="Past: 4 positions: wanted at most 3"):
        past.extended(np.ones((2, 2, 4)), np.ones((2, 2, 4)))
