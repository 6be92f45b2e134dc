"""What a run tells of itself: who attends to whom, what each layer would say, what each input gave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinylm.autograd import Array, Nest, grad
from tinylm.autograd.names import editing, watching
from tinylm.interpret.contexts import edit, observe


def attention_patterns(model: Any, params: Nest, *inputs: Any, **options: Any) -> dict[str, Any]:
    """The weights of every attention: how much each query takes from each key.

    ``softmax(Q K^T / sqrt(d_k))``: Vaswani et al. 2017, eq. (1).

    Parameters
    ----------
    model : GPT, BERT, Transformer
        Or any that is made of the same attention.
    params : nest
    *inputs, **options
        As in a call of the model.

    Returns
    -------
    dict of str to ndarray, shape (..., H, T, S)
        By the path of the attention's parameters, from the first layer on. Rows sum to 1, or are 0
        where there is nothing to attend to.

    Raises
    ------
    ValueError
        If two attentions have one path: see `within`.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> model = tl.Transformer(9, 8, d_model=8, num_heads=2, num_encoder_layers=1, num_decoder_layers=1)
    >>> params = model.init(np.random.default_rng(0))
    >>> patterns = tl.interpret.attention_patterns(model, params, [1, 2, 3], [4, 5])
    >>> list(patterns)[1:]
    ['decoder.blocks.0.attention', 'decoder.blocks.0.cross_attention']
    >>> patterns["decoder.blocks.0.cross_attention"].shape
    (2, 2, 3)
    """
    weights = "attention.weights"
    seen = _seen_once("attention_patterns", weights, lambda: model(params, *inputs, **options))
    return {
        path.removesuffix(".weights"): pattern
        for path, pattern in seen.items()
        if path.endswith(weights)
    }


def _seen_once(who: str, once: str, f: Callable[[], Any]) -> dict[str, Any]:
    """What `observe` would show of f, where no path that ends so may come twice."""
    seen: dict[str, Any] = {}

    def note(path: str, label: str, value: Any) -> None:
        if path in seen and path.endswith(once):
            raise ValueError(
                f"{who}: {path!r} is computed twice: wanted a path for each layer, as "
                'tl.interpret.within("blocks.0") gives it to what is computed in that context'
            )
        seen[path] = value

    with watching(note):
        f()
    return seen


def logit_lens(model: Any, params: Nest, *inputs: Any, **options: Any) -> Any:
    """What the model would answer if each layer were its last.

    The residual stream after each layer is given to what follows the last one: the final norm and
    the unembedding. nostalgebraist 2020, "interpreting GPT: the logit lens" (LessWrong).

    Parameters
    ----------
    model, params, *inputs, **options
        As in `attention_patterns`.

    Returns
    -------
    ndarray, shape (num_layers + 1, ...)
        Logits: first those of the embeddings, last those of the model. Of a Transformer they are
        those of its decoder.

    Raises
    ------
    ValueError
        If the model has no residual stream, or computes no logits, or two layers have one path:
        see `within`.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> model = tl.GPT(vocab_size=9, context_length=8, d_model=8, num_heads=2, num_layers=3)
    >>> params = model.init(np.random.default_rng(0))
    >>> lens = tl.interpret.logit_lens(model, params, [1, 2, 5, 4])
    >>> lens.shape, np.allclose(lens[-1], model(params, [1, 2, 5, 4]), atol=1e-6)
    ((4, 4, 9), True)
    """

    def run() -> Any:
        return model(params, *inputs, **options)

    seen = _seen_once("logit_lens", "residual", run)
    streams = [path for path in seen if path.split(".")[-1] == "residual"]
    if not streams or "logits" not in seen:
        raise ValueError(
            "logit_lens: wanted a model with a residual stream and logits, and this one computed "
            f"{list(seen)}"
        )
    last = streams[-1]
    stack = last.removesuffix("residual").partition("blocks.")[0]
    layers = np.stack([seen[path] for path in streams if path.startswith(stack)])
    with editing(lambda path, x: layers if path == last else x), observe() as seen:
        run()
    return seen["logits"]


def gradient_times_input(f: Callable[[], Any], path: str = "embedding") -> Any:
    """What each element of an intermediate gave to a number, to first order: ``x * df/dx``.

    Shrikumar, Greenside and Kundaje 2017, "Learning important features through propagating
    activation differences", section 2.2. Where f is linear in it, the elements sum to f; summed
    over the features it is what each token gave.

    Parameters
    ----------
    f : callable
        Without arguments, returns one real number, and computes the intermediate once.
    path : str
        Of the intermediate.

    Returns
    -------
    ndarray
        Of the shape of the intermediate.

    Raises
    ------
    ValueError
        If f does not compute the intermediate once.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> x, w = np.array([1.0, 2.0]), np.array([5.0, -3.0])
    >>> tl.interpret.gradient_times_input(lambda: tl.name(x, "x") @ w, "x")
    array([ 5., -6.])
    """
    values: list[Any] = []
    others: dict[str, None] = {}

    def note(at: str, label: str, value: Any) -> None:
        others[at] = None
        if at == path:
            values.append(value)

    with watching(note):
        f()
    if len(values) != 1:
        raise ValueError(
            f"gradient_times_input: f computed {path!r} {len(values)} times: wanted once; there "
            f"were {list(others)}"
        )

    def at(x: Array) -> Any:
        with edit({path: lambda _: x}):
            return f()

    return values[0] * grad(at)(values[0])
