"""PyTorch as a witness of the ops, in float64."""

import functools
import itertools

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

import tinylm as tl


def assert_agree(ours, theirs, arrays, rng, tolerance=1e-12):
    """Values and all gradients, for a random cotangent."""
    value, pullback = tl.vjp(ours, *arrays)
    tensors = [torch.tensor(x, requires_grad=True) for x in arrays]
    expected = theirs(*tensors)
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=tolerance, atol=tolerance)
    cotangent = rng.standard_normal(np.shape(value))
    expected.backward(torch.tensor(cotangent))
    for got, tensor in zip(pullback(cotangent), tensors, strict=True):
        np.testing.assert_allclose(got, tensor.grad.numpy(), rtol=tolerance, atol=tolerance)


def with_and_without_kernels(test):
    @functools.wraps(test)
    def both(*args, **kwargs):
        test(*args, **kwargs)
        with tl.formulas():
            test(*args, **kwargs)

    return both


@with_and_without_kernels
def test_ops():
    rng = np.random.default_rng(0)
    x, gain, bias = rng.standard_normal((2, 3, 7)), rng.standard_normal(7), rng.standard_normal(7)
    W, b = rng.standard_normal((7, 5)), rng.standard_normal(5)
    for ours, theirs, arrays in (
        (tl.softmax, functools.partial(F.softmax, dim=-1), [x]),
        (lambda x: tl.softmax(x, axis=1), functools.partial(F.softmax, dim=1), [x]),
        (tl.log_softmax, functools.partial(F.log_softmax, dim=-1), [x]),
        (tl.gelu, F.gelu, [x]),
        (
            lambda x: tl.gelu(x, approximate=True),
            functools.partial(F.gelu, approximate="tanh"),
            [x],
        ),
        (tl.relu, F.relu, [x]),
        (tl.silu, F.silu, [x]),
        (tl.layer_norm, lambda x, g, b: F.layer_norm(x, (7,), g, b), [x, gain, bias]),
        (tl.rms_norm, lambda x, g: F.rms_norm(x, (7,), g, eps=1e-5), [x, gain]),
        (tl.linear, lambda x, W, b: F.linear(x, W.T, b), [x, W, b]),
    ):
        assert_agree(ours, theirs, arrays, rng)


@with_and_without_kernels
def test_attention():
    rng = np.random.default_rng(1)
    for T, S in ((5, 5), (3, 7), (7, 3)):
        Q, K, V = (rng.standard_normal((2, 3, n, 4)) for n in (T, S, S))
        mask = rng.random((2, 1, T, S)) < 0.7
        mask[..., 0] = True
        for ours, theirs in (
            ({}, {}),
            ({"scale": 0.3}, {"scale": 0.3}),
            ({"mask": mask}, {"attn_mask": torch.tensor(mask)}),
            ({"causal": True}, {"is_causal": True}),
        ):
            assert_agree(
                lambda Q, K, V, o=ours: tl.attention(Q, K, V, **o),
                lambda Q, K, V, o=theirs: F.scaled_dot_product_attention(Q, K, V, **o),
                [Q, K, V],
                rng,
            )


@with_and_without_kernels
def test_embedding_and_cross_entropy():
    rng = np.random.default_rng(2)
    ids = rng.integers(0, 5, (3, 4))
    assert_agree(
        lambda t: tl.embedding(t, ids),
        lambda t: F.embedding(torch.tensor(ids), t),
        [rng.standard_normal((5, 7))],
        rng,
    )
    targets = np.where(rng.random((3, 4)) < 0.3, -100, ids)
    weights = rng.uniform(0, 2, 5)
    for smoothing, weight in itertools.product((0.0, 0.1, 1.0), (None, weights)):
        assert_agree(
            lambda x, s=smoothing, w=weight: tl.cross_entropy(
                x, targets, label_smoothing=s, weights=w
            ),
            lambda x, s=smoothing, w=weight: F.cross_entropy(
                x.reshape(-1, 5),
                torch.tensor(targets.ravel()),
                weight=None if w is None else torch.tensor(w),
                label_smoothing=s,
            ),
            [rng.standard_normal((3, 4, 5))],
            rng,
        )
