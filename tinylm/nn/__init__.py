"""The parts of a Transformer, as pure functions over dicts of parameters."""

from tinylm.nn.block import (
    block,
    decoder_block,
    init_block,
    init_decoder_block,
    init_norm,
    normalize,
    sublayers,
)
from tinylm.nn.feed_forward import feed_forward, init_feed_forward
from tinylm.nn.initializers import normal
from tinylm.nn.multi_head import init_multi_head, multi_head_attention
from tinylm.nn.past import DecoderPast, Past
from tinylm.nn.positional import rotary, sinusoidal_encoding
from tinylm.nn.reader import Reader, as_prompt, as_stops

__all__ = [
    "DecoderPast",
    "Past",
    "Reader",
    "as_prompt",
    "as_stops",
    "block",
    "decoder_block",
    "feed_forward",
    "init_block",
    "init_decoder_block",
    "init_feed_forward",
    "init_multi_head",
    "init_norm",
    "multi_head_attention",
    "normal",
    "normalize",
    "rotary",
    "sinusoidal_encoding",
    "sublayers",
]
