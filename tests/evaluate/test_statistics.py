import numpy as np
import pytest

from djinn.evaluate.statistics import bootstrap, entropy_bits, mutual_information_bits


def test_entropy():
    assert entropy_bits(np.array([5, 5, 5, 5])) == pytest.approx(2)
    assert entropy_bits(np.array([7, 0])) == 0
    assert entropy_bits(np.array([1, 3])) == pytest.approx(0.8112781)


def test_mutual_information():
    assert mutual_information_bits(np.diag([4, 4, 4, 4])) == pytest.approx(2)
    assert mutual_information_bits(np.ones((4, 4), int)) == pytest.approx(0, abs=1e-12)
    assert mutual_information_bits(np.array([[2, 2, 0, 0], [0, 0, 2, 2]])) == pytest.approx(1)


def test_bootstrap_interval_contains_the_mean_and_shrinks_with_clips():
    rng = np.random.default_rng(1)
    few, many = (bootstrap(rng.normal(3, 2, (n, 2))) for n in (20, 2_000))
    assert len(few) == 2
    assert few[0].low < few[0].mean < few[0].high
    width = many[1].high - many[1].low
    assert width == pytest.approx(2 * 1.96 * 2 / 2_000**0.5, rel=0.15)
    assert abs(many[1].mean - 3) < 0.2
