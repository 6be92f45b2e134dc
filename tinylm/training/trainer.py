"""The trainer: loss, gradient, clipping, update, again and again."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tinylm.autograd import Nest, kernels_are_off, record, trees
from tinylm.threads import one_thread
from tinylm.training.flat import Flat
from tinylm.training.memory import reuse_freed_memory
from tinylm.training.optimizers import PIECE, Optimizer
from tinylm.training.processes import Helper
from tinylm.training.ranks import Communicator, all_reduce, check_same
from tinylm.training.rates import PartlyFrozen, factors, joined, split
from tinylm.training.shards import cut, number_of_targets, shard_gradients
from tinylm.workers import Workers


class NonFiniteError(ArithmeticError):
    """A loss or gradient that is not finite; the message names the step and the first tensor."""


class Trainer:
    """A model, its parameters, and how they are changed.

    Parameters
    ----------
    model : object with ``loss(params, ids, targets)``
        If that is another mean than that over the targets that are not -100, it has also
        ``target_weight(targets)``, what its loss divides by: with class weights, their sum.
    params : nest of arrays
        Where training starts. They are never written into.
    optimizer : SGD or AdamW
    clip_norm : float, optional
        Gradients of a larger global norm are scaled down to it.
    shards, threads : int
        A batch is computed in so many parts, so many of them at a time.
    processes : int
        Among so many processes they are shared. A small model is held up by threads, which wait
        for each other between any two NumPy calls, and not by processes.
    rng : numpy.random.Generator, optional
        Draws the dropout; needed by a model that has some.
    rates : dict of str to float, optional
        Factors of the learning rate for the parameters whose path matches a pattern, such as
        ``{"*": 0.1, "head.*": 1.0}``; the last that matches counts. Those of 0 are frozen:
        constants, which have no gradient, and of which nothing is clipped or decays.
    communicator : object with ``rank``, ``size``, ``Sendrecv``, optional
        Such as ``mpi4py.MPI.COMM_WORLD``, of as many ranks as there are shards, or fewer: they are
        shared. Each rank has a trainer of the same arguments, and makes the same steps with the
        same batches. Compared between the ranks are the parameters and the optimizer's state, when
        they are given, and the number of the step and its batch, at every step; the optimizer's
        settings are not. Where all of it is the same, so are the parameters after a step, to the
        bit.

    Raises
    ------
    ValueError
        If a number is not positive, a pattern matches nothing, there is dropout and no generator,
        or ranks without a shard or with other parameters. What else differs between ranks is said
        where it is given.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> model = tl.GPT(vocab_size=3, context_length=4, d_model=8, num_heads=2, num_layers=1)
    >>> trainer = tl.Trainer(model, model.init(np.random.default_rng(0)), tl.SGD(lr=0.5))
    >>> ids = np.array([[0, 1, 2, 0, 1]])
    >>> losses = [trainer.step(ids[:, :-1], ids[:, 1:]) for _ in range(30)]
    >>> losses[0] > 1.0 > 0.1 > losses[-1], trainer.steps
    (True, 30)
    """

    def __init__(
        self,
        model: Any,
        params: Nest,
        optimizer: Optimizer,
        clip_norm: float | None = None,
        shards: int = 1,
        threads: int = 1,
        rng: np.random.Generator | None = None,
        processes: int = 1,
        rates: Mapping[str, float] | None = None,
        communicator: Communicator | None = None,
    ) -> None:
        if clip_norm is not None and not 0 < clip_norm < math.inf:
            raise ValueError(f"Trainer: {clip_norm=}: wanted a number above 0")
        for name, count in (("shards", shards), ("threads", threads), ("processes", processes)):
            if count < 1:
                raise ValueError(f"Trainer: {name}={count}: wanted at least 1")
        if rng is None and getattr(model, "dropout", 0) > 0:
            raise ValueError(f"Trainer: rng=None: a model with dropout={model.dropout} needs one")
        if communicator is not None:
            if shards < communicator.size:
                raise ValueError(
                    f"Trainer: {shards=} for {communicator.size} ranks: wanted one for each"
                )
            check_same(communicator, "the parameters", params)
        reuse_freed_memory()
        self.communicator = communicator
        self.model = model
        self.optimizer = optimizer
        self._factors = factors(rates or {}, params)
        trained, constants = split(self._factors, params)
        factor = dict(trees.paths(self._factors))
        self._flat = Flat(trained, lambda path, p: (optimizer.decayed(path, p), factor[path]))
        groups = self._flat.groups
        self._params = self._flat.packed(trained)
        self._state = optimizer.init(self._params)
        self._update = functools.partial(
            dataclasses.replace(optimizer, decayed=lambda key, p: groups[key][0]).update,  # type: ignore[type-var]
            factor=lambda key: groups[key][1],
        )
        self.steps = 0
        self.clip_norm = clip_norm
        self.shards = shards
        self.threads = threads
        self._workers = Workers(threads)
        self.processes = processes
        self._begin(constants)
        self.rng = rng if getattr(model, "dropout", 0) > 0 else None

    @property
    def params(self) -> Nest:
        """The parameters after the last update."""
        return joined(self._flat.unpacked(self._params), self._constants)

    @params.setter
    def params(self, params: Nest) -> None:
        if self.communicator is not None:
            check_same(self.communicator, "the parameters", params)
        trained, constants = split(self._factors, params)
        self._params = self._flat.packed(trained)
        if trees.leaves(constants):
            self._begin(constants)

    def _begin(self, constants: Nest) -> None:
        """Fix what is not trained: it is a part of the model, also in the other processes."""
        self._constants = constants = trees.map_leaves(np.array, constants)
        frozen = bool(trees.leaves(constants))
        self._learner = PartlyFrozen(self.model, constants) if frozen else self.model
        ranks = 1 if self.communicator is None else self.communicator.size
        helpers = min(self.processes, math.ceil(self.shards / ranks)) - 1
        self._helpers = [Helper(self._learner, self._flat) for _ in range(helpers)]

    @property
    def optimizer_state(self) -> dict[str, Nest]:
        """What the optimizer remembers: nests like that of the parameters, 0 of those frozen."""
        nothing = trees.map_leaves(np.zeros_like, self._constants)
        return {
            name: joined(self._flat.unpacked(packed), nothing)
            for name, packed in self._state.items()
        }

    @optimizer_state.setter
    def optimizer_state(self, state: dict[str, Nest]) -> None:
        if self.communicator is not None:
            check_same(self.communicator, "the optimizer's states", state)
        self._state = {
            name: self._flat.packed(split(self._factors, nest)[0]) for name, nest in state.items()
        }

    def step(self, ids: Any, targets: Any) -> float:
        """Make one update.

        Parameters
        ----------
        ids, targets : ndarray of int, shape (B, ...), or dict or tuple of such
            What the model's loss takes; one B for all of them.

        Returns
        -------
        float
            The mean loss before the update, in nats a token.

        Raises
        ------
        ValueError
            If the arrays differ in B, or no target counts.
        NonFiniteError
            If the loss or a gradient is not finite. Nothing has been updated then.
        """
        before = None if self.rng is None else self.rng.bit_generator.state
        together = self.threads > 1 or self._helpers
        with np.errstate(all="ignore"), one_thread() if together else contextlib.nullcontext():
            loss, gradients = self._loss_and_gradients(ids, targets)
            norm = global_norm(gradients)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._rewind(before)
            blame = self._blame(ids, targets, loss, self._flat.unpacked(gradients))
            self._rewind(before)
            raise NonFiniteError(f"step {self.steps}: {blame}")
        gradients = clip_by_global_norm(gradients, self.clip_norm, norm)
        params, state = self._update(
            self._params, gradients, self._state, self.steps, self._workers
        )
        self._params, self._state, self.steps = params, state, self.steps + 1
        return float(loss)

    def run(
        self,
        batches: Iterable[tuple[Any, Any]],
        until: int,
        after_step: Callable[[float], None] = lambda loss: None,
    ) -> None:
        """Make updates until there are `until` of them, and report the loss after each.

        Parameters
        ----------
        batches : iterable of (ids, targets)
        until : int
            Counted from the first step of all, not from this call.
        after_step : callable
            Called with the loss of each step.
        """
        stream = iter(batches)
        while self.steps < until:
            after_step(self.step(*next(stream)))

    def _loss_and_gradients(self, ids: Any, targets: Any) -> tuple[Any, dict[str, Any]]:
        ranks = self.communicator
        if ranks is not None:
            check_same(ranks, "the steps or the batches", (self.steps, ids, targets))
        weight = getattr(self.model, "target_weight", number_of_targets)
        shards = cut(ids, targets, self.shards, self.rng, weight)
        if ranks is not None:  # a batch may have fewer than there are ranks
            nothing = [dataclasses.replace(shards[0], share=0.0)]
            shards = shards[ranks.rank :: ranks.size] or nothing
        # other processes know nothing of this one's contexts
        helpers = [] if kernels_are_off() else self._helpers[: len(shards) - 1]
        mine, *theirs = [shards[i :: len(helpers) + 1] for i in range(len(helpers) + 1)]
        for helper, part in zip(helpers, theirs, strict=True):
            helper.begin(self._params, part)
        loss, nests = shard_gradients(
            self._learner, self._flat.unpacked(self._params), mine, self._workers
        )
        gradients = self._flat.packed(*nests)
        for helper in helpers:
            more_loss, more = helper.end()
            loss = loss + more_loss
            for key in gradients:
                gradients[key] += more[key]
        if ranks is not None:
            total = np.array([loss], np.float64)
            for summed in (total, *gradients.values()):
                all_reduce(ranks, summed)
            (loss,) = total
        return loss, gradients

    def _rewind(self, generator_state: Any) -> None:
        if self.rng is not None:
            self.rng.bit_generator.state = generator_state

    def _blame(self, ids: Any, targets: Any, loss: Any, gradients: Nest) -> str:
        """What was not finite: the first named intermediate, else the first gradient."""
        what = f"the loss is {loss}" if not math.isfinite(loss) else "a gradient is not finite"
        for path, parameter in trees.paths(self.params):
            if not np.isfinite(parameter).all():
                return f"{what}; the parameter {path} was not finite before"
        first = first_not_finite(lambda: self._loss_and_gradients(ids, targets))
        if first:
            return f"{what}; {first}"
        for path, gradient in trees.paths(gradients):
            if not np.isfinite(gradient).all():
                return f"{what}; the first gradient that is not finite is that of {path}"
        return "the gradients are finite, and their norm is not"


def first_not_finite(compute: Callable[[], Any]) -> str:
    """The first named intermediate of a computation that is not finite, as words; or nothing."""
    first: list[str] = []

    def watch(label: str, value: Any) -> None:
        if not first and not np.isfinite(value).all():
            number = len(seen[label])
            first.append(
                f"the first intermediate that is not finite is {label!r}, number {number} of that "
                "name"
            )

    with np.errstate(all="ignore"), record(watch) as seen:
        compute()
    return "".join(first)


def global_norm(nest: Nest) -> float:
    """Euclidean norm of all elements together."""
    return math.sqrt(sum(_sum_of_squares(x.reshape(-1)) for x in trees.leaves(nest)))


def _sum_of_squares(x: Any) -> float:
    """In pieces, whose sums are float64; all in float64 if squares are out of the dtype's range."""
    with np.errstate(over="ignore", under="ignore"):
        total = math.fsum(float(np.dot(y, y)) for y in np.split(x, range(PIECE, x.size, PIECE)))
    if 1e-20 < total < math.inf:
        return total
    return float(np.sum(np.square(x, dtype=np.float64)))


def clip_by_global_norm(gradients: Nest, limit: float | None, norm: float | None = None) -> Nest:
    """Gradients scaled down, all alike, to a global norm of at most `limit`.

    Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural networks",
    algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm.training import clip_by_global_norm
    >>> clip_by_global_norm({"W": np.array([3.0, 4.0])}, limit=1.0)
    {'W': array([0.6, 0.8])}
    """
    norm = global_norm(gradients) if norm is None else norm
    if limit is None or norm <= limit:
        return gradients
    return trees.map_leaves(lambda g: g * (limit / norm), gradients)
