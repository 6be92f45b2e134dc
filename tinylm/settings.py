"""Settings: what a run is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tinylm.models import GPT
from tinylm.training import SGD, AdamW, Optimizer, matrices_only, warmup_cosine

PRESETS: dict[str, dict[str, Any]] = {
    "laptop": {
        "data": "tinyshakespeare", "layers": 4, "heads": 4, "d_model": 128, "context": 64,
        "batch": 12, "steps": 1300,
    },
    "hour": {
        "data": "tinyshakespeare", "layers": 6, "heads": 6, "d_model": 192, "context": 256,
        "norm": "rms", "no_bias": True, "dropout": 0.15, "batch": 16, "steps": 3900, "lr": 0.002,
    },
}  # fmt: skip
"""What `train --preset` stands for: docs/recipes.md has what they reach."""


@dataclass
class Settings:
    """What a run was asked to do; with the corpus, this and the seed determine it."""

    data: str = "python-docs"
    validation: float = 0.1
    clean: bool = False
    tokenizer: str = "char"
    vocab_size: int = 2000
    layers: int = 3
    heads: int = 4
    d_model: int = 64
    context: int = 128
    positions: str = "rotary"
    activation: str = "gelu_tanh"
    norm: str = "layer"
    post_norm: bool = False
    untied: bool = False
    no_bias: bool = False
    dropout: float = 0.0
    recompute: bool = False
    batch: int = 6
    steps: int = 2000
    optimizer: str = "adamw"
    lr: float | None = None
    final_lr: float | None = None
    warmup: int = 100
    beta1: float = 0.9
    beta2: float = 0.99
    momentum: float = 0.9
    weight_decay: float = 0.1
    clip: float = 1.0
    shards: int = 2
    threads: int = 1
    processes: int = 2
    evaluate_every: int = 0
    save_every: int = 0
    seed: int = 0

    def intervals(self) -> tuple[int, int]:
        """Steps between two evaluations, and between two saves.

        What is not given: a tenth of all, and as often as it evaluates.
        """
        evaluate = self.evaluate_every or -(-self.steps // 10)
        return evaluate, self.save_every or evaluate

    def rates(self) -> tuple[float, float]:
        """Peak and final learning rate.

        What is not given: for AdamW a peak that falls with the width, for SGD one for a momentum
        of 0.9, and a hundredth of the peak at the end; all tuned, see docs/recipes.md.
        """
        usual = 0.64 / self.d_model if self.optimizer == "adamw" else 0.3
        peak = usual if self.lr is None else self.lr
        return peak, peak / 100 if self.final_lr is None else self.final_lr

    def model(self, vocab_size: int) -> GPT:
        """The model of these sizes."""
        return GPT(
            vocab_size=vocab_size,
            context_length=self.context,
            d_model=self.d_model,
            num_heads=self.heads,
            num_layers=self.layers,
            positions=self.positions,
            activation=self.activation,
            norm=self.norm,
            pre_norm=not self.post_norm,
            tied=not self.untied,
            bias=not self.no_bias,
            dropout=self.dropout,
            recompute=self.recompute,
        )

    def build_optimizer(self) -> Optimizer:
        """The optimizer, with its schedule: weight decay on matrices only."""
        rate = warmup_cosine(*self.rates(), self.warmup, self.steps)
        if self.optimizer == "sgd":
            return SGD(rate, self.momentum, weight_decay=self.weight_decay, decayed=matrices_only)
        betas = (self.beta1, self.beta2)
        return AdamW(rate, betas, weight_decay=self.weight_decay, decayed=matrices_only)
