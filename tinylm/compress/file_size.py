"""The size of a model: that of its file."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tinylm.autograd import Nest
from tinylm.checkpoint import save


def file_size(params: Nest) -> int:
    """How many bytes `tl.save` writes: the numbers, and all that it takes to read them again.

    Parameters
    ----------
    params : nest

    Returns
    -------
    int

    Raises
    ------
    CheckpointError
        If the nest cannot be held by such a file.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> W = np.ones((100, 100), np.float32)
    >>> tl.compress.file_size({"W": W}) - W.nbytes  # names, shapes, checksums
    264
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        save(path, params)
        return path.stat().st_size
