"""The gradient oracle finds a bug in a kernel of PyTorch and in one of NumPy, and names it.

A layer norm in bfloat16, a custom torch.autograd.Function, takes its deviation for a constant on the
way back; a cross-entropy in NumPy divides by all targets, also those that do not count. Both stand
beside their mended twins. The oracle computes from the formula how far each element may be off in
the declared precision (docs/tolerance.md). Its rivals are what tests usually do: allclose with a
tolerance picked by hand, which misses or cries wolf, and torch.autograd.gradcheck, which wants what
computes in float64 throughout. Needs the extra `peers` (PyTorch); takes 10 seconds.
"""

import common
import numpy as np
import torch

from tinylm import oracle
from tinylm.oracle.subject import Subject
from tinylm.oracle.verdict import ratios


class LayerNorm(torch.autograd.Function):
    """Computes in float32, whatever comes; its backward treats the deviation as a constant."""

    mended = False

    @staticmethod
    def forward(ctx, x, gain, bias):
        deviation = x.float() - x.float().mean(-1, keepdim=True)
        rstd = (deviation.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
        normalized = deviation * rstd
        ctx.save_for_backward(normalized, rstd, gain)
        return (normalized * gain + bias).to(x.dtype)

    @classmethod
    def backward(cls, ctx, d_y):
        normalized, rstd, gain = ctx.saved_tensors
        d_normalized = d_y.float() * gain
        d_x = d_normalized - d_normalized.mean(-1, keepdim=True)
        if cls.mended:
            d_x = d_x - normalized * (d_normalized * normalized).mean(-1, keepdim=True)
        rows = tuple(range(d_y.ndim - 1))
        d_gain = (d_y.float() * normalized).sum(rows)
        d_bias = d_y.float().sum(rows)
        return (d_x * rstd).to(d_y.dtype), d_gain.to(gain.dtype), d_bias.to(gain.dtype)


class MendedLayerNorm(LayerNorm):
    """The same, with the term that was missing."""

    mended = True


def cross_entropy(logits, targets, cotangent, mended=False):
    """The mean over the targets that are not -100, with its gradient; the latter counts all."""
    counted = targets != -100
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    hit = np.arange(logits.shape[-1]) == targets[:, None]
    d_logits = np.where(counted[:, None], np.exp(log_p) - hit, 0)
    many = counted.sum() if mended else counted.size
    value = -(log_p * hit).sum() / counted.sum()
    return value, {"logits": cotangent * d_logits / many}


def mended_cross_entropy(logits, targets, cotangent):
    """The same, divided by those that count."""
    return cross_entropy(logits, targets, cotangent, mended=True)


def judged(kernel, op, inputs, model):
    """The oracle's verdict and the cause that it names; a gradient, its truth, error / allowed."""
    try:
        oracle.check(kernel, op, inputs, rounding=model)
        verdict, cause = True, "none"
    except oracle.GradientMismatch as mismatch:
        verdict, cause = False, mismatch.report.causes[0].text
    subject = Subject.of(kernel, op, inputs, {}, model, None)
    given = {name: subject.rounded(name, x) for name, x in inputs.items()}
    name, expected = subject.arrays[0], subject.expected(given)[subject.arrays[0]]
    got = subject.answer(given)[0][name]
    return verdict, cause, got, expected.value, ratios(got, expected.value, expected.allowed)


def gradcheck(kernel, inputs):
    """What PyTorch's own check says, where there are tensors: of a few numbers in float64."""
    if not isinstance(kernel, type):
        return None
    few = [torch.tensor(inputs[name][..., :6]).requires_grad_() for name in ("x", "gain", "bias")]
    return torch.autograd.gradcheck(kernel.apply, few, raise_exception=False)


def main(run):
    norm = {"x": run.rng.standard_normal((64, 96)), "gain": 1 + 0.2 * run.rng.standard_normal(96)}
    norm |= {"bias": run.rng.standard_normal(96), "cotangent": run.rng.standard_normal((64, 96))}
    loss = {"logits": 3 * run.rng.standard_normal((64, 50)), "targets": run.rng.integers(0, 50, 64)}
    loss["targets"][::9] = -100
    loss["cotangent"] = np.array(1 + run.rng.random())
    bf16, f32, rows, wrong = oracle.Rounding("bf16"), oracle.Rounding("f32"), [], {}
    figure, panels = common.pyplot().subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for title, kernel, op, inputs, model, right, axes in (
        ("PyTorch, wrong", LayerNorm, "layer_norm", norm, bf16, False, panels[0]),
        ("PyTorch, mended", MendedLayerNorm, "layer_norm", norm, bf16, True, panels[0]),
        ("NumPy, wrong", cross_entropy, "cross_entropy", loss, f32, False, panels[1]),
        ("NumPy, mended", mended_cross_entropy, "cross_entropy", loss, f32, True, panels[1]),
    ):
        called = oracle.from_torch(kernel) if isinstance(kernel, type) else kernel
        verdict, cause, got, truth, ratio = judged(called, op, inputs, model)
        verdicts = {"oracle": verdict}
        for a in (1e-5, 1e-3, 2e-2, 1.0):
            verdicts[f"allclose {a:g}"] = torch.allclose(*map(torch.tensor, (got, truth)), a, a)
        verdicts["gradcheck"] = gradcheck(kernel, inputs)
        for judge, said in verdicts.items():
            wrong[judge] = wrong.get(judge, 0) + (said is not None and said != right)
        said = {None: "-", True: "accepts", False: "rejects"}
        rows.append({"kernel": title, **{judge: said[v] for judge, v in verdicts.items()}})
        if not right:
            run.say(f"{title}: the oracle says, {cause}.")
        percent, seen = np.linspace(0, 100, ratio.size), np.maximum(ratio, 1e-3)
        axes.semilogy(percent, np.sort(seen.ravel()), label=title)
        axes.axhline(1, color="black", linestyle=":")
        axes.set(title=f"{op} in {model.io}", xlabel="% of the gradient's elements")
        axes.legend()
    panels[0].set(ylabel="error / allowed error")
    run.table("Who accepts what; allclose with rtol = atol", rows)
    counts = ", ".join(f"{judge} {n}" for judge, n in wrong.items())
    run.say(f"Wrong verdicts, misses and false alarms together: {counts}.")
    run.picture(figure, "Error of each element over what is allowed, in wrong and mended kernels")


if __name__ == "__main__":
    common.start(main)
