"""Moving a picture by a field of displacements."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def warp(video: Float[Tensor, "b t h w c"], flow: Float[Tensor, "b t h w 2"]) -> Float[Tensor, "b t h w c"]:
    """Takes each pixel from another place of its frame, between pixels bilinearly and beyond the edge from the edge.

    Args:
        video: frames.
        flow: how far to the right and how far down of its own place each pixel comes from, in pixels.
    """
    b, (height, width) = len(video), video.shape[2:4]
    size = flow.new_tensor([width, height])
    y, x = (torch.arange(side, device=flow.device, dtype=flow.dtype) for side in (height, width))
    place = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)
    grid = (2 * (place + flow.flatten(0, 1)) + 1) / size - 1  # -1 and 1 are the outer edges of the first and last pixel
    frames = video.flatten(0, 1).permute(0, 3, 1, 2)
    moved = F.grid_sample(frames, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return moved.permute(0, 2, 3, 1).unflatten(0, (b, -1))
