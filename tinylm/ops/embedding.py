"""Embedding: a table of vectors, looked up by token id."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinylm.autograd import Array, fused


@fused
def embedding(table: Array, ids: Any) -> Array:
    r"""Rows of a table, ``table[ids]``.

    The product of one-hot vectors with the table: Bengio et al. 2003, "A neural probabilistic
    language model", section 2, the mapping C.

    Parameters
    ----------
    table : ndarray, shape (V, C)
    ids : ndarray of int, shape (...)

    Returns
    -------
    ndarray, shape (..., C)

    Raises
    ------
    TypeError
        If the ids are not integers.
    ValueError
        If an id is outside [0, V).

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> tl.embedding(np.array([[1.0, 2.0], [3.0, 4.0]]), [1, 0, 1])
    array([[3., 4.],
           [1., 2.],
           [3., 4.]])
    """
    return table[as_ids(ids)]


def as_ids(ids: Any) -> Any:
    """Ids as an array; an empty list is one of integers."""
    return np.asarray(ids, dtype=None if np.size(ids) else np.int64)


@embedding.check
def _(table: Array, ids: Any) -> None:
    ids = as_ids(ids)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"embedding: ids holds {ids.dtype}: wanted integers")
    if table.ndim != 2:
        raise ValueError(f"embedding: table has shape {table.shape}: wanted (V, C)")
    V = table.shape[0]
    if ids.size and (ids.min() < 0 or ids.max() >= V):
        wrong = ids[(ids < 0) | (ids >= V)][0]
        raise ValueError(f"embedding: id {wrong} is outside the table [0, {V})")


@embedding.kernel
def _(table: Any, ids: Any) -> tuple[Any, Any]:
    ids = as_ids(ids)
    return np.take(table, ids, axis=0), (ids, table.shape)


@embedding.vjp
def _(residuals: Any, cotangent: Any) -> Any:
    ids, shape = residuals
    d_table = np.zeros(shape, cotangent.dtype)
    order = np.argsort(ids, axis=None, kind="stable")
    present, starts = np.unique(ids.ravel()[order], return_index=True)
    if present.size:
        rows = cotangent.reshape(ids.size, shape[1])[order]
        d_table[present] = np.add.reduceat(rows, starts, axis=0)
    return d_table
