"""Kernels of PyTorch and JAX on the CPU, each with what it declares of its arithmetic.

In float32 all of them compute in float32. What they do with formats of 16 bits was read in their
sources, and that every term is needed was measured: without it the kernel is rejected.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import numpy as np
from jax import numpy as jnp
from torch.nn import functional as F  # noqa: N812
from torch.nn.attention import SDPBackend, sdpa_kernel

import tinylm as tl
from tinylm.oracle import Rounding
from tinylm.oracle.examples import example
from tinylm.oracle.reference import in_format

FORMATS = ("bf16", "f16", "f32")


@dataclass(frozen=True)
class Kernel:
    """A function of another library, the op that it computes, and how."""

    name: str
    function: Callable
    op: str
    sizes: dict
    narrow: Callable  # the model for a format of 16 bits
    attributes: dict = field(default_factory=dict)
    scale: float = 1.0
    power: float = 0.02

    @property
    def kernel(self):
        adapter = tl.oracle.from_jax if self.name.startswith("jax") else tl.oracle.from_torch
        return adapter(self.function)

    def model(self, io):
        return Rounding() if io == "f32" else self.narrow(io)

    def inputs(self, seed):
        rng = np.random.default_rng(seed)
        inputs = example(self.op, self.sizes, rng, optional=("b",), scale=self.scale)
        value = getattr(tl, self.op)(**inputs, **self.attributes)
        return {**inputs, "cotangent": rng.standard_normal(np.shape(value))}

    def check(self, seed, io, kernel=None, **options):
        """Hold it to its model; or another in its place."""
        return tl.oracle.check(
            kernel or self.kernel,
            self.op,
            self.inputs(seed),
            rounding=self.model(io),
            power=self.power,
            **self.attributes,
            **options,
        )


# What they store.


def plain(io):
    """Float32 inside, and rounded once at the end."""
    return Rounding(io=io)


def every_step(io):
    """Operations of `jax.numpy`, one by one: each reads and writes the format."""
    return Rounding(io=io, accumulate=io)


def flash_of_torch(block):
    """The gradients of keys and values are added up in memory, a block of queries at a time.

    Those of queries likewise, but a block of keys is of 512.
    """

    def model(io):
        stores = {"weights": io, "d_scores": io}
        blocks = Rounding(io=io, stores=stores, block=block)
        return Rounding(io=io, stores=stores, tensors={"K": blocks, "V": blocks})

    return model


def layer_norm_of_torch(io):
    """Mean and 1 / std are kept for the way back; gain's and bias's gradients grow in memory."""
    stores = {"mean": io, "rstd": io}
    rows = Rounding(io=io, accumulate=io, stores=stores)
    return Rounding(io=io, stores=stores, tensors={"gain": rows, "bias": rows})


def cross_entropy_of_torch(io):
    """`log_softmax`, then a sum in the format: one of 47 numbers in bf16 is known to 4% only."""
    stores = {"log_probabilities": io, "d_log_probabilities": io}
    return Rounding(
        io=io, stores=stores, tensors={"value": Rounding(io=io, accumulate=io, stores=stores)}
    )


def cross_entropy_of_jax(io):
    """Every step in the format, but `jnp.mean` adds up in float32."""
    mean = Rounding(io=io, stores={"log_probabilities": io})
    return Rounding(io=io, accumulate=io, tensors={"value": mean})


def attention_of_jax(io):
    """Softmax in float32, its value in the format for the product with V, and so its cotangent."""
    return Rounding(io=io, stores={"weights": io, "d_weights": io})


# What they compute, with the names of the op.


def sdpa(backend, causal):
    def function(Q, K, V):
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(Q, K, V, is_causal=causal)

    return function


def attention_with_heads_inside(causal):
    def function(Q, K, V):
        Q, K, V = (jnp.swapaxes(x, 1, 2) for x in (Q, K, V))
        return jnp.swapaxes(jax.nn.dot_product_attention(Q, K, V, is_causal=causal), 1, 2)

    return function


def cross_entropy(logits, targets):
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), targets[:, None], axis=-1))


def rms_norm(x, gain):
    square = jnp.mean(x * x, axis=-1, keepdims=True)
    return gain * jax.nn.standardize(x, mean=jnp.zeros_like(square), variance=square)


def attentions():
    """The longest with one head, which saves time."""
    flash, math = SDPBackend.FLASH_ATTENTION, SDPBackend.MATH
    for T, heads, causal in (
        (64, 2, True), (64, 2, False), (200, 2, True), (200, 2, False), (512, 1, True), (512, 1, False),
    ):  # fmt: skip
        kernels = {
            "torch-flash": (sdpa(flash, causal), flash_of_torch(32 if T < 192 else 64)),
            "torch-math": (sdpa(math, causal), plain),  # all of it in float32
        }
        if T == 64:
            kernels["jax-attention"] = attention_with_heads_inside(causal), attention_of_jax
        sizes = {"...": (1, heads), "T": T, "S": T, "D": 64, "E": 64}
        mask = "causal" if causal else "full"
        for name, (function, model) in kernels.items():
            yield Kernel(
                f"{name}-{mask}-{T}", function, "attention", sizes, model, {"causal": causal}
            )


def mutants(grads, io):
    """Gradients of a kernel with one mistake, each with its name."""
    for name, x in grads.items():
        axis = max(x.ndim - 2, 0)
        n = x.shape[axis]
        row = np.arange(n).reshape(n, *(1,) * (x.ndim - axis - 1))
        for text, change in (
            ("1% too large", 1.01 * x),
            ("of the wrong sign", -x),
            ("with the last quarter 10% too small", np.where(row < 3 * n // 4, x, 0.9 * x)),
            ("without the last quarter", np.where(row < 3 * n // 4, x, 0)),
            ("with a row of zeros", np.where(row == n // 3, 0, x)),
        ):
            yield f"{name} {text}", {**grads, name: in_format(change, io)}
    for a, b in itertools.combinations(grads, 2):
        if np.shape(grads[a]) == np.shape(grads[b]):
            yield f"{a} and {b} swapped", {**grads, a: grads[b], b: grads[a]}


ROWS, ANY = {"...": (48,), "V": 128}, {"...": (48, 128)}
NORM, TARGETS = {"...": (32,), "C": 128}, {"...": (47,), "V": 128}
LINEAR, TABLE = {"...": (48,), "I": 64, "O": 96}, {"...": (64,), "V": 20, "C": 48}
TANH = {"approximate": True}

KERNELS = [
    Kernel("torch-softmax", lambda x: F.softmax(x, -1), "softmax", ROWS, plain),
    Kernel("torch-log_softmax", lambda x: F.log_softmax(x, -1), "log_softmax", ROWS, plain),
    Kernel("torch-gelu", lambda x: F.gelu(x), "gelu", ANY, plain, scale=2.0),
    Kernel("torch-gelu-tanh", lambda x: F.gelu(x, approximate="tanh"), "gelu", ANY, plain, TANH, 2.0),
    Kernel("torch-silu", lambda x: F.silu(x), "silu", ANY, plain, scale=2.0),
    Kernel("torch-relu", lambda x: F.relu(x), "relu", ANY, plain),
    Kernel("torch-layer_norm", lambda x, gain, bias: F.layer_norm(x, x.shape[-1:], gain, bias), "layer_norm", NORM, layer_norm_of_torch),
    Kernel("torch-rms_norm", lambda x, gain: F.rms_norm(x, x.shape[-1:], gain, 1e-5), "rms_norm", NORM, plain),
    Kernel("torch-cross_entropy", lambda logits, targets: F.cross_entropy(logits, targets), "cross_entropy", TARGETS, cross_entropy_of_torch, scale=2.0, power=0.05),
    Kernel("torch-linear", lambda x, W, b: F.linear(x, W.T, b), "linear", LINEAR, plain),
    Kernel("torch-embedding", lambda table, ids: F.embedding(ids, table), "embedding", TABLE, every_step),
    Kernel("jax-softmax", jax.nn.softmax, "softmax", ROWS, every_step),
    Kernel("jax-log_softmax", jax.nn.log_softmax, "log_softmax", ROWS, every_step),
    Kernel("jax-gelu", lambda x: jax.nn.gelu(x, approximate=False), "gelu", ANY, every_step, scale=2.0),
    Kernel("jax-gelu-tanh", jax.nn.gelu, "gelu", ANY, every_step, TANH, 2.0),
    Kernel("jax-silu", jax.nn.silu, "silu", ANY, every_step, scale=2.0),
    Kernel("jax-relu", jax.nn.relu, "relu", ANY, every_step),
    Kernel("jax-standardize", lambda x, gain, bias: jax.nn.standardize(x) * gain + bias, "layer_norm", NORM, every_step),
    Kernel("jax-standardize-rms", rms_norm, "rms_norm", NORM, every_step),
    Kernel("jax-cross_entropy", cross_entropy, "cross_entropy", TARGETS, cross_entropy_of_jax, scale=2.0),
    Kernel("jax-one_hot", lambda table, ids: jax.nn.one_hot(ids, len(table), dtype=table.dtype) @ table, "embedding", TABLE, plain),
    *attentions(),
]  # fmt: skip
