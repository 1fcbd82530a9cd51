import numpy as np
import pytest

from djinn.evaluate.fidelity import MSE_FLOOR, frame_mse, psnr


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


def test_psnr_of_black_and_white_is_zero_and_bytes_do_not_wrap():
    black, white = np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2, 3), 255, np.uint8)
    assert psnr(black, white)[0] == pytest.approx(0)
    assert psnr(white, black)[0] == pytest.approx(0)


def test_the_mean_over_frames_is_not_the_psnr_of_the_mean_error():
    real = np.zeros((2, 2, 2, 3), np.uint8)
    made = real.copy()
    made[1] = 20
    assert psnr(real, made).mean() > 10 * np.log10(255**2 / frame_mse(real, made).mean())


def test_one_frame_against_many():
    video = np.stack([np.full((2, 2, 3), v, np.uint8) for v in (0, 1, 3)])
    assert frame_mse(video, video[:1]).tolist() == [0, 1, 9]
