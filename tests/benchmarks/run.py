"""What takes how long: ``python tests/benchmarks/run.py [NAME ...] [--json FILE] [--rounds N]``.

Every row holds tinylm against something that does the same work. They run in turn, several times,
and what to quote is the median of the ratios, pair by pair: single times on a shared machine mean
little. Peers (extra `peers`) that are not installed are left out.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np

import tinylm as tl
from tinylm.threads import ONE_THREAD, one_thread

SMALL, LARGE = "4,4,128,64,12,65", "6,6,384,256,8,65"
"""Layers, heads, d_model, context, batch, vocabulary."""

rows = []


def there(package):
    return importlib.util.find_spec(package) is not None


def heading(title, unit="ms"):
    print(f"\n{title:44}{'tinylm, ' + unit:>14}{'other, ' + unit:>14}{'ratio':>8}", flush=True)


def report(group, what, other, pairs, unit="ms"):
    """Print and keep the medians of both, and of their ratios pair by pair."""
    ours, theirs = (statistics.median(x) for x in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"{what + ' / ' + other:44}{ours:14,.2f}{theirs:14,.2f}{ratio:8.2f}", flush=True)
    rows.append(
        {"group": group, "what": what, "against": other, "unit": unit, "tinylm": ours,
         "other": theirs, "ratio": ratio, "pairs": len(pairs)}
    )  # fmt: skip


def timed(work, repeats=1):
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    return 1e3 * (time.perf_counter() - began) / repeats


def in_turn(group, what, ours, others, rounds, repeats=1, unit="ms"):
    """Ours against each of the others, all in this process."""
    scale = 1e3 if unit == "us" else 1.0
    for work in (ours, *others.values()):
        work()
    spent = [
        [scale * timed(work, repeats) for work in (ours, *others.values())] for _ in range(rounds)
    ]
    for i, other in enumerate(others, 1):
        report(group, what, other, [(times[0], times[i]) for times in spent], unit)


# In processes of their own: a model's work.


def alone(who, what, sizes, times):
    """Median time and peak memory of a process that does one kind of work."""
    threads = dict.fromkeys(ONE_THREAD, str(min(2, os.cpu_count() or 1)))
    if who == "tinylm" and what in ("step", "cached", "uncached"):  # as the command line does
        threads = ONE_THREAD
    command = [sys.executable, str(Path(__file__).parent / "work.py"), who, what, sizes, str(times)]
    out = subprocess.run(
        command, env={**os.environ, **threads}, check=True, capture_output=True, text=True
    ).stdout
    told = json.loads(out)
    return statistics.median(told["ms"]), told["peak_mb"]


def of_models(group, what, sizes, times, peers, rounds):
    peers = [peer for peer in peers if peer == "floor" or there(peer)]
    spent = [[alone(who, what, sizes, times) for who in ("tinylm", *peers)] for _ in range(rounds)]
    for i, peer in enumerate(peers, 1):
        report(group, what, peer, [(times[0][0], times[i][0]) for times in spent])
    for i, peer in enumerate(peers, 1):
        if peer != "floor":
            pairs = [(times[0][1], times[i][1]) for times in spent]
            report(group, f"{what}, peak memory", peer, pairs, "MB")


def step(rounds):
    for sizes, times in ((SMALL, 40), (LARGE, 4)):
        heading(f"training step, {sizes}")
        of_models(f"step {sizes}", "step", sizes, times, ["torch", "jax", "floor"], rounds)


def forward(rounds):
    heading(f"no gradients, {SMALL}")
    of_models("forward", "forward", SMALL, 20, ["torch", "jax", "floor"], rounds)
    of_models("forward", "perplexity", SMALL, 5, ["torch"], rounds)


def generation(rounds):
    sizes = "4,4,128,256,1,65"
    heading(f"255 tokens, one after the other, {sizes}")
    spent = [
        [alone(*job, sizes, 3)[0] for job in (("tinylm", "cached"), ("tinylm", "uncached"))]
        + [alone("torch", what, sizes, 3)[0] for what in ("cached", "uncached") if there("torch")]
        for _ in range(rounds)
    ]
    names = ["", "tinylm uncached", "torch cached", "torch uncached"]
    for i in range(1, len(spent[0])):
        report("generation", "cached", names[i], [(times[0], times[i]) for times in spent])


# In this process: ops and the engine.


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


B, T, C, H, V = 12, 64, 128, 4, 65
IDS = np.arange(B * T).reshape(B, T) % V
OPS = {
    "softmax (B, H, T, T)": (tl.softmax, [normal(B, H, T, T)], {}),
    "log_softmax (B, T, V)": (tl.log_softmax, [normal(B, T, V)], {}),
    "attention, causal": (tl.attention, [normal(B, H, T, C // H)] * 3, {"causal": True}),
    "layer_norm (B, T, C)": (tl.layer_norm, [normal(B, T, C), normal(C), normal(C)], {}),
    "rms_norm (B, T, C)": (tl.rms_norm, [normal(B, T, C), normal(C)], {}),
    "gelu, tanh (B, T, 4C)": (tl.gelu, [normal(B, T, 4 * C)], {"approximate": True}),
    "gelu, erf (B, T, 4C)": (tl.gelu, [normal(B, T, 4 * C)], {}),
    "silu (B, T, 4C)": (tl.silu, [normal(B, T, 4 * C)], {}),
    "linear (B, T, C) (C, 4C)": (tl.linear, [normal(B, T, C), normal(C, 4 * C), normal(4 * C)], {}),
    "embedding (V, C)": (tl.embedding, [normal(V, C)], {"ids": IDS}),
    "cross_entropy (B, T, V)": (tl.cross_entropy, [normal(B, T, V)], {"targets": IDS}),
    "rotary (B, H, T, D)": (tl.rotary, [normal(B, H, T, C // H)], {"positions": np.arange(T)}),
}  # fmt: skip


def in_torch(name):
    """The same op in torch, value and gradient; None where it has none."""
    if not there("torch"):
        return None
    import torch
    from torch.nn import functional as F  # noqa: N812

    ids = torch.tensor(IDS)
    functions = {
        "softmax": lambda x: F.softmax(x, -1),
        "log_softmax": lambda x: F.log_softmax(x, -1),
        "attention": lambda Q, K, V: F.scaled_dot_product_attention(Q, K, V, is_causal=True),
        "layer_norm": lambda x, g, b: F.layer_norm(x, x.shape[-1:], g, b),
        "rms_norm": lambda x, g: F.rms_norm(x, x.shape[-1:], g, 1e-5),
        "gelu, tanh": lambda x: F.gelu(x, approximate="tanh"),
        "gelu, erf": F.gelu,
        "silu": F.silu,
        "linear": lambda x, W, b: x @ W + b,
        "embedding": lambda table: F.embedding(ids, table),
        "cross_entropy": lambda x: F.cross_entropy(x.reshape(-1, V), ids.reshape(-1)),
    }
    function = next((f for key, f in functions.items() if name.startswith(key)), None)
    if function is None:
        return None
    arrays = [torch.tensor(x, requires_grad=True) for x in OPS[name][1]]

    def work():
        y = function(*arrays)
        torch.autograd.grad(y, arrays, y.detach())

    return work


def ops(rounds):
    """Each kernel against its formula, and against torch: value and gradient, in one thread."""
    heading("op, value and gradient, one thread", "us")
    if there("torch"):
        import torch

        torch.set_num_threads(1)
    for name, (op, arrays, attributes) in OPS.items():

        def kernel(op=op, arrays=arrays, attributes=attributes):
            value, pullback = tl.vjp(lambda *x: op(*x, **attributes), *arrays)
            pullback.once(value)

        def formula(kernel=kernel):
            with tl.formulas():
                kernel()

        others = {"formula": formula if op._kernel else None, "torch": in_torch(name)}
        others = {key: work for key, work in others.items() if work is not None}
        with one_thread():
            in_turn("ops", name, kernel, others, rounds, 10, "us")


def attention(rounds):
    """Long sequences: time against torch's math backend, and memory as the length doubles."""
    if there("torch"):
        import torch
        from torch.nn import functional as F  # noqa: N812
        from torch.nn.attention import SDPBackend, sdpa_kernel

        torch.set_num_threads(min(2, os.cpu_count() or 1))
        heading("attention, B*H = 4, D = 64, causal, both ways")
        for length in (1024, 4096):
            Q, K, V = (normal(1, 4, length, 64) for _ in range(3))
            tensors = [torch.tensor(x, requires_grad=True) for x in (Q, K, V)]

            def math(tensors=tensors):
                with sdpa_kernel(SDPBackend.MATH):
                    y = F.scaled_dot_product_attention(*tensors, is_causal=True)
                torch.autograd.grad(y, tensors, y.detach())

            def ours(Q=Q, K=K, V=V):
                y, pullback = tl.vjp(lambda *qkv: tl.attention(*qkv, causal=True), Q, K, V)
                pullback.once(y)

            in_turn("attention", f"T = {length}", ours, {"torch math": math}, rounds)
    heading("attention, memory beyond the inputs", "MB")
    grown = {}
    for length in (1024, 2048, 4096, 8192):
        arrays = [normal(4, length, 64) for _ in range(3)]
        tracemalloc.start()
        y, pullback = tl.vjp(lambda *x: tl.attention(*x, causal=True), *arrays)
        pullback.once(y)
        grown[length] = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
    for length in (2048, 4096, 8192):
        pair = (grown[length], grown[length // 2])
        report("attention", f"T = {length}", f"T = {length // 2}", [pair], "MB")


def engine(rounds):
    """What recording costs: a chain of small ops, as it comes out for one of them."""
    x = np.random.default_rng(0).standard_normal((4, 4))
    length = 1000

    def chain(xp, x):
        for _ in range(length // 2):
            x = xp.exp(x) * 0.1
        return xp.sum(x)

    heading("one op on (4, 4), float64", "us")
    both, forward = {}, {}
    if there("torch"):
        import torch

        torch.set_num_threads(1)

        def in_torch():
            y = torch.tensor(x, requires_grad=True)
            chain(torch, y).backward()

        both["torch"] = in_torch
    if there("autograd"):
        import autograd.numpy
        from autograd.differential_operators import make_vjp, value_and_grad

        forward["HIPS autograd"] = lambda: make_vjp(lambda x: chain(autograd.numpy, x))(x)
        both["HIPS autograd"] = lambda: value_and_grad(lambda x: chain(autograd.numpy, x))(x)
    forward["NumPy, nothing recorded"] = lambda: chain(np, x)
    once = 1e3 / length  # a call of the chain in ms, an op in us

    def scaled(group, what, ours, others):
        for other, work in others.items():
            ours(), work()
            pairs = [(once * timed(ours), once * timed(work)) for _ in range(3 * rounds)]
            report(group, what, other, pairs, "us")

    scaled("engine", "forward", lambda: tl.vjp(lambda x: chain(np, x), x), forward)
    scaled(
        "engine", "both ways", lambda: tl.value_and_grad(lambda x: chain(np, x))(x), both
    )  # fmt: skip


def oracle(rounds):
    """A check of the oracle, against one call of the kernel that it checks."""
    Q, K, V, d_output = np.random.default_rng(0).standard_normal((4, 256, 64))

    def kernel(Q, K, V, cotangent):
        y, pullback = tl.vjp(lambda *x: tl.attention(*x, causal=True), Q, K, V)
        return y, dict(zip("QKV", pullback(cotangent), strict=True))

    inputs = {"Q": Q, "K": K, "V": V, "cotangent": d_output}
    heading("oracle.check of attention, T = 256, D = 64")
    in_turn(
        "oracle",
        "check",
        lambda: tl.oracle.check(kernel, "attention", inputs, causal=True),
        {"one call of the kernel": lambda: kernel(Q, K, V, d_output)},
        rounds,
    )


def imports(rounds):
    """``import tinylm`` and all that a model needs, beyond NumPy and SciPy."""
    heading("a process that imports")

    def process(code):
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    in_turn(
        "imports",
        "tinylm.GPT, tinylm.Trainer",
        process("import tinylm; tinylm.GPT, tinylm.Trainer"),
        {"numpy, scipy.special": process("import numpy, scipy.special")},
        rounds,
    )


ALL = {
    f.__name__: f for f in (step, forward, generation, ops, attention, engine, oracle, imports)
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(ALL)}")
    parser.add_argument("--json", type=Path, help="where the figures are written as well")
    parser.add_argument("--rounds", type=int, default=5, help="times that both run, in turn")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(ALL)
    if unknown:
        parser.error(f"unknown benchmark {min(unknown)!r}: wanted some of {', '.join(ALL)}")
    machine = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    } | {
        peer: importlib.metadata.version(peer)
        for peer in ("torch", "jax", "autograd")
        if there(peer)
    }
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    for name in arguments.names or ALL:
        ALL[name](arguments.rounds)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
