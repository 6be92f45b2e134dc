"""Training: optimizers, schedules, shards, the trainer, checkpoints."""

from tinylm.training.checkpoint import CheckpointError, load, save
from tinylm.training.optimizers import SGD, AdamW, Optimizer, matrices_only
from tinylm.training.schedules import constant, warmup_cosine
from tinylm.training.trainer import NonFiniteError, Trainer, clip_by_global_norm

__all__ = [
    "SGD",
    "AdamW",
    "CheckpointError",
    "NonFiniteError",
    "Optimizer",
    "Trainer",
    "clip_by_global_norm",
    "constant",
    "load",
    "matrices_only",
    "save",
    "warmup_cosine",
]
