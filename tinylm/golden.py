"""The golden case of a whole model: a small GPT forward, backward, and one step of AdamW."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tinylm.autograd import Array, Nest, formulas, trees
from tinylm.models import GPT
from tinylm.ops import IGNORED
from tinylm.oracle import Bounded, Rounding, drawing
from tinylm.oracle.cases import NUMBER_FORMATS, Vectors, allowed, cited, described
from tinylm.oracle.reference import reference
from tinylm.training import AdamW

MODEL = GPT(vocab_size=13, context_length=7, d_model=8, num_heads=2, num_layers=2)
OPTIMIZER = AdamW(lr=0.01)
BATCH = (3, 5)

OWN = Rounding(io="f64", accumulate="f64", kinks="convention")
"""How the oracle computes. The worst case of so many operations after another says nothing."""

MODELS = {io: Rounding(io=io, accumulate=io) for io in NUMBER_FORMATS}
"""Whatever an op of the model gives is stored. The update is computed in f32, and stored."""


def vectors(seed: int) -> Vectors:
    """The loss as "value", "logits", "grads", and under "after" the parameters after one step."""
    params = {path: _drawn(path, p.shape, seed) for path, p in trees.paths(_fresh())}
    ids, targets = (
        drawing.below(MODEL.vocab_size, BATCH, seed, f"gpt.{key}") for key in ("ids", "targets")
    )
    targets.flat[1] = IGNORED
    arguments, cotangent = {**params, "ids": ids, "targets": targets}, np.ones(())
    ref = reference(_loss, cotangent=cotangent, **arguments)

    def margins(model: Rounding) -> dict[str, Nest]:
        grads = allowed(_loss, arguments, cotangent, model)
        loss, logits = grads.pop("value"), _margins_of_logits(params, ids, model)
        return _results(loss, logits, grads, _margins_after(params, ref.grads, grads, model))

    logits, after = ref.intermediates["logits"][0], _after(params, ref.grads)
    tensors = {
        **_results(ref.value, logits, ref.grads, after),
        "intermediates": ref.intermediates,
        "error": margins(OWN),
        "allowed": {io: margins(model) for io, model in MODELS.items()},
        "cotangent": cotangent,
        "inputs": {**_nested(params), "ids": ids, "targets": targets},
    }
    optimizer = {key: x for key, x in vars(OPTIMIZER).items() if not callable(x)}
    about = {
        "op": "gpt",
        **cited(GPT),
        "attributes": {"model": dataclasses.asdict(MODEL), "adamw": optimizer},
        "axes": {"ids": "BT", "targets": "BT", "logits": "BTV", "value": ""},
        "models": described({"error": OWN, **MODELS}),
    }
    return Vectors(about, tensors)


def _fresh() -> Nest:
    return MODEL.init(np.random.default_rng(0))


def _nested(params: Mapping[str, Any]) -> Nest:
    """Parameters under their paths as the nest that the model takes."""
    return trees.map_paths(lambda path, _: params[path], _fresh())


def _drawn(path: str, shape: tuple[int, ...], seed: int) -> Any:
    """Numbers that suit a parameter."""
    kind, key = path.rpartition(".")[2], f"gpt.{path}"
    if kind == "gain":
        return drawing.gains(shape, seed, key)
    if kind.startswith("W_"):
        return drawing.weights(shape, seed, key)
    return drawing.numbers(shape, seed, key) / (2 if kind.endswith("embedding") else 4)


def _loss(ids: Any, targets: Any, **params: Any) -> Array:
    return MODEL.loss(_nested(params), ids, targets)


def _results(
    loss: Any, logits: Any, grads: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, Nest]:
    """What others are to compute, or how far it may be off."""
    return {"value": loss, "logits": logits, "grads": _nested(grads), "after": _nested(after)}


def _exactly(params: Mapping[str, Any], model: Rounding) -> dict[str, Bounded]:
    """Numbers without an error, for a kernel of a model."""
    return {path: Bounded(x, 0.0, model) for path, x in params.items()}


def _margins_of_logits(params: Mapping[str, Any], ids: Any, model: Rounding) -> Any:
    with formulas():
        logits = MODEL(_nested(_exactly(params, model)), ids)
    return logits.store(model.io).allowed


def _after(params: Mapping[str, Any], grads: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters after the first update."""
    state = OPTIMIZER.init({path: np.zeros(np.shape(p)) for path, p in params.items()})
    return OPTIMIZER.update(params, grads, state, step=0)[0]  # type: ignore[no-any-return]


def _margins_after(
    params: Mapping[str, Any], grads: Mapping[str, Any], margins: Mapping[str, Any], model: Rounding
) -> dict[str, Any]:
    """How far a parameter may be off after the step, if its gradient is off by so much.

    The first update moves a parameter by about lr times the sign of its gradient, and no first
    order is near that where the gradient may have either sign. But it is monotone: the ends of what
    a gradient may be give those of the parameter. Those of one deviation count as often as
    deviations are allowed, since what is off by all that is possible is so everywhere, and not in a
    few elements. To them comes what the update rounds itself.
    """
    update = model if model.io == "f64" else Rounding(io=model.io, accumulate="f32")
    rounded = _after(_exactly(params, update), _exactly(grads, update))
    middle = _after(params, grads)
    moved = dict.fromkeys(params, 0.0)
    for share in (1, -1, 1 / model.safety, -1 / model.safety):
        end = _after(params, {path: g + share * margins[path] for path, g in grads.items()})
        for path, x in middle.items():
            moved[path] = np.maximum(moved[path], np.abs((end[path] - x) / share))
    return {path: moved[path] + rounded[path].store(model.io).allowed for path in params}
