"""A gradient checked: a vjp against its function, which is stepped and not differentiated."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.autograd import trees, vjp
from tinylm.autograd.vjp import as_array
from tinylm.oracle import steps
from tinylm.oracle.steps import Estimate

DRAWS, ENTRIES, TOLD = 3, 64, 3
"""Random cotangents, for each of which there is a random tangent in every argument; entries of a
wrong argument that are looked at, and that are told."""

NUDGE, SPREAD, NEAR = 4.0, 10.0, 2.0**-10
"""By how many units in the last place a nudge moves each element; how many times what it changes is
allowed; how far away a near point is, relative to each element."""


class GradientError(AssertionError):
    """A gradient is wrong, or the check could not have seen it: the message says which."""


@dataclass(frozen=True)
class Comparison:
    """What one comparison found.

    Parameters
    ----------
    method : str
        "complex step", "Richardson", or "Richardson and complex step".
    relative_error : float
        The largest, relative to the largest derivative along a tangent in the same argument.
    visible : float
        The smallest relative error of the gradient in any one argument that would have been seen.
    zero : tuple of str
        Arguments in which the derivative is zero within its rounding. There both errors are
        relative to `largest`.
    largest : float
        The largest derivative along a tangent in any argument.
    """

    method: str
    relative_error: float
    visible: float
    zero: tuple[str, ...]
    largest: float


@dataclass(frozen=True)
class GradientCheck:
    """What `check_grads` found: of the vjp with f, the same near by, of the vjp's vjp with the vjp.

    The last two are None at order one, the last also if the engine cannot trace a given vjp.
    """

    first: Comparison
    nearby: Comparison | None = None
    second: Comparison | None = None


def check_grads(
    f: Callable[..., Any] | tuple[Callable[..., Any], Callable[..., Any]],
    args: tuple[Any, ...],
    order: int = 2,
    visible: float = 1e-3,
) -> GradientCheck:
    """Check the derivatives of a function at a point.

    A vjp maps a cotangent u to u @ J. For random u, and random tangents t in one argument after the
    other, ``<vjp(u), t>`` has to be ``<u, J t>``, which is found from values of f alone: by the
    complex step (Squire and Trapp 1998) where Richardson's extrapolated differences agree with it,
    else, as code may refuse or drop complex numbers, by these differences and with their error.

    Order two is right if the vjp is right around the point, which is checked at a point near by, and
    if its derivative is: the same with ``x -> vjp(u)`` in the place of f, and with the engine's vjp
    of that, which gives Hessian-vector products of <u, f>.

    Allowed is the error of the differences, or 300 units in the last place of the sum of the sizes
    of the terms; and ten times what a nudge of the arguments by four units changes. It takes a
    hundred values of f, more or less, for each array in the arguments, and at order two of its vjp.

    Parameters
    ----------
    f : callable, or pair of callables
        A function of NumPy code, whose vjp by the engine is checked, with the rules taught by
        `tinylm.derivative`. Or ``(f, vjp)``, where f is any code and ``vjp(cotangent, *args)``
        returns the cotangent of each argument that holds floats, in its nest, without a tuple if
        that is one. If the engine cannot trace this vjp, order two is the near point alone.
    args : tuple of array or nest
        Where. Floats become float64, whatever they come in; everything else is passed along.
    order : {1, 2}
        The highest derivative to check.
    visible : float
        The relative error that the check has to be able to see.

    Returns
    -------
    GradientCheck
        For each comparison the method, the largest error, and the least that would have been seen.

    Raises
    ------
    GradientError
        If a derivative is wrong: the message names the argument and its worst entries. Or if an
        error of `visible` would not be seen: f is constant, rounds too much, or has a kink too near.
        Against kinks a second tangent is tried, with shorter steps, in which elements move in
        proportion to their size, so that zeros stay: at the kink of relu none is checked.
    ValueError, TypeError
        If the call is wrong, or f or vjp returns what does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm.oracle.check_grads import check_grads
    >>> x = np.array([0.5, -2.0])
    >>> check_grads(lambda x: np.tanh(x) * x, (x,)).second.method
    'complex step'
    >>> check_grads((np.square, lambda cotangent, x: cotangent * x), (x,))
    Traceback (most recent call last):
        ...
    tinylm.oracle.check_grads.GradientError: check_grads: the vjp with f: args[0] is wrong. ...
    """
    if order not in (1, 2):
        raise ValueError(f"check_grads: {order=}: wanted 1 or 2")
    if not 0 < visible < 1:
        raise ValueError(f"check_grads: {visible=}: wanted a number between 0 and 1")
    function, given = f if isinstance(f, tuple) and len(f) == 2 else (f, None)
    if not callable(function) or not (given is None or callable(given)):
        raise TypeError(f"check_grads: f={f!r}: wanted a function, or a pair of function and vjp")
    whole = _opened(function, given, args)
    first = _compare("the vjp with f", [whole] * DRAWS, visible)
    if order == 1:
        return GradientCheck(first)
    nearby = _compare("the vjp with f near by", [whole.nearby()] * DRAWS, visible)
    rng = np.random.default_rng(2)
    gradients = [whole.gradient(whole.draw(rng)) for _ in range(DRAWS)]
    try:
        gradients[0].pull(gradients[0].draw(rng), *whole.arrays)
    except Exception:  # foreign code may refuse a Tracer in any way
        if given is None:
            raise
        return GradientCheck(first, nearby)
    second = _compare("the vjp of the vjp with the vjp", gradients, visible, first.largest)
    return GradientCheck(first, nearby, second)


def _floats(leaf: Any) -> bool:
    return bool(np.asarray(leaf).dtype.kind == "f")


def _check_real(what: str, leaf: Any) -> None:
    kind = np.asarray(leaf).dtype.kind
    if kind == "c" or (kind == "f" and not np.all(np.isfinite(leaf))):
        came = "complex numbers" if kind == "c" else "numbers that are not finite"
        raise ValueError(f"check_grads: {what} {came}: wanted finite real ones")


def _opened(function: Any, given: Any, args: Any) -> _Map:
    """The function, and its vjp if one is given, as functions of the arrays of floats in `args`."""
    if not isinstance(args, tuple):
        raise TypeError(f"check_grads: args is a {type(args).__name__}: wanted a tuple: (x,)")
    for path, leaf in trees.paths(args):
        _check_real(f"args[{path}] holds", leaf)
    floats = {f"args[{path}]": np.array(x, float) for path, x in trees.paths(args) if _floats(x)}
    if not any(x.size for x in floats.values()):
        raise ValueError("check_grads: args hold no floats: there is nothing to differentiate")

    def nest(arrays: Any) -> Any:
        """The arguments with other floats, which are copied: f may write into what it is given."""
        others = (x.copy() if type(x) is np.ndarray else x for x in arrays)
        return trees.map_leaves(lambda x: next(others) if _floats(x) else x, args)

    def pull(u: Any, *arrays: Any) -> Any:
        result = given(trees.map_leaves(np.array, u), *nest(arrays))
        wanted = tuple(arg for arg in args if any(map(_floats, trees.leaves(arg))))
        if len(wanted) == 1 and not (type(result) is tuple and type(wanted[0]) is not tuple):
            result = (result,)
        pairs: list[tuple[Any, Any]] = []
        trees.map_leaves(lambda x, y: pairs.append((x, as_array(y))), wanted, result)
        found = [y for x, y in pairs if _floats(x)]
        for name, x, y in zip(floats, arrays, found, strict=True):
            if np.shape(y) != np.shape(x) or y.dtype.kind not in ("f", x.dtype.kind):
                raise ValueError(
                    f"check_grads: vjp returned {y.dtype} of shape {np.shape(y)} for {name}: "
                    f"wanted floats of shape {np.shape(x)}"
                )
        return found

    names, arrays, pulls = list(floats), list(floats.values()), pull if given else None
    return _Map(lambda *arrays: function(*nest(arrays)), names, arrays, pulls)


class _Map:
    """A function of arrays of floats, and what is said to be its vjp: the engine's by default."""

    def __init__(self, function: Any, names: list[str], arrays: list[Any], pull: Any) -> None:
        self.function, self.names, self.arrays = function, names, arrays
        self.pull = pull or (lambda u, *arrays: vjp(function, *arrays)[1](u))
        self.value = function(*arrays)
        self.units: Iterable[Any] = itertools.repeat(1.0)
        for y in trees.leaves(self.value):
            _check_real("f returned", y)
        if not any(map(_floats, trees.leaves(self.value))):
            raise ValueError("check_grads: f returned no floats: there is nothing to differentiate")

    def draw(self, rng: np.random.Generator) -> Any:
        """A random cotangent of the value."""
        units = iter(self.units)
        return trees.map_leaves(
            lambda y: next(units) * _floats(y) * rng.standard_normal(np.shape(y)), self.value
        )

    def nearby(self) -> _Map:
        """The same at another point."""
        rng = np.random.default_rng(4)
        moved = [x + NEAR * steps.sizes(x) * rng.uniform(-1, 1, x.shape) for x in self.arrays]
        return _Map(self.function, self.names, moved, self.pull)

    def gradient(self, u: Any) -> _Map:
        """The function whose value is the cotangents of the arrays for u."""
        gradient = _Map(lambda *arrays: self.pull(u, *arrays), self.names, self.arrays, None)
        gradient.units = [steps.sizes(x) for x in self.arrays]
        return gradient


