"""Compression: models that take fewer bytes, by fewer bits, fewer weights, or a teacher.

Examples
--------
>>> import numpy as np, tinylm as tl
>>> params = {"W": np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)}
>>> small = tl.compress.quantize(params)
>>> params["W"].nbytes, small["W"]["int8"].nbytes + small["W"]["scale"].nbytes
(16384, 4352)
"""

from tinylm.compress.distillation import Distilled, distillation
from tinylm.compress.pruning import Pruned, dense, prune, sparse
from tinylm.compress.quantization import Quantized, dequantize, quantize

__all__ = [
    "Distilled",
    "Pruned",
    "Quantized",
    "dense",
    "dequantize",
    "distillation",
    "prune",
    "quantize",
    "sparse",
]
