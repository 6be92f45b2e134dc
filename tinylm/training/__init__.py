"""Training: optimizers, schedules, shards, the trainer."""

from tinylm.training.class_weights import balanced_weights
from tinylm.training.early_stopping import Fitted, fit
from tinylm.training.optimizers import SGD, AdamW, Optimizer, matrices_only
from tinylm.training.schedules import warmup_cosine
from tinylm.training.trainer import (
    NonFiniteError,
    Trainer,
    clip_by_global_norm,
    first_not_finite,
)
from tinylm.training.transfer import Transferred, transfer

__all__ = [
    "SGD",
    "AdamW",
    "Fitted",
    "NonFiniteError",
    "Optimizer",
    "Trainer",
    "Transferred",
    "balanced_weights",
    "clip_by_global_norm",
    "first_not_finite",
    "fit",
    "matrices_only",
    "transfer",
    "warmup_cosine",
]
