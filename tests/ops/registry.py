"""For every op: a strategy, a transcription of its formula in loops, and a value worked by hand."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import tinylm as tl
from tinylm.oracle.strategies import arrays, masks

SEEDS = st.integers(0, 2**32 - 1)
LEADING = st.sampled_from([(), (2,), (2,), (2, 1), (2, 3), (1,), (0,)])


def length(prime):
    """Usually a prime of its own, so that mixed-up axes cannot hide; sometimes 1, seldom 0."""
    return st.sampled_from([*[prime] * 12, 1, 1, 0])


def present(prime):
    """As `length`, but never 0."""
    return st.sampled_from([prime, prime, 1])


@dataclass
class Entry:
    op: Any
    inputs: Any  # a strategy of (differentiable arrays, other arguments)
    loops: Any  # the formula, without tinylm and almost without NumPy
    pin: Any  # (arrays, other arguments, value by hand)


def rows(x):
    """The index of every row of the last axis."""
    return np.ndindex(x.shape[:-1])


# softmax and log-softmax


@st.composite
def logits(draw):
    shape = (*draw(LEADING), draw(length(3)), draw(length(7)))
    x = draw(arrays(shape, high=2))
    if x.size and draw(st.booleans()):
        x = x.copy()
        x[..., 0] = -np.inf
    return [x], {"axis": draw(st.sampled_from([-1, 0, x.ndim - 1, -2]))}


def softmax_in_loops(x, axis=-1):
    x = np.moveaxis(x, axis, -1)
    y = np.zeros(x.shape)
    for i in rows(x):
        top = max(x[i], default=0.0)
        if top == -math.inf:
            continue
        total = math.fsum(math.exp(v - top) for v in x[i])
        for j, v in enumerate(x[i]):
            y[(*i, j)] = math.exp(v - top) / total
    return np.moveaxis(y, -1, axis)


@st.composite
def finite_logits(draw):
    shape = (*draw(LEADING), draw(length(3)), draw(length(7)))
    x = draw(arrays(shape, high=2))
    return [x], {"axis": draw(st.sampled_from([-1, 0, -2]))}


def log_softmax_in_loops(x, axis=-1):
    x = np.moveaxis(x, axis, -1)
    y = np.zeros(x.shape)
    for i in rows(x):
        for j, v in enumerate(x[i]):
            y[(*i, j)] = -math.log(math.fsum(math.exp(u - v) for u in x[i]))
    return np.moveaxis(y, -1, axis)


# attention


@st.composite
def attention_inputs(draw):
    T, S = draw(length(3)), draw(length(5))
    D, Dv = draw(present(7)), draw(length(2))
    leading = draw(
        st.sampled_from(
            [
                ((), (), ()),
                ((2,), (2,), (2,)),
                ((2, 1), (11,), (1,)),
                ((2, 3), (2, 3), (2, 3)),
                ((2,), (), (1,)),
                ((0,), (1,), ()),
            ]
        )
    )
    Q = draw(arrays((*leading[0], T, D), high=0))
    K = draw(arrays((*leading[1], S, D), high=0))
    V = draw(arrays((*leading[2], S, Dv)))
    full = np.broadcast_shapes(*leading)
    mask = draw(
        st.one_of(
            st.none(),
            masks((T, S)),
            masks((*full, T, S)),
            masks((*full[:-1], *(1,) * bool(full), T, S)),
        )
    )
    return [Q, K, V], {
        "mask": mask,
        "causal": draw(st.booleans()),
        "scale": draw(st.sampled_from([None, 0.3, -1.0])),
    }


def attention_in_loops(Q, K, V, mask=None, causal=False, scale=None):
    (T, D), (S, Dv) = Q.shape[-2:], V.shape[-2:]
    leading = np.broadcast_shapes(Q.shape[:-2], K.shape[:-2], V.shape[:-2])
    Q, K, V = (np.broadcast_to(x, (*leading, *x.shape[-2:])) for x in (Q, K, V))
    allowed = np.broadcast_to(True if mask is None else mask, (*leading, T, S))
    scale = 1 / math.sqrt(D) if scale is None else scale
    output = np.zeros((*leading, T, Dv))
    for b in np.ndindex(leading):
        for t in range(T):
            keys = [s for s in range(S) if allowed[(*b, t, s)] and (s <= t or not causal)]
            scores = [
                scale * math.fsum(Q[(*b, t, d)] * K[(*b, s, d)] for d in range(D)) for s in keys
            ]
            top = max(scores, default=0.0)
            total = math.fsum(math.exp(score - top) for score in scores)
            for v in range(Dv):
                output[(*b, t, v)] = math.fsum(
                    math.exp(score - top) / total * V[(*b, s, v)]
                    for s, score in zip(keys, scores, strict=True)
                )
    return output


# norms


@st.composite
def layer_norm_inputs(draw):
    C = draw(st.sampled_from([7, 3]))  # of one or two elements, the gradient is 0 but for eps
    shape = (*draw(LEADING), draw(length(3)), C)
    return [draw(arrays(shape)), draw(arrays((C,), -1, 1)), draw(arrays((C,), -1, 1))], {
        "eps": draw(st.sampled_from([1e-5, 1e-3]))
    }


def layer_norm_in_loops(x, gain, bias, eps=1e-5):
    y, C = np.zeros(x.shape), x.shape[-1]
    for i in rows(x):
        mean = math.fsum(x[i]) / C
        variance = math.fsum((v - mean) ** 2 for v in x[i]) / C
        for c in range(C):
            y[(*i, c)] = gain[c] * (x[(*i, c)] - mean) / math.sqrt(variance + eps) + bias[c]
    return y


@st.composite
def rms_norm_inputs(draw):
    (x, gain, _), attributes = draw(layer_norm_inputs())
    return [x, gain], attributes


def rms_norm_in_loops(x, gain, eps=1e-5):
    y, C = np.zeros(x.shape), x.shape[-1]
    for i in rows(x):
        mean_square = math.fsum(v * v for v in x[i]) / C
        for c in range(C):
            y[(*i, c)] = gain[c] * x[(*i, c)] / math.sqrt(mean_square + eps)
    return y


# activations


@st.composite
def elementwise_inputs(draw, high=1):
    shape = draw(st.one_of(st.just(()), st.tuples(length(5)), st.tuples(length(2), length(5))))
    return [draw(arrays(shape, high=high))], {}


@st.composite
def gelu_inputs(draw):
    x, _ = draw(elementwise_inputs())
    return x, {"approximate": draw(st.booleans())}


def gelu_in_loops(x, approximate=False):
    def gelu(v):
        if approximate:
            return 0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))
        return 0.5 * v * math.erfc(-v / math.sqrt(2))

    return np.array([gelu(v) for v in x.ravel()]).reshape(x.shape)


def relu_in_loops(x):
    return np.array([max(0.0, v) for v in x.ravel()]).reshape(x.shape)


def silu_in_loops(x):
    def silu(v):
        return v / (1 + math.exp(-v)) if v > 0 else v * math.exp(v) / (1 + math.exp(v))

    return np.array([silu(v) for v in x.ravel()]).reshape(x.shape)


# linear, embedding, cross-entropy


@st.composite
def linear_inputs(draw):
    n, m = draw(length(7)), draw(length(5))
    arrays_ = [draw(arrays((*draw(LEADING), n), -3, 3)), draw(arrays((n, m), -3, 3))]
    if draw(st.booleans()):
        arrays_.append(draw(arrays((m,), -3, 3)))
    return arrays_, {}


def linear_in_loops(x, W, b=None):
    n, m = W.shape
    y = np.zeros((*x.shape[:-1], m))
    for i in rows(x):
        for j in range(m):
            y[(*i, j)] = math.fsum(x[(*i, k)] * W[k, j] for k in range(n)) + (
                0 if b is None else b[j]
            )
    return y


@st.composite
def embedding_inputs(draw):
    V = draw(present(5))
    table = draw(arrays((V, draw(length(3)))))
    ids = np.random.default_rng(draw(SEEDS)).integers(0, V, (*draw(LEADING), draw(length(7))))
    return [table], {"ids": ids}


def embedding_in_loops(table, ids):
    y = np.zeros((*ids.shape, table.shape[1]))
    for i in np.ndindex(ids.shape):
        for c in range(table.shape[1]):
            y[(*i, c)] = table[ids[i], c]
    return y


@st.composite
def cross_entropy_inputs(draw):
    V = draw(present(7))
    shape = (*draw(st.sampled_from([(), (2,), (1,)])), draw(present(3)))
    x = draw(arrays((*shape, V), high=2))
    rng = np.random.default_rng(draw(SEEDS))
    targets = rng.integers(0, V, shape)
    ignored = draw(st.sampled_from([-100, 0]))
    if draw(st.booleans()) and targets.size > 1:
        targets.flat[0] = ignored
    if (targets == ignored).all():
        ignored = -1
    attributes = {"targets": targets, "ignore_index": ignored}
    if draw(st.booleans()):
        attributes["label_smoothing"] = draw(st.sampled_from([0.1, 0.5, 1.0]))
    if draw(st.booleans()):
        weights = attributes["weights"] = rng.uniform(0.5, 2, V)
        weights[(targets[targets != ignored][0] + 1) % V] *= draw(st.sampled_from([1, V == 1, 1e3]))
    return [x], attributes


def cross_entropy_in_loops(logits, targets, ignore_index=-100, label_smoothing=0.0, weights=None):
    losses, V = [], logits.shape[-1]
    weights = [1.0] * V if weights is None else weights
    for i in np.ndindex(targets.shape):
        if targets[i] == ignore_index:
            continue
        for c, score in enumerate(logits[i]):
            q = label_smoothing / V + (1 - label_smoothing) * (c == targets[i])
            nll = math.log(math.fsum(math.exp(v - score) for v in logits[i])) if q else 0.0
            losses.append(q * weights[c] * nll)
    counted = [weights[c] for c in targets[targets != ignore_index]]
    return np.array(math.fsum(losses) / math.fsum(counted))


E2 = math.e**2
REGISTRY = {
    "softmax": Entry(
        tl.softmax, logits(), softmax_in_loops,
        ([np.array([0.0, math.log(3), -math.inf])], {}, [0.25, 0.75, 0.0]),
    ),
    "log_softmax": Entry(
        tl.log_softmax, finite_logits(), log_softmax_in_loops,
        ([np.array([0.0, math.log(3)])], {}, [-math.log(4), math.log(0.75)]),
    ),
    "attention": Entry(
        tl.attention, attention_inputs(), attention_in_loops,
        # one feature: scores 0 and log 3, weights 1/4 and 3/4; the first query is masked but for s = 0
        (
            [np.array([[1.0], [math.log(3)]]), np.array([[0.0], [1.0]]), np.array([[4.0, 0.0], [8.0, 4.0]])],
            {"causal": True}, [[4.0, 0.0], [7.0, 3.0]],
        ),
    ),
    "layer_norm": Entry(
        tl.layer_norm, layer_norm_inputs(), layer_norm_in_loops,
        # mean 2, variance 5: (-3, -1, 1, 3) / sqrt(9)
        (
            [np.array([-1.0, 1.0, 3.0, 5.0]), np.array([1.0, 1.0, 3.0, 1.0]), np.array([0.0, 0.0, 0.0, 2.0])],
            {"eps": 4.0}, [-1.0, -1 / 3, 1.0, 3.0],
        ),
    ),
    "rms_norm": Entry(
        tl.rms_norm, rms_norm_inputs(), rms_norm_in_loops,
        # mean square 25: root of 25 + 11 is 6
        ([np.array([7.0, 1.0]), np.array([6.0, 12.0])], {"eps": 11.0}, [7.0, 2.0]),
    ),
    "gelu": Entry(
        tl.gelu, gelu_inputs(), gelu_in_loops,
        # Phi(1) from the tables of the normal distribution
        ([np.array([1.0, -1.0, 0.0])], {}, [0.8413447460685429, -0.15865525393145707, 0.0]),
    ),
    "relu": Entry(tl.relu, elementwise_inputs(4), relu_in_loops, ([np.array([-2.0, 0.0, 3.0])], {}, [0.0, 0.0, 3.0])),
    "silu": Entry(
        tl.silu, elementwise_inputs(), silu_in_loops,
        ([np.array([0.0, math.log(3), -math.log(3)])], {}, [0.0, 0.75 * math.log(3), -0.25 * math.log(3)]),
    ),
    "linear": Entry(
        tl.linear, linear_inputs(), linear_in_loops,
        ([np.array([1.0, 2.0]), np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([1.0, 0.0, -1.0])], {}, [10.0, 12.0, 14.0]),
    ),
    "embedding": Entry(
        tl.embedding, embedding_inputs(), embedding_in_loops,
        ([np.array([[1.0, 2.0], [3.0, 4.0]])], {"ids": np.array([1, 1, 0])}, [[3.0, 4.0], [3.0, 4.0], [1.0, 2.0]]),
    ),
    "cross_entropy": Entry(
        tl.cross_entropy, cross_entropy_inputs(), cross_entropy_in_loops,
        # 1/2, then ignored, then 1/8: (1 + 3) / 2 bits
        (
            [np.log([[1.0, 1.0], [1.0, 1.0], [7.0, 1.0]])],
            {"targets": np.array([0, -100, 1])}, 2 * math.log(2),
        ),
    ),
}  # fmt: skip
