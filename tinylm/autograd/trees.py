"""Nests: dicts, lists and tuples of arrays, walked in one fixed order.

Parameters are a nest, and so is everything that has a parameter's shape: gradients, momenta,
tangents. `None` is an empty nest; everything that is no dict, list or tuple is a leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

Nest: TypeAlias = Any
"""A leaf, or a dict, list or tuple of nests."""


def children(nest: Nest) -> list[tuple[Any, Nest]] | None:
    """(key, child) pairs of a dict, list or tuple in order; None for a leaf."""
    if isinstance(nest, dict):
        return list(nest.items())
    if isinstance(nest, list | tuple):
        return list(enumerate(nest))
    return [] if nest is None else None


def rebuilt(nest: Nest, values: Iterable[Nest]) -> Nest:
    """A container like `nest` that holds `values` as its children."""
    if isinstance(nest, dict):
        return dict(zip(nest, values, strict=True))
    if isinstance(nest, tuple) and hasattr(nest, "_fields"):
        return type(nest)(*values)
    if isinstance(nest, list | tuple):
        return type(nest)(values)
    return None


def paths(nest: Nest, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, leaf) for every leaf; a path reads ``blocks.0.attention.W_Q``."""
    inside = children(nest)
    if inside is None:
        yield prefix, nest
        return
    for key, child in inside:
        yield from paths(child, f"{prefix}.{key}" if prefix else str(key))


def leaves(nest: Nest) -> list[Any]:
    """Every leaf, in order."""
    inside = children(nest)
    if inside is None:
        return [nest]
    return [leaf for _, child in inside for leaf in leaves(child)]


def map_leaves(function: Callable[..., Any], nest: Nest, *others: Nest) -> Nest:
    """The nest of ``function(leaf, *leaves of the others at the same place)``."""
    return _mapped(lambda _, *leaf: function(*leaf), (), nest, *others)


def map_paths(function: Callable[..., Any], nest: Nest, *others: Nest) -> Nest:
    """As `map_leaves`, the leaf's path handed to `function` first."""
    return _mapped(lambda keys, *leaf: function(_path(keys), *leaf), (), nest, *others)


def _mapped(function: Callable[..., Any], keys: tuple[Any, ...], nest: Nest, *others: Nest) -> Nest:
    inside = children(nest)
    if inside is None:
        return function(keys, nest, *others)
    for other in others:
        _same_keys(nest, other, keys)
    return rebuilt(
        nest,
        [
            _mapped(function, (*keys, key), child, *[other[key] for other in others])
            for key, child in inside
        ],
    )


def _path(keys: tuple[Any, ...]) -> str:
    return ".".join(map(str, keys))


def _same_keys(nest: Nest, other: Nest, path: tuple[Any, ...]) -> None:
    wanted, got = _keys(nest), _keys(other)
    if wanted != got:
        shown = "" if got is None else f" of {list(got)}"
        raise ValueError(
            f"the nests differ at {_path(path) or 'the top'!r}: wanted {type(nest).__name__} of "
            f"{list(wanted or ())}, got {type(other).__name__}{shown}"
        )


def _keys(nest: Nest) -> Any:
    """Equal for nests of the same keys, in whatever order; None for a leaf."""
    if isinstance(nest, dict):
        return nest.keys()
    if isinstance(nest, list | tuple):
        return range(len(nest))
    return {}.keys() if nest is None else None
