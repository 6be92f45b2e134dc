"""A case for every function in the table, with a twin where it has no complex form itself."""

import math
import operator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import special

from tinylm.autograd import stop_gradient
from tinylm.autograd.derivatives.shapes import scatter
from tinylm.autograd.tracing import astype


def anywhere(x):
    return x


def positive(x):
    return np.abs(x) + 0.1 * np.abs(x).max(initial=0.1)


def apart(x):
    """Distinct, so that no element is at a kink."""
    return x + np.arange(x.size).reshape(x.shape) * 1e-3 * np.abs(x).max(initial=1.0)


@dataclass
class Case:
    function: Any
    call: Any
    shapes: tuple
    domain: Any = anywhere
    twin: Any = None
    scales: tuple = (1e-6, 1.0, 1e4)
    elementwise: bool = False
    label: str = field(default="")

    def __str__(self):
        return f"{getattr(self.function, '__name__', self.function)} {self.label}".strip()


ANY = (1e-6, 1.0, 1e4)
SMALL = (1e-6, 1.0, 10.0)
PAIRS = (
    ((3, 5), (3, 5)),
    ((3, 1, 5), (1, 2, 1)),
    ((5,), (3, 5)),
    ((3, 5), ()),
    ((), (5,)),
    ((0, 3), (3,)),
)


def less(x):
    return np.real(stop_gradient(x)) < 0


def modulus(x):
    return np.where(less(x), -x, x)


def top(x, axis=None, keepdims=False):
    """np.max, with a complex form."""
    if axis is None:
        flat = np.reshape(x, (-1,))
        y = flat[np.argmax(np.real(stop_gradient(flat)))]
        return np.reshape(y, (1,) * np.ndim(x)) if keepdims else y
    index = np.argmax(np.real(stop_gradient(x)), axis=axis, keepdims=True)
    y = np.take_along_axis(x, index, axis=axis)
    return y if keepdims else np.squeeze(y, axis=axis)


def moment(x, axis=None, ddof=0, keepdims=False):
    """np.var, with a complex form."""
    d = x - np.mean(x, axis=axis, keepdims=True)
    total = np.sum(d * d, axis=axis, keepdims=keepdims)
    return total * (np.size(total) / (np.size(x) - ddof * np.size(total)))


def unary():
    for function, domain, scales, twin in (
        (np.negative, anywhere, ANY, None),
        (np.positive, anywhere, ANY, None),
        (np.square, anywhere, ANY, None),
        (np.reciprocal, positive, ANY, None),
        (np.sqrt, positive, ANY, None),
        (np.exp, anywhere, SMALL, None),
        (np.expm1, anywhere, SMALL, None),
        (np.log, positive, ANY, None),
        (np.log1p, positive, ANY, None),
        (np.log2, positive, ANY, None),
        (np.log10, positive, ANY, None),
        (np.sin, anywhere, ANY, None),
        (np.cos, anywhere, ANY, None),
        (np.sinh, anywhere, SMALL, None),
        (np.cosh, anywhere, SMALL, None),
        (np.tanh, anywhere, SMALL, None),
        (np.arctan, anywhere, ANY, None),
        (np.absolute, apart, ANY, modulus),
        (np.conjugate, anywhere, ANY, lambda x: x * 1.0),
        (np.real, anywhere, ANY, lambda x: x * 1.0),
        (np.imag, anywhere, ANY, lambda x: x * 0.0),
        (special.erf, anywhere, (1e-6, 1.0), None),
        (special.erfc, anywhere, (1e-6, 1.0), None),
        (special.erfcx, anywhere, (1e-6, 1.0), None),
        (special.expit, anywhere, SMALL, lambda x: (1 + np.tanh(x / 2)) / 2),
        (special.log_expit, anywhere, SMALL, lambda x: -np.log(1 + np.exp(-x))),
        (
            special.log_ndtr,
            anywhere,
            (1e-6, 1.0),
            lambda x: np.log(special.erfc(-x / math.sqrt(2)) / 2),
        ),
    ):
        for shape in ((3, 5), (), (0,), (1, 1)):
            yield Case(
                function,
                function,
                (shape,),
                domain,
                twin,
                scales,
                elementwise=True,
                label=f"{shape}",
            )


