"""The reference: value, gradients and named intermediates of an op, and how exactly they are known."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import tinylm.ops
from tinylm.autograd import Array, Fused, formulas, record, vjp
from tinylm.oracle.digits import Digits
from tinylm.oracle.formats import FORMATS
from tinylm.oracle.rounding import Bounded, Rounding, together
from tinylm.oracle.rounding_rules import UNDECIDED

OWN = Rounding(io="f64", accumulate="f64", bound="worst", kinks="convention")
"""How the oracle itself computes."""


@dataclass(frozen=True)
class Reference:
    """What an op is at some inputs.

    Parameters
    ----------
    value : ndarray of float64
    grads : dict of str to ndarray of float64
        The cotangent of each differentiable input.
    intermediates : dict of str to list of ndarray
        Named values in the order of computation, and under ``d_NAME`` their cotangents.
    error : dict of str to ndarray
        Under "value" and each input's name, the most by which the oracle may itself be off, to
        first order in the rounding of float64.
    """

    value: Any
    grads: dict[str, Any]
    intermediates: dict[str, list[Any]]
    error: dict[str, Any]


def reference(
    op: str | Callable[..., Array],
    *,
    cotangent: Any,
    precision: str = "f64",
    io: str = "f64",
    **inputs: Any,
) -> Reference:
    """Value and gradients of an op or of any NumPy formula, by the formula, in float64.

    Parameters
    ----------
    op : str or callable
        The name of an op of tinylm, such as "attention", or a function of NumPy code.
    cotangent : array_like
        Of the shape of the value.
    precision : {"f64", "mp50"}
        "mp50" computes with fifty digits (small cases; needs the extra `oracle`), and is off by
        no more than its rounding to float64.
    io : str
        The format to which inputs and cotangent are rounded first, so that a kernel of that format
        can be given the very same numbers.
    **inputs
        By their names: the differentiable arrays and every other argument of the op. Of a function
        that is no op, arrays of floats are the differentiable ones.

    Returns
    -------
    Reference

    Raises
    ------
    ValueError
        If there is no such op, precision or format, or nothing to differentiate.

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm import oracle
    >>> x = np.array([37.4, 0.0])
    >>> ref = oracle.reference("log_softmax", x=x, cotangent=np.array([1.0, 0.0]))
    >>> ref.grads["x"], bool(ref.error["x"][0] < 1e-30)
    (array([ 5.71987288e-17, -5.71987288e-17]), True)
    """
    if precision not in ("f64", "mp50"):
        raise ValueError(f"reference: {precision=}: wanted 'f64' or 'mp50'")
    function, arrays = differentiable(op, inputs)
    given = {key: in_format(inputs[key], io) for key in arrays}
    cotangent = in_format(cotangent, io)
    if precision == "mp50":
        value, grads = pulled(function, inputs, given, cotangent, Digits)
        with formulas():
            _, _, seen = _floats_of(function, inputs, given, cotangent)
        value, grads = value.floats(), {key: g.floats() for key, g in grads.items()}
        error = {"value": value, **grads}
        error = {key: FORMATS["f64"].error(x) for key, x in error.items()}
        return Reference(value, grads, seen, error)
    value, grads, seen = _floats_of(function, inputs, given, cotangent)
    bounded = bounds(function, inputs, given, cotangent, OWN)
    return Reference(value, grads, seen, {key: x.error for key, x in bounded.items()})


def bounds(
    function: Any, inputs: dict[str, Any], given: dict[str, Any], cotangent: Any, model: Rounding
) -> dict[str, Bounded]:
    """The value (under "value") and the gradients, each with the error of a kernel of a model."""

    def bounded(x: Any) -> Bounded:
        return x if type(x) is Bounded else Bounded(x, np.zeros(np.shape(x)), model)

    value, grads = pulled(
        function, inputs, given, cotangent, bounded, lambda y: bounded(y).store(model.io)
    )
    return {key: bounded(x).store(model.io) for key, x in {"value": value, **grads}.items()}


def tolerances(
    function: Any, inputs: dict[str, Any], given: dict[str, Any], cotangent: Any, model: Rounding
) -> dict[str, Bounded]:
    """As `bounds`, with the largest error of all programs of an op, and the oracle's own."""
    known = {id(model): _tolerances(function, inputs, given, cotangent, model)}
    for own in model.tensors.values():
        if id(own) not in known:
            known[id(own)] = _tolerances(function, inputs, given, cotangent, own)
    everything = known[id(model)]
    return {key: known[id(model.tensors.get(key, model))][key] for key in everything}


