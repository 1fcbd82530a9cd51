"""Configs of models and training, presets, and YAML files."""

from djinn.config.model import (
    DynamicsConfig,
    LatentActionConfig,
    QuantizerConfig,
    SamplerConfig,
    TokenizerConfig,
    TransformerConfig,
    WorldConfig,
    adjust,
    check_fps,
    check_seed,
)
from djinn.config.train import UNLIMITED, StageConfig, TrainConfig, stage_settings, with_limits

__all__ = [
    "UNLIMITED",
    "DynamicsConfig",
    "LatentActionConfig",
    "QuantizerConfig",
    "SamplerConfig",
    "StageConfig",
    "TokenizerConfig",
    "TrainConfig",
    "TransformerConfig",
    "WorldConfig",
    "adjust",
    "check_fps",
    "check_seed",
    "stage_settings",
    "with_limits",
]