@dataclass(frozen=True)
class _Sample:
    """<vjp(u), t> for a cotangent u and a tangent t in one argument, and what it should be."""

    compare: Callable[..., tuple[float, float, Estimate]]
    off: float
    expected: Estimate
    error: float
    spread: float


def _compare(compared: str, maps: list[_Map], visible: float, floor: float = 0.0) -> Comparison:
    """For every map draw a cotangent, and a tangent in each argument; then judge the arguments."""
    rng, drawn = np.random.default_rng(1), defaultdict(list)
    for m in maps:
        nudged = [x + NUDGE * steps.EPS * rng.choice([-1, 1], x.shape) * x for x in m.arrays]
        u = m.draw(rng)
        pulled, again = ([np.array(c) for c in m.pull(u, *at)] for at in (m.arrays, nudged))
        for i, x in enumerate(m.arrays):
            if x.size:
                draws = rng.standard_normal((2, *x.shape))
                drawn[i].append(_sample(m, u, i, pulled[i], again[i], nudged, draws, visible))
    every = [s.expected for samples in drawn.values() for s in samples]
    largest = max(floor, *(abs(expected.value) for expected in every))
    found = [_verdict(compared, m, i, s, floor, largest, visible) for i, s in drawn.items()]
    method = " and ".join(sorted({expected.method for expected in every}))
    off, seen, is_zero = zip(*found, strict=True)
    zero = tuple(m.names[i] for i in itertools.compress(drawn, is_zero))
    return Comparison(method, max(off), max(seen), zero, largest)


