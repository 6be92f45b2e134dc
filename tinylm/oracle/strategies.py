"""Inputs that break kernels: lengths beside those of blocks, scales, layouts, masks with empty rows.

Strategies for property tests with hypothesis, which comes with the extra `oracle`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

import tinylm.ops
from tinylm.ops import IGNORED
from tinylm.oracle.examples import IDS, SHAPES, axes_of
from tinylm.oracle.variants import laid_out

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

MAX_LENGTH = 65
BESIDE_BLOCKS = (1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257)
"""Lengths that are drawn more often than others."""

LEADING = ((), (), (1,), (2,), (2,), (2, 3), (2, 3), (0,))
"""The leading axes of an op that has others besides, the simplest first."""

LAYOUTS = ("C", "transposed", "strided", "reversed", "read-only", "broadcast")
"""What `tinylm.oracle.variants.laid_out` knows, the simplest first."""

POWERS = (-6, 4)
"""By which powers of ten normal numbers are multiplied."""

POWERS_OF = {
    ("softmax", "x"): (-6, 2),
    ("log_softmax", "x"): (-6, 2),
    ("cross_entropy", "logits"): (-6, 2),
    ("attention", "Q"): (-6, 0),
    ("attention", "K"): (-6, 0),
    ("gelu", "x"): (-6, 1),
    ("silu", "x"): (-6, 1),
}
"""Arguments of an exponential function: of larger ones it is 0 or 1, with no digit between."""

MASKS = ((0.8, False), (0.2, False), (0.8, True), (0.2, True))
"""Kinds of masks: the share that is True, and whether a row is all False."""


def lengths(max_length: int = MAX_LENGTH) -> SearchStrategy[int]:
    """Lengths of an axis, every one, those beside blocks more often, and seldom 0.

    They shrink to smaller ones, and to 0 last.

    Parameters
    ----------
    max_length : int

    Examples
    --------
    >>> from tinylm import oracle
    >>> oracle.strategies.lengths(2)
    sampled_from([1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0])
    """
    if max_length < 1:
        raise ValueError(f"lengths: {max_length=}: wanted 1 or more")
    counts = {n: 5 if n in BESIDE_BLOCKS else 1 for n in range(1, max_length + 1)} | {0: 5}
    every = [n for n, count in counts.items() for _ in range(count)]
    strategy: SearchStrategy[int] = _hypothesis().sampled_from(every)
    return strategy


def layouts() -> SearchStrategy[str]:
    """Names of places in memory, for `tinylm.oracle.variants.laid_out`.

    Examples
    --------
    >>> from tinylm import oracle
    >>> oracle.strategies.layouts()
    sampled_from(('C', 'transposed', 'strided', 'reversed', 'read-only', 'broadcast'))
    """
    strategy: SearchStrategy[str] = _hypothesis().sampled_from(LAYOUTS)
    return strategy


def arrays(
    shape: tuple[int, ...], low: int = POWERS[0], high: int = POWERS[1]
) -> SearchStrategy[Any]:
    """Normal numbers times a power of ten, in one of several layouts.

    Parameters
    ----------
    shape : tuple of int
    low, high : int
        The least and the largest power of ten.

    Examples
    --------
    >>> from hypothesis import given
    >>> from tinylm import oracle
    >>> @given(oracle.strategies.arrays((2, 3)))
    ... def test(x):
    ...     assert x.shape == (2, 3)
    >>> test()
    """

    def array(seed: int, power: int, layout: str) -> Any:
        x = np.asarray(np.random.default_rng(seed).standard_normal(shape) * 10.0**power)
        if layout == "broadcast" and x.ndim and x.size:
            x = np.repeat(x[:1], len(x), axis=0)
        return laid_out(x, layout)

    st = _hypothesis()
    strategy: SearchStrategy[Any] = st.builds(array, _seeds(), st.integers(low, high), layouts())
    return strategy


def masks(shape: tuple[int, ...]) -> SearchStrategy[Any]:
    """Boolean masks, in half of which a row is empty.

    Parameters
    ----------
    shape : tuple of int
        Of at least two axes, the last of which is that of the keys.

    Examples
    --------
    >>> from hypothesis import given
    >>> from tinylm import oracle
    >>> @given(oracle.strategies.masks((2, 3)))
    ... def test(mask):
    ...     assert mask.dtype == bool
    >>> test()
    """

    def mask(seed: int, kind: tuple[float, bool]) -> Any:
        return _mask(np.random.default_rng(seed), shape, kind)

    st = _hypothesis()
    strategy: SearchStrategy[Any] = st.builds(mask, _seeds(), st.sampled_from(MASKS))
    return strategy


def _mask(rng: np.random.Generator, shape: tuple[int, ...], kind: tuple[float, bool]) -> Any:
    share, empty = kind
    mask = rng.random(shape) < share
    if empty and mask.size:
        mask[..., rng.integers(shape[-2]), :] = False
    return mask


def inputs(
    op: str | Callable[..., Any],
    *,
    shapes: str | None = None,
    sizes: Mapping[str, Any] | None = None,
    optional: Collection[str] = (),
    powers: tuple[int, int] = POWERS,
    max_length: int = MAX_LENGTH,
    **attributes: Any,
) -> SearchStrategy[dict[str, Any]]:
    """Inputs of an op wherever it is defined, with a cotangent, as `tinylm.oracle.check` takes them.

    Parameters
    ----------
    op : str or callable
        The name of an op of tinylm, or a formula.
    shapes : str, optional
        The axes of the inputs of a formula, such as ``"x:...C gain:C -> ...C"``. With an op it says
        what a kernel wants alike: ``"Q:...TD K:...TD V:...TE -> ...TE"``.
    sizes : mapping of str to int or strategy
        Lengths of some axes, or strategies of them: ``{"D": 64, "T": sampled_from([128, 256])}``;
        under ``"..."`` a tuple, the leading ones. Others are `lengths`.
    optional : collection of str
        Which of the optional inputs are given: "mask", "b".
    powers : tuple of two int
        The least and the largest power of ten by which the numbers of each array are multiplied;
        of arguments of exponential functions at most 1, 10 or 100.
    max_length : int
    **attributes
        The other arguments of the op, where inputs must suit them.

    Examples
    --------
    >>> from hypothesis import given
    >>> from tinylm import oracle
    >>> @given(oracle.strategies.inputs("linear", sizes={"I": 64}))
    ... def test(inputs):
    ...     assert inputs["cotangent"].shape == (*inputs["x"].shape[:-1], inputs["W"].shape[1])
    >>> test()
    """
    st = _hypothesis()
    if powers[0] > powers[1]:
        raise ValueError(f"inputs: {powers=}: wanted the least one first")
    axes = axes_of_inputs(op, shapes, optional)
    letters = [*dict.fromkeys("".join(axes.values()).replace(".", ""))]
    usual: dict[str, Any] = dict.fromkeys(letters, lengths(max_length))
    if any("..." in text for text in axes.values()):
        usual["..."] = st.sampled_from(LEADING) if letters else _whole_shapes(max_length)
    chosen = {
        letter: x if isinstance(x, st.SearchStrategy) else st.just(x)
        for letter, x in with_sizes(usual, sizes).items()
    }
    ranges = {name: _range(powers, POWERS_OF.get((str(op), name), powers)) for name in axes}

    def drawn(sizes: Any, seed: int) -> dict[str, Any]:
        rng, ignored = np.random.default_rng(seed), attributes.get("ignore_index", IGNORED)
        layout = LAYOUTS[rng.integers(len(LAYOUTS))]
        plain = inputs_at(op, axes, sizes, rng, powers=ranges, ignore_index=ignored)
        return {name: laid_out(x, layout) for name, x in plain.items()}

    def defined(drawn: dict[str, Any]) -> bool:
        function = getattr(tinylm.ops, op) if isinstance(op, str) else op
        given = {name: x for name, x in drawn.items() if name != "cotangent"}
        try:
            with np.errstate(all="ignore"):
                function(**given, **attributes)
        except ValueError:
            return False
        return True

    sizes_drawn = st.fixed_dictionaries(chosen)
    strategy: SearchStrategy[dict[str, Any]] = st.builds(drawn, sizes_drawn, _seeds())
    return strategy.filter(defined)


def _range(powers: tuple[int, int], within: tuple[int, int]) -> tuple[int, int]:
    high = min(powers[1], within[1])
    return min(max(powers[0], within[0]), high), high


def axes_of_inputs(
    op: str | Callable[..., Any], shapes: str | None = None, optional: Collection[str] = ()
) -> dict[str, str]:
    """The axes of each input that is given, and of the cotangent; arguments as for `inputs`."""
    if isinstance(op, str) and op not in SHAPES:
        raise ValueError(f"there is no op {op!r}: {', '.join(sorted(SHAPES))}")
    text = SHAPES.get(op) if isinstance(op, str) and shapes is None else shapes
    if text is None:
        raise ValueError(f"of a formula, shapes is needed, such as {SHAPES['rms_norm']!r}")
    axes = axes_of(text)
    defaults = getattr(tinylm.ops, op).defaults if isinstance(op, str) else {}
    unknown = set(optional) - (axes.keys() & defaults.keys())
    if unknown:
        wanted = ", ".join(sorted(axes.keys() & defaults.keys())) or "nothing"
        raise ValueError(f"optional={tuple(optional)}: what is optional is {wanted}")
    left_out = defaults.keys() - set(optional)
    axes["cotangent"] = axes.pop("value")
    return {name: letters for name, letters in axes.items() if name not in left_out}


def with_sizes(usual: Mapping[str, Any], sizes: Mapping[str, Any] | None) -> dict[str, Any]:
    """The usual sizes of the axes, and others in the place of some."""
    unknown = (sizes or {}).keys() - usual.keys()
    if unknown:
        came = ", ".join(map(repr, sorted(unknown)))
        raise ValueError(f"sizes has {came}: wanted {', '.join(map(repr, usual))}")
    return {**usual, **(sizes or {})}


def inputs_at(
    op: str | Callable[..., Any],
    axes: Mapping[str, str],
    sizes: Mapping[str, Any],
    rng: np.random.Generator,
    *,
    powers: Mapping[str, tuple[int, int]] | None = None,
    ignore_index: int = IGNORED,
) -> dict[str, Any]:
    """Random inputs of an op, of given sizes.

    Parameters
    ----------
    op : str or callable
    axes : mapping of str to str
        From `axes_of_inputs`.
    sizes : mapping of str to int
        The length of each axis; under ``"..."`` a tuple, the leading ones.
    rng : numpy.random.Generator
    powers : mapping of str to tuple of two int
        The least and the largest power of ten by which the normal numbers of an input are
        multiplied.
    ignore_index : int
        That of cross_entropy: a fifth of the targets do not count.

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm.oracle.strategies import axes_of_inputs, inputs_at
    >>> axes, rng = axes_of_inputs("linear"), np.random.default_rng(0)
    >>> inputs = inputs_at("linear", axes, {"...": (2,), "I": 3, "O": 5}, rng)
    >>> {name: x.shape for name, x in inputs.items()}
    {'x': (2, 3), 'W': (3, 5), 'cotangent': (2, 5)}
    """
    ids, drawn = IDS.get(op) if isinstance(op, str) else None, {}
    for name, text in axes.items():
        leading = tuple(sizes["..."]) if "..." in text else ()
        shape = leading + tuple(sizes[letter] for letter in text.replace("...", ""))
        if name == "mask":
            drawn[name] = _mask(rng, shape, MASKS[rng.integers(len(MASKS))])
        elif name == ids:
            drawn[name] = rng.integers(0, max(sizes["V"], 1), shape)
            if name == "targets":
                drawn[name][rng.random(shape) < 0.2] = ignore_index
        else:
            low, high = (powers or {}).get(name, (0, 0))
            power = rng.integers(low, high, endpoint=True)
            drawn[name] = rng.standard_normal(shape) * 10.0**power
    return {name: np.asarray(x) for name, x in drawn.items()}


def _whole_shapes(max_length: int) -> SearchStrategy[tuple[int, ...]]:
    """Shapes of elementwise ops, whose axes are all leading ones."""
    st, length = _hypothesis(), lengths(max_length)
    few = st.sampled_from((1, 2, 3))
    strategy: SearchStrategy[tuple[int, ...]] = st.one_of(
        st.just(()), st.tuples(length), st.tuples(few, length), st.tuples(few, few, length)
    )
    return strategy


def _seeds() -> SearchStrategy[int]:
    strategy: SearchStrategy[int] = _hypothesis().integers(0, 2**32 - 1)
    return strategy


def _hypothesis() -> Any:
    try:
        from hypothesis import strategies
    except ModuleNotFoundError:
        needs = "tinylm.oracle.strategies and find_failure need hypothesis"
        raise ImportError(f"{needs}: pip install 'tinylm[oracle]'") from None
    return strategies
