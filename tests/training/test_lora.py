"""LoRA: the model below it, updates of low rank, their gradients, and training of them alone."""

import math
import pickle

import numpy as np
import pytest
from helpers import assert_close, complex_step
from hypothesis import given, settings
from hypothesis import strategies as st

import tinylm as tl
from tinylm.autograd import trees

SIZES = {"vocab_size": 7, "context_length": 5, "d_model": 6, "num_heads": 2, "num_layers": 2}
TARGETS = [("*.W_Q", "*.W_V"), ("*.W_K",), ("blocks.1.*W_?",), ("token_embedding", "*.W_1")]


def drawn(lora, rng):
    """Adapters whose B is not zero any more."""
    return trees.map_leaves(lambda x: rng.standard_normal(x.shape), lora.init(rng))


def batch(rng):
    ids = rng.integers(0, 7, (3, 6))
    return ids[:, :-1], ids[:, 1:]


class Matrix:
    context_length, target_weight = 3, staticmethod(len)

    def __call__(self, params, x):
        return x @ params["W"]


def test_by_hand():
    """x W = (3, 4); x A = 1 * 1 + 2 * 3 = 7; 7 B = (7, -7); alpha / r = 0.5."""
    lora = tl.LoRA(Matrix(), {"W": np.array([[1.0, 2], [1, 1]])}, rank=1, alpha=0.5, targets=("W",))
    adapters = {"W": {"A": np.array([[1.0], [3]]), "B": np.array([[1.0, -1]])}}
    assert lora(adapters, np.array([1.0, 2])).tolist() == [3 + 3.5, 4 - 3.5]
    assert lora.params["W"].tolist() == [[1, 2], [1, 1]]
    assert (lora.context_length, lora.target_weight([1, 2])) == (3, 2)
    two = tl.LoRA(Matrix(), lora.params, rank=2, targets=("W",))
    ones = {"W": {"A": np.eye(2), "B": np.eye(2)}}
    assert two.merged(ones)["W"].tolist() == [[2, 2], [1, 2]], "alpha is the rank if not given"


@given(
    st.sampled_from(TARGETS),
    st.sampled_from(["learned", "rotary"]),
    st.integers(1, 6),
    st.floats(0.1, 30),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=15)
def test_adapted_is_merged_and_merged_is_the_sum(targets, positions, rank, alpha, seed):
    rng = np.random.default_rng(seed)
    rank = min(rank, 3) if positions == "rotary" else rank
    model = tl.GPT(**SIZES | {"d_model": 8}, positions=positions)
    params = model.init(rng, np.float64)
    lora = tl.LoRA(model, params, rank, alpha, targets)
    ids, targets = batch(rng)
    fresh = lora.init(rng)
    assert np.array_equal(lora(fresh, ids), model(params, ids)), "B = 0: the model itself"
    adapters = drawn(lora, rng)
    merged = dict(trees.paths(lora.merged(adapters)))
    for path, W in trees.paths(params):
        adapter = adapters.get(path.replace(".", "/"))
        if adapter is None:
            assert merged[path] is W
            continue
        update = np.zeros(W.shape)
        for i, j in np.ndindex(*W.shape):
            update[i, j] = alpha / rank * sum(adapter["A"][i] * adapter["B"][:, j])
        np.testing.assert_allclose(merged[path], W + update, rtol=1e-12, atol=1e-12)
        assert np.linalg.matrix_rank(update) == rank
    assert np.array_equal(lora(adapters, ids), model(lora.merged(adapters), ids))
    assert lora.loss(adapters, ids, targets) == model.loss(lora.merged(adapters), ids, targets)


@pytest.mark.parametrize("targets", TARGETS, ids=str)
def test_gradients_are_those_of_the_complex_step(rng, targets):
    model = tl.GPT(**SIZES | {"num_layers": 2})
    lora = tl.LoRA(model, model.init(rng, np.float64), 2, 3.0, targets)
    adapters = drawn(lora, rng)
    ids, targets = batch(rng)

    def loss(*leaves):
        found = iter(leaves)
        return lora.loss(trees.map_leaves(lambda _: next(found), adapters), ids, targets)

    expected = complex_step(loss, trees.leaves(adapters), 1.0)
    gradient = tl.grad(lora.loss)(adapters, ids, targets)
    assert_close(trees.leaves(gradient), list(expected), 1e-11)


