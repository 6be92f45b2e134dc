"""LoRA: a trained model, and what is learned on top of it as products of two thin matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from tinylm.autograd import Array, Nest, trees
from tinylm.models.wrapper import Wrapper
from tinylm.nn.initializers import normal


@dataclass(frozen=True, eq=False)
class LoRA(Wrapper):
    r"""A model whose matrices are those of a trained one plus updates of low rank.

    ``h = x W + (alpha / r) x A B``: Hu et al. 2022, "LoRA: Low-rank adaptation of large language
    models", section 4.1, eq. (3); its B and A are ours transposed, since here x stands on the left.
    Only A and B are parameters. It is a model as the one below it: trained, measured and sampled
    from in the same way. Every call adds the products to the matrices, which while sampling is once
    a token: sample with the `merged` parameters.

    Parameters
    ----------
    model : GPT
        Or any model.
    params : nest
        Its parameters, which stay as they are.
    rank : int
        r.
    alpha : float, optional
        The rank if not given.
    targets : sequence of str
        Patterns (those of `fnmatch`) of the paths of the matrices that are adapted; the default is
        that of section 4.2, the projections of queries and values.

    Raises
    ------
    ValueError
        If a pattern matches nothing or what is no matrix, or a number is not possible.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> model = tl.GPT(vocab_size=9, context_length=8, d_model=16, num_heads=2, num_layers=1)
    >>> params = model.init(np.random.default_rng(0))
    >>> lora = tl.LoRA(model, params, rank=2)
    >>> adapters = lora.init(np.random.default_rng(1))
    >>> {name: (x["A"].shape, x["B"].shape) for name, x in adapters.items()}
    {'blocks/0/attention/W_Q': ((16, 2), (2, 16)), 'blocks/0/attention/W_V': ((16, 2), (2, 16))}
    >>> ids = np.array([[1, 2, 3]])
    >>> np.array_equal(lora(adapters, ids), model(params, ids))  # B is still 0
    True
    """

    params: Nest
    rank: int
    alpha: float | None = None
    targets: tuple[str, ...] = ("*.W_Q", "*.W_V")

    def __post_init__(self) -> None:
        if self.alpha is not None and not 0 < self.alpha < math.inf:
            raise ValueError(f"LoRA: alpha={self.alpha}: wanted a number above 0")
        paths = [path for path, _ in trees.paths(self.params)]
        for pattern in self.targets:
            if not any(fnmatchcase(path, pattern) for path in paths):
                raise ValueError(f"LoRA: target {pattern!r} matches no parameter: they are {paths}")
        if not self.targets:
            raise ValueError("LoRA: targets is empty: wanted a pattern")
        for path, W in self._adapted():
            if np.ndim(W) != 2 or not 1 <= self.rank <= min(W.shape):
                raise ValueError(
                    f"LoRA: rank={self.rank} for {path} of shape {np.shape(W)}: wanted a matrix, "
                    "and a rank from 1 to its shorter side"
                )

    def init(self, rng: np.random.Generator) -> dict[str, Any]:
        """Fresh adapters: A normal with variance 1/in, so that x A has the size of x; B zero.

        Parameters
        ----------
        rng : numpy.random.Generator

        Returns
        -------
        dict
            For each adapted matrix, by its path with / for a dot, "A", shape (in, r), and "B",
            shape (r, out), of its dtype.
        """
        r = self.rank
        return {
            path.replace(".", "/"): {
                "A": normal(rng, W.shape[0], r, std=W.shape[0] ** -0.5, dtype=W.dtype),
                "B": np.zeros((r, W.shape[1]), W.dtype),
            }
            for path, W in self._adapted()
        }

    def merged(self, adapters: Nest) -> Nest:
        """Parameters of the model below: ``W + (alpha / r) A B`` where there is an adapter.

        They need no adapters any more, and cost no more than the model did: section 4.1, "no
        additional inference latency".

        Parameters
        ----------
        adapters : dict

        Returns
        -------
        nest
            Like `params`.

        Raises
        ------
        ValueError
            If they are not the adapters of these targets.
        """
        wanted = {path.replace(".", "/") for path, _ in self._adapted()}
        if adapters.keys() != wanted:
            raise ValueError(f"LoRA: adapters of {list(adapters)}: wanted {sorted(wanted)}")
        scale = float(self.rank if self.alpha is None else self.alpha) / self.rank

        def adapted(path: str, W: Any) -> Array:
            adapter = adapters.get(path.replace(".", "/"))
            return W if adapter is None else W + scale * (adapter["A"] @ adapter["B"])

        return trees.map_paths(adapted, self.params)

    inner = merged
    """The parameters of the model inside: the merged ones."""

    def loss(self, adapters: Nest, *batch: Any, **options: Any) -> Any:
        """The model's loss, with the merged parameters."""
        return self.model.loss(self.merged(adapters), *batch, **options)

    def _adapted(self) -> list[tuple[str, Any]]:
        """Paths and matrices that match a target."""
        return [
            (path, W)
            for path, W in trees.paths(self.params)
            if any(fnmatchcase(path, pattern) for pattern in self.targets)
        ]
