"""Kernels as they are written for GPUs: float32 inside, bfloat16 in memory; right, and with bugs.

Under each kernel stand its bugs, each with what the cause that the check names has to look like.
"""

import numpy as np
from scipy import special

from tinylm.oracle import FORMATS, Rounding

bf16 = FORMATS["bf16"].rounded
f32 = np.float32


def stored(x):
    return bf16(x).astype(f32)


def mT(x):  # noqa: N802
    return np.swapaxes(x, -1, -2)


def flash(bug=None, causal=True, scale=None):
    """Attention as in Dao et al. 2022: weights in bf16 for the products, row sums from the output."""

    def kernel(Q, K, V, cotangent):
        (T, D), S = Q.shape[-2:], K.shape[-2]
        factor = f32(scale or 1 / np.sqrt(D))
        factor = {"scale missing": f32(1), "scale twice": factor**2}.get(bug, factor)
        shift = {"mask off by one": 1, "own key masked": -1, "mask missing": S}.get(bug, 0)
        allowed = np.tri(T, S, shift, dtype=bool) if causal else np.ones((T, S), bool)
        scores = np.where(allowed, Q @ mT(K) * factor, f32(-np.inf))
        top = np.max(scores, axis=-1, keepdims=True, initial=-np.inf)
        top = np.where(np.isneginf(top), 0, top)
        weights = np.exp(scores - top)
        total = np.sum(weights, axis=-1, keepdims=True)
        total = np.where(total == 0, 1, total)
        weights /= total
        output = stored(stored(weights) @ V)
        if bug == "mask off by one backward":
            later = np.exp(Q @ mT(K) * factor - top) / total
            weights = np.where(np.tri(T, S, 1, dtype=bool), later, 0).astype(f32)
        if bug == "own key masked backward":
            weights = np.where(np.tri(T, S, -1, dtype=bool), weights, 0).astype(f32)
        d_V = mT(stored(weights)) @ cotangent
        d_weights = cotangent @ mT(V)
        delta = np.sum(cotangent * output, axis=-1, keepdims=True)
        delta *= {"delta dropped": 0, "delta 2% off": f32(0.98)}.get(bug, 1)
        d_scores = stored(weights * (d_weights - delta))
        if bug == "d_scores in fp8":
            d_scores = FORMATS["e4m3"].rounded(d_scores).astype(f32)
        if bug == "d_scores transposed":
            d_scores = mT(d_scores)
        if bug == "d_scores negative":
            d_scores = -d_scores
        d_Q = d_scores @ K * factor
        d_K = mT(d_scores if bug != "d_K of d_scores transposed" else mT(d_scores)) @ Q * factor
        if bug == "d_V 1% off":
            d_V *= f32(1.01)
        if bug == "scale missing in d_K":
            d_K /= factor
        if bug == "scale twice in d_Q":
            d_Q *= factor
        if bug == "last block 10% off":
            d_K[..., -16:, :] *= f32(0.9)
        if bug == "row zero":
            d_Q[..., T // 3, :] = 0
        if bug == "swapped":
            d_Q, d_K = d_K, d_Q
        d_Q, d_K, d_V = (stored(shared(x, y)) for x, y in ((d_Q, Q), (d_K, K), (d_V, V)))
        if bug == "heads not summed":
            d_K = stored((mT(d_scores) @ Q * factor)[..., :1, :, :])
        return output, {"Q": d_Q, "K": d_K, "V": d_V}

    return kernel


def shared(gradient, x):
    """Summed over the leading axes along which x was repeated."""
    axes = tuple(
        i for i, n in enumerate(x.shape) if n == 1 != gradient.shape[i - x.ndim + gradient.ndim]
    )
    return np.sum(gradient, axis=axes, keepdims=True) if axes else gradient


def softmax(bug=None):
    def kernel(x, cotangent):
        axis = -2 if bug == "other axis" else -1
        y = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))
        y = stored(y / np.sum(y, axis=axis, keepdims=True))
        delta = np.sum(cotangent * y, axis=axis, keepdims=True)
        delta *= {"delta dropped": 0, "delta 2% off": f32(1.02)}.get(bug, 1)
        d_x = y * (cotangent - delta)
        d_x = damaged(d_x, bug)
        return y, {"x": stored(d_x)}

    return kernel


def damaged(x, bug):
    """What can happen to any gradient."""
    x = x * {"1% off": f32(1.01), "negative": -1, "doubled": 2, "3% off": f32(0.97)}.get(bug, 1)
    if bug == "row zero":
        x[..., 3, :] = 0
    if bug == "last columns off":
        x[..., -5:] *= f32(1.1)
    return x


