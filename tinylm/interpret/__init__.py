"""The inside of a model: its intermediates seen, changed, and asked what the answer owes to them.

Every intermediate has a path: that of the parameters that compute it, and a label. Of a GPT these
are "embedding", "residual", "blocks.0.attention.weights", "blocks.0.attention.output" (what the
heads found, before ``W_O`` mixes it), "blocks.0.residual" and, at the end, "logits"; of a
Transformer the same under "encoder" and "decoder". `observe` shows all of them. Layers of a model
of your own, such as those of `tl.nn.block`, have such paths where each is computed `within` its own.

Examples
--------
>>> import numpy as np, tinylm as tl
>>> model = tl.GPT(vocab_size=9, context_length=8, d_model=8, num_heads=2, num_layers=1)
>>> params, ids = model.init(np.random.default_rng(0)), [1, 2, 3]
>>> {path: weights.shape for path, weights in tl.interpret.attention_patterns(model, params, ids).items()}
{'blocks.0.attention': (2, 3, 3)}
>>> with tl.interpret.ablate_heads({"blocks.0.attention": [1]}):
...     changed = model(params, ids)
>>> np.array_equal(changed, model(params, ids))
False
"""

from tinylm.autograd import within
from tinylm.interpret.contexts import ablate_heads, edit, observe, patch
from tinylm.interpret.explanations import attention_patterns, gradient_times_input, logit_lens
from tinylm.interpret.page import attention_page

__all__ = [
    "ablate_heads",
    "attention_page",
    "attention_patterns",
    "edit",
    "gradient_times_input",
    "logit_lens",
    "observe",
    "patch",
    "within",
]
