"""Distillation: a small model that learns what a large one believes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.autograd import Array, Nest, stop_gradient
from tinylm.models.wrapper import Wrapper
from tinylm.ops import IGNORED, cross_entropy, log_softmax


def distillation(
    logits: Array, teacher_logits: Array, temperature: float = 1.0, counted: Any = None
) -> Array:
    r"""How far a student is from its teacher, both softened: ``T^2 KL(p_teacher || p_student)``.

    ``p = softmax(logits / T)``, and the mean over positions: Hinton, Vinyals and Dean 2015,
    "Distilling the knowledge in a neural network", section 2, where the factor T^2 keeps the
    gradients as large as those of the data when T changes. The paper's cross-entropy with the
    soft targets is this divergence plus the entropy of the teacher, which no student changes. The
    gradient of a position's logits is ``T (p_student - p_teacher)`` over the number of positions:
    section 2.1, eq. (2), times T^2.

    Parameters
    ----------
    logits, teacher_logits : ndarray, shape (..., V)
        What the teacher masks with -inf counts nothing, whatever the student says of it: 0 log 0 is
        0. What only the student masks makes the divergence infinite.
    temperature : float
        T: at 1 the distributions themselves, above it softer ones.
    counted : ndarray of bool, shape (...), optional
        The positions that count; all if not given. What the others hold does not matter.

    Returns
    -------
    ndarray, shape ()
        In nats; 0 where both say the same.

    Raises
    ------
    ValueError
        If the shapes differ, the temperature is not above 0, no position counts, or the teacher
        holds nan or inf, or masks all of a position.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> student, teacher = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
    >>> round(float(tl.compress.distillation(student, teacher)), 6)  # log(1/2)/4 + 3 log(3/2)/4
    0.130812
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"distillation: {temperature=}: wanted a number above 0")
    shape, wanted = np.shape(teacher_logits), np.shape(logits)
    if not wanted or shape != wanted:
        raise ValueError(
            f"distillation: teacher_logits has shape {shape}, and logits has {wanted}: wanted the "
            "same (..., V)"
        )
    counted = np.ones(wanted[:-1], bool) if counted is None else np.asarray(counted)
    if counted.dtype != bool or counted.shape != wanted[:-1]:
        raise ValueError(
            f"distillation: counted holds {counted.dtype} in the shape {counted.shape}: wanted "
            f"booleans, {wanted[:-1]}"
        )
    total = int(np.count_nonzero(counted))
    if not total:
        raise ValueError("distillation: no position counts, and there is no mean of nothing")
    teacher_logits, logits = (
        np.where(counted[..., None], x, 0) for x in (teacher_logits, logits)
    )  # 0 where nothing counts: both say the same there
    largest = np.max(np.real(stop_gradient(teacher_logits)), axis=-1, initial=-np.inf)
    wrong = largest[~np.isfinite(largest)]
    if wrong.size:
        raise ValueError(
            f"distillation: the largest of a position's teacher_logits is {wrong[0]}: wanted a "
            "finite number"
        )
    T = float(temperature)
    log_p, log_q = log_softmax(teacher_logits / T), log_softmax(logits / T)
    p = np.exp(log_p)
    # before the difference, since the derivative of an infinite one is nan where it is not taken
    log_p, log_q = (np.where(p == 0, 0, x) for x in (log_p, log_q))
    return T**2 * np.sum(p * (log_p - log_q)) / total


@dataclass(frozen=True, eq=False)
class Distilled(Wrapper):
    r"""A student whose loss is a teacher's as well as the data's.

    ``weight * T^2 KL(p_teacher || p_student) + (1 - weight) * cross_entropy``: Hinton et al. 2015,
    section 2. It is trained, measured and sampled from as the student is, with the student's
    parameters; the teacher's stay as they are. The teacher computes its logits at every step: a
    step takes as long as one of the student and a reading of the teacher.

    Parameters
    ----------
    model : GPT
        The student, or any model with ``model(params, ids, rng) -> logits``.
    teacher : GPT
        Of the same vocabulary.
    teacher_params : nest
    temperature : float
        T.
    weight : float
        How much the teacher counts, from 0 (nothing but the data) to 1 (nothing but the teacher).

    Raises
    ------
    ValueError
        If the temperature is not above 0, the weight not from 0 to 1, or the vocabularies differ.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> teacher = tl.GPT(vocab_size=3, context_length=4, d_model=16, num_heads=2, num_layers=2)
    >>> student = tl.GPT(vocab_size=3, context_length=4, d_model=8, num_heads=2, num_layers=1)
    >>> rng, ids = np.random.default_rng(0), np.array([[0, 1, 2, 0, 1]])
    >>> distilled = tl.compress.Distilled(student, teacher, teacher.init(rng))
    >>> trainer = tl.Trainer(distilled, student.init(rng), tl.SGD(lr=0.5))
    >>> losses = [trainer.step(ids[:, :-1], ids[:, 1:]) for _ in range(20)]
    >>> losses[-1] < losses[0]
    True
    """

    teacher: Any
    teacher_params: Nest
    temperature: float = 2.0
    weight: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"Distilled: temperature={self.temperature}: wanted a number above 0")
        if not 0 <= self.weight <= 1:
            raise ValueError(f"Distilled: weight={self.weight}: wanted a number from 0 to 1")
        mine, its = (getattr(model, "vocab_size", None) for model in (self.model, self.teacher))
        if mine != its:
            raise ValueError(
                f"Distilled: the teacher has vocab_size={its}, and the student {mine}: wanted one"
            )

    def loss(
        self, params: Nest, ids: Any, targets: Any, rng: np.random.Generator | None = None
    ) -> Array:
        """The mixture, over the targets that are not -100.

        Parameters
        ----------
        params : nest
            The student's.
        ids, targets : ndarray of int, shape (..., T)
        rng : numpy.random.Generator, optional
            Draws the student's dropout; the teacher has none.

        Returns
        -------
        ndarray, shape ()
        """
        logits = self.model(params, ids, rng)
        soft = distillation(
            logits,
            self.teacher(self.teacher_params, ids),
            self.temperature,
            np.not_equal(targets, IGNORED),
        )
        return self.weight * soft + (1 - self.weight) * cross_entropy(logits, targets)