def layer_norm(bug=None):
    def kernel(x, gain, bias, cotangent):
        C = x.shape[-1]
        eps = f32(1e-3 if bug == "eps" else 1e-5)
        mean = np.mean(x, axis=-1, keepdims=True)
        count = C - 1 if bug == "variance by C - 1" else C
        variance = np.sum((x - mean) ** 2, axis=-1, keepdims=True) / f32(count)
        rstd = 1 / np.sqrt(variance + eps)
        normalized = (x - mean) * rstd
        value = normalized * gain + bias
        d_y = cotangent * (gain if bug != "gain missing" else 1)
        along = np.mean(d_y * normalized, axis=-1, keepdims=True) * (bug != "variance a constant")
        across = np.mean(d_y, axis=-1, keepdims=True) * (bug != "mean a constant")
        d_x = damaged((d_y - across - normalized * along) * rstd, bug)
        rows = tuple(range(x.ndim - 1))
        d_gain, d_bias = np.sum(cotangent * normalized, axis=rows), np.sum(cotangent, axis=rows)
        if bug == "d_bias a mean":
            d_bias = np.mean(cotangent, axis=rows)
        if bug == "d_gain and d_bias swapped":
            d_gain, d_bias = d_bias, d_gain
        if bug == "d_gain of the last row":
            d_gain = (cotangent * normalized).reshape(-1, C)[-1]
        return stored(value), {"x": stored(d_x), "gain": stored(d_gain), "bias": stored(d_bias)}

    return kernel


def rms_norm(bug=None):
    def kernel(x, gain, cotangent):
        eps = f32(1e-3 if bug == "eps" else 1e-5)
        rstd = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)
        d_y = cotangent * (gain if bug != "gain missing" else 1)
        along = np.mean(d_y * x, axis=-1, keepdims=True) * (bug != "rms a constant")
        d_x = damaged((d_y - x * along * rstd * rstd) * rstd, bug)
        every = cotangent * x * rstd
        d_gain = np.sum(every, axis=tuple(range(x.ndim - 1)))
        if bug == "d_gain of the first row":
            d_gain = every.reshape(-1, x.shape[-1])[0]
        return stored(x * rstd * gain), {"x": stored(d_x), "gain": stored(d_gain)}

    return kernel


def cross_entropy(bug=None):
    def kernel(logits, targets, cotangent):
        right = np.where(targets < 0, -1, (targets + (bug == "targets one off")) % logits.shape[-1])
        counted = right >= 0 if bug != "ignored counted" else right > -2
        right = np.maximum(right, 0)
        shifted = logits - np.max(logits, axis=-1, keepdims=True)
        log_p = shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
        chosen = np.take_along_axis(log_p, right[..., None], axis=-1)[..., 0]
        n = 1 if bug == "sum" else targets.size if bug == "mean of all" else np.sum(counted)
        value = -np.sum(np.where(counted, chosen, 0)) / f32(n)
        d_logits = np.exp(log_p) * (bug != "softmax missing")
        place = np.arange(logits.shape[-1]) == right[..., None]
        d_logits = np.where(place, d_logits - (bug != "one-hot missing"), d_logits)
        d_logits = np.where(counted[..., None], d_logits, 0) / f32(n)
        factor = f32(1) if bug == "cotangent ignored" else cotangent
        return stored(value), {"logits": stored(damaged(d_logits * factor, bug))}

    return kernel


def gelu(bug=None, approximate=False):
    def kernel(x, cotangent):
        if approximate != (bug == "other form"):
            slope = f32(np.sqrt(2 / np.pi))
            tanh = np.tanh(slope * (x + f32(0.044715) * x**3))
            share = (1 + tanh) / 2
            density = (1 - tanh**2) / 2 * slope * (1 + f32(3 * 0.044715) * x**2)
        else:
            share = special.erfc(-x / f32(np.sqrt(2))) / 2
            density = np.exp(-x * x / 2) / f32(np.sqrt(2 * np.pi))
        d_x = share * (bug != "Phi missing") + x * density * (bug != "slope missing")
        return stored(x * share), {"x": stored(damaged(d_x * cotangent, bug))}

    return kernel


def linear(bug=None):
    def kernel(x, W, b, cotangent):
        rows, d_rows = x.reshape(-1, x.shape[-1]), cotangent.reshape(-1, cotangent.shape[-1])
        value = x @ W + b * (bug != "bias missing")
        d_x = cotangent @ (W if bug == "W not transposed" else W.T)
        d_W = rows.T @ d_rows
        d_W = d_W.T if bug == "d_W transposed" else d_W
        d_b = np.mean(d_rows, axis=0) if bug == "d_b a mean" else np.sum(d_rows, axis=0)
        d_b = d_rows[-1] if bug == "d_b of the last row" else d_b
        d_W = d_W * f32(1.01) if bug == "d_W 1% off" else d_W
        if bug == "first block lost":
            d_W = rows[8:].T @ d_rows[8:]
        return stored(value), {"x": stored(damaged(d_x, bug)), "W": stored(d_W), "b": stored(d_b)}

    return kernel


