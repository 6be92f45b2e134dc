"""Compression: models that take fewer bytes, by fewer bits, fewer weights, or a teacher.

Examples
--------
>>> import numpy as np, tinylm as tl
>>> params = {"W": np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)}
>>> full, int8, pruned = (
...     tl.compress.file_size(x)
...     for x in (
...         params,
...         tl.compress.quantize(params),
...         tl.compress.sparse(tl.compress.prune(params, 0.8)),
...     )
... )
>>> round(full / int8, 1), round(full / pruned, 1)
(3.5, 3.5)
"""

from tinylm.compress.distillation import Distilled, distillation
from tinylm.compress.file_size import file_size
from tinylm.compress.pruning import Pruned, dense, prune, sparse
from tinylm.compress.quantization import Quantized, dequantize, quantize

__all__ = [
    "Distilled",
    "Pruned",
    "Quantized",
    "dense",
    "dequantize",
    "distillation",
    "file_size",
    "prune",
    "quantize",
    "sparse",
]
