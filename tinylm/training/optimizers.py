"""Optimizers: from parameters and gradients to the next parameters.

An optimizer is its settings only. What it remembers, its state, is a nest that is handed in and
out, so that a checkpoint is the parameters and the state.
"""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from tinylm.autograd import Nest, trees
from tinylm.training.schedules import Schedule
from tinylm.workers import ALONE, Workers

PIECE = 1 << 16
"""Numbers that are updated together: few enough to stay in the cache, and worth the calls."""


def everything(path: str, parameter: Any) -> bool:
    """Weight decay on every parameter."""
    return True


def matrices_only(path: str, parameter: Any) -> bool:
    """Weight decay on matrices and tables; not on gains and biases."""
    return bool(parameter.ndim >= 2)


class Optimizer(ABC):
    """Settings of an update rule."""

    lr: float | Schedule
    weight_decay: float
    decayed: Callable[[str, Any], bool]

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            for number in value if isinstance(value, tuple | list) else (value,):
                if isinstance(number, numbers.Real) and not 0 <= float(number) < math.inf:
                    raise ValueError(
                        f"{type(self).__name__}: {field.name}={value!r}: wanted finite, not negative"
                    )

    @abstractmethod
    def init(self, params: Nest) -> dict[str, Nest]:
        """The state before the first update."""

    @abstractmethod
    def move(
        self, step: int, decay: float, now: list[Any], gradient: Any, after: list[Any]
    ) -> None:
        """Write what a parameter and its state become: now (p, *state) -> after, number by number."""

    def update(
        self,
        params: Nest,
        gradients: Nest,
        state: dict[str, Nest],
        step: int,
        workers: Workers = ALONE,
    ) -> tuple[Nest, dict[str, Nest]]:
        """Parameters and state after one update; `step` counts the updates made before it."""
        now = [params, *state.values()]
        after = [trees.map_leaves(lambda x: np.empty(x.shape, x.dtype), nest) for nest in now]
        pieces: list[Any] = []

        def cut(path: str, p: Any, gradient: Any, *both: Any) -> None:
            decay = self.weight_decay if self.decayed(path, p) else 0.0
            flat = [x.reshape(-1) for x in (gradient, p, *both)]
            for i in range(0, p.size, PIECE):
                g, *rest = [x[i : i + PIECE] for x in flat]
                pieces.append((step, decay, rest[: len(now)], g, rest[len(now) :]))

        trees.map_paths(cut, params, gradients, *now[1:], *after)
        workers.map(lambda piece: self.move(*piece), pieces)
        return after[0], dict(zip(state, after[1:], strict=True))

    def rate(self, step: int) -> float:
        """The learning rate of the update after `step` updates."""
        rate = self.lr(step) if callable(self.lr) else self.lr
        if not 0 <= rate < math.inf:
            raise ValueError(f"{type(self).__name__}: the learning rate at step {step} is {rate}")
        return rate


@dataclass(frozen=True)
class SGD(Optimizer):
    r"""Stochastic gradient descent, as `torch.optim.SGD` defines it.

    With g the gradient plus ``weight_decay * p``: ``m = momentum * m + g`` (m starts as the first
    g), and ``p = p - lr * m``, or with Nesterov's momentum ``p = p - lr * (g + momentum * m)``.
    Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning".

    Parameters
    ----------
    lr : float or callable
        Learning rate, or a schedule: the number of updates made -> the rate of the next.
    momentum : float
    nesterov : bool
    weight_decay : float
    decayed : callable
        ``decayed(path, parameter)``: whether weight decay applies.

    Raises
    ------
    ValueError
        If a number is negative or not finite, or nesterov is asked for without momentum.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> sgd = tl.SGD(lr=0.1, momentum=0.9)
    >>> params = {"W": np.array([1.0])}
    >>> params, state = sgd.update(params, {"W": np.array([2.0])}, sgd.init(params), step=0)
    >>> params["W"], state["momentum"]["W"]
    (array([0.8]), array([2.]))
    """

    lr: float | Schedule
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    decayed: Callable[[str, Any], bool] = everything

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise ValueError("SGD: nesterov=True: wanted a momentum above 0")

    def init(self, params: Nest) -> dict[str, Nest]:
        return {"momentum": trees.map_leaves(np.zeros_like, params)} if self.momentum else {}

    def move(
        self, step: int, decay: float, now: list[Any], gradient: Any, after: list[Any]
    ) -> None:
        lr, (p, *state), (p_after, *state_after) = self.rate(step), now, after
        g = gradient + decay * p if decay else gradient
        if state:
            m = np.multiply(state[0], self.momentum, out=state_after[0])
            m += g
            g = g + self.momentum * m if self.nesterov else m
        np.multiply(g, -lr, out=p_after)
        p_after += p


@dataclass(frozen=True)
class AdamW(Optimizer):
    r"""Adam with decoupled weight decay, as `torch.optim.AdamW` defines it.

    ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g^2``, both divided by ``1 - b^t`` at the
    t-th update, and ``p = p - lr (m / (sqrt(v) + eps) + weight_decay p)``: Kingma and Ba 2015,
    algorithm 1; Loshchilov and Hutter 2019, "Decoupled weight decay regularization", algorithm 2.

    Parameters
    ----------
    lr : float or callable
        Learning rate, or a schedule: the number of updates made -> the rate of the next.
    betas : (float, float)
        Both below 1.
    eps : float
    weight_decay : float
    decayed : callable
        ``decayed(path, parameter)``: whether weight decay applies.

    Raises
    ------
    ValueError
        If a number is negative or not finite, or a beta is not below 1.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> adamw = tl.AdamW(lr=0.1, weight_decay=0.0)
    >>> params = {"W": np.array([1.0, 1.0])}
    >>> adamw.update(params, {"W": np.array([3.0, -0.01])}, adamw.init(params), step=0)[0]["W"]
    array([0.9      , 1.0999999])
    """

    lr: float | Schedule
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01
    decayed: Callable[[str, Any], bool] = everything

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.betas) != 2 or max(self.betas) >= 1:
            raise ValueError(f"AdamW: betas={self.betas!r}: wanted two numbers in [0, 1)")

    def init(self, params: Nest) -> dict[str, Nest]:
        return {
            "m": trees.map_leaves(np.zeros_like, params),
            "v": trees.map_leaves(np.zeros_like, params),
        }

    def move(
        self, step: int, decay: float, now: list[Any], gradient: Any, after: list[Any]
    ) -> None:
        lr, (b1, b2), (p, m, v), (p_after, m_after, v_after) = (
            self.rate(step), self.betas, now, after,
        )  # fmt: skip
        unbias_m, unbias_v = 1 / (1 - b1 ** (step + 1)), 1 / (1 - b2 ** (step + 1))
        np.multiply(m, b1, out=m_after)
        term = (1 - b1) * gradient
        m_after += term
        np.multiply(v, b2, out=v_after)
        np.multiply(gradient, gradient, out=term)
        term *= 1 - b2
        v_after += term
        np.multiply(v_after, unbias_v, out=term)
        np.sqrt(term, out=term)
        term += self.eps
        np.divide(m_after, term, out=term)
        term *= lr * unbias_m
        np.multiply(p, 1 - lr * decay, out=p_after)
        p_after -= term