def test_it_learns_a_new_text_and_the_base_stays(rng):
    model = tl.GPT(**SIZES | {"d_model": 12}, dropout=0.1)
    trainer = tl.Trainer(model, model.init(rng), tl.AdamW(0.01), rng=rng)
    old, new = np.arange(60) % 7, -np.arange(60) % 7
    windows = np.lib.stride_tricks.sliding_window_view
    trainer.run([(windows(old, 5)[:20], windows(old[1:], 5)[:20])] * 60, until=60)
    before = pickle.dumps(trainer.params)
    params = trainer.params
    lora = tl.LoRA(model, params, rank=4, alpha=8)
    start = tl.perplexity(lora, lora.init(rng), new).nll
    assert start == tl.perplexity(model, params, new).nll > 2
    assert tl.perplexity(model, params, old).nll < 1
    data = [(windows(new, 5)[:20], windows(new[1:], 5)[:20])] * 150
    tuned = tl.Trainer(
        lora, lora.init(rng), tl.AdamW(0.02), clip_norm=1.0, shards=2, processes=2, rng=rng
    )
    tuned.run(data, until=150)
    assert tl.perplexity(lora, tuned.params, new).nll < 0.5
    assert pickle.dumps(params) == before
    assert {leaf.dtype for leaf in trees.leaves(tuned.params)} == {np.dtype(np.float32)}
    assert lora.context_length == 5
    written = tl.generate(lora, tuned.params, [6], 4, temperature=0)
    assert written.tolist() == tl.generate(model, lora.merged(tuned.params), [6], 4, 0).tolist()
    assert written.tolist() == [6, 5, 4, 3, 2]


def test_it_adapts_what_has_several_inputs(rng):
    """Cross-attention too."""
    model = tl.Transformer(7, 5, d_model=8, num_heads=2, num_encoder_layers=1, num_decoder_layers=1)
    params = model.init(rng)
    lora = tl.LoRA(model, params, 2)
    ids, targets = (
        (rng.integers(0, 7, (4, 3)), rng.integers(0, 7, (4, 5))),
        rng.integers(0, 7, (4, 5)),
    )
    trainer = tl.Trainer(lora, lora.init(rng), tl.SGD(1.0), shards=2, rng=rng)
    losses = [trainer.step(ids, targets) for _ in range(5)]
    assert losses[-1] < losses[0]


def test_adapters_can_be_saved(rng, tmp_path):
    model = tl.GPT(**SIZES)
    lora = tl.LoRA(model, model.init(rng), 2, targets=("blocks.1.*.W_Q",))
    adapters = drawn(lora, rng)
    tl.save(tmp_path / "a", adapters)
    loaded, _ = tl.load(tmp_path / "a")
    ids, _ = batch(rng)
    assert np.array_equal(lora(loaded, ids), lora(adapters, ids))
    again = pickle.loads(pickle.dumps(lora))  # noqa: S301
    assert np.array_equal(again(adapters, ids), lora(adapters, ids))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, r"rank=0 for blocks.0.attention.W_Q of shape \(6, 6\): wanted a matrix"),
        ({"rank": 7}, "rank=7"),
        ({"rank": 1, "alpha": 0.0}, "alpha=0.0: wanted a number above 0"),
        ({"rank": 1, "alpha": math.nan}, "alpha=nan"),
        ({"rank": 1, "targets": ("*.W_Q", "*.W_X")}, r"target '\*.W_X' matches no parameter"),
        ({"rank": 1, "targets": ("*gain",)}, r"rank=1 for .*gain of shape \(6,\): wanted a matrix"),
        ({"rank": 1, "targets": ()}, "targets is empty"),
    ],
)
def test_impossible_adapters(rng, arguments, message):
    model = tl.GPT(**SIZES)
    params = model.init(rng)
    with pytest.raises(ValueError, match=f"LoRA: {message}"):
        tl.LoRA(model, params, **arguments)
    lora = tl.LoRA(model, params, 2)
    with pytest.raises(ValueError, match="LoRA: adapters of .*: wanted"):
        lora.merged({})
    with pytest.raises(AttributeError, match="LoRA has no 'encode': what else the model can do"):
        _ = lora.encode


def test_a_number_of_numpy_does_not_change_the_dtype(rng):
    model = tl.GPT(9, 8, 8, 2, 1)
    lora = tl.LoRA(model, model.init(rng), rank=2, alpha=np.float64(4))
    merged = lora.merged(lora.init(rng))
    assert {p.dtype for p in trees.leaves(merged)} == {np.dtype(np.float32)}
