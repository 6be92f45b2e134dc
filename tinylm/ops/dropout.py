"""Dropout: elements set to zero at random, while training."""

from __future__ import annotations

import numpy as np

from tinylm.autograd import Array


def dropout(x: Array, rate: float, rng: np.random.Generator) -> Array:
    r"""Set each element to zero with probability `rate`, and scale the rest by 1 / (1 - rate).

    Srivastava et al. 2014, "Dropout", section 4, scaled while training, so that nothing changes
    when the model is used (section 10 there).

    Parameters
    ----------
    x : ndarray
    rate : float
        In [0, 1).
    rng : numpy.random.Generator
        Draws one number for each element, unless the rate is 0.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`.

    Raises
    ------
    ValueError
        If the rate is outside [0, 1).

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> tl.dropout(np.ones(6), 0.5, np.random.default_rng(0))
    array([2., 2., 2., 0., 0., 0.])
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: rate is {rate}: wanted 0 <= rate < 1")
    if rate == 0:
        return x
    kept = rng.random(np.shape(x), dtype=np.float32) >= rate
    return np.where(kept, np.divide(x, 1 - float(rate)), 0)
