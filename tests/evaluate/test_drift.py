import json

import numpy as np
import pytest

from djinn.errors import UserError
from djinn.evaluate.drift import (
    HOLD,
    changed_share,
    drift_from_frames,
    held_actions,
    measure_drift,
    repeated,
    sharpness,
)
from djinn.evaluate.settings import MIN_DRIFT_FRAMES

ROLLOUTS, FRAMES, SIDE = 4, 80, 32


def panorama(seed):
    """Return a wide image of colored blocks, over which a camera can move without repetition."""
    blocks = np.random.default_rng(seed).integers(256, size=(SIDE // 4, 200, 3), dtype=np.uint8)
    return blocks.repeat(4, axis=0).repeat(4, axis=1)


def camera(positions, seed):
    scene = panorama(seed)
    return np.stack([scene[:, x : x + SIDE] for x in positions])


def rollouts(positions):
    """Return one video per scene, and the frame before each."""
    video = np.stack([camera([0, *positions], seed) for seed in range(ROLLOUTS)])
    return video[:, 1:], video[:, 0]


def flags(video, start):
    return drift_from_frames(video, start, camera(range(0, 700, 5), 9)).flags


@pytest.fixture
def stable():
    rng = np.random.default_rng(0)
    return rollouts(rng.integers(1, 8, size=FRAMES).cumsum())


def test_a_stable_rollout_has_no_flags(stable):
    drift = drift_from_frames(*stable, stable[1])
    assert drift.flags == []
    assert drift.sharpness == pytest.approx(1, abs=0.3)
    assert not drift.repetition.any()
    assert drift.color.max() < 2 * drift.color_spread


def test_a_frozen_rollout(stable):
    video, start = stable
    frozen = video.copy()
    frozen[:, 40:] = video[:, 40, None]
    assert flags(frozen, start) == ["freezes"]
    assert flags(start[:, None].repeat(FRAMES, axis=1), start) == ["freezes"]
    jittering = frozen.astype(int) + np.random.default_rng(0).integers(-2, 3, size=frozen.shape)
    assert "freezes" in flags(jittering.clip(0, 255).astype(np.uint8), start)


def test_a_blurring_rollout(stable):
    video, start = stable
    blurred = video.astype(float)
    for t in range(FRAMES):
        for _ in range(t // 10):
            left, right = np.roll(blurred[:, t], 1, axis=-2), np.roll(blurred[:, t], -1, axis=-2)
            blurred[:, t] = (left + blurred[:, t] + right) / 3
            up, down = np.roll(blurred[:, t], 1, axis=-3), np.roll(blurred[:, t], -1, axis=-3)
            blurred[:, t] = (up + blurred[:, t] + down) / 3
    drift = drift_from_frames(blurred.astype(np.uint8), start, start)
    assert "blurs" in drift.flags
    assert not {"freezes", "noise", "repeats"} & set(drift.flags)
    assert (np.diff(drift.sharpness[9::10]) < 0).all()


def test_a_rollout_that_turns_into_noise(stable):
    video, start = stable
    smooth = (video // 8 + 100).astype(np.uint8)
    noisy = smooth.copy()
    noisy[:, 40:] += np.random.default_rng(0).integers(80, size=noisy[:, 40:].shape, dtype=np.uint8)
    assert "noise" in flags(noisy, (start // 8 + 100).astype(np.uint8))


def test_a_rollout_that_loses_its_colors(stable):
    video, start = stable
    faded = (255 * (video / 255) ** 0.3).astype(np.uint8)
    assert flags(faded, start) == ["discolors"]
    few = camera(range(0, 700, 50), 9)
    assert drift_from_frames(faded, start, few).flags == []  # too few real frames


@pytest.mark.parametrize("period", [2, 5, 17])
def test_a_looping_rollout(stable, period):
    video, start = stable
    looping = video[:, np.arange(FRAMES) % period]
    drift = drift_from_frames(looping, start, start)
    assert "repeats" in drift.flags
    assert (drift.repetition[: period + 5] == 0).all()


def test_standing_still_and_turning_back_once_are_no_repetition():
    forward = np.arange(0, 160, 4)
    video, _ = rollouts([*forward, *[156] * 20, *forward[::-1]])
    assert not repeated(video).any()


def test_a_looping_rollout_among_stable_ones(stable):
    video = stable[0].copy()
    video[2] = video[2, np.arange(FRAMES) % 20]
    found = repeated(video)
    assert found[2, 32:].all()
    assert not found[[0, 1, 3]].any()


def test_color_distance_is_in_grey_levels():
    rng = np.random.default_rng(0)
    real = rng.integers(100, size=(3, 8, 8, 3), dtype=np.uint8)
    video = np.stack([real + np.uint8(t) for t in range(0, 50, 2)], axis=1)
    drift = drift_from_frames(video, real, real)
    assert drift.color == pytest.approx(np.arange(0, 50, 2))


def test_sharpness_and_change_of_known_frames():
    stripes = np.zeros((1, 4, 4, 3), np.uint8)
    stripes[:, :, 1::2] = 100
    assert sharpness(stripes) == pytest.approx(100)
    assert sharpness(np.full((2, 4, 4, 3), 7, np.uint8)) == pytest.approx(0)
    other = stripes.copy()
    other[0, 0, 0, 2] = 8  # one channel of one pixel
    other[0, 1, 1, :] = 93  # below the threshold
    assert changed_share(stripes, other) == pytest.approx(1 / 16)


def test_held_actions_switch_at_the_mean_rate():
    actions = held_actions(5, 40, 500, seed=3)
    assert actions.shape == (40, 500)
    assert set(actions.ravel()) == set(range(5))
    switches = (np.diff(actions, axis=1) != 0).mean()
    assert switches == pytest.approx(4 / 5 / HOLD, rel=0.1)  # 1/5 repeats
    assert (actions == held_actions(5, 40, 500, seed=3)).all()


def test_drift_of_a_world(make_world):
    world = make_world().train()
    prompts = np.random.default_rng(0).integers(256, size=(3, 1, 12, 10, 3), dtype=np.uint8)
    drift = measure_drift(world, prompts, frames=MIN_DRIFT_FRAMES, progress=False)
    assert drift.frames.shape == (3, MIN_DRIFT_FRAMES, 12, 10, 3)
    assert world.training
    summary = json.loads(json.dumps(drift.summary()))
    for name in ("sharpness", "color", "change", "repetition"):
        assert len(summary[name]) == MIN_DRIFT_FRAMES
        assert np.isfinite(summary[name]).all()
        assert np.isfinite(summary["late"][name])
    assert "discolors" not in summary["limits"]  # needs more real frames than three prompts
    assert summary["rollouts"] == 3
    assert summary["frames"] == MIN_DRIFT_FRAMES
    repeated_run = measure_drift(world, prompts, frames=MIN_DRIFT_FRAMES, progress=False)
    assert (repeated_run.frames == drift.frames).all()


def test_invalid_arguments_are_refused(make_world):
    prompts = np.zeros((1, 1, 12, 10, 3), np.uint8)
    with pytest.raises(UserError, match="at least 24 frames, got 3"):
        measure_drift(make_world(), prompts, frames=3)
    with pytest.raises(UserError, match="at least one prompt"):
        measure_drift(make_world(), prompts[:0])


def test_lines_name_the_flags(stable):
    video, start = stable
    assert drift_from_frames(video, start, start).lines([]) == ["drift over 4 roll-outs of 80 frames: no fault"]
    looping = video[:, np.arange(FRAMES) % 5]
    assert drift_from_frames(looping, start, start).lines([])[0].endswith(": repeats")
