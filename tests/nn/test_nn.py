"""Positions, multi-head attention, feed-forward and the block, against loops."""

import math

import numpy as np
import pytest
from helpers import assert_close, complex_step_along, distance
from hypothesis import given
from hypothesis import strategies as st
from registry import attention_in_loops, layer_norm_in_loops, linear_in_loops, rms_norm_in_loops

import tinylm as tl
from tinylm.autograd import trees
from tinylm.nn import block, feed_forward, init_block, init_multi_head, normalize


@given(st.integers(0, 12), st.integers(0, 11))
def test_sinusoidal_encoding_as_printed(length, d_model):
    encoding = tl.sinusoidal_encoding(length, d_model)
    assert encoding.shape == (length, d_model)
    for position in range(length):
        for i in range(d_model):
            angle = position / 10000 ** (2 * (i // 2) / d_model)
            expected = math.sin(angle) if i % 2 == 0 else math.cos(angle)
            assert encoding[position, i] == pytest.approx(expected, abs=1e-15)


def test_sinusoidal_encoding_by_hand():
    encoding = tl.sinusoidal_encoding(101, 5)
    assert encoding[1, 0] == pytest.approx(0.8414709848)
    assert encoding[100, 1] == pytest.approx(0.8623188723)  # cos(100)
    assert encoding[100, 4] == pytest.approx(math.sin(100 / 10000 ** (4 / 5)))
    assert not encoding[0, ::2].any()
    assert encoding[0, 1::2].all()
    with pytest.raises(ValueError, match="length=-1 and d_model=4"):
        tl.sinusoidal_encoding(-1, 4)


def rotary_in_loops(x, positions, base=10000.0):
    *_, D = x.shape
    y = np.zeros(x.shape)
    positions = np.broadcast_to(positions, x.shape[:-1])
    for i in np.ndindex(x.shape[:-1]):
        for pair in range(D // 2):
            angle = positions[i] * base ** (-2 * pair / D)
            a, b = x[(*i, 2 * pair)], x[(*i, 2 * pair + 1)]
            y[(*i, 2 * pair)] = a * math.cos(angle) - b * math.sin(angle)
            y[(*i, 2 * pair + 1)] = a * math.sin(angle) + b * math.cos(angle)
    return y


def test_rotary_as_printed(rng):
    for shape, positions in (
        ((5, 6), np.arange(5)),
        ((2, 3, 5, 2), np.arange(5)),
        ((2, 5, 4), rng.integers(0, 100, (2, 5))),
        ((0, 4), np.arange(0)),
    ):
        x = rng.standard_normal(shape)
        assert distance(tl.rotary(x, positions), rotary_in_loops(x, positions)) < 1e-13
        assert (
            distance(tl.rotary(x, positions, 100.0), rotary_in_loops(x, positions, 100.0)) < 1e-13
        )
    assert tl.rotary(x.astype(np.float32), np.arange(0)).dtype == np.float32


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g"])
def test_the_rotary_kernel_is_its_formula_in_every_layout(rng, dtype):
    x, c = (rng.standard_normal((2, 5, 3, 4)).astype(dtype) for _ in range(2))
    x, c = np.swapaxes(x, 1, 2), np.swapaxes(c, 1, 2)
    for part in (slice(None), slice(None, None, -1), slice(0, 2), slice(0, 0)):
        for layout in (np.array, lambda x: np.asfortranarray(x), lambda x: x):
            y, pullback = tl.vjp(lambda x: tl.rotary(x, np.arange(5)), layout(x[..., part]))
            with tl.formulas():
                z, pull = tl.vjp(lambda x: tl.rotary(x, np.arange(5)), layout(x[..., part]))
            for got, wanted in ((y, z), (pullback(c[..., part])[0], pull(c[..., part])[0])):
                assert got.dtype == wanted.dtype == x.dtype
                np.testing.assert_allclose(got, wanted, atol=4 * np.finfo(dtype).eps)


def test_rotary_products_depend_on_the_difference_of_positions(rng):
    q, k = rng.standard_normal((2, 1, 8))
    products = [
        np.sum(tl.rotary(q, [m]) * tl.rotary(k, [n])) for m, n in ((3, 1), (7, 5), (102, 100))
    ]
    assert np.ptp(products) < 1e-12
    assert np.linalg.norm(tl.rotary(q, [9])) == pytest.approx(np.linalg.norm(q))


def test_rotary_has_a_gradient(rng):
    x, w = rng.standard_normal((2, 5, 4))

    def f(x):
        return np.sum(tl.rotary(x, np.arange(5)) ** 2 * w)

    assert_close(tl.jvp(f, (x,), (w,))[1:], [complex_step_along(f, [x], [w])])
    assert tl.rotary([[1.0, 0.0]], [0]).tolist() == [[1.0, 0.0]]
    for wrong, positions in (
        (x[:, :3], np.arange(5)), (x, np.arange(4)), (x[0], [0]), (x, np.zeros((3, 5))), (x, 0),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="rotary: x has shape"):
            tl.rotary(wrong, positions)


def multi_head_in_loops(params, query, key, value, num_heads, mask=None, causal=False):
    d_model = query.shape[-1]
    D = d_model // num_heads
    Q, K, V = (
        linear_in_loops(x, params[f"W_{k}"], params.get(f"b_{k}"))
        for x, k in ((query, "Q"), (key, "K"), (value, "V"))
    )
    heads = []
    for i in range(num_heads):
        one = slice(i * D, (i + 1) * D)
        heads.append(attention_in_loops(Q[..., one], K[..., one], V[..., one], mask, causal))
    return linear_in_loops(np.concatenate(heads, axis=-1), params["W_O"], params.get("b_O"))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("leading", [(), (2,), (0,)])
def test_multi_head_attention_as_printed(rng, bias, leading):
    C = 6
    params = trees.map_leaves(lambda p: rng.standard_normal(p.shape), init_multi_head(rng, C, bias))
    query, memory = rng.standard_normal((*leading, 3, C)), rng.standard_normal((*leading, 5, C))
    mask = rng.random((*leading, 3, 5)) < 0.6
    for arguments in (
        {"num_heads": 1},
        {"num_heads": 2, "causal": True},
        {"num_heads": 3, "mask": mask},
        {"num_heads": 6, "mask": mask, "causal": True},
    ):
        got = tl.multi_head_attention(params, query, memory, memory, **arguments)
        expected = multi_head_in_loops(params, query, memory, memory, **arguments)
        assert distance(got, expected) < 1e-12


def test_multi_head_gradients(rng):
    params = trees.map_leaves(lambda p: rng.standard_normal(p.shape), init_multi_head(rng, 6))
    direction = trees.map_leaves(lambda p: rng.standard_normal(p.shape), params)
    query, memory = rng.standard_normal((2, 3, 6)), rng.standard_normal((2, 5, 6))

    def f(params):
        return np.sum(tl.multi_head_attention(params, query, memory, memory, 3) ** 2)

    shifted = trees.map_leaves(lambda p, d: p + 1e-30j * d, params, direction)
    gradient = tl.grad(f)(params)
    along = sum(
        np.sum(g * d) for g, d in zip(*map(trees.leaves, (gradient, direction)), strict=True)
    )
    assert along == pytest.approx(np.imag(f(shifted)) / 1e-30, rel=1e-12)


def test_wrong_numbers_of_heads():
    params = init_multi_head(np.random.default_rng(0), 6)
    x = np.ones((2, 6))
    for heads in (0, 4, -1):
        with pytest.raises(ValueError, match=f"{heads} heads do not divide 6 features"):
            tl.multi_head_attention(params, x, x, x, heads)
    with pytest.raises(ValueError, match="linear: x has shape"):
        tl.multi_head_attention(params, np.ones((2, 5)), x, x, 2)
    with pytest.raises(ValueError, match=r"multi_head_attention: query has shape \(6,\)"):
        tl.multi_head_attention(params, x[0], x, x, 2)
    with pytest.raises(ValueError, match=r"multi_head_attention: mask has shape \(2,\)"):
        tl.multi_head_attention(params, x, x, x, 2, mask=[True, False])


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("pre_norm", [True, False])
def test_the_block_is_the_figure_of_the_paper(rng, norm, pre_norm):
    params = trees.map_leaves(
        lambda p: rng.standard_normal(p.shape), init_block(rng, 6, 10, norm=norm)
    )
    x = rng.standard_normal((2, 5, 6))

    def norm_in_loops(p, x):
        return layer_norm_in_loops(x, **p) if norm == "layer" else rms_norm_in_loops(x, **p)

    def attend(x):
        return multi_head_in_loops(params["attention"], x, x, x, 3, causal=True)

    def think(x):
        p = params["feed_forward"]
        hidden = np.maximum(linear_in_loops(x, p["W_1"], p["b_1"]), 0)
        return linear_in_loops(hidden, p["W_2"], p["b_2"])

    n1, n2 = params["norm_1"], params["norm_2"]
    if pre_norm:
        middle = x + attend(norm_in_loops(n1, x))
        expected = middle + think(norm_in_loops(n2, middle))
    else:
        middle = norm_in_loops(n1, x + attend(x))
        expected = norm_in_loops(n2, middle + think(middle))
    got = block(params, x, 3, tl.relu, causal=True, pre_norm=pre_norm)
    assert distance(got, expected) < 1e-12
    assert distance(feed_forward(params["feed_forward"], x, tl.relu), think(x)) < 1e-12
    assert distance(normalize(n1, x), norm_in_loops(n1, x)) < 1e-12


@pytest.mark.parametrize("pre_norm", [True, False])
def test_what_a_block_hands_on(rng, pre_norm):
    """The mask and the rotation reach attention, and dropout both sublayers."""
    params = trees.map_leaves(lambda p: rng.standard_normal(p.shape), init_block(rng, 6, 10))
    x = rng.standard_normal((5, 6))
    plain = block(params, x, 3, tl.relu, causal=True, pre_norm=pre_norm)
    mask = np.tri(5, dtype=bool)
    assert_close([block(params, x, 3, tl.relu, mask=mask, pre_norm=pre_norm)], [plain], 1e-14)
    turned = block(params, x, 3, tl.relu, causal=True, pre_norm=pre_norm, turn=lambda x: 2 * x)
    assert np.abs(turned - plain).max() > 1e-3
    dropped = []
    block(params, x, 3, tl.relu, pre_norm=pre_norm, drop=lambda x: dropped.append(x) or 0 * x)
    attended, thought = dropped
    if pre_norm:
        inside = normalize(params["norm_1"], x)
        assert_close(
            [attended], [tl.multi_head_attention(params["attention"], inside, inside, inside, 3)]
        )
        inside = normalize(params["norm_2"], x)
    else:
        assert_close([attended], [tl.multi_head_attention(params["attention"], x, x, x, 3)])
        inside = normalize(params["norm_1"], x)
    assert_close([thought], [feed_forward(params["feed_forward"], inside, tl.relu)])


def test_initial_spreads(rng):
    params = init_block(rng, 100, 400, output_std=0.005)
    for name, std in (("W_Q", 0.02), ("W_K", 0.02), ("W_V", 0.02), ("W_O", 0.005)):
        assert np.std(params["attention"][name]) == pytest.approx(std, rel=0.02), name
    assert np.std(params["feed_forward"]["W_1"]) == pytest.approx(0.02, rel=0.015)
    assert np.std(params["feed_forward"]["W_2"]) == pytest.approx(0.005, rel=0.015)
