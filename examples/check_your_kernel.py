"""A custom autograd function for PyTorch with a bug, found and named by the gradient oracle.

Run it with ``python examples/torch_function.py``; it needs the extra `peers` (PyTorch).
"""

import numpy as np
import torch

from tinylm import oracle


class LayerNorm(torch.autograd.Function):
    """Layer normalization whose backward treats the variance as a constant."""

    @staticmethod
    def forward(ctx, x, gain, bias):
        deviation = x.float() - x.float().mean(-1, keepdim=True)
        rstd = (deviation.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
        normalized = deviation * rstd
        ctx.save_for_backward(normalized, rstd, gain)
        return (normalized * gain + bias).to(x.dtype)

    @staticmethod
    def backward(ctx, d_y):
        normalized, rstd, gain = ctx.saved_tensors
        d_normalized = d_y.float() * gain
        d_x = (d_normalized - d_normalized.mean(-1, keepdim=True)) * rstd
        rows = tuple(range(d_y.ndim - 1))
        d_gain = (d_y.float() * normalized).sum(rows)
        return d_x.to(d_y.dtype), d_gain.to(gain.dtype), d_y.float().sum(rows).to(gain.dtype)


def main():
    rng = np.random.default_rng(0)
    inputs = {
        "x": rng.standard_normal((64, 96)),
        "gain": 1 + 0.2 * rng.standard_normal(96),
        "bias": rng.standard_normal(96),
        "cotangent": rng.standard_normal((64, 96)),
    }
    kernel = oracle.from_torch(LayerNorm)
    model = oracle.Rounding(io="bf16")
    try:
        oracle.check(kernel, "layer_norm", inputs, rounding=model)
    except oracle.GradientMismatch as mismatch:
        print(mismatch)
        print("\ntorch.allclose with atol = 1 would have said:", allclose(inputs, atol=1.0))


def allclose(inputs, atol):
    """What a test with a tolerance picked by hand makes of the same gradient."""
    x, gain, bias, d_y = (torch.tensor(x).bfloat16() for x in inputs.values())
    gradients = []
    for norm in (LayerNorm.apply, lambda x, g, b: torch.nn.functional.layer_norm(x, (96,), g, b)):
        leaf = x.clone().requires_grad_()
        gradients += torch.autograd.grad(norm(leaf, gain, bias), leaf, d_y)
    return torch.allclose(*gradients, atol=atol, rtol=0)


if __name__ == "__main__":
    main()
