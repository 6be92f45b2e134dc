"""The table: the vector-Jacobian product of each NumPy and SciPy function.

``derivative(f)(rule)`` says how cotangents go back through ``y = f(*args)``. A rule is a flat
function of the cotangent c of y, of y, and of the arguments; it is plain NumPy itself, so that it
can be differentiated again. The ways to write one:

- elementwise: c times the partial derivative, for each argument;
- linear: the transposed map;
- `Moves`: a function that only moves elements is run on their positions, and each cotangent goes
  back to where its element came from;
- `composed`: the derivative of a composition of functions that are in the table already;
- `expanded`: a composition that stands for the function altogether, its value included.
"""

import numpy as np

from tinylm.autograd.derivatives import discrete, elementwise, products, reductions, shapes
from tinylm.autograd.derivatives.teach import Composed, derivative
from tinylm.autograd.rules import RULES

RULES[np.amax] = RULES[np.max]
RULES[np.amin] = RULES[np.min]
RULES[np.linalg.matrix_transpose] = RULES[np.matrix_transpose]

__all__ = [
    "Composed",
    "derivative",
    "discrete",
    "elementwise",
    "products",
    "reductions",
    "shapes",
]
