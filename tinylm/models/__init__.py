"""Whole models: sizes in a frozen dataclass, parameters in a nest."""

from tinylm.models.bert import BERT
from tinylm.models.gpt import GPT
from tinylm.models.lora import LoRA
from tinylm.models.transformer import Transformer

__all__ = ["BERT", "GPT", "LoRA", "Transformer"]
