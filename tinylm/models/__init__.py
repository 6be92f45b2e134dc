"""Whole models: sizes in a frozen dataclass, parameters in a nest."""

from tinylm.models.bert import BERT
from tinylm.models.bert_pretraining import BERTPretraining
from tinylm.models.gpt import GPT
from tinylm.models.lora import LoRA
from tinylm.models.transformer import Transformer

__all__ = ["BERT", "GPT", "BERTPretraining", "LoRA", "Transformer"]
