import itertools

import pytest

from djinn.config import StageConfig
from djinn.train.schedule import learning_rate, progress


def rates(config: StageConfig) -> list[float]:
    return [learning_rate(config, step, progress(config, step, 0)) for step in range(config.steps)]


def test_progress_counts_steps_and_minutes() -> None:
    assert progress(StageConfig(steps=200), 50, 1e9) == 0.25
    timed = StageConfig(steps=200, minutes=2)
    assert progress(timed, 50, 6) == 0.25
    assert progress(timed, 50, 60) == 0.5
    assert progress(timed, 50, 1000) == 1


def test_cosine_warms_up_and_ends_at_min_lr() -> None:
    config = StageConfig(steps=1000, warmup=10, lr=1.0, min_lr=0.1, schedule="cosine")
    lr = rates(config)
    assert lr[0] == pytest.approx(0.1, rel=1e-3)
    assert lr[9] == pytest.approx(1, rel=1e-3)
    assert lr[500] == pytest.approx(0.55)
    assert learning_rate(config, 1000, 1.0) == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(lr[10:]))


def test_wsd_is_flat_and_then_falls_linearly() -> None:
    config = StageConfig(steps=100, warmup=1, lr=1.0, min_lr=0.0, schedule="wsd", decay=0.2)
    lr = rates(config)
    assert lr[:80] == [1.0] * 80
    assert lr[90] == pytest.approx(0.5)
    assert learning_rate(config, 100, 1.0) == 0


def test_constant_stays() -> None:
    assert rates(StageConfig(steps=50, warmup=0, lr=0.5, min_lr=0.0, schedule="constant")) == [0.5] * 50


def test_a_warmup_longer_than_training_takes_a_tenth_of_it() -> None:
    lr = rates(StageConfig(steps=100, warmup=10_000, lr=1.0, min_lr=1.0))
    assert lr[5] == pytest.approx(0.5)
    assert lr[10:] == [1.0] * 90


def test_minutes_do_not_end_training_before_min_steps() -> None:
    config = StageConfig(steps=1_000_000, minutes=1, min_steps=50)
    assert progress(config, 4, 120) == 4 / 50
    assert progress(config, 50, 59) == pytest.approx(59 / 60)
    assert progress(config, 50, 60) == progress(config, 80, 90) == 1
