"""Generic layers: attention and its cache, ST-transformer, patches, quantizers, warping."""

from djinn.nn import fork
from djinn.nn.attention import SpatialAttention, TemporalAttention
from djinn.nn.kv_cache import KVCache
from djinn.nn.patches import PatchEmbed, PositionEmbedding2D, Unpatchify
from djinn.nn.quantize import FSQ, Quantized, Quantizer, VectorQuantizer, build_quantizer
from djinn.nn.st_transformer import STBlock, STTransformer
from djinn.nn.tokenizer_baselines import FullSpaceTimeBlock, FullSpaceTimeTransformer, SpatialTransformer
from djinn.nn.warp import warp

__all__ = [
    "FSQ",
    "FullSpaceTimeBlock",
    "FullSpaceTimeTransformer",
    "KVCache",
    "PatchEmbed",
    "PositionEmbedding2D",
    "Quantized",
    "Quantizer",
    "STBlock",
    "STTransformer",
    "SpatialAttention",
    "SpatialTransformer",
    "TemporalAttention",
    "Unpatchify",
    "VectorQuantizer",
    "build_quantizer",
    "fork",
    "warp",
]
