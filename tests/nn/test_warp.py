import torch

from djinn.nn import warp


def test_zero_flow_is_the_identity():
    video = torch.rand(2, 3, 6, 8, 3)
    torch.testing.assert_close(warp(video, torch.zeros(2, 3, 6, 8, 2)), video, atol=1e-5, rtol=0)


def test_flow_samples_from_the_displaced_position_and_repeats_the_edge():
    video = torch.rand(1, 2, 6, 8, 3)
    flow = torch.zeros(1, 2, 6, 8, 2)
    flow[:, 0, ..., 0] = 2
    flow[:, 1, ..., 1] = -1
    warped = warp(video, flow)
    torch.testing.assert_close(warped[:, 0, :, :-2], video[:, 0, :, 2:], atol=1e-5, rtol=0)
    torch.testing.assert_close(warped[:, 0, :, -2:], video[:, 0, :, -1:].expand(-1, -1, 2, -1), atol=1e-5, rtol=0)
    torch.testing.assert_close(warped[:, 1, 1:], video[:, 1, :-1], atol=1e-5, rtol=0)


def test_fractional_flow_interpolates_per_pixel():
    video = torch.rand(1, 1, 4, 4, 1)
    flow = torch.zeros(1, 1, 4, 4, 2)
    flow[..., 1, 1, 0] = 0.5
    warped = warp(video, flow)
    expected = video.clone()
    expected[..., 1, 1, :] = (video[..., 1, 1, :] + video[..., 1, 2, :]) / 2
    torch.testing.assert_close(warped, expected, atol=1e-5, rtol=0)


def test_gradient_descent_finds_a_shift_of_one_pixel():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)[..., None] / 8
    flow = torch.zeros(1, 1, 8, 8, 2, requires_grad=True)
    for _ in range(200):
        error = (warp(ramp, flow) - (ramp + 1 / 8))[..., :-1, :].square().sum()
        (gradient,) = torch.autograd.grad(error, flow)
        with torch.no_grad():
            flow -= 4 * gradient
    torch.testing.assert_close(flow[..., 1:-1, 0], torch.ones(1, 1, 8, 6), atol=0.01, rtol=0)


def test_flow_that_is_not_finite_does_not_crash_the_backward_pass():
    """On a CPU, the backward pass of grid_sample reads outside the frame where the flow is NaN."""
    for value in (float("nan"), float("inf"), -float("inf"), 1e30):
        flow = torch.zeros(2, 3, 64, 64, 2)
        flow[1, 2, 5:, 7] = value
        flow.requires_grad_()
        warped = warp(torch.rand(2, 3, 64, 64, 3), flow)
        warped.sum().backward()
        if value != value:
            assert warped[1, 2, 5:, 7].isnan().all() and flow.grad is not None