def _sample(
    m: _Map, u: Any, leaf: int, pulled: Any, again: Any, nudged: Any, draws: Any, visible: float
) -> _Sample:
    """One comparison, along that of two tangents along which the derivative is known better."""

    def tangents(t: Any) -> list[Any]:
        return [t if i == leaf else np.zeros(x.shape) for i, x in enumerate(m.arrays)]

    def compare(t: Any, reach: float = steps.LONGEST) -> tuple[float, float, Estimate]:
        """What the vjp says, how large its terms are, and what it should say."""
        expected = steps.product_along(m.function, u, m.arrays, tangents(t), visible, reach)
        parts = (pulled * t)[t != 0]
        return float(np.sum(parts)), float(np.sum(np.abs(parts))), expected

    choices: list[Any] = []
    x = m.arrays[leaf]
    near = (np.abs(x) if np.any(x) else steps.sizes(x)) * draws[1]
    for t, reach in ((steps.sizes(x) * draws[0], steps.LONGEST), (near, steps.LONGEST / 1e5)):
        got, size, expected = compare(t, reach)
        if choices and abs(expected.value) <= expected.error < size:
            break  # what short steps do not change may be a staircase
        seen = visible * max(size, abs(expected.value))
        choices.append((not expected.error < seen, expected.error, t, got, size, expected))
        if expected.error <= seen / 1000:
            break
    *_, t, got, size, expected = min(choices, key=lambda choice: choice[:2])
    spread = abs(float(np.sum(again * t)) - got)
    if expected.method == "complex step":
        stepped = np.sum(steps.terms(u, steps.complex_step_along(m.function, nudged, tangents(t))))
        spread = max(spread, abs(float(stepped) - expected.value))
    error = expected.error + steps.ROUNDING * float(np.finfo(pulled.dtype).eps) * size
    return _Sample(compare, abs(got - expected.value), expected, error, spread)


