"""Training: optimizers, schedules, shards, the trainer."""

from tinylm.training.optimizers import SGD, AdamW, Optimizer, matrices_only
from tinylm.training.schedules import warmup_cosine
from tinylm.training.trainer import (
    NonFiniteError,
    Trainer,
    clip_by_global_norm,
    first_not_finite,
)

__all__ = [
    "SGD",
    "AdamW",
    "NonFiniteError",
    "Optimizer",
    "Trainer",
    "clip_by_global_norm",
    "first_not_finite",
    "matrices_only",
    "warmup_cosine",
]
