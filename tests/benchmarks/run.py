"""What takes how long: ``python tests/benchmarks/run.py [NAME ...]``.

Every row compares two ways to do the same work. They run in turn, several times, in one process,
and the figure to quote is the median of the ratios: single times on a shared machine mean little.
"""

import os
import platform
import statistics
import subprocess
import sys
import time

import numpy as np

import tinylm as tl
from tinylm.autograd import trees

ROUNDS = 15


def timed(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def row(what, a, b, rounds=ROUNDS):
    """Print the medians of a and b in microseconds, and of a / b pair by pair."""
    a(), b()
    times = [(timed(a), timed(b)) for _ in range(rounds)]
    first, second = (statistics.median(t[i] for t in times) for i in (0, 1))
    ratio = statistics.median(x / y for x, y in times)
    print(f"{what:42}{first * 1e6:12,.0f}{second * 1e6:12,.0f}{ratio:8.2f}", flush=True)


def heading(title, a, b):
    print(f"\n{title:42}{a + ', us':>12}{b + ', us':>12}{'ratio':>8}")


# The sizes of nanoGPT's laptop recipe.
B, T, C, H, V = 12, 64, 128, 4, 65


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


OPS = {
    "softmax (B, H, T, T)": (tl.softmax, [normal(B, H, T, T)], {}),
    "softmax (8, 6, 256, 256)": (tl.softmax, [normal(8, 6, 256, 256)], {}),
    "attention, causal": (tl.attention, [normal(B, H, T, C // H)] * 3, {"causal": True}),
    "layer_norm (B, T, C)": (tl.layer_norm, [normal(B, T, C), normal(C), normal(C)], {}),
    "rms_norm (B, T, C)": (tl.rms_norm, [normal(B, T, C), normal(C)], {}),
    "gelu, tanh (B, T, 4C)": (tl.gelu, [normal(B, T, 4 * C)], {"approximate": True}),
    "gelu, erf (B, T, 4C)": (tl.gelu, [normal(B, T, 4 * C)], {}),
    "linear (B, T, C) (C, 4C)": (tl.linear, [normal(B, T, C), normal(C, 4 * C), normal(4 * C)], {}),
    "embedding (V, C)": (tl.embedding, [normal(V, C)], {"ids": np.arange(B * T).reshape(B, T) % V}),
    "cross_entropy (B, T, V)": (tl.cross_entropy, [normal(B, T, V)], {"targets": np.arange(B * T).reshape(B, T) % V}),
}  # fmt: skip


def ops():
    """Each kernel against its formula, forward and backward."""
    heading("op, value and gradient", "kernel", "formula")
    for name, (op, arrays, attributes) in OPS.items():

        def kernel(op=op, arrays=arrays, attributes=attributes):
            value, pullback = tl.vjp(lambda *x: op(*x, **attributes), *arrays)
            pullback(value)

        def formula(kernel=kernel):
            with tl.formulas():
                kernel()

        row(name, kernel, formula)


def engine():
    """What recording costs: a chain of small ops, forward, against NumPy alone."""
    x = np.random.default_rng(0).standard_normal((4, 4))

    def chain(x):
        for _ in range(500):
            x = np.exp(x) * 0.1
        return np.sum(x)

    heading("1000 ops on (4, 4), engine", "traced", "plain")
    row("forward", lambda: tl.vjp(chain, x), lambda: chain(x))
    _, pullback = tl.vjp(chain, x)
    row("backward", lambda: pullback(np.float64(1.0)), lambda: chain(x))


def step():
    """A training step, against the same step by the formulas alone."""
    model = tl.GPT(V, T, C, H, 4)
    ids = np.random.default_rng(0).integers(0, V, (B, T + 1))
    trainer = tl.Trainer(model, model.init(np.random.default_rng(0)), tl.AdamW(1e-3), clip_norm=1.0)

    def kernels():
        trainer.step(ids[:, :-1], ids[:, 1:])

    def formulas():
        with tl.formulas():
            kernels()

    heading("training step, 4 layers, d_model 128", "kernels", "formulas")
    row("forward, backward, clip, AdamW", kernels, formulas)
    gradient = tl.grad(model.loss)(trainer.params, ids[:, :-1], ids[:, 1:])
    optimizers = (tl.AdamW(1e-3), tl.SGD(0.1, momentum=0.9))

    def update(optimizer):
        state = optimizer.init(trainer.params)
        return lambda: optimizer.update(trainer.params, gradient, state, 0)

    heading("update of the parameters", "AdamW", "SGD")
    row(
        f"{sum(p.size for p in trees.leaves(trainer.params)):,} parameters",
        *map(update, optimizers),
    )


def imports():
    """``import tinylm`` beyond ``import numpy, scipy.special``, each in a new process."""
    heading("a process that imports", "tinylm", "base")

    def process(code):
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    row(
        "numpy, scipy.special, tinylm",
        process("import numpy, scipy.special, tinylm"),
        process("import numpy, scipy.special"),
    )


ALL = {"ops": ops, "engine": engine, "step": step, "imports": imports}


def main():
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, {os.cpu_count()} cores")
    for name in sys.argv[1:] or ALL:
        if name not in ALL:
            sys.exit(f"unknown benchmark {name!r}: wanted {', '.join(ALL)}")
        ALL[name]()


if __name__ == "__main__":
    main()
