"""A small data set of moving squares, and models that are trained on it in seconds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from djinn.config import (
    DynamicsConfig,
    LatentActionConfig,
    QuantizerConfig,
    SamplerConfig,
    StageConfig,
    TokenizerConfig,
    TrainConfig,
    TransformerConfig,
    WorldConfig,
)
from djinn.data.dataset import Dataset
from djinn.data.writer import DatasetWriter

SIZE, FRAMES = 16, 4


def episode(seed: int, frames: int = 24) -> np.ndarray:
    """Return frames of a square that moves left, right, up or down on a colored background."""
    random = np.random.default_rng(seed)
    video = np.empty((frames, SIZE, SIZE, 3), dtype=np.uint8)
    position, background = random.integers(0, 4, 2), random.integers(20, 90, 3)
    for t in range(frames):
        video[t] = background
        video[t, position[0] * 4 : position[0] * 4 + 4, position[1] * 4 : position[1] * 4 + 4] = (250, 220, 40)
        step = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)])[random.integers(4)]
        position = (position + step) % 4
    return video


def write_dataset(path: Path, train: int = 6, val: int = 3) -> Dataset:
    """Write a data set of episodes, the last `val` of them held out."""
    with DatasetWriter(path, height=SIZE, width=SIZE, fps=10) as writer:
        for number in range(train + val):
            split = "train" if number < train else "val"
            writer.add_episode(episode(number), source=f"episode-{number}", split=split)
    return Dataset.open(path)


def tiny_config(**stage: object) -> TrainConfig:
    """Return a config with models of one or two blocks of width 16.

    Args:
        stage: Changes of the settings of both stages.
    """
    block = TransformerConfig(blocks=1, d_model=16, heads=2, head_dim=8, ffn_mult=2)
    settings = {"steps": 12, "batch": 4, "lr": 3e-3, "min_lr": 1e-4, "warmup": 2, "log_every": 2, "eval_every": 1000}
    both = StageConfig(**{**settings, "save_every": 5, **stage})  # pyrefly: ignore
    return TrainConfig(
        world=WorldConfig(
            height=SIZE,
            width=SIZE,
            context_frames=FRAMES,
            tokenizer=TokenizerConfig(
                patch=4, encoder=block, decoder=block, quantizer=QuantizerConfig(codes=32, dim=8)
            ),
            latent_action=LatentActionConfig(
                patch=4, encoder=block, decoder=block, quantizer=QuantizerConfig(codes=4, dim=8)
            ),
            dynamics=DynamicsConfig(transformer=dataclasses.replace(block, blocks=2)),
            sampler=SamplerConfig(steps=2),
        ),
        tokenizer=both,
        dynamics=both,
    )
