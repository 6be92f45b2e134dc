"""A model around a model: what those have in common whose parameters are another form of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tinylm.autograd import Nest

PASSED_ON = ("context_length", "dropout", "no_past", "target_weight", "vocab_size")
"""What a model tells of itself to those who train, measure and sample."""


@dataclass(frozen=True, eq=False)
class Wrapper:
    """A model that is measured and sampled from as the one inside of it.

    Parameters
    ----------
    model : GPT
        Or any model.
    """

    model: Any

    def inner(self, params: Nest, /) -> Nest:
        """The parameters of the model inside."""
        return params

    def __call__(self, params: Nest, *inputs: Any, **options: Any) -> Any:
        """What the model inside computes of the inputs."""
        return self.model(self.inner(params), *inputs, **options)

    def __getattr__(self, name: str) -> Any:
        if name in PASSED_ON:
            return getattr(self.model, name)
        raise AttributeError(
            f"{type(self).__name__} has no {name!r}: what else the model can do, it does with "
            "inner(params)"
        )
