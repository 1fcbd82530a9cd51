import torch

from djinn.nn import warp


def test_no_flow_changes_nothing():
    video = torch.rand(2, 3, 6, 8, 3)
    torch.testing.assert_close(warp(video, torch.zeros(2, 3, 6, 8, 2)), video, atol=1e-5, rtol=0)


def test_a_flow_takes_pixels_from_the_right_and_from_below():
    video = torch.rand(1, 2, 6, 8, 3)
    flow = torch.zeros(1, 2, 6, 8, 2)
    flow[:, 0, ..., 0] = 2
    flow[:, 1, ..., 1] = -1
    moved = warp(video, flow)
    torch.testing.assert_close(moved[:, 0, :, :-2], video[:, 0, :, 2:], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[:, 0, :, -2:], video[:, 0, :, -1:].expand(-1, -1, 2, -1), atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[:, 1, 1:], video[:, 1, :-1], atol=1e-5, rtol=0)


def test_half_a_pixel_is_the_mean_of_two_and_each_pixel_has_its_own_flow():
    video = torch.rand(1, 1, 4, 4, 1)
    flow = torch.zeros(1, 1, 4, 4, 2)
    flow[..., 1, 1, 0] = 0.5
    moved = warp(video, flow)
    expected = video.clone()
    expected[..., 1, 1, :] = (video[..., 1, 1, :] + video[..., 1, 2, :]) / 2
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)


def test_the_flow_learns():
    """A frame that moved by a pixel is found by descent on the flow."""
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)[..., None] / 8
    flow = torch.zeros(1, 1, 8, 8, 2, requires_grad=True)
    for _ in range(200):
        error = (warp(ramp, flow) - (ramp + 1 / 8))[..., :-1, :].square().sum()
        (gradient,) = torch.autograd.grad(error, flow)
        with torch.no_grad():
            flow -= 4 * gradient
    torch.testing.assert_close(flow[..., 1:-1, 0], torch.ones(1, 1, 8, 6), atol=0.01, rtol=0)
