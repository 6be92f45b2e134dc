"""Named intermediates: seen and changed where they are computed, and known by their paths.

A label says what a value is; its path says where it was computed as well: it is that of the
parameters that compute it, with the label at its end, so that "blocks.1.attention.weights" stands
beside "blocks.1.attention.W_Q". All of it holds within contexts, each thread's own: outside them
a name is the identity.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar, Token
from typing import Any

from tinylm.autograd.derivatives import derivative
from tinylm.autograd.rules import Array
from tinylm.autograd.tracing import traceable

_formulas_only: ContextVar[bool] = ContextVar("formulas_only", default=False)
_path: ContextVar[str] = ContextVar("path", default="")
_watch: ContextVar[Callable[[str, str, Any], None] | None] = ContextVar("watch", default=None)
_patches: ContextVar[Mapping[str, Callable[[Any], Any]] | None] = ContextVar(
    "patches", default=None
)
_edit: ContextVar[Callable[[str, Array], Array] | None] = ContextVar("edit", default=None)


@contextlib.contextmanager
def formulas() -> Iterator[None]:
    """Within this context every op runs its formula, and no kernel.

    What was recorded inside goes back through the formula as well, wherever the pullback is called.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> with tl.formulas():
    ...     tl.softmax(np.zeros(2))
    array([0.5, 0.5])
    """
    token = _formulas_only.set(True)
    try:
        yield
    finally:
        _formulas_only.reset(token)


def kernels_are_off() -> bool:
    """Whether this is within `formulas`, or what includes it: `record` and `patch`."""
    return _formulas_only.get()


@contextlib.contextmanager
def record(watch: Callable[[str, Any], None] | None = None) -> Iterator[dict[str, list[Any]]]:
    """Collect the named intermediates of everything that is computed within this context.

    Ops run their formulas here, since the names stand in the formulas. The cotangent of
    ``"scores"``, if a pullback runs inside, is collected as ``"d_scores"``.

    Parameters
    ----------
    watch : callable, optional
        Called as ``watch(label, value)`` at every name, in the order of computation.

    Yields
    ------
    dict of str to list of ndarray
        For each label, the values in the order in which they appeared: the label "weights" of a
        model of four layers has four.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> x = np.eye(2)
    >>> with tl.record() as seen:
    ...     y = tl.attention(x, x, x, causal=True)
    >>> sorted(seen), seen["weights"][0][0]
    (['normalizer', 'output', 'scores', 'weights'], array([1., 0.]))
    """
    seen: dict[str, list[Any]] = {}

    def note(path: str, label: str, value: Any) -> None:
        seen.setdefault(label, []).append(value)
        if watch is not None:
            watch(label, value)

    with watching(note):
        yield seen


@contextlib.contextmanager
def watching(note: Callable[[str, str, Any], None]) -> Iterator[None]:
    """Within this context `note` is called as ``note(path, label, value)`` at every name.

    Ops run their formulas here. The path of a cotangent is that of its value: ``d_`` stands before
    the label alone. Contexts outside of this one see the names as well.
    """
    outer = _watch.get()

    def both(path: str, label: str, value: Any) -> None:
        note(path, label, value)
        if outer is not None:
            outer(path, label, value)

    token = _watch.set(both)
    try:
        with formulas():
            yield
    finally:
        _watch.reset(token)


@contextlib.contextmanager
def patch(patches: Mapping[str, Callable[[Any], Any]]) -> Iterator[None]:
    """Within this context intermediates are changed by their label, unseen by derivatives.

    To the derivative a patch is the identity, and it changes all values of a label;
    `tinylm.interpret.edit` changes those of a path, and is differentiated. Ops run their formulas
    here. ``"d_scores"`` changes the cotangent of ``"scores"``, if a pullback runs inside.

    Parameters
    ----------
    patches : mapping of str to callable
        For each label, a function of the value that returns another of its shape.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> x = np.array([[0.0], [1.0]])
    >>> with tl.patch({"weights": lambda weights: np.eye(2)}):
    ...     tl.attention(x, x, x).tolist()
    [[0.0], [1.0]]
    """
    token = _patches.set({**(_patches.get() or {}), **patches})
    try:
        with formulas():
            yield
    finally:
        _patches.reset(token)


@contextlib.contextmanager
def editing(edit: Callable[[str, Array], Array]) -> Iterator[None]:
    """Within this context every named value is what ``edit(path, value)`` makes of it.

    Ops run their formulas here. Other than a patch an edit is differentiated: the value may be one
    that is being traced. What a context outside of this one makes of a value is edited here.
    """
    outer = _edit.get()

    def both(path: str, x: Array) -> Array:
        return edit(path, x if outer is None else outer(path, x))

    token = _edit.set(both)
    try:
        with formulas():
            yield
    finally:
        _edit.reset(token)


class within:  # noqa: N801, it is used as `open` is
    """What is named in this context is computed by the parameters under `part`.

    A model enters one for each of its layers: without, those have one path together, and what
    `tinylm.interpret` tells of one layer would be that of the last.

    Entered in every layer of every step, and so a class: a generator would cost four times as much.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> from tinylm.autograd.names import watching, within
    >>> with watching(lambda path, label, value: print(path)), within("blocks.0"):
    ...     with within("attention"):
    ...         x = tl.name(np.zeros(2), "weights")
    blocks.0.attention.weights
    """

    __slots__ = ("part", "token")

    def __init__(self, part: str) -> None:
        self.part = part

    def __enter__(self) -> None:
        self.token: Token[str] = _path.set(f"{_path.get()}{self.part}.")

    def __exit__(self, *raised: object) -> None:
        _path.reset(self.token)


def name(x: Array, label: str) -> Array:
    """The identity, with a label by which `record` and the oracle know the value.

    Parameters
    ----------
    x : ndarray
    label : str

    Returns
    -------
    ndarray
        `x` itself.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> with tl.record() as seen:
    ...     y = np.exp(tl.name(np.array([0.0, 1.0]), "logits"))
    >>> seen["logits"]
    [array([0., 1.])]
    """
    edit, parts = _edit.get(), _path.get()
    if edit is not None:
        x = edit(parts + label, x)
    return named(x, label, parts)


@traceable
def named(x: Array, label: str, parts: str) -> Array:
    """`name`, once it is known where: what the engine and other arithmetics have a rule for."""
    patches, watch = _patches.get(), _watch.get()
    if patches is not None and label in patches:
        x = patches[label](x)
    if watch is not None:
        watch(parts + label, label, x)
    return x


derivative(named)(lambda c, y, x, label, parts: named(c, f"d_{label}", parts))
