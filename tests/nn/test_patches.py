import pytest
import torch
import torch.nn.functional as F

from djinn.nn import PatchEmbed, PositionEmbedding2D, Unpatchify


@pytest.mark.parametrize(("height", "width", "channels"), [(8, 12, 3), (9, 10, 6)])
def test_patches_are_those_of_a_convolution(height, width, channels):
    """With its stride as wide as itself, over frames whose edge is repeated as far as a patch needs."""
    to, video = PatchEmbed(4, 5, channels), torch.rand(2, 3, height, width, channels)
    frames = F.pad((2 * video - 1).flatten(0, 1).permute(0, 3, 1, 2), (0, -width % 4, 0, -height % 4), mode="replicate")
    expected = F.conv2d(frames, to.embed.weight, to.embed.bias, stride=4).flatten(2).transpose(1, 2)
    torch.testing.assert_close(to(video).flatten(0, 1), expected)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (90, 160), (5, 7)])
def test_patches_cover_any_frame(height, width):
    rows, columns = -(-height // 4), -(-width // 4)
    video = torch.rand(2, 3, height, width, 3)
    x = PatchEmbed(4, 16)(video)
    assert x.shape == (2, 3, rows * columns, 16)
    assert PositionEmbedding2D(rows, columns, 16)(x).shape == x.shape
    assert Unpatchify(4, 16, height, width)(x).shape == video.shape


@torch.no_grad()
def test_patches_keep_their_place():
    """With weights that pass pixels through, from patches is the inverse of to patches, save the scale [-1, 1]."""
    to, back = PatchEmbed(2, 12), Unpatchify(2, 12, 5, 6)
    to.embed.weight.copy_(torch.eye(12).view(12, 2, 2, 3).permute(0, 3, 1, 2))  # rows, columns, colours
    to.embed.bias.zero_()
    back.to_pixels.weight.copy_(torch.eye(12))
    back.to_pixels.bias.zero_()
    video = torch.rand(2, 3, 5, 6, 3)
    torch.testing.assert_close(back(to(video)), video * 2 - 1)
