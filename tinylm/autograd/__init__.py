"""The engine: reverse-mode differentiation of plain NumPy code. It knows no language model."""

from tinylm.autograd.derivatives import derivative
from tinylm.autograd.fused import Fused, fused
from tinylm.autograd.names import formulas, kernels_are_off, name, patch, record, within
from tinylm.autograd.recompute import recompute
from tinylm.autograd.rules import Array
from tinylm.autograd.tracing import Tracer, stop_gradient, traceable
from tinylm.autograd.transforms import grad, hvp, jacobian, jvp, value_and_grad
from tinylm.autograd.trees import Nest
from tinylm.autograd.vjp import vjp

__all__ = [
    "Array",
    "Fused",
    "Nest",
    "Tracer",
    "derivative",
    "formulas",
    "fused",
    "grad",
    "hvp",
    "jacobian",
    "jvp",
    "kernels_are_off",
    "name",
    "patch",
    "recompute",
    "record",
    "stop_gradient",
    "traceable",
    "value_and_grad",
    "vjp",
    "within",
]
