"""The gradient oracle: what a gradient is, how exactly that is known, and what a kernel may miss.

Examples
--------
>>> import numpy as np, tinylm as tl
>>> x, cotangent = np.array([0.0, np.log(3.0)]), np.array([1.0, 0.0])
>>> ref = tl.oracle.reference("softmax", x=x, cotangent=cotangent)
>>> ref.value, ref.grads["x"]
(array([0.25, 0.75]), array([ 0.1875, -0.1875]))
>>> bool(np.max(ref.error["x"]) < 1e-15)
True
"""

from tinylm.oracle import rounding_rules, strategies
from tinylm.oracle.adapters import from_jax, from_torch
from tinylm.oracle.check import check
from tinylm.oracle.check_grads import GradientError, check_grads
from tinylm.oracle.compare import compare
from tinylm.oracle.digits import Digits
from tinylm.oracle.formats import FORMATS, Format
from tinylm.oracle.reference import Reference, reference
from tinylm.oracle.report import GradientMismatch, Report
from tinylm.oracle.rounding import Bounded, Rounding
from tinylm.oracle.search import Failure, find_failure
from tinylm.oracle.vectors import export, verify

__all__ = [
    "FORMATS",
    "Bounded",
    "Digits",
    "Failure",
    "Format",
    "GradientError",
    "GradientMismatch",
    "Reference",
    "Report",
    "Rounding",
    "check",
    "check_grads",
    "compare",
    "export",
    "find_failure",
    "from_jax",
    "from_torch",
    "reference",
    "rounding_rules",
    "strategies",
    "verify",
]
