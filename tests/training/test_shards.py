"""Shards: batches of one array or several, cut so that the gradient is that of the whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinylm as tl
from tinylm.autograd import trees
from tinylm.training.shards import cut, shard_gradients
from tinylm.workers import Workers

CLASS_WEIGHTS = np.array([0.25, 0.0, 3.0, 1.5])


class Pairs:
    """A loss of two arrays of ids and a mask: the mean over the targets, weighted by class."""

    def loss(self, params, ids, targets):
        source, (target, mask) = ids["source"], ids["target"]
        seen = np.sum(params["table"][source], axis=1)[:, None] + params["table"][target]
        logits = tl.log_softmax(np.where(mask[..., None], seen, 0.5) @ params["W"])
        counted = targets != -100
        index = np.where(counted, targets, 0)
        weight = np.where(counted, CLASS_WEIGHTS[index], 0)
        taken = np.take_along_axis(logits, index[..., None], axis=-1)[..., 0]
        return -np.sum(weight * taken) / np.sum(weight)

    def target_weight(self, targets):
        return float(np.sum(CLASS_WEIGHTS[targets[targets != -100]]))


def params_of(rng):
    return {"table": rng.standard_normal((5, 3)), "W": rng.standard_normal((3, 4))}


def batch_of(rng, B=7):
    ids = {
        "source": rng.integers(0, 5, (B, 4)),
        "target": (rng.integers(0, 5, (B, 2)), rng.random((B, 2)) < 0.8),
    }
    targets = np.where(rng.random((B, 2)) < 0.7, rng.integers(0, 4, (B, 2)), -100)
    targets[0, 0] = 2  # something counts
    targets[3] = -100  # a shard without any target
    targets[5] = 1  # a shard whose targets weigh nothing
    return ids, targets


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from([1, 2]))
@settings(max_examples=20)
def test_the_gradient_does_not_depend_on_the_shards(seed, shards, threads):
    rng = np.random.default_rng(seed)
    model, params, (ids, targets) = Pairs(), params_of(rng), batch_of(rng)
    loss, gradient = tl.value_and_grad(model.loss)(params, ids, targets)
    parts = cut(ids, targets, shards, weight=model.target_weight)
    assert sum(part.share for part in parts) == pytest.approx(1)
    got, gradients = shard_gradients(model, params, parts, Workers(threads))
    assert got == pytest.approx(loss, rel=1e-13)
    summed = trees.map_leaves(lambda *shares: sum(shares), *gradients)
    for a, b in zip(trees.leaves(summed), trees.leaves(gradient), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)


def test_nor_on_the_processes(rng):
    params, (ids, targets) = params_of(rng), batch_of(rng)
    alone = tl.Trainer(Pairs(), params, tl.SGD(0.1))
    together = tl.Trainer(Pairs(), params, tl.SGD(0.1), shards=5, processes=2)
    for _ in range(3):
        assert together.step(ids, targets) == pytest.approx(alone.step(ids, targets), rel=1e-12)
    for a, b in zip(trees.leaves(together.params), trees.leaves(alone.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_what_is_cut(rng):
    ids, targets = batch_of(rng)
    parts = cut(ids, (targets, targets), shards=3)
    for path in ("source", "target.0", "target.1"):
        pieces = [dict(trees.paths(part.ids))[path] for part in parts]
        assert np.array_equal(np.concatenate(pieces), dict(trees.paths(ids))[path])
    assert [len(part.targets[1]) for part in parts] == [3, 2, 2]
    assert [part.share for part in parts] == [
        np.count_nonzero(part.targets[0] != -100) / np.count_nonzero(targets != -100)
        for part in parts
    ]
    (rows,) = cut([[1, 2], [3, 4]], [[1, 2], [3, 4]])  # a list is no nest
    assert rows.ids.shape == (2, 2)
    (none,) = cut({"ids": [[1]], "mask": None}, [[1]])
    assert none.ids["mask"] is None


@pytest.mark.parametrize(
    ("ids", "targets"),
    [
        ({"ids": [[1], [2]], "mask": [[1]]}, [[1]]),
        ([[1], [2]], [[1]]),
        (([[1]], 3), [[1]]),
        (np.zeros((0, 1), int), np.zeros((0, 1), int)),
        ((), ()),
    ],
    ids=["dict", "rows", "number", "no rows", "nothing"],
)
def test_batches_that_cannot_be_cut(ids, targets):
    with pytest.raises(ValueError, match="a batch whose arrays have .* wanted the same number"):
        cut(ids, targets)


class Classifier:
    """Logistic regression with class weights."""

    weights = tl.balanced_weights([0, 0, 0, 0, 1, 1, 2], num_classes=3)

    def loss(self, params, ids, targets):
        return tl.cross_entropy(params["W"][ids], targets, weights=self.weights)

    def target_weight(self, targets):
        return float(np.sum(self.weights[targets[targets != -100]]))


def test_class_weights_of_cross_entropy(rng):
    """The trainer's shards give the weighted mean of all, whatever class falls into which."""
    ids, targets = rng.integers(0, 4, 7), np.array([0, 1, 0, 0, 2, 1, -100])
    params = {"W": rng.standard_normal((4, 3))}
    whole, *cuts = (tl.Trainer(Classifier(), params, tl.SGD(0.5), shards=n) for n in (1, 2, 3, 7))
    loss = whole.step(ids, targets)
    p = np.exp(params["W"])[ids] / np.sum(np.exp(params["W"])[ids], axis=1, keepdims=True)
    w = Classifier.weights[targets[:-1]]
    assert loss == pytest.approx(-np.sum(w * np.log(p[np.arange(6), targets[:-1]])) / np.sum(w))
    for trainer in cuts:
        assert trainer.step(ids, targets) == pytest.approx(loss, rel=1e-13)
        np.testing.assert_allclose(trainer.params["W"], whole.params["W"], rtol=1e-12)


TRANSFORMER = tl.Transformer(7, 8, 4, 2, 1, 1, pad_id=0, label_smoothing=0.1)
BERT = {"vocab_size": 7, "context_length": 8, "d_model": 4, "num_heads": 2, "num_layers": 1}
WEIGHTED = tl.BERT(**BERT, task="token-classification", num_labels=3, class_weights=(0.5, 4.0, 1.0))


@pytest.mark.parametrize("model", [TRANSFORMER, WEIGHTED], ids=["Transformer", "BERT"])
def test_models_say_what_their_targets_weigh(rng, model):
    params = model.init(rng, np.float64)
    source, target = rng.integers(1, 7, (2, 6, 5))
    for i, length in enumerate((5, 1, 2, 5, 3, 4)):
        target[i, length:] = 0
    ids = (source, target) if model is TRANSFORMER else source
    targets = target if model is TRANSFORMER else np.where(target, source % 3, -100)
    losses = []
    for shards in (1, 2, 4):
        parts = cut(ids, targets, shards, weight=model.target_weight)
        losses.append(shard_gradients(model, params, parts)[0])
    assert losses == pytest.approx([model.loss(params, ids, targets)] * 3, rel=1e-12)
