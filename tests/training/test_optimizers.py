"""Optimizers and schedules: steps worked by hand, and transcriptions of the definitions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinylm as tl
from tinylm.autograd import trees
from tinylm.training import clip_by_global_norm, matrices_only, optimizers, warmup_cosine
from tinylm.training.trainer import global_norm
from tinylm.workers import Workers


def trajectory(optimizer, p, gradients):
    params, state = {"p": np.array(p)}, None
    state = optimizer.init(params)
    seen = []
    for step, g in enumerate(gradients):
        params, state = optimizer.update(params, {"p": np.array(g)}, state, step)
        seen.append(float(params["p"]))
    return seen


def test_sgd_by_hand():
    assert trajectory(tl.SGD(0.5), 1.0, [1.0, 1.0]) == [0.5, 0.0]
    # g = 1, then m = 0.5 * 1 + 1
    assert trajectory(tl.SGD(0.5, momentum=0.5), 1.0, [1.0, 1.0]) == [0.5, -0.25]
    # g + 0.5 m: 1.5, then m = 1.5 and 1 + 0.75
    assert trajectory(tl.SGD(0.5, momentum=0.5, nesterov=True), 1.0, [1.0, 1.0]) == [0.25, -0.625]
    # g = 1 + 0.5 * 1
    assert trajectory(tl.SGD(0.5, weight_decay=0.5), 1.0, [1.0]) == [0.25]
    assert trajectory(tl.SGD(lambda step: 1.0 / (step + 1)), 3.0, [1.0, 1.0]) == [2.0, 1.5]


def test_adamw_by_hand():
    # at the first step both means are g and g^2: a step of lr in the direction of the sign
    assert trajectory(tl.AdamW(0.5, eps=0.0, weight_decay=0.0), 1.0, [4.0]) == [0.5]
    # m = (0.5 * 0 + 0.5 * 4) / 0.5 = 4, then (2 * 0.5 + 0.5 * 0) / 0.75 = 4/3; v = 16, then 16/3
    two = trajectory(tl.AdamW(0.5, betas=(0.5, 0.5), eps=0.0, weight_decay=0.0), 1.0, [4.0, 0.0])
    assert two == pytest.approx([0.5, 0.5 - 0.5 * (4 / 3) / math.sqrt(16 / 3)])
    # decay of the parameter itself: 1 - 0.5 * (1 + 0.1 * 1)
    assert trajectory(tl.AdamW(0.5, eps=0.0, weight_decay=0.1), 1.0, [4.0]) == pytest.approx([0.45])


@given(
    st.integers(0, 2**32 - 1),
    st.floats(1e-4, 1),
    st.floats(0, 0.99),
    st.floats(0, 0.5),
    st.booleans(),
)
def test_trajectories_are_the_definitions(seed, lr, beta, decay, nesterov):
    rng = np.random.default_rng(seed)
    gradients = rng.standard_normal(20)
    start = float(rng.standard_normal())
    nesterov = nesterov and beta > 0

    p, m, expected = start, 0.0, []
    for i, gradient in enumerate(gradients):
        g = gradient + decay * p
        m = g if i == 0 else beta * m + g
        p = p - lr * (g + beta * m if nesterov else m)
        expected.append(p)
    sgd = tl.SGD(lr, momentum=beta, nesterov=nesterov, weight_decay=decay)
    assert trajectory(sgd, start, gradients) == pytest.approx(expected, rel=1e-12, abs=1e-12)

    p, m, v, expected = start, 0.0, 0.0, []
    for t, g in enumerate(gradients, 1):
        p = p * (1 - lr * decay)
        m = beta * m + (1 - beta) * g
        v = 0.95 * v + 0.05 * g * g
        p = p - lr * (m / (1 - beta**t)) / (math.sqrt(v / (1 - 0.95**t)) + 1e-6)
        expected.append(p)
    adamw = tl.AdamW(lr, betas=(beta, 0.95), eps=1e-6, weight_decay=decay)
    assert trajectory(adamw, start, gradients) == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_decay_where_it_is_wanted():
    params = {"W": np.ones((2, 2)), "gain": np.ones(2)}
    zero = {"W": np.zeros((2, 2)), "gain": np.zeros(2)}
    for optimizer in (
        tl.SGD(0.5, weight_decay=0.5, decayed=matrices_only),
        tl.AdamW(0.5, weight_decay=0.5, decayed=lambda path, p: path == "W"),
    ):
        updated, _ = optimizer.update(params, zero, optimizer.init(params), 0)
        assert np.array_equal(updated["W"], np.full((2, 2), 0.75))
        assert np.array_equal(updated["gain"], np.ones(2))
        assert np.array_equal(params["W"], np.ones((2, 2))), "nothing is written into"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tl.SGD(math.nan), "SGD: lr=nan: wanted finite, not negative"),
        (lambda: tl.SGD(-1.0), "SGD: lr=-1.0"),
        (lambda: tl.SGD(0.1, momentum=-0.5), "SGD: momentum=-0.5"),
        (lambda: tl.SGD(0.1, weight_decay=math.inf), "SGD: weight_decay=inf"),
        (lambda: tl.SGD(0.1, nesterov=True), "nesterov=True: wanted a momentum above 0"),
        (lambda: tl.AdamW(math.nan), "AdamW: lr=nan"),
        (lambda: tl.AdamW(0.1, betas=(0.9, 1.0)), r"betas=\(0.9, 1.0\): wanted two numbers in"),
        (lambda: tl.AdamW(0.1, betas=(-0.1, 0.9)), r"AdamW: betas=\(-0.1, 0.9\)"),
        (lambda: tl.AdamW(0.1, eps=-1.0), "AdamW: eps=-1.0"),
        (lambda: tl.AdamW(0.1, betas=[-0.5, 0.9]), r"AdamW: betas=\[-0.5, 0.9\]"),
        (lambda: tl.SGD(np.float32("nan")), "SGD: lr=.*nan"),
        (lambda: tl.SGD(lambda step: math.nan).rate(3), "SGD: the learning rate at step 3 is nan"),
    ],
)
def test_impossible_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_schedules():
    rate = warmup_cosine(peak=1e-3, final=1e-4, warmup=100, steps=2000)
    assert rate(0) == pytest.approx(1e-3 / 101)
    assert rate(99) == pytest.approx(1e-3 * 100 / 101)
    assert rate(100) == 1e-3
    assert rate(1050) == pytest.approx(5.5e-4)
    assert rate(2000) == rate(9999) == 1e-4
    assert all(rate(i) > rate(i + 1) for i in range(100, 1999))
    assert warmup_cosine(1.0, 0.1, 0, 0)(0) in (0.1, 1.0)


def test_clipping_begins_at_the_limit():
    nest = {"a": np.array([3.0, 4.0])}
    assert clip_by_global_norm(nest, 5.0)["a"].tolist() == [3.0, 4.0]
    assert clip_by_global_norm(nest, 4.999)["a"] == pytest.approx([3 * 0.9998, 4 * 0.9998])


def test_clipping(rng):
    nest = {"a": rng.standard_normal((3, 5)), "b": [rng.standard_normal(7)]}
    norm = np.linalg.norm(np.concatenate([nest["a"].ravel(), nest["b"][0]]))
    assert global_norm(nest) == pytest.approx(norm)
    clipped = clip_by_global_norm(nest, 0.5)
    assert global_norm(clipped) == pytest.approx(0.5)
    assert clipped["a"] / nest["a"] == pytest.approx(0.5 / norm)
    assert clip_by_global_norm(nest, 2 * norm) is nest
    assert clip_by_global_norm(nest, None) is nest
    huge = {"a": np.full(4, 1e30, np.float32)}
    assert global_norm(huge) == pytest.approx(2e30), "summed in float64: no overflow"
    assert global_norm(clip_by_global_norm(huge, 1.0)) == pytest.approx(1)


@pytest.mark.parametrize(
    "optimizer",
    [
        tl.SGD(0.1),
        tl.SGD(0.1, momentum=0.9, weight_decay=0.2),
        tl.SGD(0.1, momentum=0.9, nesterov=True),
        tl.AdamW(0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.2),
    ],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_the_kernel_is_the_formula_in_pieces_and_threads(rng, monkeypatch, optimizer):
    monkeypatch.setattr(optimizers, "PIECE", 4)
    params = {"W": rng.standard_normal((3, 5)), "b": rng.standard_normal(4), "s": np.array(2.0)}
    gradients = trees.map_leaves(lambda p: rng.standard_normal(p.shape), params)
    state = {
        name: trees.map_leaves(lambda p: rng.random(p.shape), nest)
        for name, nest in optimizer.init(params).items()
    }
    after, state_after = optimizer.update(params, gradients, state, 3, Workers(2))
    for path, p in trees.paths(params):
        leaves = [dict(trees.paths(nest))[path] for nest in (gradients, params, *state.values())]
        expected = optimizer.formula(3, optimizer.weight_decay, *leaves)
        got = [dict(trees.paths(nest))[path] for nest in (after, *state_after.values())]
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13)
            assert a.shape == p.shape