def _verdict(
    compared: str, m: _Map, leaf: int, samples: Any, floor: float, largest: float, visible: float
) -> tuple[float, float, bool]:
    """An argument's largest error, the least that would be seen, and if the derivative is zero."""
    title, spread = f"{compared}: {m.names[leaf]}", SPREAD * max(s.spread for s in samples)
    for s in samples:
        if not s.off <= s.error + spread:
            raise GradientError(f"check_grads: {title} is wrong. {_blame(m, leaf, s)}")
    off, most = max(s.off for s in samples), max(samples, key=lambda s: abs(s.expected.value))
    own, bar = abs(most.expected.value), most.error + spread
    if bar < visible * own:
        return off / own, bar / own, False
    bar = max(s.error for s in samples) + spread
    if own <= max(bar, visible**2 * floor) and bar < visible * largest:
        return off / largest, bar / largest, True
    raise GradientError(
        f"check_grads: {title}: the check is vacuous. The derivative along a tangent is {own:.3g} "
        f"within {bar:.1g}, and a relative error of {visible:g} would not show: the function is "
        "constant, or rounds too much, or has a kink here or very near"
    )


def _blame(m: _Map, leaf: int, s: _Sample) -> str:
    """The worst entries of a wrong cotangent, of all or of those that halving and chance find."""
    x, name, rng = m.arrays[leaf], m.names[leaf], np.random.default_rng(3)
    sizes = steps.sizes(x).ravel()

    def off(entries: Any, draw: Any) -> tuple[float, float, Estimate]:
        """By how much more than the error, along a tangent that moves some entries."""
        t = np.zeros(x.size)
        t[entries] = sizes[entries] * draw
        got, _, expected = s.compare(t.reshape(x.shape))
        beyond = abs(got - expected.value) - expected.error
        return np.inf if np.isnan(beyond) else beyond, got, expected

    block = entries = np.arange(x.size)
    if x.size > ENTRIES:
        while block.size > 1:
            halves = np.array_split(block, 2)
            block = max(halves, key=lambda half: off(half, rng.standard_normal(half.size))[0])
        entries = np.union1d(block, rng.choice(x.size, ENTRIES - 1, replace=False))
    found = sorted(((*off(j, 1.0), j) for j in entries), key=lambda row: -row[0])
    told = "".join(
        f"\n  {name}{[int(k) for k in np.unravel_index(j, x.shape)] if x.shape else ''}: got "
        f"{got / size:.9g}, expected {e.value / size:.9g} within {e.error / size:.1g} ({e.method})"
        for _, got, e, j, size in ((*row, sizes[row[-1]]) for row in found[:TOLD])
    )
    return (
        f"Along a random tangent it is off by {s.off:.3g}, and the derivative is known to "
        f"{s.error:.1g}. Of {len(entries)} of its {x.size} entries {sum(o > 0 for o, *_ in found)} "
        f"are off, the worst:{told}"
    )
