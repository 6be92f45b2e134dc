"""What four rules say of the same runs: ours, two pairs of tolerances, FlashAttention's.

``python tests/peers/verdicts.py`` prints the tables of docs/oracle-verdicts.md. All rules judge the
very same numbers: value and gradients, for inputs that have the kernel's format already.
"""

import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from oracle.kernels import BUGS, MODEL, flash, inputs
from peers.kernels import FORMATS, KERNELS, mutants

from tinylm.oracle.adapters import DTYPES, from_torch
from tinylm.oracle.subject import Subject
from tinylm.oracle.verdict import judge

RULES = ("tinylm", "assert_close", "allclose", "FlashAttention")
SEEDS = 12


def plain_attention(Q, K, V, causal=False):
    scores = Q @ K.mT / math.sqrt(Q.shape[-1])
    if causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(hidden, -torch.inf)
    return plain_softmax(scores) @ V


def plain_softmax(x):
    e = torch.exp(x - x.amax(-1, keepdim=True))
    return e / e.sum(-1, keepdim=True)


def plain_log_softmax(x):
    shifted = x - x.amax(-1, keepdim=True)
    return shifted - torch.log(torch.exp(shifted).sum(-1, keepdim=True))


def plain_gelu(x, approximate=False):
    if approximate:
        return x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x / 2 * (1 + torch.erf(x / math.sqrt(2)))


def plain_layer_norm(x, gain, bias):
    deviation = x - x.mean(-1, keepdim=True)
    return deviation / torch.sqrt((deviation**2).mean(-1, keepdim=True) + 1e-5) * gain + bias


def plain_rms_norm(x, gain):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5) * gain


def plain_cross_entropy(logits, targets):
    return -plain_log_softmax(logits)[torch.arange(len(targets)), targets].mean()


PLAIN = {
    "attention": plain_attention,
    "softmax": plain_softmax,
    "log_softmax": plain_log_softmax,
    "gelu": plain_gelu,
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "relu": lambda x: torch.where(x > 0, x, 0),
    "layer_norm": plain_layer_norm,
    "rms_norm": plain_rms_norm,
    "cross_entropy": plain_cross_entropy,
    "linear": lambda x, W, b: x @ W + b,
    "embedding": lambda table, ids: table[ids],
}
"""The formula as a textbook has it, in PyTorch."""


class Judges:
    """All four rules, for an op at some inputs."""

    def __init__(self, kernel, op, inputs, model, attributes, power=0.02):
        self.subject = Subject.of(kernel, op, inputs, attributes, model, None)
        self.given = {name: self.subject.rounded(name, x) for name, x in inputs.items()}
        self.io, self.power = model.io, power
        self.expected = self.subject.expected(self.given)

        def formula(**arrays):
            return PLAIN[op](**arrays, **attributes)

        plain, _ = Subject.of(from_torch(formula), op, inputs, attributes, model, None).answer(
            self.given
        )
        self.plain = {name: self.distance(name, x) for name, x in plain.items()}

    def distance(self, name, got):
        """The largest error; nan counts as infinite."""
        error = np.max(np.abs(got - self.expected[name].value), initial=0.0)
        return math.inf if np.isnan(error) else error

    def answer(self):
        return self.subject.answer(self.given)[0]

    def accepted(self, got):
        """The names of the rules that accept value and gradients."""
        rules = (self.ours, self.assert_close, self.allclose, self.flash_attention)
        return {name for name, rule in zip(RULES, rules, strict=True) if rule(got)}

    def ours(self, got):
        verdicts = [
            judge(name, got[name], x.value, x.allowed, io=self.io)
            for name, x in self.expected.items()
        ]
        return all(verdict.ok and verdict.sees <= self.power for verdict in verdicts)

    def assert_close(self, got):
        dtype = getattr(torch, DTYPES[self.io])
        try:
            for name, x in self.expected.items():
                torch.testing.assert_close(
                    torch.tensor(got[name], dtype=dtype), torch.tensor(x.value, dtype=dtype)
                )
        except AssertionError:
            return False
        return True

    def allclose(self, got):
        return all(
            np.allclose(got[name], x.value, rtol=2e-2, atol=2e-2)
            for name, x in self.expected.items()
        )

    def flash_attention(self, got):
        """At most twice as far off as plain PyTorch in this format."""
        return all(self.distance(name, got[name]) <= 2 * self.plain[name] for name in self.plain)


class Table:
    """Counts of wrong verdicts."""

    def __init__(self, title, what):
        self.title, self.what, self.runs, self.wrong = title, what, Counter(), {}

    def add(self, row, wrong):
        self.runs[row] += 1
        self.wrong.setdefault(row, Counter()).update(wrong)

    def __str__(self):
        head = f"| {self.what} | runs | {' | '.join(RULES)} |"
        lines = [f"### {self.title}", "", head, "|---|" + "---:|" * (1 + len(RULES))]
        rows = [*self.runs, "all"]
        self.runs["all"], self.wrong["all"] = (
            sum(self.runs.values()),
            sum(self.wrong.values(), Counter()),
        )
        for row in rows:
            counts = " | ".join(str(self.wrong[row][rule]) for rule in RULES)
            lines.append(f"| {row} | {self.runs[row]} | {counts} |")
        return "\n".join(lines) + "\n"


def emulated(alarms, missed):
    """The flash attention of tests/oracle/kernels.py, and its bugs."""
    for seed in range(SEEDS):
        given = inputs(flash, seed)
        for bug in (None, *BUGS[flash]):
            judges = Judges(flash(bug), "attention", given, MODEL[flash], {"causal": True})
            accepted = judges.accepted(judges.answer())
            if bug:
                missed.add(bug, accepted)
            else:
                alarms.add("emulated flash attention, bf16", set(RULES) - accepted)


def foreign(kernel, io, alarms, missed):
    """A kernel of `kernels.py`, and mistakes in its gradients."""
    group = "SDPA" if kernel.name.startswith(("torch-flash", "torch-math")) else ""
    row = f"{kernel.name.split('-')[0]} {group}".strip() + f", {io}"
    for seed in range(SEEDS):
        judges = Judges(
            kernel.kernel, kernel.op, kernel.inputs(seed), kernel.model(io), kernel.attributes,
            kernel.power,
        )  # fmt: skip
        got = judges.answer()
        alarms.add(row, set(RULES) - judges.accepted(got))
        grads = {name: x for name, x in got.items() if name != "value"}
        for name, changed in mutants(grads, io):
            mutant = {**got, **changed}
            if any(np.any(mutant[key] != got[key]) for key in got):
                kind = "two swapped" if "swapped" in name else name.partition(" ")[2]
                missed.add(f"{kind}, {io}", judges.accepted(mutant))


def main():
    alarms = Table("False alarms: correct kernels rejected", "kernels")
    bugs = Table("Missed bugs of the emulated flash attention", "bug")
    missed = Table("Missed mutants of foreign kernels", "mutant")
    emulated(alarms, bugs)
    for kernel in KERNELS:
        print(kernel.name, file=sys.stderr, flush=True)
        for io in FORMATS:
            foreign(kernel, io, alarms, missed)
    for table in (alarms, bugs, missed):
        print(table)


if __name__ == "__main__":
    main()
