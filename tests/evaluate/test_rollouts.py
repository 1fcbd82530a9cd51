import numpy as np
import pytest

from djinn.evaluate.rollouts import delta_psnr, draw_actions


def test_delta_psnr_has_one_interval_per_horizon():
    inferred = np.array([[20.0, 18.0], [22.0, 19.0]])
    assert [d.mean for d in delta_psnr(inferred, inferred - [1, 4])] == pytest.approx([1, 4])
    assert delta_psnr(inferred, inferred)[0].high == 0


def test_empirical_actions_follow_the_shares():
    uniform, empirical = draw_actions((400, 50), [0.5, 0.5, 0.0, 0.0], seed=0)
    assert np.bincount(uniform.ravel(), minlength=4) / uniform.size == pytest.approx([0.25] * 4, abs=0.02)
    assert np.bincount(empirical.ravel(), minlength=4) / empirical.size == pytest.approx([0.5, 0.5, 0, 0], abs=0.02)
