"""Products of matrices and tensors."""

from __future__ import annotations

import math
from string import ascii_lowercase, ascii_uppercase
from typing import Any

import numpy as np

from tinylm.autograd.derivatives.teach import composed, derivative, expanded
from tinylm.autograd.rules import Array, unbroadcast, writes
from tinylm.autograd.tracing import traceable


def _matmul_left(c: Array, y: Array, a: Array, b: Array) -> Array:
    if np.ndim(b) == 1:
        return np.expand_dims(c, -1) * b
    if np.ndim(a) == 1:
        return unbroadcast(np.matmul(b, np.expand_dims(c, -1))[..., 0], np.shape(a))
    return unbroadcast(np.matmul(c, np.swapaxes(b, -1, -2)), np.shape(a))


def _matmul_right(c: Array, y: Array, a: Array, b: Array) -> Array:
    if np.ndim(a) == 1:
        return c * a if np.ndim(b) == 1 else np.expand_dims(a, -1) * np.expand_dims(c, -2)
    if np.ndim(b) == 1:
        product = np.matmul(np.swapaxes(a, -1, -2), np.expand_dims(c, -1))
        return unbroadcast(product[..., 0], np.shape(b))
    if np.ndim(b) == 2:  # one product instead of a sum of many
        rows, (m, n) = math.prod(np.shape(a)[:-1]), np.shape(b)
        return np.matmul(np.reshape(a, (rows, m)).T, np.reshape(c, (rows, n)))
    return unbroadcast(np.matmul(np.swapaxes(a, -1, -2), c), np.shape(b))


derivative(np.matmul)(_matmul_left, _matmul_right)


@composed(np.tensordot)
def _tensordot(a: Array, b: Array, axes: Any = 2) -> Array:
    if np.ndim(axes) == 0:
        axes = (range(np.ndim(a) - axes, np.ndim(a)), range(axes))
    of_a, of_b = (
        [axis % n for axis in np.ravel(summed).tolist()]
        for summed, n in zip(axes, (np.ndim(a), np.ndim(b)), strict=True)
    )
    free_a = [axis for axis in range(np.ndim(a)) if axis not in of_a]
    free_b = [axis for axis in range(np.ndim(b)) if axis not in of_b]
    length = math.prod(np.shape(a)[axis] for axis in of_a)
    rows = [np.shape(a)[axis] for axis in free_a]
    columns = [np.shape(b)[axis] for axis in free_b]
    left = np.reshape(np.transpose(a, free_a + of_a), (math.prod(rows), length))
    right = np.reshape(np.transpose(b, of_b + free_b), (length, math.prod(columns)))
    return np.reshape(np.matmul(left, right), rows + columns)


@composed(np.dot)
def _(a: Array, b: Array, out: Any = None) -> Array:
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    return _tensordot(a, b, (-1, -1 if np.ndim(b) == 1 else -2))


@composed(np.inner)
def _(a: Array, b: Array) -> Array:
    return np.multiply(a, b) if 0 in (np.ndim(a), np.ndim(b)) else _tensordot(a, b, (-1, -1))


@composed(np.outer)
def _(a: Array, b: Array, out: Any = None) -> Array:
    return np.multiply(np.reshape(a, (-1, 1)), np.reshape(b, (1, -1)))


@composed(np.trace)
def _(
    a: Array, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None
) -> Array:
    return np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1)


_LETTERS = ascii_uppercase + ascii_lowercase
"""In the order in which numpy.einsum numbers them."""


@expanded(np.einsum)
def _(*operands: Any, **kwargs: Any) -> Array:
    """Every form of the call, as explicit subscripts without an ellipsis."""
    if kwargs.pop("out", None) is not None:
        raise TypeError(writes("numpy.einsum with out="))
    if isinstance(operands[0], str):
        subscripts, arrays = operands[0].replace(" ", ""), list(operands[1:])
    else:
        arrays = list(operands[: len(operands) // 2 * 2 : 2])
        lists = [
            "".join("..." if i is Ellipsis else _LETTERS[i] for i in item)
            for item in operands[1::2] + operands[len(arrays) * 2 :]
        ]
        subscripts = ",".join(lists[: len(arrays)]) + "".join(
            f"->{o}" for o in lists[len(arrays) :]
        )
    inputs, arrow, output = subscripts.partition("->")
    terms = inputs.split(",")
    if not arrow:
        once = {letter for letter in inputs if inputs.count(letter) == 1 and letter.isalpha()}
        output = ("..." if "..." in inputs else "") + "".join(sorted(once))
    unused = [letter for letter in _LETTERS if letter not in subscripts]
    dots = [np.ndim(x) - len(t.replace("...", "")) for x, t in zip(arrays, terms, strict=True)]
    most = max((n for n, term in zip(dots, terms, strict=True) if "..." in term), default=0)
    letters = "".join(unused[:most])
    terms = [t.replace("...", letters[most - n :]) for t, n in zip(terms, dots, strict=True)]
    return einsum(",".join(terms) + "->" + output.replace("...", letters), *arrays, **kwargs)


@traceable
def einsum(subscripts: str, *operands: Array, **kwargs: Any) -> Array:
    """`numpy.einsum` of explicit subscripts without an ellipsis."""
    return np.einsum(subscripts, *operands, **kwargs)


@derivative(einsum)
def _(
    c: Array, y: Array, subscripts: str, *operands: Array, optimize: Any = False, **_: Any
) -> tuple[Array | None, ...]:
    inputs, output = subscripts.split("->")
    terms = inputs.split(",")
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands, strict=True):
        for letter, size in zip(term, np.shape(operand), strict=True):
            sizes[letter] = size if sizes.get(letter, 1) == 1 else sizes[letter]

    def cotangent_of(k: int) -> Array:
        """Y is linear in operand k: contract c with the others, and leave its letters open."""
        given = [(output, c)] + [
            (term, x) for i, (term, x) in enumerate(zip(terms, operands, strict=True)) if i != k
        ]
        wanted = ""
        for axis, size in enumerate(np.shape(operands[k])):
            letter = terms[k][axis]
            if size == 1 and sizes[letter] != 1:
                continue  # broadcast: summed over
            if letter in wanted:  # a diagonal: the cotangent is zero off it
                other = next(x for x in _LETTERS if x not in subscripts + wanted)
                given.append((letter + other, np.eye(size, dtype=y.dtype)))
                wanted += other
                continue
            wanted += letter
            if not any((letter, size) in zip(t, np.shape(x), strict=True) for t, x in given):
                given.append((letter, np.ones(size, dtype=y.dtype)))  # which say the size
        contraction = ",".join(term for term, _ in given) + "->" + wanted
        result = np.einsum(contraction, *(x for _, x in given), optimize=bool(optimize))
        return np.reshape(result, np.shape(operands[k]))

    return (None, *(cotangent_of(k) for k in range(len(operands))))