def _tolerances(
    function: Any, inputs: dict[str, Any], given: dict[str, Any], cotangent: Any, model: Rounding
) -> dict[str, Bounded]:
    programs = [function]
    if isinstance(function, Fused):
        inputs = {**function.defaults, **inputs}
        programs += function.programs[1:]
    UNDECIDED.set(False)
    first, *others = (bounds(program, inputs, given, cotangent, model) for program in programs)
    if UNDECIDED.get():
        _between_sides(first, function, inputs, given, cotangent)
    for key, x in first.items():
        x.error = np.fmax.reduce([x.error, *(other[key].error for other in others)])
        if model.accumulate == "f64":  # the oracle rounds likewise
            x.error = together(model, x.error, x.error)
    return first


SIDES = 6
"""From how many sides a kink is looked at."""


def _between_sides(
    first: dict[str, Bounded],
    function: Any,
    inputs: dict[str, Any],
    given: dict[str, Any],
    cotangent: Any,
) -> None:
    """Where a choice at a kink matters, expect the middle of the one-sided derivatives.

    The sides are those of points a millionth away. Where several choices come together, or where
    the sides do not differ but rounding may still decide, all jumps are allowed to both sides.
    """
    model, rng = next(iter(first.values())).model, np.random.default_rng(0)
    decided = bounds(function, inputs, given, cotangent, replace(model, kinks="formula"))
    all_at_once = bounds(function, inputs, given, cotangent, replace(model, bound="worst"))
    sides = []
    for number in range(SIDES):
        signs = {key: rng.choice([-1.0, 1.0], np.shape(x)) for key, x in given.items()}
        signs = (
            {key: abs(s) * (1 - 2 * number) for key, s in signs.items()} if number < 2 else signs
        )
        near = {
            key: x + 1e-6 * np.max(np.abs(x), initial=0.0) * signs[key] for key, x in given.items()
        }
        value, grads = pulled(function, inputs, near, cotangent, lambda x: x)
        sides.append({"value": value, **grads})
    for key, x in first.items():
        x.undecided = x.error > 1.01 * decided[key].error
        low, high = (
            end([x.value, *(side[key] for side in sides)], axis=0) for end in (np.min, np.max)
        )
        single = all_at_once[key].error < 1.05 * x.error
        x.error = np.where(x.undecided & ~single, all_at_once[key].error, x.error)
        between = x.undecided & single & (high - low > model.safety * decided[key].error)
        error = decided[key].error + 0.505 * (high - low) / model.safety
        x.value = np.where(between, (low + high) / 2, x.value)
        x.error = np.where(between, error, x.error)


def pulled(
    function: Any,
    inputs: dict[str, Any],
    given: dict[str, Any],
    cotangent: Any,
    arithmetic: Callable[[Any], Any],
    stored: Callable[[Any], Any] = lambda value: value,
) -> tuple[Any, dict[str, Any]]:
    """Value and gradients in another arithmetic; `stored` is what is done to the value between."""

    def of_arrays(*arrays: Any) -> Any:
        return function(**{**inputs, **dict(zip(given, arrays, strict=True))})

    with formulas():
        value, pullback = vjp(of_arrays, *(arithmetic(x) for x in given.values()))
        value = stored(value)
        grads = pullback(arithmetic(cotangent))
    return value, dict(zip(given, grads, strict=True))


def _floats_of(
    function: Any, inputs: dict[str, Any], given: dict[str, Any], cotangent: Any
) -> tuple[Any, dict[str, Any], dict[str, list[Any]]]:
    with record() as seen:
        value, grads = pulled(function, inputs, given, cotangent, lambda x: x)
    plain = {
        label: [x for x in values if isinstance(x, np.ndarray | np.floating)]
        for label, values in ((k, [_value(x) for x in v]) for k, v in seen.items())
    }
    return value, grads, plain


def _value(x: Any) -> Any:
    while hasattr(x, "value"):
        x = x.value
    return x


def differentiable(op: str | Callable[..., Any], inputs: dict[str, Any]) -> tuple[Any, list[str]]:
    """The function of an op, and which of the inputs it is differentiated in."""
    if isinstance(op, str):
        known = {key: f for key, f in vars(tinylm.ops).items() if isinstance(f, Fused)}
        if op not in known:
            raise ValueError(f"there is no op {op!r}: {', '.join(sorted(known))}")
        op = known[op]
    if isinstance(op, Fused):
        names = [op.parameters[i] for i in op.arrays]
        try:
            inspect.signature(op.formula).bind(**inputs)
        except TypeError as error:
            wanted = ", ".join(op.parameters)
            raise TypeError(f"{op.formula.__name__}: {error}; its arguments are {wanted}") from None
        arrays = [key for key in names if inputs.get(key) is not None]
    else:
        arrays = [key for key, x in inputs.items() if np.asarray(x).dtype.kind == "f"]
    if not arrays:
        raise ValueError("there is no array of floats among the inputs")
    return op, arrays


def in_format(x: Any, io: str) -> Any:
    """Numbers rounded to a format, as float64."""
    if io not in FORMATS:
        raise ValueError(f"io={io!r}: wanted {', '.join(FORMATS)}")
    return FORMATS[io].rounded(x)
