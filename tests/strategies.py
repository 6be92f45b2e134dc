"""Inputs that break kernels: scales, empty and length-1 axes, layouts, masks with empty rows."""

import numpy as np
from hypothesis import strategies as st

SEEDS = st.integers(0, 2**32 - 1)


def length(prime):
    """Usually a prime of its own, so that mixed-up axes cannot hide; sometimes 1, seldom 0."""
    return st.sampled_from([*[prime] * 12, 1, 1, 0])


def present(prime):
    """As `length`, but never 0."""
    return st.sampled_from([prime, prime, 1])


LEADING = st.sampled_from([(), (2,), (2,), (2, 1), (2, 3), (1,), (0,)])


@st.composite
def arrays(draw, shape, low=-6, high=4):
    """Normal numbers times a power of ten, in one of several layouts."""
    rng = np.random.default_rng(draw(SEEDS))
    x = rng.standard_normal(shape) * 10.0 ** draw(st.integers(low, high))
    layout = draw(st.sampled_from(["C", "F", "strided", "reversed", "read-only", "repeated"]))
    return in_layout(x, layout)


def in_layout(x, layout):
    if layout == "F":
        return np.asfortranarray(x)
    if layout == "strided":
        wide = np.full((*x.shape[:-1], 2 * x.shape[-1]) if x.ndim else (), np.nan)
        if not x.ndim:
            return x
        wide[..., ::2] = x
        return wide[..., ::2]
    if layout == "reversed" and x.ndim:
        return x[::-1].copy()[::-1]
    if layout == "read-only":
        x = x.copy()
        x.setflags(write=False)
    if layout == "repeated" and x.ndim and x.shape[0]:
        return np.broadcast_to(x[:1], x.shape)
    return x


@st.composite
def masks(draw, shape):
    """Boolean masks with full, empty and mixed rows."""
    rng = np.random.default_rng(draw(SEEDS))
    mask = rng.random(shape) < draw(st.sampled_from([0.2, 0.5, 0.9]))
    if mask.size and draw(st.booleans()):
        mask[..., rng.integers(mask.shape[-2]), :] = False
    return mask
