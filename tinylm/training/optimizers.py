"""Optimizers: from parameters and gradients to the next parameters.

An optimizer is its settings only. What it remembers, its state, is a nest that is handed in and
out, so that a checkpoint is the parameters and the state.
"""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
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
    def formula(self, step: int, decay: float, g: Any, p: Any, *state: Any) -> tuple[Any, ...]:
        """What a parameter p and its state become, given its gradient g."""

    @abstractmethod
    def kernel(self, step: int, decay: float, g: Any, now: list[Any], after: list[Any]) -> None:
        """The same, written into arrays: ``now``, p and its state, into ``after``."""

    def update(
        self,
        params: Nest,
        gradients: Nest,
        state: dict[str, Nest],
        step: int,
        workers: Workers = ALONE,
        factor: Callable[[str], float] = lambda path: 1.0,
    ) -> tuple[Nest, dict[str, Nest]]:
        """Parameters and state after one update; `step` counts the updates made before it.

        ``factor(path)``: of the learning rate, for one parameter.
        """
        updated: list[Any] = []
        pieces: list[Any] = []

        def begin(path: str, p: Any, g: Any, *others: Any) -> int:
            decay, now = self.weight_decay if self.decayed(path, p) else 0.0, [p, *others]
            rule = self.scaled(factor(path))
            if all(type(x) is np.ndarray and x.dtype.kind == "f" for x in (g, *now)):
                after = [np.empty(x.shape, x.dtype) for x in now]
                flat, count = [x.reshape(-1) for x in (g, *now, *after)], 1 + len(now)
                for i in range(0, p.size, PIECE):
                    cut = [x[i : i + PIECE] for x in flat]
                    pieces.append((rule, step, decay, cut[0], cut[1:count], cut[count:]))
                updated.append(after)
            else:  # of another arithmetic
                updated.append(rule.formula(step, decay, g, *now))
            return len(updated) - 1

        places = trees.map_paths(begin, params, gradients, *state.values())
        workers.map(lambda piece: piece[0].kernel(*piece[1:]), pieces)
        first, *others = (
            trees.map_leaves(lambda place, i=i: updated[place][i], places)
            for i in range(1 + len(state))
        )
        return first, dict(zip(state, others, strict=True))

    def scaled(self, factor: float) -> Optimizer:
        """The same rule with another learning rate, so many times as large."""
        if factor == 1:
            return self
        return replace(self, lr=lambda step: factor * self.rate(step))  # type: ignore[type-var]

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

    def formula(self, step: int, decay: float, g: Any, p: Any, *state: Any) -> tuple[Any, ...]:
        lr = self.rate(step)
        g = g + decay * p if decay else g
        if not state:
            return (p - lr * g,)
        m = self.momentum * state[0] + g
        return p - lr * (g + self.momentum * m if self.nesterov else m), m

    def kernel(self, step: int, decay: float, g: Any, now: list[Any], after: list[Any]) -> None:
        g = g + decay * now[0] if decay else g
        if len(now) > 1:
            m = np.multiply(now[1], self.momentum, out=after[1])
            m += g
            g = g + self.momentum * m if self.nesterov else m
        np.multiply(g, -self.rate(step), out=after[0])
        after[0] += now[0]


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

    def formula(self, step: int, decay: float, g: Any, p: Any, *state: Any) -> tuple[Any, ...]:
        lr, (b1, b2), (m, v) = self.rate(step), self.betas, state
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * (g * g)
        unbias_m, unbias_v = 1 / (1 - b1 ** (step + 1)), 1 / (1 - b2 ** (step + 1))
        adam = unbias_m * m / (np.sqrt(unbias_v * v) + self.eps)
        return p - lr * (adam + decay * p), m, v

    def kernel(self, step: int, decay: float, g: Any, now: list[Any], after: list[Any]) -> None:
        lr, (b1, b2) = self.rate(step), self.betas
        (p, m, v), (p_after, m_after, v_after) = now, after
        np.multiply(m, b1, out=m_after)
        term = (1 - b1) * g
        m_after += term
        np.multiply(v, b2, out=v_after)
        np.multiply(g, g, out=term)
        term *= 1 - b2
        v_after += term
        np.multiply(v_after, 1 / (1 - b2 ** (step + 1)), out=term)
        np.sqrt(term, out=term)
        term += self.eps
        np.divide(m_after, term, out=term)
        term *= lr / (1 - b1 ** (step + 1))
        np.multiply(p, 1 - lr * decay, out=p_after)
        p_after -= term