def binary():
    larger = lambda a, b: np.where(less(a - b), b, a)  # noqa: E731
    smaller = lambda a, b: np.where(less(a - b), a, b)  # noqa: E731
    for function, domain, scales, twin in (
        (np.add, anywhere, ANY, None),
        (np.subtract, anywhere, ANY, None),
        (np.multiply, anywhere, ANY, None),
        (np.divide, positive, ANY, None),
        (np.power, positive, (1e-6, 1.0), None),
        (operator.pow, positive, (1e-6, 1.0), None),
        (np.logaddexp, anywhere, SMALL, lambda a, b: np.log(np.exp(a) + np.exp(b))),
        (np.maximum, apart, ANY, larger),
        (np.minimum, apart, ANY, smaller),
        (special.xlogy, positive, ANY, lambda a, b: a * np.log(b)),
        (np.remainder, positive, ANY, lambda a, b: a - b * np.floor(np.real(stop_gradient(a)) / np.real(stop_gradient(b)))),
    ):  # fmt: skip
        for shapes in PAIRS:
            yield Case(function, function, shapes, domain, twin, scales, label=f"{shapes}")
    mask = np.array([True, False, True, True, False])
    yield Case(np.where, lambda a, b: np.where(mask, a, b), ((3, 5), (5,)))
    yield Case(np.where, lambda a, b: np.where(mask, a, b), ((3, 1), ()), label="broadcast")
    clip = lambda x: np.where(less(x + 0.5), -0.5, np.where(less(x - 0.7), x, 0.7)) + 0 * x  # noqa: E731
    yield Case(np.clip, lambda x: np.clip(x, -0.5, 0.7), ((3, 5),), apart, clip)
    yield Case(np.clip, lambda x: np.clip(x, min=-0.5, max=0.7), ((3, 5),), apart, clip, label="min max") if np.__version__ >= "2.1" else Case(np.clip, lambda x: np.clip(x, -0.5, 0.7), ((5,),), apart, clip)  # fmt: skip
    yield Case(
        np.clip,
        lambda a, b: np.clip(a, b, None),
        ((3, 5), (5,)),
        apart,
        larger,
        label="traced bound",
    )


