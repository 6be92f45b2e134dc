"""The smallest case: inputs are cut and simplified for as long as the kernel still fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tinylm.oracle.formats import FORMATS

Inputs = dict[str, Any]
Fails = Callable[[Inputs], bool]

FEW = 3
"""All axes are tried at so few before any is tried at more."""


def smallest(inputs: Inputs, axes: Mapping[str, str], io: str, fails: Fails) -> Inputs:
    """The inputs made smaller, first their shapes, then their values, until nothing helps any more.

    Parameters
    ----------
    inputs : dict of str to ndarray
        At which the kernel fails; those with "..." among their axes share the leading ones.
    axes : mapping of str to str
        The letters of the axes of each input.
    io : str
        The format of the numbers: what comes out is exact in it.
    fails : callable
        Whether the kernel fails at other inputs as it does at these.

    Returns
    -------
    dict of str to ndarray

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm.oracle.shrinking import smallest
    >>> x = np.array([[0.5, 3.7, -12.3], [1.2, 8.4, 2.5]])
    >>> smallest({"x": x}, {"x": "...C"}, "f32", lambda inputs: np.any(inputs["x"] < -9))
    {'x': array([-10.])}
    """
    before = None
    while before is not inputs:
        before = inputs
        inputs = _with_fewer_axes(inputs, axes, fails)
        inputs = _shortened(inputs, axes, fails)
        inputs = _simplified(inputs, io, fails)
    return inputs


# Shapes.


def _labels(inputs: Inputs, axes: Mapping[str, str]) -> dict[str, str]:
    """The axes of each input, with a digit for each leading one."""
    labels = {}
    for name, x in inputs.items():
        leading = np.ndim(x) - len(axes[name].replace("...", ""))
        labels[name] = axes[name].replace("...", "0123456789"[:leading])
    return labels


def _taken(inputs: Inputs, axes: Mapping[str, str], label: str, kept: Any) -> Inputs:
    """Only some positions of an axis, or one, and then without the axis."""
    labels = _labels(inputs, axes)
    cut = dict(inputs)
    for name, x in inputs.items():
        if label in labels[name]:
            cut[name] = np.asarray(np.take(x, kept, axis=labels[name].index(label)))
    return cut


def _lengths(inputs: Inputs, axes: Mapping[str, str]) -> dict[str, int]:
    labels = _labels(inputs, axes)
    return {
        label: length
        for name, x in inputs.items()
        for label, length in zip(labels[name], np.shape(x), strict=True)
    }


def _with_fewer_axes(inputs: Inputs, axes: Mapping[str, str], fails: Fails) -> Inputs:
    """Without the leading axes, if one position of them suffices."""
    for label, length in reversed(_lengths(inputs, axes).items()):
        if label.isdigit() and length:
            fewer = _taken(inputs, axes, label, 0)
            inputs = fewer if fails(fewer) else inputs
    return inputs


def _shortened(inputs: Inputs, axes: Mapping[str, str], fails: Fails) -> Inputs:
    """Each axis as short as it can be: its first positions, and of those only what is needed."""
    for longest in (FEW, None):
        for label, length in _lengths(inputs, axes).items():
            for size in range(1, length)[:longest]:
                fewer = _taken(inputs, axes, label, np.arange(size))
                if fails(fewer):
                    inputs = fewer
                    break
    for label, length in _lengths(inputs, axes).items():
        for position in reversed(range(length)):
            now = _lengths(inputs, axes)[label]
            fewer = _taken(inputs, axes, label, np.delete(np.arange(now), position))
            if now > 1 and fails(fewer):
                inputs = fewer
    return inputs


# Values.


def _simplified(inputs: Inputs, io: str, fails: Fails) -> Inputs:
    """Zeros, ones and small whole numbers, all at once where that goes, else in ever smaller parts."""

    def candidates(inputs: Inputs, name: str, part: slice) -> Iterator[Inputs]:
        x = inputs[name]
        for numbers in simpler(np.ravel(x)[part]):
            changed = x.copy()
            changed.flat[part] = FORMATS[io].rounded(numbers) if x.dtype.kind == "f" else numbers
            if not np.array_equal(changed, x, equal_nan=True):
                yield {**inputs, name: changed}

    for name, x in inputs.items():
        for part in _parts(x.size):
            while found := next(filter(fails, candidates(inputs, name, part)), None):
                inputs = found
    return inputs


def _parts(size: int) -> Iterator[slice]:
    """All, the halves, the quarters, ..., each single one."""
    length = size
    while length:
        yield from (slice(start, start + length) for start in range(0, size, length))
        length = (length + 1) // 2 if length > 1 else 0


def simpler(x: Any) -> Iterable[Any]:
    """Simpler numbers in the place of some, the simplest first.

    True is the simplest of booleans, and 0 of integers.

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm.oracle.shrinking import simpler
    >>> [y.tolist() for y in simpler(np.array([-3.3]))]
    [[0.0], [1.0], [-1.0], [-3.0], [-4.0], [-4.0]]
    """
    if x.dtype.kind != "f":
        return [np.ones_like(x) if x.dtype == bool else np.zeros_like(x)]
    size, sign = np.abs(x), np.sign(x) + 0.0
    simplest = [np.zeros_like(x), np.abs(sign), sign]
    if np.all(size == np.rint(size)):
        fewer = [np.trunc(size * 2.0**-k) for k in range(1, 6)]
        return [*simplest, *(x - sign * n for n in fewer), x - sign * (size > 1)]
    power = np.exp2(np.rint(np.log2(np.where(size > 0, size, 1.0))))
    near = [np.rint(size), np.ceil(size), np.where(size == np.rint(size), size, power)]
    return [*simplest, *(sign * y for y in near)]
