"""BERT: every task against a transcription, its gradients, padding, and what it refuses."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from helpers import distance
from hypothesis import given
from hypothesis import strategies as st
from registry import (
    cross_entropy_in_loops,
    gelu_in_loops,
    layer_norm_in_loops,
    linear_in_loops,
    relu_in_loops,
    silu_in_loops,
)

import tinylm as tl
from tinylm.autograd import trees
from tinylm.models.bert import TASKS

SIZES = {"vocab_size": 11, "context_length": 5, "d_model": 6, "num_heads": 3, "num_layers": 2}
TASK = pytest.mark.parametrize("task", TASKS)
LABELS = {"masked-lm": 11, "token-classification": 3, "sequence-classification": 3}


def random_params(model, rng):
    return trees.map_leaves(lambda p: rng.standard_normal(p.shape), model.init(rng))


def bert_in_loops(model, params, ids, segments, mask):
    """One text, from the papers, without tinylm: (what the task asks for, hidden)."""
    T, C, H = len(ids), model.d_model, model.num_heads
    D = C // H
    activation = {
        "gelu": gelu_in_loops,
        "gelu_tanh": lambda x: gelu_in_loops(x, approximate=True),
        "relu": relu_in_loops,
        "silu": silu_in_loops,
    }[model.activation]

    def norm(p, x):
        return layer_norm_in_loops(x, p["gain"], p["bias"], model.norm_eps)

    def attend(p, x):
        Q, K, V = (linear_in_loops(x, p[f"W_{k}"], p[f"b_{k}"]) for k in "QKV")
        mixed = np.zeros((T, C))
        for h, t in itertools.product(range(H), range(T)):
            one = slice(h * D, (h + 1) * D)
            seen = [s for s in range(T) if mask[s]]
            weights = [math.exp(math.fsum(Q[t, one] * K[s, one]) / math.sqrt(D)) for s in seen]
            for s, weight in zip(seen, weights, strict=True):
                mixed[t, one] += weight / math.fsum(weights) * V[s, one]
        return linear_in_loops(mixed, p["W_O"], p["b_O"])

    x = np.zeros((T, C))
    for t, i in itertools.product(range(T), range(C)):
        x[t, i] = params["token_embedding"][ids[t], i]
        x[t, i] += params["position_embedding"][t, i]
        x[t, i] += params["segment_embedding"][segments[t], i]
    x = norm(params["embedding_norm"], x)
    for p in params["blocks"]:
        x = norm(p["norm_1"], x + attend(p["attention"], x))
        f = p["feed_forward"]
        inner = activation(linear_in_loops(x, f["W_1"], f["b_1"]))
        x = norm(p["norm_2"], x + linear_in_loops(inner, f["W_2"], f["b_2"]))

    def pool():
        first = linear_in_loops(x[:1], params["pooler"]["W"], params["pooler"]["b"])[0]
        return np.array([math.tanh(y) for y in first])

    if model.task is None:
        return pool(), x
    head = params["head"]
    if model.task == "masked-lm":
        y = norm(head["norm"], activation(linear_in_loops(x, head["W"], head["b"])))
        return linear_in_loops(y, params["token_embedding"].T, head["bias"]), x
    if model.task == "sequence-classification":
        return linear_in_loops(pool()[None], head["W"], head["b"])[0], x
    return linear_in_loops(x, head["W"], head["b"]), x


def batch(rng):
    """Two texts of five and three tokens, with segments."""
    mask = np.array([[True] * 5, [True] * 3 + [False] * 2])
    ids = np.where(mask, rng.integers(1, 11, (2, 5)), 0)
    return {"ids": ids, "segments": rng.integers(0, 2, (2, 5)), "mask": mask}


def some_targets(task, rng):
    if task == "sequence-classification":
        return rng.integers(0, 3, 2)
    if task == "question-answering":
        return np.array([[1, 4], [0, 2]])
    targets = rng.integers(0, LABELS[task], (2, 5))
    targets[0, 1] = targets[1, 3:] = -100
    return targets


@TASK
@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"activation": "relu", "num_heads": 1, "d_ff": 7},
        {"activation": "gelu_tanh", "norm_eps": 0.3},
        {"activation": "silu", "num_layers": 0, "num_segments": 3},
    ],
    ids=str,
)
def test_every_task_is_the_transcription(rng, task, variant):
    model = tl.BERT(**{**SIZES, **variant}, task=task, num_labels=3)
    params, inputs = random_params(model, rng), batch(rng)
    got = model(params, **inputs)
    expected, hidden = (
        np.stack(results)
        for results in zip(
            *(bert_in_loops(model, params, *row) for row in zip(*inputs.values(), strict=True)),
            strict=True,
        )
    )
    if task is None:
        assert distance(got.hidden, hidden) < 1e-12
        got = got.pooled
    assert distance(got, expected) < 1e-12
    means = np.array([h[m].mean(axis=0) for h, m in zip(hidden, inputs["mask"], strict=True)])
    lengths = np.array([[math.sqrt(math.fsum(mean**2))] for mean in means])
    assert distance(model.embed(params, **inputs), means / lengths) < 1e-12


@pytest.mark.parametrize("task", TASKS[1:])
def test_the_loss_is_the_transcription_and_the_gradient_the_complex_step(rng, task):
    model = tl.BERT(**SIZES, task=task, num_labels=3)
    params, inputs, targets = random_params(model, rng), batch(rng), some_targets(task, rng)
    logits = np.stack(
        [bert_in_loops(model, params, *row)[0] for row in zip(*inputs.values(), strict=True)]
    )
    loss, gradient = tl.value_and_grad(model.loss)(params, inputs, targets)
    if task == "question-answering":
        parts = [cross_entropy_in_loops(logits[..., i], targets[..., i]) for i in range(2)]
        expected = sum(parts) / 2
    else:
        expected = cross_entropy_in_loops(logits, targets)
    assert loss == pytest.approx(expected, rel=1e-12)
    direction = random_params(model, rng)
    shifted = trees.map_leaves(lambda p, d: p + 1e-30j * d, params, direction)
    along = sum(
        np.sum(g * d) for g, d in zip(*map(trees.leaves, (gradient, direction)), strict=True)
    )
    assert along == pytest.approx(np.imag(model.loss(shifted, inputs, targets)) / 1e-30, rel=1e-10)


def test_labels_count_as_much_as_they_are_told_to(rng):
    sizes = {**SIZES, "task": "sequence-classification", "num_labels": 3}
    model = tl.BERT(**sizes, class_weights=(0.5, 4.0, 0.0))
    params, ids = random_params(model, rng), rng.integers(0, 11, (4, 3))
    one, other, third = (
        tl.BERT(**sizes).loss(params, ids[i : i + 1], [label]) for i, label in enumerate((0, 1, 2))
    )
    wanted = (0.5 * one + 4 * other + 0 * third) / 4.5
    assert model.loss(params, ids, [0, 1, 2, -100]) == pytest.approx(wanted, rel=1e-12)


def test_an_embedded_text_has_a_gradient(rng):
    model = tl.BERT(**SIZES)
    params, inputs, other = random_params(model, rng), batch(rng), rng.standard_normal((2, 6))

    def likeness(params):
        return np.sum(model.embed(params, **inputs) * other)

    gradient, direction = tl.grad(likeness)(params), random_params(model, rng)
    shifted, back = (
        trees.map_leaves(lambda p, d, h=h: p + h * d, params, direction) for h in (1e-6, -1e-6)
    )
    along = sum(
        np.sum(g * d) for g, d in zip(*map(trees.leaves, (gradient, direction)), strict=True)
    )
    assert along == pytest.approx((likeness(shifted) - likeness(back)) / 2e-6, rel=1e-6)


@TASK
def test_padding_changes_nothing_of_the_real_tokens(rng, task):
    model = tl.BERT(**SIZES, task=task, num_labels=3)
    params, ids = random_params(model, rng), rng.integers(1, 11, (2, 3))
    alone = model(params, ids)
    mask = np.array([True] * 3 + [False] * 2)
    for filler in (0, 7):
        longer = np.concatenate([ids, np.full((2, 2), filler)], axis=1)
        padded = model(params, longer, mask=np.broadcast_to(mask, (2, 5)))
        unmasked = model(params, longer)
        for result, other, expected in zip(
            *map(trees.leaves, (padded, unmasked, alone)), strict=True
        ):
            real = (slice(None), slice(3)) if expected.ndim == 3 else ...
            assert distance(result[real], expected) < 1e-12
            assert distance(other[real], expected) > 1e-6, "without a mask they are seen"


@given(st.integers(0, 2**32 - 1), st.lists(st.booleans(), min_size=1, max_size=5))
def test_what_is_masked_has_no_part_in_the_rest(seed, mask):
    """Wherever it stands, not at the end alone."""
    rng, mask = np.random.default_rng(seed), np.array(mask)
    model = tl.BERT(**SIZES)
    params, ids = random_params(model, rng), rng.integers(0, 11, mask.size)
    other = np.where(mask, ids, rng.integers(0, 11, mask.size))
    one, two = (model(params, row, mask=mask) for row in (ids, other))
    np.testing.assert_allclose(one.hidden[mask], two.hidden[mask], rtol=0, atol=1e-12)
    if mask.any():
        embedded = [model.embed(params, row, mask=mask) for row in (ids, other)]
        np.testing.assert_allclose(*embedded, rtol=0, atol=1e-12)
    assert np.isfinite(one.hidden).all()


@given(st.integers(0, 2**32 - 1), st.permutations(range(5)))
def test_order_is_told_by_the_positions_alone(seed, order):
    rng, order = np.random.default_rng(seed), np.array(order)
    model = tl.BERT(**SIZES)
    params, ids = random_params(model, rng), rng.integers(0, 11, 5)
    params["position_embedding"] = np.zeros((5, 6))
    hidden, moved = (model(params, row).hidden for row in (ids, ids[order]))
    np.testing.assert_allclose(moved, hidden[order], rtol=0, atol=1e-11)


@TASK
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_init_and_one_dtype_throughout(task, dtype):
    model = tl.BERT(65, 16, 32, 4, 3, task=task, num_labels=3)
    params = model.init(np.random.default_rng(3), dtype)
    assert {p.dtype for p in trees.leaves(params)} == {np.dtype(dtype)}
    again = model.init(np.random.default_rng(3), dtype)
    assert all(map(np.array_equal, trees.leaves(params), trees.leaves(again)))
    C = 32
    layer = 4 * (C * C + C) + 2 * 2 * C + (C * 4 * C + 4 * C) + (4 * C * C + C)
    head = {
        None: C * C + C,
        "masked-lm": C * C + C + 2 * C + 65,
        "sequence-classification": C * C + C + 3 * C + 3,
        "token-classification": 3 * C + 3,
        "question-answering": 2 * C + 2,
    }[task]
    sizes = sum(p.size for p in trees.leaves(params))
    assert sizes == (65 + 16 + 2) * C + 2 * C + 3 * layer + head
    for path in ("token_embedding", "blocks.2.feed_forward.W_2", "blocks.0.attention.W_O"):
        assert np.std(dict(trees.paths(params))[path]) == pytest.approx(0.02, rel=0.1)
    for result in trees.leaves(model(params, [[1, 2]])):
        assert result.dtype == dtype
    assert model.embed(params, [[1, 2]], mask=np.array([[True, False]])).dtype == dtype
    if task is not None:
        targets = {"sequence-classification": [1], "question-answering": [[0, 1]]}
        loss = model.loss(params, [[1, 2]], targets.get(task, [[1, 2]]))
        assert loss.dtype == dtype
        labels = {"masked-lm": 65, "question-answering": 2}.get(task, 3)
        assert loss == pytest.approx(math.log(labels), abs=0.3), "nothing is known yet"


def test_segments_and_positions_count(rng):
    model = tl.BERT(**SIZES)
    params = random_params(model, rng)
    ids = [3, 4, 4]
    first = model(params, ids)
    assert np.array_equal(first.hidden, model(params, ids, segments=[0, 0, 0]).hidden)
    assert distance(model(params, ids, segments=[0, 1, 1]).hidden, first.hidden) > 1e-6
    assert distance(first.hidden[2], first.hidden[1]) > 1e-6


def test_targets_that_do_not_count_have_no_logits(rng):
    """The loss of a masked model computes few of the T V logits, and the same number."""
    model = tl.BERT(**SIZES, task="masked-lm")
    params, inputs = random_params(model, rng), batch(rng)
    targets = np.full((2, 5), -100)
    targets[0, 3], targets[1, 0] = 2, 9
    with tl.record() as seen:
        loss = model.loss(params, inputs, targets)
    assert seen["logits"][0].shape == (2, 11)
    assert loss == pytest.approx(tl.cross_entropy(model(params, **inputs), targets), rel=1e-12)


@TASK
def test_where_dropout_happens(rng, monkeypatch, task):
    """On the embeddings, on what each sublayer adds, and on what a classifier reads."""
    model = tl.BERT(**SIZES, dropout=0.5, task=task)
    params = random_params(model, rng)
    dropped = []

    def drop(x, rate, rng):
        dropped.append((rate, x.shape))
        return x

    monkeypatch.setattr("tinylm.models.bert.dropout", drop)
    model(params, [[1, 2, 3]])
    assert not dropped
    model(params, [[1, 2, 3]], rng=rng)
    head = {"sequence-classification": (1, 6), "token-classification": (1, 3, 6)}.get(task)
    assert dropped == [(0.5, (1, 3, 6))] * (1 + 2 * 2) + [(0.5, head)] * (head is not None)


def test_dropout_happens_with_a_generator_only(rng):
    model = tl.BERT(**SIZES, dropout=0.5, task="masked-lm")
    params, ids = random_params(model, rng), [[1, 2, 3]]
    one, other = (model(params, ids, rng=np.random.default_rng(seed)) for seed in (0, 1))
    assert not np.allclose(one, other)
    assert np.array_equal(one, model(params, ids, rng=np.random.default_rng(0)))
    loss = model.loss(params, ids, ids, np.random.default_rng(0))
    assert loss == pytest.approx(tl.cross_entropy(one, np.array(ids)), rel=1e-12)


def test_names_of_every_layer(rng):
    model = tl.BERT(**SIZES, task="question-answering")
    with tl.record() as seen:
        model(random_params(model, rng), [[1, 2, 3]])
    assert [
        len(seen[label]) for label in ("residual", "scores", "weights", "output", "logits")
    ] == [3, 2, 2, 2, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_model": 7}, "d_model=7: wanted a multiple of num_heads=3"),
        ({"vocab_size": 0}, "vocab_size=0: wanted at least 1"),
        ({"context_length": -1}, "context_length=-1"),
        ({"num_heads": 0}, "num_heads=0: wanted at least 1"),
        ({"num_layers": -1}, "num_layers=-1: wanted at least 0"),
        ({"num_segments": 0}, "num_segments=0: wanted at least 1"),
        ({"num_labels": 0}, "num_labels=0: wanted at least 1"),
        ({"d_ff": 0}, "d_ff=0"),
        ({"activation": "swish"}, "activation='swish': wanted gelu or"),
        ({"dropout": 1.0}, "dropout=1.0: wanted 0 <= dropout < 1"),
        ({"norm_eps": 0.0}, "norm_eps=0.0: wanted a number above 0"),
        ({"pad_id": 11}, "pad_id=11: wanted a token of the vocabulary"),
        ({"class_weights": (1.0, 2.0)}, "class_weights=.*, for a classification"),
        (
            {"class_weights": (1.0,), "task": "token-classification"},
            "class_weights=.*: wanted num_labels=2 numbers",
        ),
        ({"task": "translation"}, "task='translation': wanted None or masked-lm or"),
    ],
)
def test_sizes_that_are_not_possible(change, message):
    with pytest.raises(ValueError, match=f"BERT: {message}"):
        tl.BERT(**{**SIZES, **change})


def test_calls_that_are_not_possible(rng):
    model = tl.BERT(**SIZES, task="masked-lm")
    params, ids = model.init(rng), np.ones((2, 3), int)
    for wrong in (np.zeros((1, 6), int), 3, np.zeros((2, 0), int)):
        with pytest.raises(ValueError, match=r"BERT: ids has shape .*context_length = 5"):
            model(params, wrong)
    with pytest.raises(ValueError, match=r"id 11 is outside the table \[0, 11\)"):
        model(params, [[11]])
    with pytest.raises(ValueError, match=r"id 2 is outside the table \[0, 2\)"):
        model(params, ids, segments=2 * ids)
    with pytest.raises(
        ValueError, match=r"segments has shape \(3,\): wanted that of ids, \(2, 3\)"
    ):
        model(params, ids, segments=[0, 0, 1])
    with pytest.raises(ValueError, match=r"mask has shape \(2, 4\): wanted that of ids, \(2, 3\)"):
        model(params, ids, mask=np.ones((2, 4), bool))
    with pytest.raises(TypeError, match="BERT: mask holds int64: wanted bool, True = real token"):
        model(params, ids, mask=ids)
    with pytest.raises(ValueError, match="mask leaves a text without a token"):
        model.embed(params, ids, mask=np.array([[True] * 3, [False] * 3]))
    with pytest.raises(
        ValueError, match=r"targets has shape \(2, 2\): wanted that of ids, \(2, 3\)"
    ):
        model.loss(params, ids, ids[:, :2])
    with pytest.raises(ValueError, match="no target counts"):
        model.loss(params, ids, np.full((2, 3), -100))
    with pytest.raises(TypeError, match="attention_mask"):
        model.loss(params, {"ids": ids, "attention_mask": ids}, ids)
    with pytest.raises(ValueError, match="BERT: task=None: wanted a task, for a loss"):
        tl.BERT(**SIZES).loss(params, ids, ids)
    spans = tl.BERT(**SIZES, task="question-answering")
    with pytest.raises(ValueError, match=r"targets has shape \(2,\).*logits has \(2, 2, 3\)"):
        spans.loss(spans.init(rng), ids, [0, 1])
    with pytest.raises(ValueError, match="target 3 is outside"):
        spans.loss(spans.init(rng), ids, [[0, 3], [0, 1]])
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.d_model = 3


def test_class_weights_of_any_sequence():
    sizes = {**SIZES, "task": "sequence-classification"}
    weights = tl.balanced_weights([0, 0, 0, 1], 2)
    model = tl.BERT(**sizes, class_weights=weights)
    assert model == tl.BERT(**sizes, class_weights=weights.copy())
    assert hash(model)
    with pytest.raises(ValueError, match="class_weights=.*none below 0"):
        tl.BERT(**sizes, class_weights=(-1.0, 1.0))
