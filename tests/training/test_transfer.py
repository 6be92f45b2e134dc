"""Transfer: parameters taken over, early stopping, and the weights of classes."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tinylm as tl
from tinylm.autograd import trees
from tinylm.training import NonFiniteError

NAMES = st.sampled_from(["a", "b", "c", "d"])
SHAPES = st.sampled_from([(), (2,), (3,), (2, 3)])
NESTS = st.dictionaries(NAMES, SHAPES | st.dictionaries(NAMES, SHAPES, min_size=1), min_size=1)


def filled(shapes, value, dtype):
    if isinstance(shapes, dict):
        return {name: filled(inside, value, dtype) for name, inside in shapes.items()}
    return np.full(shapes, value, dtype)


@given(NESTS, NESTS)
def test_every_leaf_of_the_same_path_and_shape_is_taken(old, new):
    trained, fresh = filled(old, 7, np.float64), filled(new, 0, np.float32)
    before = {path: leaf.shape for path, leaf in trees.paths(trained)}
    after = {path: leaf.shape for path, leaf in trees.paths(fresh)}
    shared = [path for path in after if before.get(path) == after[path]]
    if not shared:
        with pytest.raises(ValueError, match="transfer: none of .* has the path and shape"):
            tl.transfer(trained, fresh)
        return
    params, taken, left, unused = tl.transfer(trained, fresh)
    assert taken == shared
    assert sorted(left + taken) == sorted(after)
    assert sorted(unused + taken) == sorted(before)
    for path, leaf in trees.paths(params):
        assert leaf.shape == after[path]
        assert leaf.dtype == np.float32
        assert np.all(leaf == (7 if path in shared else 0))


def test_another_vocabulary_is_another_head(rng):
    sizes = {"context_length": 5, "d_model": 6, "num_heads": 2, "num_layers": 1, "tied": False}
    old, new = tl.GPT(vocab_size=7, **sizes), tl.GPT(vocab_size=4, **sizes)
    trained, fresh = old.init(rng), new.init(rng)
    params, taken, left, unused = tl.transfer(trained, fresh)
    assert left == unused == ["token_embedding", "head"]
    assert params["blocks"][0]["attention"]["W_Q"] is trained["blocks"][0]["attention"]["W_Q"]
    ids = rng.integers(0, 4, (4, 6))
    trainer = tl.Trainer(new, params, tl.SGD(0.5), rates=dict.fromkeys(taken, 0.0))
    trainer.step(ids[:, :-1], ids[:, 1:])
    for path, leaf in trees.paths(trainer.params):
        assert np.array_equal(leaf, dict(trees.paths(params))[path]) == (path in taken)


class Fall:
    """Every update takes 1 from x."""

    def loss(self, params, ids, targets):
        return params["x"]


def fitted(values, **options):
    trainer = tl.Trainer(Fall(), {"x": np.array(0.0)}, tl.SGD(1.0))
    told = options.pop("told", lambda x: values[round(-float(x))])
    options = {"best": "lowest", "every": 1, "patience": 2, "until": 100} | options
    data = [([0], [0])] * 100
    return tl.fit(trainer, data, lambda params: told(params["x"]), **options), trainer


@given(
    st.lists(st.sampled_from([0.5, 1.0, 2.0, math.inf]), min_size=60, max_size=60),
    st.sampled_from(["lowest", "highest"]),
    *[st.integers(1, 4)] * 2,
    st.integers(0, 50),
)
@example([*range(60, 0, -1)], "lowest", 4, 2, 10)  # better to the end, which is no multiple of 4
def test_it_stops_after_so_many_that_are_no_better(values, best, every, patience, until):
    found, trainer = fitted(values, best=best, every=every, patience=patience, until=until)
    better = min if best == "lowest" else max
    seen, chosen = [], 0
    for step in [*range(0, until, every), until]:
        seen.append((step, values[step]))
        if better(seen, key=lambda entry: entry[1])[0] == step:  # the first of equals
            chosen = len(seen) - 1
        if len(seen) - 1 - chosen == patience:
            break
    assert found.history == seen
    assert trainer.steps == seen[-1][0]
    assert (found.step, found.value) == seen[chosen]
    assert found.params["x"] == -found.step


def test_the_best_of_a_model_that_learns_too_much(rng):
    """By heart, from four lines: held-out loss falls, and rises again."""
    model = tl.GPT(vocab_size=5, context_length=6, d_model=16, num_heads=2, num_layers=1)
    trainer = tl.Trainer(model, model.init(rng), tl.AdamW(0.03))
    text, held_out = rng.integers(0, 3, (4, 7)), rng.integers(0, 3, 200)
    data = [(text[:, :-1], text[:, 1:])] * 200
    measure = lambda params: tl.perplexity(model, params, held_out).nll  # noqa: E731
    found = tl.fit(trainer, data, measure, best="lowest", every=5, patience=3, until=200)
    assert 0 < found.step < trainer.steps < 200
    assert measure(found.params) == found.value < measure(trainer.params)


def test_impossible_fits():
    for wrong, message in (
        ({"best": "low"}, "best='low': wanted 'lowest' or 'highest'"),
        ({"every": 0}, "every=0: wanted at least 1"),
        ({"patience": 0}, "patience=0"),
    ):
        with pytest.raises(ValueError, match=f"fit: {message}"):
            fitted([1.0], **wrong)
    with pytest.raises(NonFiniteError, match="step 1: the measure is nan"):
        fitted([1.0, math.nan])


@given(st.lists(st.integers(0, 3), max_size=30))
def test_balanced_classes_weigh_the_same(labels):
    labels = [*labels, 0, 1, 2, 3]
    weights = tl.balanced_weights([*labels, -100], num_classes=4)
    assert sum(weights[label] for label in labels) == pytest.approx(len(labels))
    for k in range(4):
        assert weights[k] * labels.count(k) == pytest.approx(len(labels) / 4)


def test_impossible_weights():
    with pytest.raises(ValueError, match="class 1 has no label"):
        tl.balanced_weights([0, 2], 3)
    for wrong in ([0, 1, 3], [-1, 0, 1], [0.0, 1.0]):
        with pytest.raises(
            ValueError, match=r"balanced_weights: labels of .* wanted integers in \[0, 2\)"
        ):
            tl.balanced_weights(wrong, 2)


def test_heads_of_one_shape_can_begin_anew():
    trained = {"body": np.ones(2), "head": {"W": np.ones(3), "b": np.ones(1)}}
    fresh = {"body": np.zeros(2), "head": {"W": np.zeros(3), "b": np.zeros(1)}}
    got = tl.transfer(trained, fresh, anew=["head.*"])
    assert got.taken == ["body"]
    assert got.fresh == got.unused == ["head.W", "head.b"]
    assert not got.params["head"]["W"].any()
    with pytest.raises(ValueError, match=r"anew='haed.\*' matches no parameter: they are \['body'"):
        tl.transfer(trained, fresh, anew=["haed.*"])


def test_batches_that_end_end_the_training():
    class Square:
        def loss(self, params, ids, targets):
            return params["a"] ** 2

    for count, values in ((3, [0, 2, 3]), (4, [0, 2, 4]), (0, [0])):
        trainer = tl.Trainer(Square(), {"a": np.array(1.0)}, tl.SGD(lr=0.1))
        fitted = tl.fit(
            trainer, [([0], [0])] * count, lambda params: abs(params["a"]), best="lowest", every=2,
            patience=5, until=100,
        )  # fmt: skip
        assert [step for step, _ in fitted.history] == values
        assert fitted.step == count
