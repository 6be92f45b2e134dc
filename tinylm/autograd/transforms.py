"""Transforms: from a function in plain NumPy to its derivatives.

Reverse mode is the only mode there is. `vjp` runs the function on Tracers and returns the way
back; everything else is a few lines about `vjp`. Convention for complex numbers: a cotangent is
paired with a tangent as ``Re(sum(cotangent * tangent))``, so that the rule of a holomorphic f is
``cotangent * f'(x)`` with no conjugate, and the derivative at a complex point is the complex one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinylm.autograd import trees
from tinylm.autograd.rules import Array
from tinylm.autograd.vjp import as_array, differentiable, vjp


def grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """The function that computes the gradient of a scalar function.

    Parameters
    ----------
    f : callable
        Plain NumPy code that returns one real number.
    argnums : int or tuple of int
        Which arguments to differentiate with respect to.

    Returns
    -------
    callable
        Of the same arguments; returns the gradient in the nest of the argument, or a tuple of
        such nests if `argnums` is a tuple.

    Raises
    ------
    TypeError
        If the argument holds no array of floats.
    ValueError
        If f returns anything but one number.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> tl.grad(lambda x: np.sum(np.exp(2 * x)))(np.zeros(2))
    array([2., 2.])
    """
    differentiate = value_and_grad(f, argnums)

    @functools.wraps(f, assigned=("__module__", "__name__", "__qualname__"))
    def gradient(*args: Any, **kwargs: Any) -> Any:
        return differentiate(*args, **kwargs)[1]

    return gradient


def value_and_grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """As `grad`, but the function returns ``(value, gradient)``.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> value, gradient = tl.value_and_grad(lambda x: np.sum(x * x))(np.array([1.0, 2.0]))
    >>> float(value), gradient
    (5.0, array([2., 4.]))
    """

    def differentiate(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        g, primals = _only(f, argnums, args, kwargs)
        value, gradients = _gradient(g, primals)
        return value, gradients if isinstance(argnums, tuple) else gradients[0]

    return differentiate


def jvp(
    f: Callable[..., Any], primals: Sequence[trees.Nest], tangents: Sequence[trees.Nest]
) -> tuple[Any, Any]:
    """Value of ``f(*primals)`` and its directional derivative ``J @ tangents``.

    The pullback is linear in its cotangent, u -> u @ J, so that its own pullback maps a tangent t
    to J @ t: two transpositions are none.

    Parameters
    ----------
    f : callable
        Plain NumPy code.
    primals, tangents : sequence of array or nest
        Where, and in which direction; of equal shapes.

    Returns
    -------
    value, tangent : array or nest
        Both in the nest of f's value.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> value, tangent = tl.jvp(np.sin, (np.array(0.0),), (np.array(2.0),))
    >>> float(value), float(tangent)
    (0.0, 2.0)
    """
    primals, tangents = tuple(primals), _like(primals, tangents)
    value, pullback = vjp(f, *primals)
    ones = trees.map_leaves(np.ones_like, value)
    _, pushforward = vjp(pullback, ones)
    return value, pushforward(tangents)[0]


def hvp(
    f: Callable[..., Any], primals: Sequence[trees.Nest], tangents: Sequence[trees.Nest]
) -> tuple[Any, ...]:
    """Hessian-vector product of a scalar function: the gradient of ``<grad f, tangents>``.

    Parameters
    ----------
    f : callable
        Plain NumPy code that returns one real number.
    primals, tangents : sequence of array or nest
        Where, and the vector; of equal shapes.

    Returns
    -------
    tuple of array or nest
        H @ tangents, in the nest of the primals. Pearlmutter 1994, "Fast exact multiplication by
        the Hessian".

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> tl.hvp(lambda x: np.sum(x**3), (np.array([1.0, 2.0]),), (np.array([1.0, 1.0]),))
    (array([ 6., 12.]),)
    """
    tangents = _like(primals, tangents)

    def directional(*primals: Any) -> Any:
        gradients = trees.leaves(_gradient(f, primals)[1])
        return sum(
            np.sum(g * t)
            for g, t in zip(gradients, trees.leaves(tangents), strict=True)
            if differentiable(g)
        )

    result: tuple[Any, ...] = _gradient(directional, tuple(primals))[1]
    return result


def jacobian(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """The function that computes the Jacobian of a function with an array for a value.

    Parameters
    ----------
    f : callable
        Plain NumPy code that returns an array.
    argnums : int or tuple of int
        Which arguments to differentiate with respect to.

    Returns
    -------
    callable
        Of the same arguments; returns, in the nest of the argument, arrays of shape
        ``value.shape + argument.shape``. It costs one pullback for each element of the value.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> tl.jacobian(lambda x: x[0] * x)(np.array([2.0, 3.0]))
    array([[4., 0.],
           [3., 2.]])
    """

    def differentiate(*args: Any, **kwargs: Any) -> Any:
        g, primals = _only(f, argnums, args, kwargs)
        value, pullback = vjp(g, *primals)
        if isinstance(value, dict | list | tuple):
            raise ValueError(
                f"jacobian needs a function that returns an array, and it returned a "
                f"{type(value).__name__}"
            )
        _check_real("jacobian", value, primals)
        size = np.size(value)
        basis = np.eye(size, dtype=getattr(value, "dtype", float)).reshape(size, *np.shape(value))
        rows = [pullback(direction) for direction in basis]

        def stacked(x: Any, *cotangents: Array) -> Array:
            if not cotangents:
                return np.zeros(np.shape(value) + np.shape(x), np.asarray(x).dtype)
            return np.reshape(np.stack(cotangents), np.shape(value) + np.shape(x))

        jacobians = trees.map_leaves(stacked, primals, *rows)
        return jacobians if isinstance(argnums, tuple) else jacobians[0]

    return differentiate


def _gradient(f: Any, primals: Sequence[trees.Nest]) -> tuple[Any, Any]:
    """Value and gradient of a scalar function, with respect to all of its arguments."""
    value, pullback = vjp(f, *primals)
    if isinstance(value, dict | list | tuple) or np.shape(value) != ():
        came = f"shape {value.shape}" if hasattr(value, "shape") else type(value).__name__
        raise ValueError(
            f"a gradient needs a function that returns one number, and it returned {came}: "
            "sum it to one number, or use vjp or jacobian"
        )
    _check_real("a gradient", value, primals)
    return value, pullback.once(np.ones_like(value))


def _check_real(what: str, value: Any, primals: Sequence[trees.Nest]) -> None:
    """Complex numbers made of real ones have two derivatives each."""
    if np.iscomplexobj(value) and not any(np.iscomplexobj(x) for x in trees.leaves(primals)):
        raise ValueError(
            f"{what} needs a real value, and the function made a complex one from real "
            "arguments: take its np.real or np.imag"
        )


# Arguments in, arrays out.


def _only(
    f: Any, argnums: int | tuple[int, ...], args: Any, kwargs: Any
) -> tuple[Any, tuple[Any, ...]]:
    """`f` as a function of the chosen arguments, and those arguments."""
    chosen = argnums if isinstance(argnums, tuple) else (argnums,)
    for number in chosen:
        if not isinstance(number, int) or not -len(args) <= number < len(args):
            raise ValueError(
                f"argnums={argnums!r}: there is no argument {number!r} among {len(args)}"
            )
    chosen = tuple(number % len(args) for number in chosen)
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"argnums={argnums!r} names an argument twice")
    primals = tuple(trees.map_leaves(as_array, args[number]) for number in chosen)
    for number, primal in zip(chosen, primals, strict=True):
        kinds = [x.dtype for x in trees.leaves(primal)]
        if kinds and not any(differentiable(x) for x in trees.leaves(primal)):
            raise TypeError(
                f"argument {number} holds {kinds[0]} numbers: the gradient is defined for floats "
                "(write 3.0 instead of 3, or x.astype(float))"
            )

    def of_chosen(*primals: Any) -> Any:
        replaced = list(args)
        for number, primal in zip(chosen, primals, strict=True):
            replaced[number] = primal
        return f(*replaced, **kwargs)

    return of_chosen, primals


def _like(primals: Sequence[trees.Nest], tangents: Sequence[trees.Nest]) -> tuple[Any, ...]:
    """The tangents as arrays, checked against the primals."""
    for what, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, tuple | list):
            raise TypeError(
                f"{what} is a {type(given).__name__}: wanted a tuple, one for each argument: (x,)"
            )

    def checked(path: str, x: Any, t: Any) -> Any:
        t = as_array(t)
        if np.shape(x) != np.shape(t):
            raise ValueError(
                f"tangents[{path}] has shape {np.shape(t)}, and primals[{path}] has {np.shape(x)}"
            )
        return t

    result: tuple[Any, ...] = trees.map_paths(checked, tuple(primals), tuple(tangents))
    return result
