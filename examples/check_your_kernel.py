"""The gradient oracle finds a bug in a kernel of PyTorch and in one of NumPy, and names it.

A layer norm in bfloat16, a torch.autograd.Function, takes its deviation for a constant on the way
back; a cross-entropy in NumPy divides by all targets, also those that do not count. Each has a
mended twin; then come the latter bug where it makes 0.8%, and PyTorch's own attention, which is
right. The oracle computes from the formula how far each element may be off (docs/tolerance.md). Its
rivals: PyTorch's assert_close, with the dtype's tolerance (1.6% in bfloat16); allclose, with one
picked by hand; gradcheck, which wants float64 throughout. Needs the extra `peers`; takes 10 seconds.
"""

from collections import Counter
from functools import partial

import common
import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from tinylm import oracle
from tinylm.oracle.subject import Subject
from tinylm.oracle.verdict import ratios


class LayerNorm(torch.autograd.Function):
    """Computes in float32, whatever comes; its backward treats the deviation as a constant."""

    @staticmethod
    def forward(ctx, x, gain, bias, mended=False):
        ctx.mended, rstd = mended, (x.float().var(-1, correction=0, keepdim=True) + 1e-5).rsqrt()
        normalized = (x.float() - x.float().mean(-1, keepdim=True)) * rstd
        ctx.save_for_backward(normalized, rstd, gain)
        return (normalized * gain + bias).to(x)

    @staticmethod
    def backward(ctx, d_y):
        d_y, normalized, rstd, gain = d_y.float(), *ctx.saved_tensors
        d_normalized, rows = d_y * gain, tuple(range(d_y.ndim - 1))
        d_x = (d_normalized - d_normalized.mean(-1, keepdim=True)) * rstd
        if ctx.mended:
            d_x -= normalized * (d_normalized * normalized).mean(-1, keepdim=True) * rstd
        return *(x.to(gain) for x in (d_x, (d_y * normalized).sum(rows), d_y.sum(rows))), None


def cross_entropy(logits, targets, cotangent, mended=False):
    """The mean over the targets that are not -100, with its gradient; the latter counts all."""
    counted = targets != -100
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    hit = np.arange(logits.shape[-1]) == targets[:, None]
    d_logits = cotangent * (np.exp(log_p) - hit) * counted[:, None]
    many = counted.sum() if mended else counted.size
    return -(log_p * hit).sum() / counted.sum(), {"logits": d_logits / many}


def mean_of_all(logits, targets):
    """The same bug in PyTorch, forth and back; it computes in float32."""
    return (F.cross_entropy(logits.float(), targets, reduction="sum") / len(targets)).to(logits)


def close(got, expected, dtype):
    """What the rivals with a tolerance say of the value and all gradients."""
    pairs = [(torch.tensor(got[name]), torch.tensor(x.value)) for name, x in expected.items()]
    try:
        for x, y in pairs:
            torch.testing.assert_close(x.to(dtype), y.to(dtype))
        said = {"assert_close": True}
    except AssertionError:
        said = {"assert_close": False}
    for a in (1e-5, 1e-3, 2e-2, 1.0):
        said[f"allclose {a:g}"] = all(torch.allclose(x, y, a, a) for x, y in pairs)
    return said


def gradcheck(kernel, inputs):
    """What PyTorch's own check says, of a few numbers, without the cotangent, the last of them."""
    few = [x[..., :6] if x.dtype == float else np.minimum(x, 5) for x in [*inputs.values()][:-1]]
    given = [torch.tensor(x, requires_grad=x.dtype == float) for x in few]
    return torch.autograd.gradcheck(getattr(kernel, "apply", kernel), given, raise_exception=False)


def main(run):
    draw, targets = run.rng.standard_normal, run.rng.integers(0, 50, 128)
    norm = {"x": draw((16, 64)), "gain": draw(64), "bias": draw(64), "cotangent": draw((16, 64))}
    loss = {"logits": 3 * draw((128, 50)), "targets": targets, "cotangent": np.array(1.5)}
    pads, one = (loss | {"targets": np.where(np.arange(128) % n, targets, -100)} for n in (8, 128))
    heads = {name: draw((1, 1, 64, 64)) for name in ("Q", "K", "V", "cotangent")}
    bf16, f32, rows, wrong = oracle.Rounding("bf16"), oracle.Rounding("f32"), [], Counter()
    flash = oracle.Rounding("bf16", stores={"weights": "bf16", "d_scores": "bf16"})
    mended = [lambda x, gain, bias: LayerNorm.apply(x, gain, bias, True), "layer_norm"]
    attention = [lambda Q, K, V: F.scaled_dot_product_attention(Q, K, V), "attention"]
    figure, panels = common.pyplot().subplots(1, 3, figsize=(11, 3.6), sharey=True)
    for title, kernel, op, inputs, model, right in (
        ("PyTorch norm, wrong", LayerNorm, "layer_norm", norm, bf16, False),
        ("PyTorch norm, mended", *mended, norm, bf16, True),
        ("NumPy, wrong", cross_entropy, "cross_entropy", pads, f32, False),
        ("NumPy, mended", partial(cross_entropy, mended=True), "cross_entropy", pads, f32, True),
        ("PyTorch loss, wrong by 0.8%", mean_of_all, "cross_entropy", one, bf16, False),
        ("PyTorch attention", *attention, heads, flash, True),
    ):
        numpy, axes = title.startswith("NumPy"), panels[len(rows) // 2]
        called = kernel if numpy else oracle.from_torch(kernel)
        try:
            oracle.check(called, op, inputs, rounding=model)
            verdicts = {"oracle": True}
        except oracle.GradientMismatch as mismatch:
            verdicts = {"oracle": False}
            run.say(f"{title}: the oracle says, {mismatch.report.causes[0].text}.")
        subject = Subject.of(called, op, inputs, {}, model, None)
        given = {name: subject.rounded(name, x) for name, x in inputs.items()}
        got, expected = subject.answer(given)[0], subject.expected(given)
        verdicts |= close(got, expected, torch.float32 if model is f32 else torch.bfloat16)
        verdicts["gradcheck"] = None if numpy else gradcheck(kernel, inputs)
        wrong.update({judge: int(said not in (None, right)) for judge, said in verdicts.items()})
        said = {None: "-", True: "accepts", False: "rejects"}
        rows.append({"kernel": title, **{judge: said[v] for judge, v in verdicts.items()}})
        name = subject.arrays[0]
        ratio = ratios(got[name], expected[name].value, expected[name].allowed)
        axes.semilogy(np.linspace(0, 100, ratio.size), np.sort(ratio, None).clip(1e-3), label=title)
        axes.axhline(1, color="black", linestyle=":")
        axes.set(title=f"in {model.io}", xlabel="% of the gradient's elements")
        axes.legend()
    panels[0].set(ylabel="error / allowed error")
    run.table("Who accepts what; allclose with rtol = atol", rows)
    counts = ", ".join(f"{judge} {n}" for judge, n in wrong.items())
    run.say(f"Wrong verdicts, misses and false alarms together: {counts}.")
    run.picture(figure, "Error of each element over what is allowed, in wrong and right kernels")


if __name__ == "__main__":
    common.start(main)
