"""Quantization: matrices of eight-bit integers, and one scale for each output channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.autograd import Nest
from tinylm.compress.matrices import for_each_matrix, replaced
from tinylm.models.wrapper import Wrapper

LARGEST = 127
"""Of a symmetric range: -128 is not used."""


def quantize(params: Nest) -> Nest:
    r"""Matrices as int8, with the scale at which the largest of each output channel is 127.

    ``W_q = round(W / s)`` with ``s_j = max_i |W_ij| / 127``: absmax quantization, Dettmers et al.
    2022, "LLM.int8(): 8-bit matrix multiplication for Transformers at scale", section 2.1, with a
    constant for each column of W, section 3.1; it is the affine map of Jacob et al. 2018,
    "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
    eq. (1), with zero point 0. No number moves by more than s/2. In a table, which is a head
    transposed, an output channel is a row: the vector of one token.

    Gains and biases stay as they are: they are few.

    Parameters
    ----------
    params : nest
        Its leaves of two axes are the matrices; those called ``...embedding`` are tables.

    Returns
    -------
    nest
        For each matrix ``{"int8": W_q, "scale": s}``, where s has the dtype of W, and the shape
        (1, out), or (V, 1) for a table. `tl.save` and `tl.load` keep it as it is. A channel of
        zeros has the scale 0.

    Raises
    ------
    ValueError
        If a matrix is not finite or not of floats, which is also said of what is quantized
        already, or there is none.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> tl.compress.quantize({"W": np.array([[1.27, -4.0], [0.5, 508.0]])})
    {'W': {'int8': array([[127,  -1],
           [ 50, 127]], dtype=int8), 'scale': array([[0.01, 4.  ]])}}
    """

    def quantized(path: str, W: Any) -> dict[str, Any]:
        largest = np.max(np.abs(W), axis=_inputs(path), keepdims=True, initial=0)
        scale = (largest / LARGEST).astype(W.dtype)
        lower, upper = W.dtype.type(0), W.dtype.type(np.inf)
        with np.errstate(over="ignore"):
            short = scale * W.dtype.type(LARGEST) < largest  # 127 of it would not reach the largest
            scale = np.where(short, np.nextafter(scale, upper), scale)
            beyond = np.isinf(scale * W.dtype.type(LARGEST))
        scale = np.where(beyond, np.nextafter(scale, lower), scale)
        steps = np.rint(W / np.where(scale > 0, scale, 1))
        return {"int8": steps.astype(np.int8), "scale": scale}

    return for_each_matrix("quantize", quantized, params)


def _inputs(path: str) -> int:
    """The axis along which a scale is shared."""
    return 1 if path.endswith("embedding") else 0


def dequantize(quantized: Nest) -> Nest:
    """Parameters from what `quantize` made of them: ``s W_q``.

    Parameters
    ----------
    quantized : nest

    Returns
    -------
    nest
        In the form and dtype of the parameters.

    Raises
    ------
    ValueError
        If nothing in it is quantized.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> tl.compress.dequantize({"W": {"int8": np.array([[3]], np.int8), "scale": np.array([[0.5]])}})
    {'W': array([[1.5]])}
    """
    return replaced("dequantize", {"int8", "scale"}, lambda q: q["int8"] * q["scale"], quantized)


@dataclass(frozen=True, eq=False)
class Quantized(Wrapper):
    """A model whose parameters are those that `quantize` gives.

    It is measured and sampled from as the model inside. Between two calls there are int8 matrices
    only; every call restores the floats, since NumPy has no fast product of integers: what is won is
    memory, not time. Where there is enough of it, use the model inside with `dequantize`.

    Parameters
    ----------
    model : GPT
        Or any model.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> model = tl.GPT(vocab_size=9, context_length=8, d_model=16, num_heads=2, num_layers=1)
    >>> params = model.init(np.random.default_rng(0))
    >>> small, ids = tl.compress.quantize(params), np.array([[1, 2, 3]])
    >>> error = tl.compress.Quantized(model)(small, ids) - model(params, ids)
    >>> bool(0 < np.max(np.abs(error)) < 0.01)
    True
    """

    def inner(self, params: Nest) -> Nest:
        """The parameters of the model inside."""
        return dequantize(params)
