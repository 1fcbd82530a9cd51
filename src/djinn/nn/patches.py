"""From frames to patches and back, and where a patch stands in its frame."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class PatchEmbed(nn.Module):
    """Embeds each square patch of a frame; frames are padded at the bottom and right by repeating their edge.

    Args:
        patch: side of a patch in pixels.
        d_model: width of an embedding.
        channels: colours of a pixel.
    """

    def __init__(self, patch: int, d_model: int, channels: int = 3) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Conv2d(channels, d_model, patch, stride=patch)

    def forward(self, video: Float[Tensor, "b t h w c"]) -> Float[Tensor, "b t n d"]:
        """Pixels in [0, 1] to one embedding per patch, rows first."""
        b, t, h, w, _ = video.shape
        p, x = self.patch, (video * 2 - 1).flatten(0, 1)
        if h % p or w % p:
            x = F.pad(x.permute(0, 3, 1, 2), (0, -w % p, 0, -h % p), mode="replicate").permute(0, 2, 3, 1)
        x = x.unflatten(1, (-1, p)).unflatten(3, (-1, p)).transpose(2, 3)  # (b t) rows columns p p c
        weight = self.embed.weight.permute(0, 2, 3, 1).flatten(1)  # this convolution is a product, which is faster
        return F.linear(x.flatten(3).flatten(1, 2), weight, self.embed.bias).unflatten(0, (b, t))


class Unpatchify(nn.Module):
    """Turns one vector per patch into pixels and crops what `PatchEmbed` padded.

    Args:
        patch: side of a patch in pixels.
        d_model: width of a vector.
        height: rows of a frame.
        width: columns of a frame.
        channels: colours of a pixel.
    """

    def __init__(self, patch: int, d_model: int, height: int, width: int, channels: int = 3) -> None:
        super().__init__()
        self.patch, self.height, self.width, self.channels = patch, height, width, channels
        self.to_pixels = nn.Linear(d_model, channels * patch * patch)

    def forward(self, x: Float[Tensor, "b t n d"]) -> Float[Tensor, "b t h w c"]:
        """Pixels, unbounded: the caller decides on a sigmoid or a clamp."""
        return self.arrange(self.to_pixels(x))

    def arrange(self, x: Float[Tensor, "b t n p"]) -> Float[Tensor, "b t h w c"]:
        """Puts the pixels of patches where they belong."""
        p, rows, columns = self.patch, -(-self.height // self.patch), -(-self.width // self.patch)
        x = x.unflatten(3, (p, p, self.channels)).unflatten(2, (rows, columns))
        x = x.permute(0, 1, 2, 4, 3, 5, 6).flatten(4, 5).flatten(2, 3)  # b t (rows p) (columns p) c
        return x[:, :, : self.height, : self.width]


class PositionEmbedding2D(nn.Module):
    """A learned embedding of a patch's row plus one of its column, added once at the input.

    Args:
        rows: rows of the grid.
        columns: columns of the grid.
        d_model: width of an embedding.
    """

    def __init__(self, rows: int, columns: int, d_model: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.empty(rows, 1, d_model))
        self.columns = nn.Parameter(torch.empty(1, columns, d_model))
        nn.init.normal_(self.rows, std=0.1)
        nn.init.normal_(self.columns, std=0.1)

    def table(self) -> Float[Tensor, "n d"]:
        """The embedding of each place, rows first."""
        return (self.rows + self.columns).flatten(0, 1)

    def forward(self, x: Float[Tensor, "b t n d"]) -> Float[Tensor, "b t n d"]:
        """Adds its place to each patch."""
        return x + self.table()
