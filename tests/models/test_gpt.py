"""GPT: against a transcription, its gradients, and what it refuses."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from helpers import distance
from registry import (
    cross_entropy_in_loops,
    gelu_in_loops,
    layer_norm_in_loops,
    linear_in_loops,
    relu_in_loops,
    rms_norm_in_loops,
    silu_in_loops,
)

import tinylm as tl
from tinylm.autograd import trees
from tinylm.models.options import ACTIVATIONS, NORMS, POSITIONS

SIZES = {"vocab_size": 7, "context_length": 5, "d_model": 6, "num_heads": 3, "num_layers": 2}


def random_params(model, rng):
    return trees.map_leaves(lambda p: rng.standard_normal(p.shape), model.init(rng))


def gpt_in_loops(model, params, ids):
    """One sequence, from the papers, without tinylm."""
    T, C, H = len(ids), model.d_model, model.num_heads
    D = C // H
    x = np.array([params["token_embedding"][i] for i in ids])
    if model.positions == "learned":
        x = x + params["position_embedding"][:T]
    if model.positions == "sinusoidal":
        x = x * math.sqrt(C)
        for t, i in itertools.product(range(T), range(C)):
            angle = t / 10000 ** (2 * (i // 2) / C)
            x[t, i] += math.cos(angle) if i % 2 else math.sin(angle)

    def norm(p, x):
        return (
            layer_norm_in_loops(x, p["gain"], p["bias"], model.norm_eps)
            if "bias" in p
            else rms_norm_in_loops(x, p["gain"], model.norm_eps)
        )

    def turned(x):
        if model.positions != "rotary":
            return x
        y = x.copy()
        for t, h, i in itertools.product(range(T), range(x.shape[1] // D), range(D // 2)):
            angle, a, b = t * 10000 ** (-2 * i / D), h * D + 2 * i, h * D + 2 * i + 1
            y[t, a] = x[t, a] * math.cos(angle) - x[t, b] * math.sin(angle)
            y[t, b] = x[t, a] * math.sin(angle) + x[t, b] * math.cos(angle)
        return y

    def attend(p, x):
        Q, K, V = (linear_in_loops(x, p[f"W_{k}"], p.get(f"b_{k}")) for k in "QKV")
        Q, K = turned(Q), turned(K)
        mixed = np.zeros((T, C))
        for h, t in itertools.product(range(H), range(T)):
            one = slice(h * D, (h + 1) * D)
            group = h // (H // (model.num_kv_heads or H))
            its = slice(group * D, (group + 1) * D)
            scores = [math.fsum(Q[t, one] * K[s, its]) / math.sqrt(D) for s in range(t + 1)]
            weights = [math.exp(score) for score in scores]
            for s in range(t + 1):
                mixed[t, one] += weights[s] / math.fsum(weights) * V[s, its]
        return linear_in_loops(mixed, p["W_O"], p.get("b_O"))

    activation = {
        "gelu": gelu_in_loops,
        "gelu_tanh": lambda x: gelu_in_loops(x, approximate=True),
        "relu": relu_in_loops,
        "silu": silu_in_loops,
    }[model.activation]

    def think(p, x):
        hidden = activation(linear_in_loops(x, p["W_1"], p.get("b_1")))
        if model.gated:
            hidden = hidden * linear_in_loops(x, p["V"], p.get("c"))
        return linear_in_loops(hidden, p["W_2"], p.get("b_2"))

    for p in params["blocks"]:
        if model.pre_norm:
            x = x + attend(p["attention"], norm(p["norm_1"], x))
            x = x + think(p["feed_forward"], norm(p["norm_2"], x))
        else:
            x = norm(p["norm_1"], x + attend(p["attention"], x))
            x = norm(p["norm_2"], x + think(p["feed_forward"], x))
    if model.pre_norm:
        x = norm(params["norm"], x)
    return linear_in_loops(x, params["token_embedding"].T if model.tied else params["head"])


VARIANTS = [
    *({"positions": p, "d_model": 12} for p in POSITIONS),
    *({"activation": a} for a in ACTIVATIONS),
    *({"norm": n, "pre_norm": b} for n in NORMS for b in (True, False)),
    {"tied": False, "bias": False, "d_ff": 11},
    {"num_layers": 0},
    {"num_heads": 1},
    {"norm_eps": 0.3},
    {"gated": True, "activation": "silu", "d_ff": 7},
    {"gated": True, "bias": False, "num_kv_heads": 1},
    {"num_heads": 4, "num_kv_heads": 2, "d_model": 8, "positions": "rotary"},
    {"num_heads": 6, "num_kv_heads": 2, "d_model": 12, "bias": False},
    {"norm_eps": 0.3, "pre_norm": False, "norm": "rms"},
    {"positions": "sinusoidal", "d_model": 5, "num_heads": 1},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_forward_is_the_transcription_and_the_gradient_the_complex_step(rng, variant):
    model = tl.GPT(**{**SIZES, **variant})
    params = random_params(model, rng)
    ids = rng.integers(0, 7, (2, 4))
    logits = model(params, ids)
    expected = np.stack([gpt_in_loops(model, params, row) for row in ids])
    assert distance(logits, expected) < 1e-12
    targets = np.array([[0, 1, -100, 3], [2, 2, 2, -100]])
    loss, gradient = tl.value_and_grad(model.loss)(params, ids, targets)
    assert loss == pytest.approx(cross_entropy_in_loops(expected, targets), rel=1e-12)
    direction = random_params(model, rng)
    shifted = trees.map_leaves(lambda p, d: p + 1e-30j * d, params, direction)
    along = sum(
        np.sum(g * d) for g, d in zip(*map(trees.leaves, (gradient, direction)), strict=True)
    )
    assert along == pytest.approx(np.imag(model.loss(shifted, ids, targets)) / 1e-30, rel=1e-11)


def test_init():
    model = tl.GPT(65, 64, 128, 4, 4)
    params = model.init(np.random.default_rng(3))
    again = model.init(np.random.default_rng(3))
    for a, b in zip(trees.leaves(params), trees.leaves(again), strict=True):
        assert a.dtype == np.float32
        assert np.array_equal(a, b)
    C, V, T, L = 128, 65, 64, 4
    layer = 4 * C + 4 * (C * C + C) + (C * 4 * C + 4 * C) + (4 * C * C + C)
    assert sum(p.size for p in trees.leaves(params)) == V * C + T * C + L * layer + 2 * C
    assert np.std(params["token_embedding"]) == pytest.approx(0.02, rel=0.05)
    assert np.std(params["blocks"][2]["feed_forward"]["W_2"]) == pytest.approx(
        0.02 / math.sqrt(8), rel=0.05
    )
    loss = model.loss(params, [[1, 2, 3]], [[2, 3, 4]])
    assert loss == pytest.approx(math.log(65), abs=0.5)
    assert loss.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_one_dtype_throughout(variant, dtype):
    model = tl.GPT(**{**SIZES, **variant})
    params = model.init(np.random.default_rng(0), dtype)
    assert {p.dtype for p in trees.leaves(params)} == {np.dtype(dtype)}
    assert model(params, [[1, 2]]).dtype == dtype


def test_no_position_sees_a_later_one(rng):
    for positions in POSITIONS:
        model = tl.GPT(**{**SIZES, "d_model": 12}, positions=positions)
        params = random_params(model, rng)
        ids = rng.integers(0, 7, 5)
        changed = ids.copy()
        changed[3] = (ids[3] + 1) % 7
        before, after = model(params, ids), model(params, changed)
        np.testing.assert_allclose(before[:3], after[:3], rtol=1e-12)
        assert np.abs(before[3:] - after[3:]).max(axis=1).all()


def test_dropout_happens_with_a_generator_only(rng):
    model = tl.GPT(**SIZES, dropout=0.5)
    params = random_params(model, rng)
    ids = [[1, 2, 3]]
    assert np.array_equal(model(params, ids), model(params, ids))
    one, other = (model(params, ids, np.random.default_rng(seed)) for seed in (0, 1))
    assert not np.allclose(one, other)
    assert np.array_equal(one, model(params, ids, np.random.default_rng(0)))
    assert np.array_equal(
        model.loss(params, ids, ids, np.random.default_rng(0)),
        tl.cross_entropy(one, np.array(ids)),
    )


def test_where_dropout_happens(rng, monkeypatch):
    """On the embeddings, and on what each of the two sublayers of a layer adds."""
    model = tl.GPT(**SIZES, dropout=0.5)
    dropped = []

    def drop(x, rate, rng):
        dropped.append(rate)
        return x

    monkeypatch.setattr("tinylm.models.gpt.dropout", drop)
    model(random_params(model, rng), [[1, 2, 3]], rng)
    assert dropped == [0.5] * (1 + 2 * SIZES["num_layers"])


def test_names_of_every_layer(rng):
    model = tl.GPT(**SIZES)
    with tl.record() as seen:
        model(random_params(model, rng), [[1, 2, 3]])
    assert [
        len(seen[label]) for label in ("residual", "scores", "weights", "output", "logits")
    ] == [3, 2, 2, 2, 1]
    assert seen["weights"][1].shape == (1, 3, 3, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_model": 7}, "d_model=7: wanted a multiple of num_heads=3"),
        ({"vocab_size": 0}, "vocab_size=0: wanted at least 1"),
        ({"context_length": -1}, "context_length=-1"),
        ({"num_heads": 0}, "num_heads=0: wanted at least 1"),
        ({"num_layers": -1}, "num_layers=-1: wanted at least 0"),
        ({"d_ff": 0}, "d_ff=0"),
        ({"positions": "relative"}, "positions='relative': wanted learned or sinusoidal or rotary"),
        ({"activation": "swish"}, "activation='swish': wanted gelu or"),
        ({"norm": "batch"}, "norm='batch': wanted layer or rms"),
        ({"dropout": 1.0}, "dropout=1.0: wanted 0 <= dropout < 1"),
        ({"num_kv_heads": 2}, "num_kv_heads=2: wanted a divisor of num_heads=3"),
        ({"num_kv_heads": 0}, "num_kv_heads=0: wanted a divisor of num_heads=3"),
        ({"num_kv_heads": -1}, "num_kv_heads=-1: wanted a divisor of num_heads=3"),
        ({"norm_eps": 0.0}, "norm_eps=0.0: wanted a number above 0"),
        ({"vocab_size": "9"}, "vocab_size='9': wanted an integer"),
        ({"d_model": 6.0}, "d_model=6.0: wanted an integer"),
        ({"num_layers": None}, "num_layers=None: wanted an integer"),
        ({"dropout": "x"}, "dropout='x': wanted a number"),
        ({"positions": "rotary", "d_model": 9}, "an even d_model / num_heads"),
    ],
)
def test_sizes_that_are_not_possible(change, message):
    with pytest.raises(ValueError, match=f"GPT: .*{message}"):
        tl.GPT(**{**SIZES, **change})


def test_calls_that_are_not_possible(rng):
    model = tl.GPT(**SIZES)
    params = model.init(rng)
    with pytest.raises(ValueError, match=r"ids has shape \(1, 6\).*context_length = 5"):
        model(params, np.zeros((1, 6), int))
    with pytest.raises(ValueError, match=r"ids has shape \(\)"):
        model(params, 3)
    with pytest.raises(ValueError, match=r"ids has shape \(2, 0\)"):
        model(params, np.zeros((2, 0), int))
    with pytest.raises(ValueError, match=r"id 7 is outside the table \[0, 7\)"):
        model(params, [[7]])
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.d_model = 3


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_layers_computed_again_give_the_same_gradient(rng, rate):
    sizes = {"vocab_size": 7, "context_length": 5, "d_model": 8, "num_heads": 2, "num_layers": 2}
    ids, targets = rng.integers(0, 7, (2, 3, 5))
    results = []
    for recompute in (False, True):
        model = tl.GPT(**sizes, dropout=rate, recompute=recompute, positions="rotary")
        params = model.init(np.random.default_rng(0), np.float64)
        loss = tl.value_and_grad(model.loss)
        results.append(loss(params, ids, targets, rng=np.random.default_rng(1)))
    assert results[0][0] == results[1][0]
    for a, b in zip(*(trees.leaves(gradient) for _, gradient in results), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)
