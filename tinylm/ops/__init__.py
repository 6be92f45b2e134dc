"""The ops of a Transformer: one file a formula, and in each file formula, kernel and vjp.

Shape letters, here and everywhere: B batch, T query positions, S key positions, H heads,
D head_dim, C d_model, V vocabulary.
"""

from tinylm.ops.attention import attention
from tinylm.ops.cross_entropy import IGNORED, cross_entropy
from tinylm.ops.dropout import dropout
from tinylm.ops.embedding import embedding
from tinylm.ops.gelu import gelu
from tinylm.ops.layer_norm import layer_norm, rms_norm
from tinylm.ops.linear import linear
from tinylm.ops.relu import relu, silu
from tinylm.ops.softmax import log_softmax, softmax

__all__ = [
    "IGNORED",
    "attention",
    "cross_entropy",
    "dropout",
    "embedding",
    "gelu",
    "layer_norm",
    "linear",
    "log_softmax",
    "relu",
    "rms_norm",
    "silu",
    "softmax",
]
