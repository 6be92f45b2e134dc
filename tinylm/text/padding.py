"""Padding: texts of different lengths as one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def pad(rows: Sequence[Any], pad_id: int) -> dict[str, Any]:
    """Rows of ids as one array, filled up at the end.

    Parameters
    ----------
    rows : sequence of ndarray of int, shapes (T_i,)
        At least one.
    pad_id : int
        The token that fills up.

    Returns
    -------
    dict
        "ids", shape (B, max T_i), and "mask", of the same shape: True at what is real. `BERT`
        takes both by these names.

    Raises
    ------
    ValueError
        If there is no row.

    Examples
    --------
    >>> from tinylm.text import pad
    >>> pad([[5, 6, 7], [8]], pad_id=0)
    {'ids': array([[5, 6, 7],
           [8, 0, 0]]), 'mask': array([[ True,  True,  True],
           [ True, False, False]])}
    """
    if not len(rows):
        raise ValueError("pad: no rows: wanted one or more")
    ids = np.full((len(rows), max(map(len, rows))), pad_id, np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return {"ids": ids, "mask": np.arange(ids.shape[1]) < np.array([[len(row)] for row in rows])}
