"""The way in: functions of PyTorch and JAX as kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from tinylm.autograd.rules import title
from tinylm.oracle.answers import WrongAnswer, as_float64, kind

DTYPES = {"f64": "float64", "f32": "float32", "tf32": "float32", "f16": "float16"}
DTYPES |= {"bf16": "bfloat16", "e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2"}
"""The dtype of each format, as PyTorch and JAX call it; a kernel of TF32 is given float32."""

EXTRA = "{} needs {}: pip install 'tinylm[peers]'"


@dataclass(frozen=True)
class Adapter:
    """A kernel made of a function `f` that another library differentiates, for a format `io`.

    Without a format it is that of the arrays which come.
    """

    f: Callable[..., Any]
    io: str | None = None
    maker: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if not callable(self.f):
            raise TypeError(f"{self.maker}: f: came {kind(self.f)}, wanted a callable")
        if self.io is not None and self.io not in DTYPES:
            raise ValueError(f"{self}: io={self.io!r}: wanted {', '.join(DTYPES)}")

    def __repr__(self) -> str:
        owner = getattr(self.f, "__self__", None)  # of MyFunction.apply
        return f"{self.maker}({title(owner if isinstance(owner, type) else self.f)})"

    def declared(self, io: str) -> Adapter:
        """The kernel for arrays of a format: one of `tinylm.oracle.FORMATS`."""
        return replace(self, io=io)

    def dtype_of(self, x: Any) -> Any:
        """The name of the dtype in which `f` is given an array; None if it is not of floats."""
        came = np.asarray(x).dtype
        return (DTYPES[self.io] if self.io else str(came)) if came.kind == "f" else None

    def fits(self, value: Any, is_floats: bool, cotangent: Any) -> None:
        """See that the cotangent fits the value."""
        if not is_floats:
            raise WrongAnswer(f"{self}: the value: came {kind(value)}, wanted an array of floats")
        came, shape = tuple(value.shape), np.shape(cotangent)
        if came != shape:
            raise WrongAnswer(f"{self}: the value: came shape {came}, wanted {shape}")


def from_torch(f: Callable[..., Any], *, device: Any = None) -> Adapter:
    """A kernel made of a function of PyTorch, differentiated by `torch.autograd.grad`.

    It is given tensors of the format that the check declares, and of the arrays' strides, 0 among
    them; negative ones, which PyTorch lacks, are copied. Between the elements of a strided one
    stands nan.

    Parameters
    ----------
    f : callable or torch.autograd.Function
        It is called by keyword, ``f(Q=, K=, V=)``; a Function or its ``apply``, which takes no
        keywords, with the inputs in the order in which they come.
    device : str or torch.device, optional
        Where to compute, such as "cuda".

    Returns
    -------
    callable
        A kernel. It raises WrongAnswer where PyTorch knows of no way in which the value depends on
        an input, and where an input or the cotangent was written into.

    Examples
    --------
    Not run here, for want of PyTorch::

        kernel = oracle.from_torch(lambda x: torch.softmax(x, dim=-1), device="cuda")
        oracle.check(kernel, "softmax", inputs, rounding=oracle.Rounding(io="bf16"))
    """
    _torch()
    return _Torch(f, device=device)


@dataclass(frozen=True, repr=False)
class _Torch(Adapter):
    device: Any = None
    maker: ClassVar[str] = "from_torch"

    def __call__(self, /, *, cotangent: Any, **inputs: Any) -> tuple[Any, dict[str, Any]]:
        torch = _torch()
        tensors = {key: _tensor(x, self.dtype_of(x), self.device) for key, x in inputs.items()}
        floats = {key: x.requires_grad_() for key, x in tensors.items() if x.is_floating_point()}
        before = {key: as_float64(x, key) for key, x in tensors.items()}
        with torch.enable_grad():
            y = self._value(tensors)
        self.fits(y, isinstance(y, torch.Tensor) and y.is_floating_point(), cotangent)
        value, given = as_float64(y, "value"), _tensor(cotangent, y.dtype, y.device)
        tensors["cotangent"], before["cotangent"] = given, as_float64(given, "cotangent")
        grads = [None] * len(floats)
        if y.requires_grad:
            grads = torch.autograd.grad(y, list(floats.values()), given, allow_unused=True)
        for key, gradient in zip(floats, grads, strict=True):
            if gradient is None:
                raise WrongAnswer(f"{self}: the value does not depend on {key!r}, or was detached")
        for key, x in tensors.items():
            if not np.array_equal(as_float64(x, key), before[key], equal_nan=True):
                raise WrongAnswer(f"{self}: it wrote into {key}")
        return value, {key: as_float64(x, key) for key, x in zip(floats, grads, strict=True)}

    def _value(self, tensors: dict[str, Any]) -> Any:
        function: Any = getattr(self.f, "__self__", self.f)
        is_function = isinstance(function, type(_torch().autograd.Function))
        return function.apply(*tensors.values()) if is_function else self.f(**tensors)


def _tensor(x: Any, dtype: Any, device: Any) -> Any:
    """A tensor with the numbers of an array, and its strides."""
    torch, x = _torch(), np.asarray(x)
    if any(step < 0 or step % x.itemsize for step in x.strides):
        x = x.copy(order="K")
    steps = [step // x.itemsize for step in x.strides]
    once = x[(..., *(slice(None if step else 1) for step in steps))]
    numbers = torch.from_numpy(once.copy())
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype or numbers.dtype
    length = 1 + sum(step * (n - 1) for step, n in zip(steps, once.shape, strict=True))
    between = float("nan") if x.dtype.kind == "f" else 0
    memory = torch.full((max(length, 0),), between, dtype=dtype, device=device)
    return memory.as_strided(once.shape, steps).copy_(numbers).expand(x.shape)


def from_jax(f: Callable[..., Any]) -> Adapter:
    """A kernel made of a function of JAX, differentiated by `jax.vjp`.

    It is given arrays of the format that the check declares; float64 needs ``jax_enable_x64``.

    Parameters
    ----------
    f : callable
        Also a ``jax.custom_vjp``. It is called by keyword, ``f(Q=, K=, V=)``; what is not of floats
        is a constant to `jax.vjp`.

    Returns
    -------
    callable
        A kernel.

    Examples
    --------
    Not run here, for want of JAX::

        kernel = oracle.from_jax(jax.nn.softmax)
        oracle.check(kernel, "softmax", inputs, rounding=oracle.Rounding(io="bf16"))
    """
    _jax()
    return _Jax(f)


@dataclass(frozen=True, repr=False)
class _Jax(Adapter):
    maker: ClassVar[str] = "from_jax"

    def __call__(self, /, *, cotangent: Any, **inputs: Any) -> tuple[Any, dict[str, Any]]:
        jax = _jax()
        dtypes = {key: self.dtype_of(x) for key, x in inputs.items()}
        if "float64" in dtypes.values() and not jax.config.jax_enable_x64:
            off = "float64 is off, wanted jax.config.update('jax_enable_x64', True)"
            raise ValueError(f"{self}: {off}")
        arrays = {key: jax.numpy.array(x, dtype=dtypes[key]) for key, x in inputs.items()}
        floats = {key: x for key, x in arrays.items() if dtypes[key]}
        y, pullback = jax.vjp(lambda floats: self.f(**{**arrays, **floats}), floats)
        is_floats = isinstance(y, jax.Array) and jax.numpy.issubdtype(y.dtype, np.floating)
        self.fits(y, is_floats, cotangent)
        (grads,) = pullback(jax.numpy.array(cotangent, dtype=y.dtype))
        return as_float64(y, "value"), {key: as_float64(grads[key], key) for key in floats}


def _torch() -> Any:
    try:
        import torch  # type: ignore[import-not-found, unused-ignore]
    except ModuleNotFoundError:
        raise ImportError(EXTRA.format("from_torch", "torch")) from None
    return torch


def _jax() -> Any:
    try:
        import jax  # type: ignore[import-not-found, unused-ignore]
    except ModuleNotFoundError:
        raise ImportError(EXTRA.format("from_jax", "jax")) from None
    return jax
