"""Patch embedding, its inverse, and embeddings of positions in the frame."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class PatchEmbed(nn.Module):
    """Linear embedding of square patches.

    Frames are padded at the bottom and right by repeating the edge.

    Args:
        patch: Side of a patch in pixels.
        d_model: Width of an embedding.
        channels: Channels of a pixel.
    """

    def __init__(self, patch: int, d_model: int, channels: int = 3) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Conv2d(channels, d_model, patch, stride=patch)

    def forward(self, video: Float[Tensor, "b t h w c"]) -> Float[Tensor, "b t n d"]:
        """Embed the patches of frames with pixels in [0, 1], in row-major order."""
        b, t, h, w, _ = video.shape
        p, x = self.patch, (video * 2 - 1).flatten(0, 1)
        if h % p or w % p:
            x = F.pad(x.permute(0, 3, 1, 2), (0, -w % p, 0, -h % p), mode="replicate").permute(0, 2, 3, 1)
        x = x.unflatten(1, (-1, p)).unflatten(3, (-1, p)).transpose(2, 3)  # (b t) rows columns p p c
        weight = self.embed.weight.permute(0, 2, 3, 1).flatten(1)  # as a matrix product, faster than the convolution
        return F.linear(x.flatten(3).flatten(1, 2), weight, self.embed.bias).unflatten(0, (b, t))


class Unpatchify(nn.Module):
    """Linear map from one vector per patch to pixels. The padding of `PatchEmbed` is cropped.

    Args:
        patch: Side of a patch in pixels.
        d_model: Width of a vector.
        height: Height of a frame in pixels.
        width: Width of a frame in pixels.
        channels: Channels of a pixel.
    """

    def __init__(self, patch: int, d_model: int, height: int, width: int, channels: int = 3) -> None:
        super().__init__()
        self.patch, self.height, self.width, self.channels = patch, height, width, channels
        self.to_pixels = nn.Linear(d_model, channels * patch * patch)

    def forward(self, x: Float[Tensor, "b t n d"]) -> Float[Tensor, "b t h w c"]:
        """Return unbounded pixels, to which the caller applies a sigmoid or a clamp."""
        return self.arrange(self.to_pixels(x))

    def arrange(self, x: Float[Tensor, "b t n p"]) -> Float[Tensor, "b t h w c"]:
        """Arrange the pixels of patches into frames."""
        p, rows, columns = self.patch, -(-self.height // self.patch), -(-self.width // self.patch)
        x = x.unflatten(3, (p, p, self.channels)).unflatten(2, (rows, columns))
        x = x.permute(0, 1, 2, 4, 3, 5, 6).flatten(4, 5).flatten(2, 3)  # b t (rows p) (columns p) c
        return x[:, :, : self.height, : self.width]


class PositionEmbedding2D(nn.Module):
    """Learned embedding of a patch's position: one vector per row plus one per column.

    Args:
        rows: Rows of the grid of patches.
        columns: Columns of the grid of patches.
        d_model: Width of an embedding.
    """

    def __init__(self, rows: int, columns: int, d_model: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.empty(rows, 1, d_model))
        self.columns = nn.Parameter(torch.empty(1, columns, d_model))
        nn.init.normal_(self.rows, std=0.1)
        nn.init.normal_(self.columns, std=0.1)

    def table(self) -> Float[Tensor, "n d"]:
        """Return the embedding of each position, in row-major order."""
        return (self.rows + self.columns).flatten(0, 1)

    def forward(self, x: Float[Tensor, "b t n d"]) -> Float[Tensor, "b t n d"]:
        """Add the embedding of its position to each patch."""
        return x + self.table()
