"""Pruning: by hand, which go and which stay, training on, sparse files, and what it refuses."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinylm as tl
from tinylm.autograd import trees

SIZES = {"vocab_size": 7, "context_length": 5, "d_model": 8, "num_heads": 2, "num_layers": 2}
FLOATS = st.floats(-1e3, 1e3, width=16)
MATRICES = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]),
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=FLOATS,
)


def test_by_hand():
    """0.25 of eight are two: 0.1 and 0.3 by size; each matrix for itself."""
    nest = {"W": np.array([[-5.0, 0.3, 2, -1], [0.5, -0.1, 4, 3]]), "V": np.array([[0.01, 0.02]]),
            "b": np.array([0.0, 0.001])}  # fmt: skip
    got = tl.compress.prune(nest, 0.25)
    assert got["W"].tolist() == [[-5, 0, 2, -1], [0.5, 0, 4, 3]]
    assert got["V"].tolist() == [[0.01, 0.02]]
    assert tl.compress.prune(nest, 0.5)["V"].tolist() == [[0, 0.02]]
    assert got["b"] is nest["b"]


@given(MATRICES, st.floats(0, 0.99))
def test_the_smallest_go(W, share):
    before = W.copy()
    got = tl.compress.prune({"W": W}, share)["W"]
    np.testing.assert_array_equal(W, before)
    assert got.dtype == W.dtype
    gone = got != W
    wanted = np.sort(np.abs(W), axis=None)
    wanted[: round(share * W.size)] = 0
    np.testing.assert_array_equal(np.sort(np.abs(got), axis=None), wanted)
    assert not got[gone].any()
    if gone.any() and not gone.all():
        assert np.abs(W[gone]).max() <= np.abs(W[~gone & (got != 0)]).min(initial=np.inf)


@given(MATRICES)
def test_sparse_is_csr_and_dense_is_back(W):
    compressed = tl.compress.sparse({"W": W, "b": W[0]})
    csr = scipy.sparse.csr_array(W.astype(np.float64))
    csr.eliminate_zeros()
    its = compressed["W"]
    np.testing.assert_array_equal(its["values"], csr.data)
    np.testing.assert_array_equal(its["columns"], csr.indices)
    np.testing.assert_array_equal(its["rows"], csr.indptr)
    back = tl.compress.dense(compressed)
    np.testing.assert_array_equal(back["W"], W)
    assert back["W"].dtype == W.dtype
    assert back["b"] is compressed["b"]
    assert back["W"].tobytes() == (W + 0).tobytes()  # to the bit, but that -0.0 is 0.0


@pytest.mark.parametrize(
    ("width", "columns"), [(256, np.uint8), (257, np.uint16), (70_000, np.uint32)]
)
def test_the_smallest_integers_that_do(width, columns):
    W = np.zeros((2, width), np.float32)
    W[:, -1] = [1, 2]
    its = tl.compress.sparse({"W": W})["W"]
    assert its["columns"].dtype == columns
    assert its["columns"].tolist() == [width - 1] * 2
    np.testing.assert_array_equal(tl.compress.dense({"W": its})["W"], W)
    many = tl.compress.sparse({"W": np.ones((3, 256))})["W"]
    assert (many["rows"].dtype, many["rows"].tolist()) == (np.uint16, [0, 256, 512, 768])
    np.testing.assert_array_equal(tl.compress.dense({"W": many})["W"], np.ones((3, 256)))


def test_files_are_smaller_by_what_is_zero(tmp_path, rng):
    params = {"W": rng.standard_normal((200, 200)).astype(np.float32), "b": np.ones(200)}
    pruned = tl.compress.prune(params, 0.9)
    tl.save(tmp_path / "full", pruned)
    tl.save(tmp_path / "sparse", tl.compress.sparse(pruned))
    full, small = ((tmp_path / name).stat().st_size for name in ("full", "sparse"))
    assert 4000 * (4 + 1) <= small < full / 6
    loaded = tl.compress.dense(tl.load(tmp_path / "sparse")[0])
    np.testing.assert_array_equal(loaded["W"], pruned["W"])


@pytest.mark.parametrize("processes", [1, 2])
def test_training_on_keeps_the_zeros(rng, processes):
    model = tl.GPT(**SIZES, dropout=0.1)
    start = tl.compress.prune(model.init(rng), 0.6)
    pruned = tl.compress.Pruned(model, start)
    ids = rng.integers(0, 7, (4, 6))
    trainer = tl.Trainer(
        pruned, start, tl.AdamW(0.01, weight_decay=0.1), 1.0, 2, rng=rng, processes=processes
    )
    losses = [trainer.step(ids[:, :-1], ids[:, 1:]) for _ in range(15)]
    assert losses[-1] < losses[0]
    for (path, before), after in zip(trees.paths(start), trees.leaves(trainer.params), strict=True):
        assert (before != after).any()
        if before.ndim == 2:
            np.testing.assert_array_equal(before == 0, after == 0, err_msg=path)


def test_its_loss_is_that_of_the_masked_parameters(rng):
    model = tl.GPT(**SIZES)
    params = model.init(rng, np.float64)
    pruned = tl.compress.Pruned(model, tl.compress.prune(params, 0.5))
    ids = rng.integers(0, 7, (3, 6))
    batch = ids[:, :-1], ids[:, 1:]
    masked = tl.compress.prune(params, 0.5)
    assert pruned.loss(params, *batch) == model.loss(masked, *batch)
    np.testing.assert_array_equal(pruned(params, ids[:, :5]), model(masked, ids[:, :5]))
    gradient, whole = tl.grad(pruned.loss)(params, *batch), tl.grad(model.loss)(masked, *batch)
    for (_, got), wanted, p in zip(
        trees.paths(gradient), trees.leaves(whole), trees.leaves(masked), strict=True
    ):
        kept = (p != 0) | (p.ndim < 2)
        np.testing.assert_allclose(got, kept * wanted, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, np.nan])
def test_impossible_shares(share):
    with pytest.raises(ValueError, match="prune: share=.*wanted a number from 0 to below 1"):
        tl.compress.prune({"W": np.ones((2, 2))}, share)


@pytest.mark.parametrize("nest", [{"b": np.ones(2)}, {"W": np.ones((2, 2), int)},
                                  {"W": np.array([[np.nan]])}])  # fmt: skip
def test_other_nests_are_refused(nest):
    for who, function in (
        ("prune", lambda nest: tl.compress.prune(nest, 0.5)),
        ("sparse", tl.compress.sparse),
        ("Pruned", lambda nest: tl.compress.Pruned(None, nest)),
    ):
        with pytest.raises(ValueError, match=f"{who}: (no matrix|W holds)"):
            function(nest)
    with pytest.raises(ValueError, match="dense: nothing in it has the keys"):
        tl.compress.dense(nest)
