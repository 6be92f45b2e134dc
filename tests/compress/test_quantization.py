"""Quantization: by hand, how far it moves a number, on disk, in a model, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinylm as tl
from tinylm.autograd import trees

SIZES = {"vocab_size": 40, "context_length": 7, "d_model": 32, "num_heads": 2, "num_layers": 2}
DTYPES = [np.float16, np.float32, np.float64]


def test_by_hand():
    """Columns: 254 / 127 = 2, -127 / 127 = 1, nothing but zeros, 0.5 / 127; halves to even."""
    W = np.array([[254.0, 2.5, 0.0, 0.5], [-3.0, -127.0, 0.0, -0.25], [5.0, 63.4, -0.0, 0.001]])
    got = tl.compress.quantize({"W": W, "b": np.array([0.3])})
    assert got["W"]["int8"].dtype == np.int8
    assert got["W"]["int8"].tolist() == [[127, 2, 0, 127], [-2, -127, 0, -64], [2, 63, 0, 0]]
    np.testing.assert_allclose(got["W"]["scale"], [[2, 1, 0, 0.5 / 127]], rtol=1e-15)
    assert got["b"].tolist() == [0.3]
    back = tl.compress.dequantize(got)
    assert back["W"][:, :3].tolist() == [[254, 2, 0], [-4, -127, 0], [4, 63, 0]]


def test_a_table_has_a_scale_for_each_row():
    """An output channel of the head, which is the table transposed."""
    W = np.array([[1.27, 0.01], [254.0, 127.0]])
    got = tl.compress.quantize({"token_embedding": W, "head": W.T})
    assert got["token_embedding"]["int8"].tolist() == [[127, 1], [127, 64]]
    assert got["token_embedding"]["scale"].shape == (2, 1)
    np.testing.assert_array_equal(got["head"]["int8"], got["token_embedding"]["int8"].T)
    np.testing.assert_array_equal(got["head"]["scale"], got["token_embedding"]["scale"].T)


@st.composite
def matrices(draw):
    dtype = draw(st.sampled_from(sorted(DTYPES, key=str)))
    bound = float(np.finfo(dtype).max)
    numbers = st.floats(-bound, bound, width=np.dtype(dtype).itemsize * 8) | st.just(0.0)
    shape = hnp.array_shapes(min_dims=2, max_dims=2, max_side=7)
    W = draw(hnp.arrays(dtype, shape, elements=numbers))
    tiny = dtype(2.0 ** -draw(st.integers(0, 30)))  # down to where floats have few digits
    return W * tiny


@given(matrices(), st.sampled_from(["W", "token_embedding"]))
def test_no_number_moves_by_more_than_half_a_step(W, name):
    before = W.copy()
    got = tl.compress.quantize({name: W})
    back = tl.compress.dequantize(got)[name]
    assert back.dtype == W.dtype == got[name]["scale"].dtype
    assert back.shape == W.shape
    np.testing.assert_array_equal(W, before)
    q, s = got[name]["int8"].astype(np.longdouble), got[name]["scale"].astype(np.longdouble)
    assert np.abs(q).max() <= 127
    slack = 1 + 200 * float(np.finfo(W.dtype).eps)  # of W / s, which is rounded too
    assert (np.abs(q * s - W) <= s / 2 * slack).all()
    largest = np.max(np.abs(W), axis=int(name != "W"), keepdims=True)
    close = np.abs(s - largest.astype(np.longdouble) / 127)
    assert (close <= np.finfo(W.dtype).eps * s + np.finfo(W.dtype).smallest_subnormal).all()
    np.testing.assert_array_equal(s == 0, largest == 0)


@given(matrices())
def test_what_is_quantized_stays_where_it_is(W):
    """Twice is once, up to the rounding of the scale."""
    once = tl.compress.dequantize(tl.compress.quantize({"W": W}))["W"]
    twice = tl.compress.dequantize(tl.compress.quantize({"W": once}))["W"]
    eps = np.finfo(W.dtype).eps
    np.testing.assert_allclose(
        twice.astype(float), once.astype(float), rtol=4 * eps, atol=1e-300 + 127 * tiniest(W)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["W", "token_embedding"])
def test_the_largest_finite_numbers_stay_finite(dtype, name):
    """65504 / 127 is 515.8, in float16 516, and 127 * 516 is inf there: 515.5, then."""
    largest = np.finfo(dtype).max
    W = np.array([[largest, -largest], [-largest, largest / 2]])
    got = tl.compress.quantize({name: W})
    back = tl.compress.dequantize(got)[name]
    step = got[name]["scale"].astype(np.longdouble)
    assert np.isfinite(back).all()
    assert (np.abs(back.astype(np.longdouble) - W) <= step / 2).all()
    if dtype is np.float16:
        assert got[name]["scale"].ravel().tolist() == [515.5, 515.5]


def tiniest(W):
    return float(np.finfo(W.dtype).smallest_subnormal)


def test_files_keep_the_bytes(tmp_path, rng):
    params = tl.GPT(**SIZES | {"d_model": 64}).init(rng)
    small = tl.compress.quantize(params)
    tl.save(tmp_path / "full", params)
    tl.save(tmp_path / "int8", small)
    assert (tmp_path / "full").stat().st_size >= 3 * (tmp_path / "int8").stat().st_size
    loaded, _ = tl.load(tmp_path / "int8")
    for (path, got), wanted in zip(trees.paths(loaded), trees.leaves(small), strict=True):
        assert got.dtype == wanted.dtype, path
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("sizes", [{}, {"tied": False}, {"positions": "rotary", "bias": False}])
def test_a_quantized_model_is_the_model_of_the_restored_parameters(sizes, rng):
    model = tl.GPT(**SIZES, **sizes)
    params = trees.map_leaves(lambda p: p * 4, model.init(rng))
    small, ids = tl.compress.quantize(params), rng.integers(0, 40, 30)
    quantized, restored = tl.compress.Quantized(model), tl.compress.dequantize(small)
    assert {x.dtype for x in trees.leaves(small)} == {np.dtype(np.int8), np.dtype(np.float32)}
    np.testing.assert_array_equal(quantized(small, ids[:7]), model(restored, ids[:7]))
    nll = tl.perplexity(quantized, small, ids).nll
    assert nll == tl.perplexity(model, restored, ids).nll
    assert 0 < abs(nll - tl.perplexity(model, params, ids).nll) < 0.1
    written = tl.generate(quantized, small, [3], 5, temperature=0)
    assert written.tolist() == tl.generate(model, restored, [3], 5, temperature=0).tolist()
    assert (quantized.context_length, quantized.vocab_size) == (7, 40)


def test_translators_too(rng):
    model = tl.Transformer(9, 5, 8, 2, 1, 1)
    small = tl.compress.quantize(model.init(rng))
    ids = np.array([[1, 2, 3]])
    assert tl.compress.Quantized(model)(small, ids, ids).shape == (1, 3, 9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad):
    nest = {"layers": [{"W": np.array([[1.0, bad]])}]}
    with pytest.raises(ValueError, match=r"quantize: layers\.0\.W holds what is not finite"):
        tl.compress.quantize(nest)


@pytest.mark.parametrize(
    ("function", "nest", "says"),
    [
        ("quantize", {"b": np.ones(3)}, r"quantize: no matrix in \['b'\]"),
        ("quantize", {}, "no matrix"),
        ("quantize", {"W": np.ones((2, 2), int)}, "W holds int64: wanted finite floats"),
        ("quantize", {"W": np.ones((2, 2), complex)}, "W holds complex128"),
        ("dequantize", {"W": np.ones((2, 2))}, r"dequantize: nothing in it has the keys \['int8'"),
        ("dequantize", {}, "nothing in it"),
    ],
)
def test_other_nests_are_refused(function, nest, says):
    with pytest.raises(ValueError, match=says):
        getattr(tl.compress, function)(nest)


def test_twice_is_refused_and_so_is_training(rng):
    model = tl.GPT(**SIZES)
    small = tl.compress.quantize(model.init(rng))
    with pytest.raises(ValueError, match=r"token_embedding\.int8 holds int8: wanted finite floats"):
        tl.compress.quantize(small)
    with pytest.raises(AttributeError, match="Quantized has no 'loss'"):
        _ = tl.compress.Quantized(model).loss


def test_a_matrix_of_no_rows():
    got = tl.compress.quantize({"W": np.zeros((0, 3))})
    assert tl.compress.dequantize(got)["W"].shape == (0, 3)
