"""Contexts in which intermediates are seen or changed; outside them no model is any different."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import numpy as np

from tinylm.autograd import Array
from tinylm.autograd.names import editing, watching


@contextlib.contextmanager
def observe() -> Iterator[dict[str, Any]]:
    """Collect the intermediates of what is computed within this context, by their paths.

    Ops run their formulas here, since the names stand in the formulas. If a pullback runs inside,
    the cotangent of "blocks.0.attention.output" comes as "blocks.0.attention.d_output".

    Yields
    ------
    dict of str to ndarray
        In the order of computation. A path that is computed again holds the value of the last time:
        layers of a model of your own have paths of their own where each is computed `within` one.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> model = tl.GPT(vocab_size=9, context_length=8, d_model=8, num_heads=2, num_layers=1)
    >>> params = model.init(np.random.default_rng(0))
    >>> with tl.interpret.observe() as seen:
    ...     logits = model(params, [1, 2, 3])
    >>> seen["residual"].shape, seen["blocks.0.attention.output"].shape
    ((3, 8), (2, 3, 4))
    >>> seen["logits"] is logits
    True
    """
    seen: dict[str, Any] = {}

    def note(path: str, label: str, value: Any) -> None:
        seen[path] = value

    with watching(note):
        yield seen


@contextlib.contextmanager
def edit(changes: Mapping[str, Callable[[Array], Array]]) -> Iterator[None]:
    """Within this context intermediates are changed by their path, and derivatives see it.

    Edits are differentiated like everything else; `tl.patch` changes all values of a label, and to
    the derivative it is the identity. Contexts may be nested: the inner one changes what the outer
    one has made. Each thread has its own.

    Parameters
    ----------
    changes : mapping of str to callable
        For each path, or pattern of paths (those of `fnmatch`), a function of the value, shape
        (...), that returns another of that shape and leaves its argument as it is.

    Raises
    ------
    ValueError
        If a change gives another shape, or, when the context ends, if nothing with such a path was
        computed.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> model = tl.GPT(vocab_size=9, context_length=8, d_model=8, num_heads=2, num_layers=1)
    >>> params = model.init(np.random.default_rng(0))
    >>> with tl.interpret.edit({"blocks.0.residual": np.zeros_like}):
    ...     model(params, [1, 2, 3]).tolist() == np.zeros((3, 9)).tolist()
    True
    """
    with _edited("edit", changes):
        yield


@contextlib.contextmanager
def _edited(
    who: str, changes: Mapping[str, Callable[[Array], Array]], label: str = ""
) -> Iterator[None]:
    """`edit`, for the context `who`, of the paths that end in a label, which go without it."""
    computed: dict[str, None] = {}

    def changed(path: str, x: Array) -> Array:
        if not path.endswith(label):
            return x
        place = path.removesuffix(label)
        computed[place] = None
        for pattern, change in changes.items():
            if fnmatchcase(place, pattern):
                y = change(x)
                if np.shape(y) != np.shape(x):
                    raise ValueError(
                        f"{who}: {place} has shape {np.shape(x)}, and its change gave {np.shape(y)}"
                    )
                x = y
        return x

    with editing(changed):
        yield
    for pattern in changes:
        if not any(fnmatchcase(place, pattern) for place in computed):
            raise ValueError(f"{who}: no {pattern!r} was computed here, but {list(computed)}")


@contextlib.contextmanager
def ablate_heads(heads: Mapping[str, Sequence[int]]) -> Iterator[None]:
    r"""Within this context some attention heads find nothing: their outputs are 0.

    ``MHAtt(x) = sum_h xi_h Att_h(x)`` with ``xi_h = 0`` for these heads and 1 for the others:
    Michel, Levy and Neubig 2019, "Are sixteen heads really better than one?", section 2.3.

    Parameters
    ----------
    heads : mapping of str to sequence of int
        For each attention, by its path as in `attention_patterns` (or a pattern), its heads.

    Raises
    ------
    TypeError
        If the heads of an attention are not a sequence of whole numbers.
    ValueError
        If an attention has no such head, or, when the context ends, if there was no such attention.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> model = tl.GPT(vocab_size=9, context_length=8, d_model=8, num_heads=2, num_layers=1)
    >>> params = model.init(np.random.default_rng(0))
    >>> with tl.interpret.ablate_heads({"blocks.0.attention": [1]}), tl.interpret.observe() as seen:
    ...     logits = model(params, [1, 2, 3])
    >>> seen["blocks.0.attention.output"].any(axis=(-1, -2)).tolist()
    [True, False]
    """
    for path, ablated in heads.items():
        its = np.asarray(ablated)
        if its.ndim != 1 or (its.size and its.dtype.kind not in "iu"):
            raise TypeError(
                f"ablate_heads: the heads of {path!r} are {ablated!r}: wanted a sequence of whole "
                "numbers"
            )

    def without(x: Array, ablated: Sequence[int]) -> Array:
        H = x.shape[-3]
        wrong = [head for head in ablated if not 0 <= head < H]
        if wrong:
            raise ValueError(f"ablate_heads: there is no head {wrong[0]}: they are 0 to {H - 1}")
        return np.where(np.isin(np.arange(H), ablated)[:, None, None], 0, x)

    changes = {path: partial(without, ablated=ablated) for path, ablated in heads.items()}
    with _edited("ablate_heads", changes, label=".output"):
        yield


@contextlib.contextmanager
def patch(seen: Mapping[str, Any], places: Mapping[str, Any]) -> Iterator[None]:
    """Within this context some intermediates are those of another run.

    Activation patching: what an answer owes to one place shows when only that place comes from a
    run with another answer. Vig et al. 2020, "Investigating gender bias in language models using
    causal mediation analysis", section 3; Meng et al. 2022, "Locating and editing factual
    associations in GPT", section 2.1, where the run that is patched is the corrupted one.

    Parameters
    ----------
    seen : mapping of str to ndarray
        What `observe` collected in the other run.
    places : mapping of str to index
        For each path what of it is patched, as an index of the array: ``np.s_[..., 3, :]`` is
        position 3 of a residual stream, ``np.s_[..., 1, :, :]`` head 1 of an attention's output,
        ``...`` all of it.

    Raises
    ------
    ValueError
        If the other run has no such path, or its value has another shape; or, when the context
        ends, if nothing with such a path was computed.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> model = tl.GPT(vocab_size=9, context_length=8, d_model=8, num_heads=2, num_layers=1)
    >>> params = model.init(np.random.default_rng(0))
    >>> with tl.interpret.observe() as seen:
    ...     logits = model(params, [1, 2, 3])
    >>> with tl.interpret.patch(seen, {"residual": np.s_[..., 0, :]}):
    ...     np.array_equal(model(params, [7, 2, 3]), logits)
    True
    """
    for path in places:
        if path not in seen:
            raise ValueError(f"patch: the other run has no {path!r}, but {list(seen)}")

    def patched(x: Array, path: str, index: Any) -> Array:
        if np.shape(seen[path]) != np.shape(x):
            raise ValueError(
                f"patch: {path} has shape {np.shape(x)} here and {np.shape(seen[path])} in the "
                "other run"
            )
        chosen = np.zeros(np.shape(x), bool)
        chosen[index] = True
        return np.where(chosen, seen[path], x)

    changes = {path: partial(patched, path=path, index=index) for path, index in places.items()}
    with _edited("patch", changes):
        yield
