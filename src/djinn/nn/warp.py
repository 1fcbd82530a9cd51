"""Warping of frames by optical flow."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def warp(video: Float[Tensor, "b t h w c"], flow: Float[Tensor, "b t h w 2"]) -> Float[Tensor, "b t h w c"]:
    """Sample each pixel from a displaced position of its frame.

    Sampling is bilinear. Outside the frame, the edge is repeated.

    Args:
        video: Frames.
        flow: Displacement `(x, y)` from a pixel to the position that it is sampled from, in pixels.
            Where it is NaN, the result is NaN too.
    """
    if flow.device.type == "cpu" and not torch.compiler.is_compiling() and flow.isnan().any():
        return video + flow.sum(-1, keepdim=True)  # NaN; the backward pass of grid_sample would crash
    b, (height, width) = len(video), video.shape[2:4]
    size = flow.new_tensor([width, height])
    y, x = (torch.arange(side, device=flow.device, dtype=flow.dtype) for side in (height, width))
    position = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)
    # grid_sample: -1 and 1 are the outer edges of the first and last pixel
    grid = (2 * (position + flow.flatten(0, 1)) + 1) / size - 1
    frames = video.flatten(0, 1).permute(0, 3, 1, 2)  # (b t) c h w
    warped = F.grid_sample(frames, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return warped.permute(0, 2, 3, 1).unflatten(0, (b, -1))