BUGS = {
    flash: {
        "scale missing": "the scale is missing",
        "scale twice": "the scale is applied twice",
        "mask off by one": "off by one: it lets each query see the next key",
        "own key masked": "off by one: it hides from each query its own key",
        "mask missing": "the causal mask is missing",
        "mask off by one backward": "on the way back, the causal mask is off by one: it lets",
        "own key masked backward": "on the way back, the causal mask is off by one: it hides",
        "delta dropped": "delta, the row sum of softmax's backward",
        "delta 2% off": "delta, the row sum of softmax's backward), 2",
        "d_scores in fp8": "'d_scores' is rounded to e4m3",
        "d_scores transposed": "'d_scores' is transposed",
        "d_scores negative": "has the wrong sign",
        "d_K of d_scores transposed": "in the gradient of K, 'd_scores' is transposed",
        "d_V 1% off": "the gradient of V is *% too large",
        "scale missing in d_K": "the gradient of K lacks the scale",
        "scale twice in d_Q": "the gradient of Q has the scale twice",
        "last block 10% off": "the gradient of K where S = 48 to 63, the last 16 is 10% too small",
        "row zero": "the gradient of Q where T = 21 is zero",
        "swapped": "the gradients of Q and K are swapped",
    },
    softmax: {
        "delta dropped": "delta, the row sum",
        "delta 2% off": "delta, the row sum of softmax's backward), -2% of it",
        "other axis": "the axis is -2",
        "1% off": "the gradient of * is *% too large",
        "negative": "the gradient of x has the wrong sign",
        "row zero": "the gradient of x where axis -2 = 3 is zero",
        "last columns off": "the gradient of x where V = 32 to 36, the last 5 is 10% too large",
    },
    layer_norm: {
        "mean a constant": "the gradient through 'mean' is dropped",
        "variance a constant": "the gradient through 'std' is dropped",
        "variance by C - 1": "the variance is divided by C - 1",
        "eps": "eps is 0.001",
        "gain missing": "the gain is missing",
        "d_bias a mean": "the gradient of bias is not summed over what shares it: the mean",
        "d_gain and d_bias swapped": "the gradients of gain and bias are swapped",
        "d_gain of the last row": "the gradient of gain is not summed over what shares it: only the last",
        "3% off": "the gradient of x is 3% too small",
        "row zero": "the gradient of x where axis -2 = 3 is zero",
    },
    rms_norm: {
        "rms a constant": "the gradient through 'rms' is dropped",
        "eps": "eps is 0.001",
        "gain missing": "the gain is missing",
        "d_gain of the first row": "the gradient of gain is not summed over what shares it: only the first",
        "1% off": "the gradient of * is *% too large",
        "doubled": "the gradient of x is doubled",
        "row zero": "the gradient of x where axis -2 = 3 is zero",
    },
    cross_entropy: {
        "sum": "is a sum, not a mean",
        "mean of all": "is divided by all targets",
        "ignored counted": "ignored targets count",
        "targets one off": "the targets are one off",
        "one-hot missing": "the targets are not subtracted",
        "softmax missing": "the probabilities are missing",
        "cotangent ignored": "the cotangent is taken as ones",
        "1% off": "the gradient of * is *% too large",
        "row zero": "the gradient of logits where axis -2 = 3 is zero",
    },
    gelu: {
        "other form": "the other form of gelu",
        "slope missing": "the gradient through 'share' is dropped",
        "Phi missing": "only the gradient through 'share' is left",
        "1% off": "the gradient of * is *% too large",
        "negative": "the gradient of x has the wrong sign",
        "last columns off": "the last 5 is 10% too large",
        "row zero": "is zero",
    },
    linear: {
        "bias missing": "the bias is missing",
        "W not transposed": "W is transposed",
        "d_W transposed": "the gradient of W is transposed",
        "d_W 1% off": "the gradient of W is *% too large",
        "d_b a mean": "the gradient of b is not summed over what shares it: the mean",
        "d_b of the last row": "the gradient of b is not summed over what shares it: only the last",
        "first block lost": "",
        "row zero": "the gradient of x where axis -2 = 3 is zero",
    },
}  # fmt: skip

MODEL = {
    flash: Rounding(io="bf16", stores={"weights": "bf16", "d_scores": "bf16"}),
    softmax: Rounding(io="bf16"),
    layer_norm: Rounding(io="bf16"),
    rms_norm: Rounding(io="bf16"),
    cross_entropy: Rounding(io="bf16"),
    gelu: Rounding(io="bf16"),
    linear: Rounding(io="bf16"),
}


def inputs(kernel, seed, T=64):
    """Inputs that excite a kernel's op."""
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal
    if kernel is flash:
        return dict(zip(("Q", "K", "V", "cotangent"), normal((4, T, 64)), strict=True))
    if kernel is cross_entropy:
        targets = np.where(rng.random(60) < 0.2, -100, rng.integers(0, 37, 60))
        targets[3] = 5
        return {"logits": 2 * normal((60, 37)), "targets": targets, "cotangent": np.array(1.7)}
    given = {"x": normal((60, 37)) * (0.3 if kernel in (layer_norm, rms_norm) else 1)}
    if kernel in (layer_norm, rms_norm):
        given |= {"gain": 1 + 0.3 * normal(37)}
    if kernel is layer_norm:
        given |= {"bias": normal(37)}
    if kernel is linear:
        given |= {"W": normal((37, 37)) / 6, "b": normal(37)}
    return given | {"cotangent": normal((60, 37))}
