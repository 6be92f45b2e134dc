"""Piecewise constant functions: they pass through with zero gradient, as plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinylm.autograd.derivatives.teach import expanded
from tinylm.autograd.rules import PIECEWISE_CONSTANT, Array
from tinylm.autograd.tracing import untraced

PIECEWISE_CONSTANT.update(
    [
        np.all, np.allclose, np.any, np.argmax, np.argmin, np.argpartition, np.argsort,
        np.argwhere, np.around, np.array2string, np.array_equal, np.array_equiv, np.array_repr, np.array_str,
        np.can_cast, np.ceil, np.common_type, np.count_nonzero, np.digitize, np.empty_like,
        np.equal, np.fix, np.flatnonzero, np.floor, np.floor_divide, np.greater,
        np.greater_equal, np.invert, np.isclose, np.iscomplex, np.iscomplexobj, np.isfinite,
        np.isinf, np.isnan, np.isneginf, np.isposinf, np.isreal, np.isrealobj, np.less,
        np.less_equal, np.lexsort, np.logical_and, np.logical_not, np.logical_or, np.logical_xor,
        np.may_share_memory, np.min_scalar_type, np.ndim, np.nonzero, np.not_equal, np.ones_like,
        np.result_type, np.rint, np.round, np.searchsorted, np.shape, np.shares_memory,
        np.signbit, np.size, np.spacing, np.trunc, np.zeros_like,
    ]
)  # fmt: skip


@expanded(np.sign)
def _(x: Array) -> Any:
    if np.iscomplexobj(x):
        raise TypeError("numpy.sign has no derivative in tinylm where its argument is complex")
    return np.sign(untraced(x))
