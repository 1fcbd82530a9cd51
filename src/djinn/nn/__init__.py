"""Layers that know nothing of Genie: attention with its cache, the ST-transformer, patches, quantizers, warping."""

from djinn.nn.attention import SpatialAttention, TemporalAttention
from djinn.nn.cache import TimeCache
from djinn.nn.patches import FromPatches, GridPosition, ToPatches
from djinn.nn.quantize import FSQ, Quantized, Quantizer, VectorQuantizer, build_quantizer
from djinn.nn.rivals import SpaceTimeBlock, SpaceTimeTransformer, SpaceTransformer
from djinn.nn.st_transformer import STBlock, STTransformer
from djinn.nn.warp import warp

__all__ = [
    "FSQ",
    "FromPatches",
    "GridPosition",
    "Quantized",
    "Quantizer",
    "STBlock",
    "STTransformer",
    "SpaceTimeBlock",
    "SpaceTimeTransformer",
    "SpaceTransformer",
    "SpatialAttention",
    "TemporalAttention",
    "TimeCache",
    "ToPatches",
    "VectorQuantizer",
    "build_quantizer",
    "warp",
]
