"""Training: optimizers, schedules, shards, the trainer, checkpoints."""

from tinylm.training.checkpoint import CheckpointError, load, save
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
    "CheckpointError",
    "NonFiniteError",
    "Optimizer",
    "Trainer",
    "clip_by_global_norm",
    "first_not_finite",
    "load",
    "matrices_only",
    "save",
    "warmup_cosine",
]
