"""Early stopping: training goes on for as long as a measure of held-out data gets better."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from tinylm.autograd import Nest
from tinylm.training.trainer import NonFiniteError, Trainer


class Fitted(NamedTuple):
    """The best parameters that training came by.

    Parameters
    ----------
    params : nest
    step : int
        After so many updates.
    value : float
        Their measure.
    history : list of (int, float)
        Updates made, and the measure then.
    """

    params: Nest
    step: int
    value: float
    history: list[tuple[int, float]]


def fit(
    trainer: Trainer,
    batches: Iterable[tuple[Any, Any]],
    measure: Callable[[Nest], float],
    *,
    best: str,
    every: int,
    patience: int,
    until: int,
) -> Fitted:
    """Train until a measure has not become better for a while, and give the best parameters.

    Goodfellow, Bengio and Courville 2016, *Deep Learning*, algorithm 7.1; Prechelt 1998, "Early
    stopping - but when?", compares it with other rules.

    Parameters
    ----------
    trainer : Trainer
        It is left where training stopped, which is later than the best.
    batches : iterable of (ids, targets)
        At least as many as there are updates.
    measure : callable
        ``measure(params)``: of data that are not trained on.
    best : {"lowest", "highest"}
        Which value of the measure is.
    every : int
        It is taken before the first update, and after so many each time.
    patience : int
        So many values in a row that are no better than the best one end the training.
    until : int
        So many updates, from the first of all, end it too, and so does the end of the batches.

    Returns
    -------
    Fitted
        ``.params``, ``.step``, ``.value`` and ``.history``. Of equal values the first is the best.

    Raises
    ------
    ValueError
        If `every` or `patience` is below 1, or `best` is something else.
    NonFiniteError
        If the measure is not a number.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> class Square:
    ...     def loss(self, params, ids, targets):
    ...         return params["a"] ** 2
    >>> trainer = tl.Trainer(Square(), {"a": np.array(1.0)}, tl.SGD(lr=0.25))
    >>> distance = lambda params: abs(params["a"] - 0.2)
    >>> data = [([0], [0])] * 100
    >>> fitted = tl.fit(trainer, data, distance, best="lowest", every=1, patience=2, until=100)
    >>> fitted.params, fitted.step, len(fitted.history), trainer.steps
    ({'a': array(0.25)}, 2, 5, 4)
    """
    if best not in ("lowest", "highest"):
        raise ValueError(f"fit: {best=}: wanted 'lowest' or 'highest'")
    for name, count in (("every", every), ("patience", patience)):
        if count < 1:
            raise ValueError(f"fit: {name}={count}: wanted at least 1")
    sign = 1 if best == "lowest" else -1
    stream = iter(batches)
    fitted: Fitted | None = None
    history: list[tuple[int, float]] = []
    while True:
        value = float(measure(trainer.params))
        if math.isnan(value):
            raise NonFiniteError(f"step {trainer.steps}: the measure is {value}")
        history.append((trainer.steps, value))
        if fitted is None or sign * value < sign * fitted.value:
            fitted = Fitted(trainer.params, trainer.steps, value, history)
        waited = sum(step > fitted.step for step, _ in history)
        if waited >= patience or trainer.steps >= until:
            return fitted
        before = trainer.steps
        try:
            trainer.run(stream, until=min(before + every, until))
        except StopIteration:
            until = trainer.steps
            if until == before:
                return fitted