def reductions():
    for axis in (None, 0, -1, (0, 2), (-1, -2), ()):
        for keepdims in (False, True):
            options = {"axis": axis, "keepdims": keepdims}
            for function in (np.sum, np.mean, np.prod):
                yield Case(
                    function, lambda x, f=function, o=options: f(x, **o), ((2, 3, 4),),
                    scales=(1e-2, 1.0, 1e2), label=f"{options}",
                )  # fmt: skip
            for function, root in ((np.var, False), (np.std, True)):
                for ddof in (0, 1):
                    if axis == () and (root or ddof):
                        continue  # a variance of single numbers: 0, and its root has no derivative
                    spread = dict(options, ddof=ddof)
                    yield Case(
                        function, lambda x, f=function, o=spread: f(x, **o), ((3, 4, 5),),
                        twin=(lambda x, o=spread: np.sqrt(moment(x, **o))) if root else (lambda x, o=spread: moment(x, **o)),
                        label=f"{spread}",
                    )  # fmt: skip
    for axis in (None, 0, -1):
        for keepdims in (False, True):
            options = {"axis": axis, "keepdims": keepdims}
            yield Case(
                np.max,
                lambda x, o=options: np.max(x, **o),
                ((2, 3, 4),),
                apart,
                lambda x, o=options: top(x, **o),
                label=f"{options}",
            )
            yield Case(
                np.min,
                lambda x, o=options: np.min(x, **o),
                ((2, 3, 4),),
                apart,
                lambda x, o=options: -top(-x, **o),
                label=f"{options}",
            )
        yield Case(np.cumsum, lambda x, a=axis: np.cumsum(x, axis=a), ((2, 3, 4),), label=f"{axis}")
    yield Case(np.amax, np.amax, ((3, 5),), apart, top)
    yield Case(np.amin, np.amin, ((3, 5),), apart, lambda x: -top(-x))
    yield Case(
        np.max,
        lambda x: np.max(x, axis=(0, 2)),
        ((2, 3, 4),),
        apart,
        lambda x: top(np.reshape(np.moveaxis(x, 1, 0), (3, 8)), axis=1),
        label="two axes",
    )
    yield Case(np.sum, lambda x: np.add.reduce(x), ((3, 5),), label="add.reduce")
    yield Case(
        np.prod,
        lambda x: np.multiply.reduce(x, axis=1),
        ((3, 5),),
        scales=(1.0,),
        label="multiply.reduce",
    )
    yield Case(
        np.max,
        lambda x: np.maximum.reduce(x, axis=1),
        ((3, 5),),
        apart,
        lambda x: top(x, axis=1),
        label="maximum.reduce",
    )
    yield Case(np.cumsum, lambda x: np.add.accumulate(x, axis=1), ((3, 5),), label="add.accumulate")
    yield Case(np.multiply, lambda a, b: np.multiply.outer(a, b), ((3, 2), (5,)), label="outer")
    euclid = lambda x: np.sqrt(np.sum(x * x))  # noqa: E731
    rows = lambda x: np.sqrt(np.sum(x * x, axis=1))  # noqa: E731
    yield Case(np.linalg.norm, np.linalg.norm, ((3, 5),), twin=euclid)
    yield Case(
        np.linalg.norm, lambda x: np.linalg.norm(x, axis=1), ((3, 5),), twin=rows, label="axis"
    )
    yield Case(
        np.linalg.norm,
        lambda x: np.linalg.norm(x, "fro", keepdims=True),
        ((3, 5),),
        twin=lambda x: np.reshape(euclid(x), (1, 1)),
        label="fro",
    )
    yield Case(
        np.linalg.norm,
        lambda x: np.linalg.norm(x, 2, axis=-1, keepdims=True),
        ((3, 5),),
        twin=lambda x: rows(x)[:, None],
        label="2",
    )
    yield Case(
        np.linalg.norm,
        lambda x: np.linalg.norm(x, 3, axis=1),
        ((3, 5),),
        apart,
        lambda x: np.sum(modulus(x) ** 3, axis=1) ** (1 / 3),
        label="3",
    )
    yield Case(
        np.linalg.norm,
        lambda x: np.linalg.norm(x, np.inf, axis=0),
        ((3, 5),),
        apart,
        lambda x: top(modulus(x), axis=0),
        label="inf",
    )
    yield Case(
        np.linalg.norm,
        lambda x: np.linalg.norm(x, -np.inf, axis=0),
        ((3, 5),),
        apart,
        lambda x: -top(-modulus(x), axis=0),
        label="-inf",
    )
    yield Case(
        np.linalg.norm,
        lambda x: np.linalg.norm(x, 1),
        ((3, 5),),
        apart,
        lambda x: top(np.sum(modulus(x), axis=0)),
        label="matrix 1",
    )
    yield Case(
        np.linalg.norm,
        lambda x: np.linalg.norm(x, -1),
        ((3, 5),),
        apart,
        lambda x: -top(-np.sum(modulus(x), axis=0)),
        label="matrix -1",
    )
    yield Case(
        np.linalg.norm,
        lambda x: np.linalg.norm(x, np.inf, axis=(1, 2)),
        ((2, 3, 5),),
        apart,
        lambda x: top(np.sum(modulus(x), axis=2), axis=1),
        label="matrix inf",
    )


