import numpy as np
import pytest

from djinn.evaluate.fidelity import frame_mse, frame_ssim, psnr, ssim_window
from djinn.models.psnr import MSE_FLOOR


def test_psnr_of_a_known_error():
    a = np.full((2, 3, 4, 5, 3), 100, np.uint8)
    b = a.copy()
    b[0, 1] += 10  # every value of one frame off by 10
    b[1, 2, 0, 0, 0] = 90  # one value of 60 off by 10
    values = psnr(a, b)
    assert values.shape == (2, 3)
    assert values[0, 1] == pytest.approx(10 * np.log10(255**2 / 100))
    assert values[1, 2] == pytest.approx(10 * np.log10(255**2 / (100 / 60)), abs=1e-4)
    assert values[0, 0] == pytest.approx(10 * np.log10(255**2 / MSE_FLOOR))


def test_psnr_of_black_against_white_is_0_without_uint8_overflow():
    black, white = np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2, 3), 255, np.uint8)
    assert psnr(black, white)[0] == pytest.approx(0)
    assert psnr(white, black)[0] == pytest.approx(0)


def test_mean_psnr_over_frames_differs_from_psnr_of_the_mean_error():
    real = np.zeros((2, 2, 2, 3), np.uint8)
    other = real.copy()
    other[1] = 20
    assert psnr(real, other).mean() > 10 * np.log10(255**2 / frame_mse(real, other).mean())


def test_one_frame_is_broadcast_against_many():
    video = np.stack([np.full((2, 2, 3), v, np.uint8) for v in (0, 1, 3)])
    assert frame_mse(video, video[:1]).tolist() == [0, 1, 9]


def random_frames(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def test_psnr_equals_integer_arithmetic():
    a, b = random_frames(5, 20, 17), random_frames(5, 20, 17, seed=1)
    for x, y, value in zip(a, b, psnr(a, b), strict=True):
        errors = [(int(p) - int(q)) ** 2 for p, q in zip(x.ravel(), y.ravel(), strict=True)]
        assert value == pytest.approx(20 * np.log10(255) - 10 * np.log10(sum(errors) / len(errors)), abs=1e-6)


def ssim_by_loops(a, b, side=11):
    """Compute SSIM of Wang et al. 2004 by loops over positions."""
    offset = np.arange(side) - side // 2
    weights = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * 1.5**2))
    weights /= weights.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for channel in range(3):
        for y in range(a.shape[0] - side + 1):
            for x in range(a.shape[1] - side + 1):
                p, q = (frame[y : y + side, x : x + side, channel].astype(float) for frame in (a, b))
                mean_p, mean_q = (weights * p).sum(), (weights * q).sum()
                var_p, var_q = (weights * (p - mean_p) ** 2).sum(), (weights * (q - mean_q) ** 2).sum()
                cov = (weights * (p - mean_p) * (q - mean_q)).sum()
                top = (2 * mean_p * mean_q + c1) * (2 * cov + c2)
                values.append(top / ((mean_p**2 + mean_q**2 + c1) * (var_p + var_q + c2)))
    return np.mean(values)


@pytest.mark.parametrize("noise", [3, 20, 255])
def test_ssim_equals_loops(noise):
    a = random_frames(3, 20, 17)
    shift = np.random.default_rng(noise).integers(-noise, noise + 1, a.shape)
    b = (a + shift).clip(0, 255).astype(np.uint8)
    assert frame_ssim(a, b) == pytest.approx([ssim_by_loops(x, y) for x, y in zip(a, b, strict=True)], abs=1e-4)


def test_ssim_of_known_frames():
    a = random_frames(4, 16, 24)
    assert frame_ssim(a, a) == pytest.approx([1] * 4)
    b = random_frames(4, 16, 24, seed=1)
    assert frame_ssim(a, b) == pytest.approx(frame_ssim(b, a))
    grey, white = (np.full((12, 12, 3), v, np.uint8) for v in (100, 255))
    c1 = (0.01 * 255) ** 2
    assert frame_ssim(grey, white) == pytest.approx((2 * 100 * 255 + c1) / (100**2 + 255**2 + c1))


def test_ssim_decreases_with_blur():
    sharp = random_frames(64, 64)
    blurred = sharp.astype(float)
    values = []
    for _ in range(3):
        blurred = (blurred + np.roll(blurred, 1, 0) + np.roll(blurred, 1, 1)) / 3
        values.append(float(frame_ssim(sharp, blurred.astype(np.uint8))))
    assert 1 > values[0] > values[1] > values[2] > 0


def test_ssim_broadcasts_over_many_frames():
    video = random_frames(2, 70, 12, 13)
    values = frame_ssim(video, video[:, :1])
    assert values.shape == (2, 70)
    assert values[1, 65] == pytest.approx(float(frame_ssim(video[1, 65], video[1, 0])))
    assert values[:, 0] == pytest.approx([1, 1])


def test_ssim_of_frames_smaller_than_the_window():
    assert [ssim_window(*size) for size in ((64, 64), (11, 90), (10, 12), (8, 8))] == [11, 11, 9, 7]
    a, b = random_frames(8, 9), random_frames(8, 9, seed=1)
    assert frame_ssim(a, b) == pytest.approx(ssim_by_loops(a, b, side=7), abs=1e-4)
