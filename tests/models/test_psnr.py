import numpy as np
import pytest
import torch

from djinn.models.psnr import MSE_FLOOR, frame_psnr, psnr_from_mse


def test_psnr_of_a_constant_offset() -> None:
    video = torch.full((1, 2, 4, 4, 3), 0.5)
    assert frame_psnr(video, video + 0.1)[0].tolist() == pytest.approx([20, 20], abs=1e-3)


def test_black_against_white_is_0_db() -> None:
    black = torch.zeros(1, 1, 2, 2, 3, dtype=torch.uint8)
    assert frame_psnr(black, torch.full_like(black, 255)) == 0


def test_identical_frames_have_the_psnr_of_the_floor() -> None:
    video = torch.rand(1, 3, 4, 4, 3)
    expected = 10 * np.log10(255**2 / MSE_FLOOR)
    assert expected == pytest.approx(58.9, abs=0.05)
    assert frame_psnr(video, video)[0].tolist() == pytest.approx([expected] * 3, abs=1e-4)
    assert psnr_from_mse(np.zeros(2), max_value=255).tolist() == pytest.approx([expected] * 2)


def test_tensors_and_arrays_agree_in_both_units() -> None:
    grey_levels = np.array([1e-3, 0.5, 30.0, 4000.0])
    expected = psnr_from_mse(grey_levels, max_value=255)
    in_unit_range = psnr_from_mse(torch.from_numpy(grey_levels / 255**2))
    assert in_unit_range.numpy() == pytest.approx(expected)
    assert (np.diff(expected) < 0).all()
