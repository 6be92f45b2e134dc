"""Pruning: the smallest weights become zero, stay zero, and are not stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.autograd import Array, Nest, trees
from tinylm.compress.matrices import for_each_matrix, replaced
from tinylm.models.wrapper import Wrapper


def prune(params: Nest, share: float) -> Nest:
    r"""The smallest share of the numbers of each matrix, by size, set to zero.

    Han et al. 2015, "Learning both weights and connections for efficient neural networks", section
    3, which removes all connections whose weights are below a threshold, here that of the share.
    Of equal ones the first go first. Gains and biases stay.

    Parameters
    ----------
    params : nest
    share : float
        From 0 to below 1; of N numbers ``round(share * N)`` become zero.

    Returns
    -------
    nest
        Like `params`.

    Raises
    ------
    ValueError
        If the share is not possible, a matrix is not finite or not of floats, or there is none.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> tl.compress.prune({"W": np.array([[0.1, -3.0], [2.0, -0.2]]), "b": np.ones(2)}, share=0.5)
    {'W': array([[ 0., -3.],
           [ 2.,  0.]]), 'b': array([1., 1.])}
    """
    if not 0 <= share < 1:
        raise ValueError(f"prune: {share=}: wanted a number from 0 to below 1")

    def pruned(path: str, W: Any) -> Any:
        smallest_first = np.argsort(np.abs(W), axis=None, kind="stable")
        kept = W.flatten()
        kept[smallest_first[: round(share * W.size)]] = 0
        return kept.reshape(W.shape)

    return for_each_matrix("prune", pruned, params)


@dataclass(frozen=True, eq=False)
class Pruned(Wrapper):
    """A model of pruned matrices, for training on: what is zero stays zero.

    Han et al. 2015, section 3: the connections that are left are trained again. The loss is that of
    the model with every matrix multiplied by a mask, so that what was pruned has no gradient.

    Parameters
    ----------
    model : GPT
        Or any model.
    params : nest
        As `prune` gives them: where training starts, and which numbers of the matrices are zero.

    Raises
    ------
    ValueError
        If a matrix is not finite or not of floats, or there is none.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> model = tl.GPT(vocab_size=3, context_length=4, d_model=8, num_heads=2, num_layers=1)
    >>> start = tl.compress.prune(model.init(np.random.default_rng(0)), 0.75)
    >>> trainer = tl.Trainer(tl.compress.Pruned(model, start), start, tl.AdamW(lr=0.01))
    >>> ids = np.array([[0, 1, 2, 0, 1]])
    >>> losses = [trainer.step(ids[:, :-1], ids[:, 1:]) for _ in range(20)]
    >>> losses[-1] < losses[0], int(np.count_nonzero(trainer.params["token_embedding"]))
    (True, 6)
    """

    params: Nest

    def __post_init__(self) -> None:
        for_each_matrix("Pruned", lambda path, W: W, self.params)

    def inner(self, params: Nest) -> Nest:
        """The parameters with zeros where they were pruned."""
        return trees.map_leaves(
            lambda start, p: np.where(start != 0, p, 0) if np.ndim(start) == 2 else p,
            self.params,
            params,
        )

    def loss(self, params: Nest, *batch: Any, **options: Any) -> Array:
        """The model's loss, of the pruned parameters."""
        return self.model.loss(self.inner(params), *batch, **options)


def sparse(params: Nest) -> Nest:
    """Matrices as compressed sparse rows: their numbers that are not zero, and where they stand.

    Each such number takes its own bytes and those of its column, one up to 256 columns; each row
    takes the number of those before it. So the result is smaller than the matrix where most of it
    is zero, and larger where hardly anything is. The layout is that of `scipy.sparse.csr_array`, with
    the smallest integers that do.

    Parameters
    ----------
    params : nest

    Returns
    -------
    nest
        For each matrix ``{"values", "columns", "rows", "shape"}``. `tl.save` and `tl.load` keep it
        as it is.

    Raises
    ------
    ValueError
        If a matrix is not finite or not of floats, or there is none.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> tl.compress.sparse({"W": np.array([[0.0, 5.0, 0.0], [6.0, 0.0, 7.0]])})
    {'W': {'values': array([5., 6., 7.]), 'columns': array([1, 0, 2], dtype=uint8),
           'rows': array([0, 1, 3], dtype=uint8), 'shape': array([2, 3], dtype=uint8)}}
    """

    def compressed(path: str, W: Any) -> dict[str, Any]:
        row, column = np.nonzero(W)
        before = np.searchsorted(row, np.arange(len(W) + 1))
        return {
            "values": W[row, column],
            "columns": _small(column),
            "rows": _small(before),
            "shape": _small(np.array(W.shape)),
        }

    return for_each_matrix("sparse", compressed, params)


def _small(integers: Any) -> Any:
    """In the smallest dtype that holds them."""
    return integers.astype(np.min_scalar_type(int(np.max(integers, initial=0))))


def dense(compressed: Nest) -> Nest:
    """Parameters from what `sparse` made of them.

    Parameters
    ----------
    compressed : nest

    Returns
    -------
    nest
        Equal numbers of the same dtype; of zeros the sign is not kept, -0.0 is 0.0.

    Raises
    ------
    ValueError
        If nothing in it is sparse.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> tl.compress.dense(tl.compress.sparse({"W": np.array([[0.0, 5.0], [6.0, 0.0]])}))
    {'W': array([[0., 5.],
           [6., 0.]])}
    """

    def restored(its: Nest) -> Any:
        W = np.zeros(its["shape"], its["values"].dtype)
        row = np.repeat(np.arange(len(W)), np.diff(its["rows"]))
        W[row, its["columns"]] = its["values"]
        return W

    return replaced("dense", {"values", "columns", "rows", "shape"}, restored, compressed)
