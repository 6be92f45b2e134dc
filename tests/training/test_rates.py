"""Rates: frozen parameters and learning rates of their own, against updates in a loop."""

import fnmatch
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinylm as tl
from tinylm.autograd import trees
from tinylm.training import matrices_only
from tinylm.training.rates import factors, joined, split

MODEL = tl.GPT(vocab_size=7, context_length=5, d_model=6, num_heads=2, num_layers=2)
PATTERNS = ["*", "token_embedding", "blocks.*", "blocks.0.*", "*.W_Q", "*gain", "blocks.1.norm_1.*"]
RATES = st.dictionaries(st.sampled_from(PATTERNS), st.sampled_from([0.0, 0.1, 1.0, 3.0]))


def batch(rng):
    ids = rng.integers(0, 7, (4, 6))
    return ids[:, :-1], ids[:, 1:]


def numbers(nest):
    return {path: np.array(x) for path, x in trees.paths(nest)}


@given(RATES, st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_an_update_is_that_of_the_loop(rates, seed):
    """AdamW, clipping and decay of what is not frozen; the rest stays, to the bit."""
    factor = dict.fromkeys(numbers(MODEL.init(np.random.default_rng(0))), 1.0)
    for pattern, number in rates.items():
        factor |= {path: number for path in factor if fnmatch.fnmatchcase(path, pattern)}
    rng = np.random.default_rng(seed)
    params = MODEL.init(rng, np.float64)
    adamw = tl.AdamW(lambda step: 0.1 / (step + 1), decayed=matrices_only, weight_decay=0.3)
    if not any(factor.values()):
        with pytest.raises(ValueError, match="all is frozen, and nothing is left to train"):
            tl.Trainer(MODEL, params, adamw, rates=rates)
        return
    trainer = tl.Trainer(MODEL, params, adamw, clip_norm=0.1, rates=rates)
    m, v = dict.fromkeys(factor, 0.0), dict.fromkeys(factor, 0.0)
    for step in range(3):
        ids, targets = batch(rng)
        before = trainer.params
        gradient = numbers(tl.grad(MODEL.loss)(before, ids, targets))
        norm = math.sqrt(sum(np.sum(gradient[path] ** 2) for path in factor if factor[path]))
        trainer.step(ids, targets)
        after = numbers(trainer.params)
        for path, p in numbers(before).items():
            g = gradient[path] * min(1, 0.1 / norm)
            m[path] = 0.9 * m[path] + 0.1 * g
            v[path] = 0.999 * v[path] + 0.001 * g**2
            unbiased = m[path] / (1 - 0.9 ** (step + 1))
            size = np.sqrt(v[path] / (1 - 0.999 ** (step + 1))) + 1e-8
            lr = factor[path] * 0.1 / (step + 1)
            expected = p - lr * (unbiased / size + (0.3 if p.ndim > 1 else 0) * p)
            if factor[path]:
                np.testing.assert_allclose(after[path], expected, rtol=1e-9, atol=1e-12)
            else:
                assert np.array_equal(after[path], p)


def test_without_factors_nothing_is_another(rng):
    params, (ids, targets) = MODEL.init(rng), batch(rng)
    one, other = (
        tl.Trainer(MODEL, params, tl.AdamW(0.1), clip_norm=0.1, rates=rates)
        for rates in (None, {"blocks.*": 1.0})
    )
    for _ in range(3):
        assert one.step(ids, targets) == other.step(ids, targets)
    for a, b in zip(trees.leaves(one.params), trees.leaves(other.params), strict=True):
        assert np.array_equal(a, b)


class Linear:
    """A model that cannot be differentiated by its "fixed"."""

    def loss(self, params, ids, targets):
        assert type(params["fixed"]) is np.ndarray
        return np.sum(params["W"] * params["fixed"][0] * ids)


def test_what_is_frozen_is_not_differentiated():
    params = {"fixed": np.array([2.0]), "W": np.ones(3)}
    trainer = tl.Trainer(Linear(), params, tl.SGD(0.5), rates={"fixed": 0})
    assert trainer.step(np.array([[1, 2, 3]]), np.array([[0]])) == 12
    assert trainer.params["W"].tolist() == [0, -1, -2]
    with pytest.raises(AssertionError):
        tl.Trainer(Linear(), params, tl.SGD(0.5)).step(np.array([[1, 2, 3]]), np.array([[0]]))


@pytest.mark.parametrize("recompute", [False, True])
def test_processes_know_what_is_frozen(rng, recompute):
    model = tl.GPT(**{**MODEL.__dict__, "recompute": recompute})
    first, second = model.init(rng, np.float64), model.init(rng, np.float64)
    ids, targets = batch(rng)
    rates = {"blocks.0.*": 0.0, "*W_Q": 0.5, "token_embedding": 0.0}
    alone, together = (
        tl.Trainer(model, first, tl.SGD(0.1), shards=2, processes=processes, rates=rates)
        for processes in (1, 2)
    )
    for params in (first, second):
        alone.params = together.params = params
        expected = pytest.approx(float(model.loss(params, ids, targets)), rel=1e-12)
        assert alone.step(ids, targets) == expected
        assert together.step(ids, targets) == expected
        for _ in range(2):
            assert together.step(ids, targets) == pytest.approx(alone.step(ids, targets), rel=1e-12)
    for a, b in zip(trees.leaves(together.params), trees.leaves(alone.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    assert np.array_equal(alone.params["token_embedding"], second["token_embedding"])


def test_what_the_trainer_remembers_can_be_saved_and_taken_by_others(rng, tmp_path):
    params, (ids, targets) = MODEL.init(rng), batch(rng)
    rates = {"token_embedding": 0.0, "blocks.*": 0.5}
    trainer = tl.Trainer(MODEL, params, tl.AdamW(0.1), rates=rates)
    trainer.step(ids, targets)
    tl.save(tmp_path / "a", {"params": trainer.params, "state": trainer.optimizer_state})
    nest, _ = tl.load(tmp_path / "a")
    assert not nest["state"]["m"]["token_embedding"].any()
    again = tl.Trainer(MODEL, params, tl.AdamW(0.1), rates=rates)
    other = tl.Trainer(MODEL, params, tl.AdamW(0.1))
    for resumed in (again, other):
        resumed.params, resumed.optimizer_state, resumed.steps = nest["params"], nest["state"], 1
    assert again.step(ids, targets) == trainer.step(ids, targets) == other.step(ids, targets)
    for a, b in zip(trees.leaves(again.params), trees.leaves(trainer.params), strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(other.params["token_embedding"], params["token_embedding"])
    with pytest.raises(ValueError, match="the nests differ"):
        trainer.params = {"token_embedding": params["token_embedding"]}


def test_factors_by_hand_and_the_two_halves():
    nest = {"a": [1, 2], "b": {"c": 3}}
    assert factors({"a.*": 0.5, "*.1": 0}, nest) == {"a": [0.5, 0.0], "b": {"c": 1.0}}
    halves = split(factors({"a.*": 0.5, "*.1": 0}, nest), nest)
    assert halves == ({"a": [1, None], "b": {"c": 3}}, {"a": [None, 2], "b": {"c": None}})
    assert joined(*halves) == joined(*halves[::-1]) == nest


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"blocks.0": 0.0}, r"rates\['blocks.0'\] matches no parameter: they are \['token_emb"),
        ({"*": -1.0}, r"rates\['\*'\]=-1.0: wanted finite, not negative"),
        ({"*": math.nan}, r"rates\['\*'\]=nan"),
        ({"*": 0.0}, "all is frozen"),
    ],
)
def test_impossible_rates(rng, rates, message):
    with pytest.raises(ValueError, match=message):
        tl.Trainer(MODEL, MODEL.init(rng), tl.SGD(0.1), rates=rates)


def test_what_is_frozen_is_no_longer_the_callers(rng):
    class Sum:
        def loss(self, params, ids, targets):
            return params["a"] + params["b"]

    params = {"a": np.array(1.0), "b": np.array(2.0)}
    trainer = tl.Trainer(Sum(), params, tl.SGD(lr=0.0), rates={"b": 0.0})
    params["a"][...] = params["b"][...] = 100.0
    assert trainer.step([0], [0]) == 3.0
