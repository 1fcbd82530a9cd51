import json

import numpy as np
import pytest

from djinn.errors import UserError
from djinn.evaluate.drift import (
    FEWEST,
    HOLD,
    changed_share,
    drift_of,
    held_actions,
    measure_drift,
    repeated,
    sharpness,
)

GAMES, FRAMES, SIDE = 4, 80, 32


def panorama(seed):
    """A long picture of coloured blocks, under which a camera may move without ever coming back."""
    blocks = np.random.default_rng(seed).integers(256, size=(SIDE // 4, 200, 3), dtype=np.uint8)
    return blocks.repeat(4, axis=0).repeat(4, axis=1)


def camera(places, seed):
    scene = panorama(seed)
    return np.stack([scene[:, x : x + SIDE] for x in places])


def games(places):
    """One video for each game, and the frame before each."""
    video = np.stack([camera([0, *places], seed) for seed in range(GAMES)])
    return video[:, 1:], video[:, 0]


def flags(video, start):
    return drift_of(video, start, camera(range(0, 700, 5), 9)).flags


@pytest.fixture
def healthy():
    rng = np.random.default_rng(0)
    return games(rng.integers(1, 8, size=FRAMES).cumsum())


def test_a_healthy_game_has_no_flags(healthy):
    drift = drift_of(*healthy, healthy[1])
    assert drift.flags == []
    assert drift.sharpness == pytest.approx(1, abs=0.3)
    assert not drift.repetition.any()
    assert drift.colour.max() < 2 * drift.colour_spread


def test_a_frozen_game(healthy):
    video, start = healthy
    frozen = video.copy()
    frozen[:, 40:] = video[:, 40, None]
    assert flags(frozen, start) == ["freezes"]
    assert flags(start[:, None].repeat(FRAMES, axis=1), start) == ["freezes"]
    trembling = frozen.astype(int) + np.random.default_rng(0).integers(-2, 3, size=frozen.shape)
    assert "freezes" in flags(trembling.clip(0, 255).astype(np.uint8), start)


def test_a_blurring_game(healthy):
    video, start = healthy
    blurred = video.astype(float)
    for t in range(FRAMES):
        for _ in range(t // 10):
            left, right = np.roll(blurred[:, t], 1, axis=-2), np.roll(blurred[:, t], -1, axis=-2)
            blurred[:, t] = (left + blurred[:, t] + right) / 3
            up, down = np.roll(blurred[:, t], 1, axis=-3), np.roll(blurred[:, t], -1, axis=-3)
            blurred[:, t] = (up + blurred[:, t] + down) / 3
    drift = drift_of(blurred.astype(np.uint8), start, start)
    assert "melts" in drift.flags
    assert not {"freezes", "noise", "repeats"} & set(drift.flags)
    assert (np.diff(drift.sharpness[9::10]) < 0).all()


def test_a_game_that_breaks_up_into_noise(healthy):
    video, start = healthy
    smooth = (video // 8 + 100).astype(np.uint8)
    noisy = smooth.copy()
    noisy[:, 40:] += np.random.default_rng(0).integers(80, size=noisy[:, 40:].shape, dtype=np.uint8)
    assert "noise" in flags(noisy, (start // 8 + 100).astype(np.uint8))


def test_a_game_that_loses_its_colours(healthy):
    video, start = healthy
    faded = (255 * (video / 255) ** 0.3).astype(np.uint8)
    assert flags(faded, start) == ["discolours"]
    few = camera(range(0, 700, 50), 9)
    assert drift_of(faded, start, few).flags == []  # too few real frames to tell


@pytest.mark.parametrize("period", [2, 5, 17])
def test_a_looping_game(healthy, period):
    video, start = healthy
    looping = video[:, np.arange(FRAMES) % period]
    drift = drift_of(looping, start, start)
    assert "repeats" in drift.flags
    assert (drift.repetition[: period + 5] == 0).all()


def test_standing_still_and_going_back_once_are_no_repetition():
    forth = np.arange(0, 160, 4)
    video, _ = games([*forth, *[156] * 20, *forth[::-1]])
    assert not repeated(video).any()


def test_a_looping_game_beside_healthy_ones(healthy):
    video = healthy[0].copy()
    video[2] = video[2, np.arange(FRAMES) % 20]
    found = repeated(video)
    assert found[2, 32:].all()
    assert not found[[0, 1, 3]].any()


def test_colour_is_in_grey_levels():
    rng = np.random.default_rng(0)
    real = rng.integers(100, size=(3, 8, 8, 3), dtype=np.uint8)
    video = np.stack([real + np.uint8(t) for t in range(0, 50, 2)], axis=1)
    drift = drift_of(video, real, real)
    assert drift.colour == pytest.approx(np.arange(0, 50, 2))


def test_sharpness_and_change_of_known_pictures():
    stripes = np.zeros((1, 4, 4, 3), np.uint8)
    stripes[:, :, 1::2] = 100
    assert sharpness(stripes) == pytest.approx(100)
    assert sharpness(np.full((2, 4, 4, 3), 7, np.uint8)) == pytest.approx(0)
    other = stripes.copy()
    other[0, 0, 0, 2] = 8  # one channel of one pixel
    other[0, 1, 1, :] = 93  # not enough
    assert changed_share(stripes, other) == pytest.approx(1 / 16)


def test_held_actions():
    actions = held_actions(5, 40, 500, seed=3)
    assert actions.shape == (40, 500)
    assert set(actions.ravel()) == set(range(5))
    switches = (np.diff(actions, axis=1) != 0).mean()
    assert switches == pytest.approx(4 / 5 / HOLD, rel=0.1)  # a fifth of the draws repeats the action
    assert (actions == held_actions(5, 40, 500, seed=3)).all()


def test_measuring_a_world(make_world):
    world = make_world().train()
    prompts = np.random.default_rng(0).integers(256, size=(3, 1, 12, 10, 3), dtype=np.uint8)
    drift = measure_drift(world, prompts, frames=FEWEST, progress=False)
    assert drift.frames.shape == (3, FEWEST, 12, 10, 3)
    assert world.training
    summary = json.loads(json.dumps(drift.summary()))
    for name in ("sharpness", "colour", "change", "repetition"):
        assert len(summary[name]) == FEWEST
        assert np.isfinite(summary[name]).all()
        assert np.isfinite(summary["late"][name])
    assert "discolours" not in summary["limits"]  # which takes more real frames than three prompts
    assert summary["games"] == 3
    assert summary["frames"] == FEWEST
    again = measure_drift(world, prompts, frames=FEWEST, progress=False)
    assert (again.frames == drift.frames).all()


def test_mistakes(make_world):
    prompts = np.zeros((1, 1, 12, 10, 3), np.uint8)
    with pytest.raises(UserError, match="at least 24 frames, got 3"):
        measure_drift(make_world(), prompts, frames=3)
    with pytest.raises(UserError, match="at least one prompt"):
        measure_drift(make_world(), prompts[:0])