def products():
    for shapes in (
        ((3, 5), (5, 2)), ((5,), (5,)), ((3, 5), (5,)), ((5,), (5, 2)), ((2, 3, 5), (5, 7)),
        ((2, 3, 5), (2, 5, 7)), ((2, 1, 3, 5), (7, 5, 3)), ((5,), (2, 5, 3)), ((2, 3, 5), (5,)),
        ((3, 5), (2, 5, 7)), ((0, 5), (5, 2)), ((3, 0), (0, 2)), ((2, 0, 5), (5, 2)),
    ):  # fmt: skip
        yield Case(np.matmul, np.matmul, shapes, label=f"{shapes}")
    for shapes in (
        ((3, 5), (5, 2)),
        ((5,), (5,)),
        ((3, 5), (5,)),
        ((), (3,)),
        ((2,), ()),
        ((2, 3, 5), (7, 5, 2)),
        ((5,), (7, 5, 2)),
    ):
        yield Case(np.dot, np.dot, shapes, label=f"{shapes}")
    for shapes in (((3, 5), (2, 5)), ((5,), (5,)), ((), (3, 2)), ((2, 3, 5), (7, 5))):
        yield Case(np.inner, np.inner, shapes, label=f"{shapes}")
    for shapes in (((3,), (5,)), ((3, 2), (2, 2)), ((0,), (3,))):
        yield Case(np.outer, np.outer, shapes, label=f"{shapes}")
    yield Case(np.tensordot, np.tensordot, ((3, 5, 2), (5, 2, 7)))
    yield Case(np.tensordot, lambda a, b: np.tensordot(a, b, 1), ((3, 5), (5, 2, 7)), label="1")
    yield Case(np.tensordot, lambda a, b: np.tensordot(a, b, 0), ((3,), (2, 5)), label="0")
    yield Case(
        np.tensordot,
        lambda a, b: np.tensordot(a, b, axes=([0, -1], [1, 0])),
        ((3, 5, 2), (2, 3, 7)),
        label="pairs",
    )
    yield Case(
        np.tensordot, lambda a, b: np.tensordot(a, b, (-1, -2)), ((3, 5), (5, 2)), label="one pair"
    )
    for subscripts, shapes in (
        ("ij,jk->ik", ((3, 5), (5, 2))),
        ("ij,jk", ((3, 5), (5, 2))),
        ("bij,bkj->bik", ((2, 3, 5), (2, 7, 5))),
        ("ii", ((3, 3),)),
        ("ii->i", ((3, 3),)),
        ("iij->j", ((3, 3, 2),)),
        ("ij->", ((3, 5),)),
        ("ij->ji", ((3, 5),)),
        ("i,j,k->kji", ((2,), (3,), (5,))),
        ("...ij,...jk->...ik", ((2, 3, 5), (5, 7))),
        ("...i,i", ((2, 3, 5), (5,))),
        ("i...,i...->...", ((5, 2, 1), (5, 3))),
        ("ij,ij->ij", ((3, 1), (3, 5))),
        ("ij,kj->ik", ((3, 5), (2, 1))),
        ("i,ii,i->", ((3,), (3, 3), (3,))),
        (" i j , j k -> i k ", ((3, 5), (5, 2))),
    ):
        yield Case(np.einsum, lambda *x, s=subscripts: np.einsum(s, *x), shapes, label=subscripts)
    yield Case(
        np.einsum,
        lambda a, b: np.einsum(a, [0, 1], b, [1, 2], [2, 0]),
        ((3, 5), (5, 2)),
        label="lists",
    )
    yield Case(
        np.einsum,
        lambda a, b: np.einsum(a, [0, 1], b, [1, 2]),
        ((3, 5), (5, 2)),
        label="lists, implicit",
    )
    yield Case(
        np.einsum,
        lambda a: np.einsum(a, [Ellipsis, 0], [Ellipsis]),
        ((3, 5),),
        label="lists, ellipsis",
    )
    yield Case(
        np.einsum,
        lambda a, b, c: np.einsum("ij,jk,kl->il", a, b, c, optimize=True),
        ((3, 5), (5, 2), (2, 7)),
        label="optimize",
    )
    for options in (
        {},
        {"offset": 1},
        {"offset": -1, "axis1": 1, "axis2": 2},
        {"axis1": -1, "axis2": 0},
    ):
        yield Case(
            np.trace, lambda x, o=options: np.trace(x, **o), ((3, 4, 5),), label=f"{options}"
        )


