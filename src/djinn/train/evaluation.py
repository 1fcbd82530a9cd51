"""Held-out clips that every evaluation in training uses."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from djinn.data.dataset import Clips

EVALUATION_CLIPS = 16
SHOWN_CLIPS = 4
"""Clips drawn in an image."""
EVALUATION_BATCH = 8
"""Clips that go through a model together."""
GREEDY_STEPS = 4
"""MaskGIT steps of roll-outs, which take the most likely tokens."""


def to_float(video: UInt8[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Convert bytes to pixels in [0, 1]."""
    return video.float().mul_(1 / 255)


def evaluation_clips(clips: Clips, count: int = EVALUATION_CLIPS) -> UInt8[Tensor, "b t h w 3"]:
    """Read evenly spaced clips, the same ones in every call."""
    indices = np.linspace(0, len(clips) - 1, min(count, len(clips))).round().astype(np.int64)
    return torch.from_numpy(clips.batch(indices))
