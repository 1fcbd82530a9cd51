import json

import numpy as np
import pytest

from djinn.errors import UserError
from djinn.evaluate.action_effects import effects_from_frames, measure_action_effects
from moving import Scroller, ScrollerSession, prompts, texture, view


@pytest.fixture
def scroll(monkeypatch):
    """Return a function that measures a world whose codes move the camera."""
    monkeypatch.setattr("djinn.evaluate.action_effects.Session", ScrollerSession)
    return lambda moves, **more: measure_action_effects(Scroller(moves), prompts(), progress=False, **more)


def test_effects_of_camera_motion(scroll):
    effects = scroll([(2, 0), (-3, 0), (0, -4), (0, 0)])
    assert effects.frames.shape == (4, 8, 5, 64, 64, 3)
    assert (effects.frames[:, :, 0] == prompts()[:, 0]).all()
    right, left, up, stay = effects.codes
    assert right.shift == pytest.approx([-2, 0], abs=0.2)
    assert left.shift == pytest.approx([3, 0], abs=0.2)
    assert up.shift == pytest.approx([0, 4], abs=0.2)
    assert stay.shift == pytest.approx([0, 0], abs=0.01)
    assert all(code.shift_agreement == 1 and code.flow_agreement > 0.95 for code in effects.codes)
    assert stay.change == min(code.change for code in effects.codes)
    assert effects.consistency > 0.95


def test_relative_shift_subtracts_common_motion(scroll):
    effects = scroll([(3, 0), (1, 0), (1, 0)])
    assert effects.codes[1].shift == pytest.approx([-1, 0], abs=0.2)
    assert effects.codes[1].relative_shift == pytest.approx([0, 0], abs=0.2)
    assert effects.codes[0].relative_shift == pytest.approx([-2, 0], abs=0.3)


def test_random_effects_do_not_agree(scroll):
    effects = scroll([None, None, (2, 0)])
    for code in effects.codes[:2]:
        assert code.shift_agreement <= 0.5 and abs(code.flow_agreement) < 0.5
    assert effects.codes[2].shift_agreement == 1
    assert scroll([None, None, None]).consistency < 0.2


def test_a_world_that_ignores_its_actions_has_no_consistency(scroll):
    effects = scroll([(2, 0), (2, 0), (2, 0)])
    assert effects.consistency == 0
    assert all(code.change == 0 and code.relative_shift == [0, 0] for code in effects.codes)


def test_summary_is_plain_json(scroll):
    summary = scroll([(2, 0), (0, 0)], frames=2).summary()
    assert json.loads(json.dumps(summary)) == summary
    assert (summary["prompts"], summary["frames"], len(summary["codes"])) == (8, 2, 2)
    assert set(summary["codes"][0]) > {"code", "shift", "shift_agreement", "flow_agreement", "change"}


def test_change_is_measured_from_the_most_common_outcome():
    still = view(texture(), 30, 30)
    frames = np.broadcast_to(still, (3, 2, 3, 64, 64, 3)).copy()
    frames[2, :, 1:, :32] = frames[2, :, 1:, :32] // 2
    changes = [code.change for code in effects_from_frames(frames).codes]
    assert changes[:2] == [0, 0] and changes[2] > 10


def test_effects_of_a_real_world_are_reproducible(make_world):
    world = make_world()
    images = np.random.default_rng(0).integers(256, size=(3, 1, 12, 10, 3), dtype=np.uint8)
    one, two = (measure_action_effects(world, images, frames=2, seed=1, progress=False) for _ in range(2))
    assert one.frames.shape == (5, 3, 3, 12, 10, 3)
    assert (one.frames == two.frames).all() and one.summary() == two.summary()
    assert not world.training


def test_too_few_prompts_or_frames_are_refused(make_world):
    images = np.zeros((2, 1, 12, 10, 3), np.uint8)
    with pytest.raises(UserError, match="2 prompts"):
        measure_action_effects(make_world(), images[:1])
    with pytest.raises(UserError, match="1 frame"):
        measure_action_effects(make_world(), images, frames=0)


def test_lines_number_codes_from_0_with_their_names(scroll):
    lines = scroll([(2, 0), (0, 0)], frames=2).lines(["right", "action 1"])
    assert "held for 2 frames from 8 prompts" in lines[0]
    assert lines[2].split()[:3] == ["0", "right", "-2.0"]
    assert lines[3].split()[0] == "1"


def test_identical_actions_have_no_difference(scroll):
    differences = scroll([(2, 0), (2, 0), (-2, 0)]).differences
    assert differences[0, 1] == differences[1, 0] == 0
    assert (differences[2, :2] > 1).all() and differences[2, 2] == 0