def shapes():
    s = ((2, 3, 5),)
    m = ((3, 5),)
    yield Case(np.reshape, lambda x: np.reshape(x, (5, 6)), s)
    yield Case(np.reshape, lambda x: np.reshape(x, (5, -1), order="F"), s, label="F")
    yield Case(np.reshape, lambda x: x.reshape(6, 5), s, label="method")
    yield Case(np.ravel, np.ravel, s)
    yield Case(np.ravel, lambda x: np.ravel(x, order="F"), s, label="F")
    yield Case(np.ravel, lambda x: x.flatten(), s, label="flatten")
    yield Case(np.transpose, np.transpose, s)
    yield Case(np.transpose, lambda x: np.transpose(x, (1, -1, 0)), s, label="axes")
    yield Case(np.transpose, lambda x: x.transpose(2, 0, 1), s, label="method")
    yield Case(np.transpose, lambda x: x.T, s, label="T")
    yield Case(np.matrix_transpose, lambda x: x.mT, s)
    yield Case(np.linalg.matrix_transpose, np.linalg.matrix_transpose, s)
    yield Case(np.swapaxes, lambda x: np.swapaxes(x, 0, -1), s)
    yield Case(np.moveaxis, lambda x: np.moveaxis(x, (0, 1), (-1, 0)), s)
    yield Case(np.expand_dims, lambda x: np.expand_dims(x, (0, -1)), s)
    yield Case(np.squeeze, lambda x: np.squeeze(x, axis=1), ((2, 1, 5),))
    yield Case(np.squeeze, np.squeeze, ((1, 3, 1),), label="all")
    yield Case(np.broadcast_to, lambda x: np.broadcast_to(x, (2, 3, 5)), ((3, 1),))
    for function in (np.atleast_1d, np.atleast_2d, np.atleast_3d):
        for shape in ((), (3,), (3, 5), (2, 3, 5)):
            yield Case(function, function, (shape,), label=f"{shape}")
        yield Case(
            function,
            lambda a, b, f=function: f(a, b)[0] * np.sum(f(a, b)[1]),
            ((3,), ()),
            label="several",
        )
    for axis in (0, 1, -1, None):
        yield Case(
            np.concatenate,
            lambda a, b, a_=axis: np.concatenate([a, b, a], axis=a_),
            ((3, 5), (3, 5)),
            label=f"{axis}",
        )
    yield Case(np.concatenate, np.concatenate, ((2, 3, 5),), label="of one array")
    for axis in (0, 1, -1):
        yield Case(
            np.stack,
            lambda a, b, a_=axis: np.stack((a, b), axis=a_),
            ((3, 5), (3, 5)),
            label=f"{axis}",
        )
    yield Case(np.stack, lambda x: np.stack(x, axis=1), ((2, 3, 5),), label="of one array")
    yield Case(np.vstack, lambda a, b: np.vstack([a, b]), ((5,), (3, 5)))
    yield Case(np.hstack, lambda a, b: np.hstack([a, b]), ((5,), (3,)))
    yield Case(np.hstack, lambda a, b: np.hstack([a, b]), ((3, 5), (3, 2)), label="columns")
    yield Case(np.split, lambda x: np.split(x, 3)[1] ** 2 + np.split(x, 3)[0], ((6, 2),))
    yield Case(
        np.split,
        lambda x: np.concatenate(np.split(x, [1, 4], axis=1)[::-1], axis=1),
        m,
        label="places",
    )
    yield Case(np.array_split, lambda x: np.array_split(x, 2, axis=1)[0], m)
    yield Case(np.copy, np.copy, m)
    yield Case(astype, lambda x: x.astype(np.longdouble), m, twin=lambda x: x * 1)
    yield Case(
        np.full_like,
        lambda x: np.full_like(x, x[2]),
        ((5,),),
        twin=lambda x: np.broadcast_to(x[2], (5,)) * 1,
    )
    yield Case(np.tril, lambda x: np.tril(x, -1), s)
    yield Case(np.triu, lambda x: np.triu(x, k=1), s)
    yield Case(np.diagonal, lambda x: np.diagonal(x, 1, 1, 2), s)
    yield Case(np.flip, np.flip, s)
    yield Case(np.flip, lambda x: np.flip(x, axis=(0, -1)), s, label="axes")
    yield Case(np.fliplr, np.fliplr, m)
    yield Case(np.flipud, np.flipud, m)
    yield Case(np.rot90, np.rot90, m)
    yield Case(np.roll, lambda x: np.roll(x, 2), s)
    yield Case(np.roll, lambda x: np.roll(x, (1, -2), axis=(0, 2)), s, label="axes")
    yield Case(np.repeat, lambda x: np.repeat(x, 2), m)
    yield Case(np.repeat, lambda x: np.repeat(x, [1, 0, 3], axis=0), m, label="counts")
    yield Case(np.tile, lambda x: np.tile(x, (2, 1, 3)), m)
    yield Case(np.take, lambda x: np.take(x, [2, 0, 2, -1]), m)
    yield Case(np.take, lambda x: np.take(x, np.array([[1, 1], [0, 2]]), axis=0), m, label="axis")
    order = np.array([[0, 2, 2, 1, 0]])
    yield Case(np.take_along_axis, lambda x: np.take_along_axis(x, order, axis=0), m)
    for mode in ("constant", "edge", "reflect", "symmetric", "wrap"):
        yield Case(np.pad, lambda x, m_=mode: np.pad(x, ((1, 2), (2, 1)), m_), m, label=mode)
    yield Case(np.pad, lambda x: np.pad(x, 1, constant_values=7.0), m, label="values")
    for axis in (-1, 0, None):
        yield Case(
            np.sort, lambda x, a=axis: np.sort(x, axis=a), m, apart,
            lambda x, a=axis: np.take_along_axis(x if a is not None else np.ravel(x), np.argsort(np.real(stop_gradient(x if a is not None else np.ravel(x))), axis=-1 if a is None else a), axis=-1 if a is None else a),
            label=f"{axis}",
        )  # fmt: skip
    mask = np.array([[True, False, True, False, True]] * 2 + [[False] * 5])
    for label, index in (
        ("int", 1), ("negative", -1), ("slice", slice(0, 2)), ("steps", (slice(None, None, -2), slice(1, None))),
        ("ellipsis", (..., 1)), ("new axis", (None, slice(None), 1)), ("integers", [2, 0, 2]),
        ("integers, both", ([0, 1, 0], [4, 4, 4])), ("boolean", mask), ("mixed", (slice(None), [0, 0, 3])),
        ("mask and slice", ([True, False, True], slice(1, 3))), ("empty", (slice(0, 0),)), ("0-d", (1, 2)),
    ):  # fmt: skip
        yield Case(operator.getitem, lambda x, i=index: x[i], m, label=label)
    yield Case(scatter, lambda c: scatter(c, ([0, 2, 0],), (4, 2)), ((3, 2),))


CASES = [*unary(), *binary(), *reductions(), *products(), *shapes()]
