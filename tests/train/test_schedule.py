import itertools

import pytest

from djinn.config import StageConfig
from djinn.train.schedule import learning_rate, progress


def rates(config: StageConfig) -> list[float]:
    return [learning_rate(config, step, progress(config, step, 0)) for step in range(config.steps)]


def timed_rates(config: StageConfig, seconds_per_step: list[float]) -> list[float]:
    times = [0.0, *itertools.accumulate(seconds_per_step)]
    return [learning_rate(config, step, progress(config, step, time)) for step, time in enumerate(times)]


def test_progress_is_the_larger_share_of_steps_and_minutes() -> None:
    assert progress(StageConfig(steps=200), 50, 1e9) == 0.25
    timed = StageConfig(steps=200, minutes=2)
    assert progress(timed, 50, 6) == 0.25
    assert progress(timed, 50, 60) == 0.5
    assert progress(timed, 50, 1000) == 1


def test_cosine_begins_at_lr_after_the_warmup_and_ends_at_min_lr() -> None:
    config = StageConfig(steps=1000, warmup=100, lr=1.0, min_lr=0.1, schedule="cosine")
    lr = rates(config)
    assert lr[:100] == pytest.approx([(step + 1) / 100 for step in range(100)])  # linear
    assert lr[99] == lr[100] == 1.0
    assert lr[550] == pytest.approx(0.55)  # half of the steps after the warm-up
    assert learning_rate(config, 1000, 1.0) == pytest.approx(0.1)
    assert all(a <= b for a, b in itertools.pairwise(lr[:101]))
    assert all(a > b for a, b in itertools.pairwise(lr[100:]))


def test_cosine_without_warmup_begins_at_lr() -> None:
    lr = rates(StageConfig(steps=10, warmup=0, lr=1.0, min_lr=0.0, schedule="cosine"))
    assert lr[0] == 1.0 and lr[5] == pytest.approx(0.5)


@pytest.mark.parametrize("warmup", [20, 10_000])
def test_cosine_over_minutes_begins_after_the_warmup(warmup: int) -> None:
    """The time per step varies, and a long warm-up ends after a tenth of the time."""
    config = StageConfig(steps=10**9, minutes=1, warmup=warmup, lr=1.0, min_lr=0.1, schedule="cosine")
    seconds = [0.1] * 100 + [0.4] * 100 + [0.05] * 200
    lr = timed_rates(config, seconds)
    last_warmup = 19 if warmup == 20 else 60  # 60 steps are 6 of 60 seconds
    assert lr[last_warmup] == pytest.approx(1.0)
    assert all(a <= b for a, b in itertools.pairwise(lr[: last_warmup + 1]))
    assert all(a >= b for a, b in itertools.pairwise(lr[last_warmup + 1 :]))
    assert lr[-1] == pytest.approx(0.1)


def test_wsd_is_constant_and_then_falls_linearly() -> None:
    config = StageConfig(steps=100, warmup=1, lr=1.0, min_lr=0.0, schedule="wsd", decay=0.2)
    lr = rates(config)
    assert lr[:80] == [1.0] * 80
    assert lr[90] == pytest.approx(0.5)
    assert learning_rate(config, 100, 1.0) == 0


def test_constant_schedule() -> None:
    assert rates(StageConfig(steps=50, warmup=0, lr=0.5, min_lr=0.0, schedule="constant")) == [0.5] * 50


def test_warmup_takes_at_most_a_tenth_of_training() -> None:
    lr = rates(StageConfig(steps=100, warmup=10_000, lr=1.0, min_lr=1.0))
    assert lr[5] == pytest.approx(0.5)
    assert lr[10:] == [1.0] * 90


def test_minutes_do_not_end_training_before_min_steps() -> None:
    config = StageConfig(steps=1_000_000, minutes=1, min_steps=50)
    assert progress(config, 4, 120) == 4 / 50
    assert progress(config, 50, 59) == pytest.approx(59 / 60)
    assert progress(config, 50, 60) == progress(config, 80, 90) == 1
