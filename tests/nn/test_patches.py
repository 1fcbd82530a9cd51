import pytest
import torch
import torch.nn.functional as F

from djinn.nn import PatchEmbed, PositionEmbedding2D, Unpatchify


@pytest.mark.parametrize(("height", "width", "channels"), [(8, 12, 3), (9, 10, 6)])
def test_patch_embedding_equals_a_strided_convolution(height, width, channels):
    embed, video = PatchEmbed(4, 5, channels), torch.rand(2, 3, height, width, channels)
    frames = F.pad((2 * video - 1).flatten(0, 1).permute(0, 3, 1, 2), (0, -width % 4, 0, -height % 4), mode="replicate")
    expected = F.conv2d(frames, embed.embed.weight, embed.embed.bias, stride=4).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(video).flatten(0, 1), expected)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (90, 160), (5, 7)])
def test_frames_of_any_size_are_padded_to_whole_patches(height, width):
    rows, columns = -(-height // 4), -(-width // 4)
    video = torch.rand(2, 3, height, width, 3)
    x = PatchEmbed(4, 16)(video)
    assert x.shape == (2, 3, rows * columns, 16)
    assert PositionEmbedding2D(rows, columns, 16)(x).shape == x.shape
    assert Unpatchify(4, 16, height, width)(x).shape == video.shape


@torch.no_grad()
def test_unpatchify_inverts_patch_embedding_with_identity_weights():
    embed, unpatchify = PatchEmbed(2, 12), Unpatchify(2, 12, 5, 6)
    embed.embed.weight.copy_(torch.eye(12).view(12, 2, 2, 3).permute(0, 3, 1, 2))  # rows, columns, channels
    embed.embed.bias.zero_()
    unpatchify.to_pixels.weight.copy_(torch.eye(12))
    unpatchify.to_pixels.bias.zero_()
    video = torch.rand(2, 3, 5, 6, 3)
    torch.testing.assert_close(unpatchify(embed(video)), video * 2 - 1)
