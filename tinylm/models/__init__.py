"""Whole models: sizes in a frozen dataclass, parameters in a nest."""

from tinylm.models.gpt import GPT
from tinylm.models.lora import LoRA

__all__ = ["GPT", "LoRA"]
