"""What a kernel answers, of whatever library: called, looked at, and made arrays of float64."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from tinylm.autograd.rules import title


class WrongAnswer(TypeError):  # noqa: N818 - the answer is wrong, and it is the kernel's
    """What a kernel returned, or did to its inputs, is not what was asked of it."""


def as_float64(x: Any, what: str) -> Any:
    """Numbers of any library as a new array of float64.

    Parameters
    ----------
    x : array_like
        Also a tensor of PyTorch, on any device and in any dtype, an array of JAX, and what has
        ``__array__`` or, on the CPU, ``__dlpack__``.
    what : str
        What it is, for the WrongAnswer that says that these are not real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm.oracle.answers import as_float64
    >>> as_float64(np.float32([1, 2]), "the value")
    array([1., 2.])
    """
    came, reason = kind(x), ""
    try:
        if hasattr(x, "requires_grad"):  # a tensor of PyTorch: NumPy has no bfloat16
            x = x.detach().cpu()
            x = x if x.is_complex() else x.double().numpy()
        elif hasattr(x, "__dlpack__") and not hasattr(x, "__array__"):
            x = np.from_dlpack(x)
        x = np.asarray(x)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        x, reason = np.array(None), f" ({error})"
    if not np.can_cast(x.dtype, np.float64, "same_kind"):
        raise WrongAnswer(f"{what}: came {came}, wanted an array of real numbers{reason}")
    with np.errstate(all="ignore"):  # a nan may signal, a longdouble overflow
        return np.array(x, dtype=np.float64)


def called(
    kernel: Callable[..., Any], inputs: Mapping[str, Any], cotangent: Any, wanted: Collection[str]
) -> tuple[Any, dict[str, Any]]:
    """Call a kernel, and see that it answers as kernels do.

    Parameters
    ----------
    kernel : callable
        ``kernel(Q=, K=, V=, cotangent=) -> (value, {"Q": d_Q, "K": d_K, "V": d_V})``.
    inputs : mapping of str to ndarray
    cotangent : ndarray
    wanted : collection of str
        The inputs whose gradients are asked for, no more and no fewer.

    Returns
    -------
    value : ndarray of float64
    grads : dict of str to ndarray of float64

    Raises
    ------
    WrongAnswer
        Which names the kernel. What the kernel itself raises is let through.

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm.oracle.answers import called
    >>> def square(x, cotangent):
    ...     return x * x, {"x": 2 * x * cotangent}
    >>> called(square, {"x": np.array([3.0])}, np.array([1.0]), ["x"])
    (array([9.]), {'x': array([6.])})
    """
    name = title(kernel) if hasattr(kernel, "__name__") else repr(kernel)
    answer = kernel(**inputs, cotangent=cotangent)
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise WrongAnswer(f"{name}: came {kind(answer)}, wanted a pair: the value, the gradients")
    value, grads = answer
    if not isinstance(grads, Mapping):
        raise WrongAnswer(f"{name}: the gradients: came {kind(grads)}, wanted a dict")
    if set(grads) != set(wanted):
        came, names = (", ".join(map(repr, x)) or "nothing" for x in (grads, wanted))
        raise WrongAnswer(f"{name}: the gradients: came {came}, wanted {names}")
    return as_float64(value, f"{name}: the value"), {
        key: as_float64(grads[key], f"{name}: the gradient of {key!r}") for key in wanted
    }


def kind(x: Any) -> str:
    """What came, for an error."""
    if isinstance(x, tuple | list):
        return f"a {type(x).__name__} of {len(x)}"
    return f"a {type(x).__name__}" + (f" of {x.dtype}" if hasattr(x, "dtype") else "")
