"""Whole models: sizes in a frozen dataclass, parameters in a nest."""

from tinylm.models.gpt import GPT

__all__ = ["GPT"]
