"""Whole models: sizes in a frozen dataclass, parameters in a nest."""

from tinylm.models.bert import BERT
from tinylm.models.gpt import GPT
from tinylm.models.lora import LoRA

__all__ = ["BERT", "GPT", "LoRA"]
