import numpy as np
import pytest

from djinn.evaluate.motion import block_flow, global_shift, grey
from moving import texture, view


@pytest.mark.parametrize("shift", [(0, 0), (3, 0), (-2, 1), (0, -4), (5, 5)])
def test_a_known_shift_is_found(shift):
    x, y = shift
    before, after = view(texture(), 30, 30), view(texture(), 30 - x, 30 - y)
    [found] = global_shift(grey(before)[None], grey(after)[None])
    assert found == pytest.approx(shift, abs=0.15)


def test_a_shift_of_half_a_pixel_is_found():
    fine = texture(side=256)
    halved = [grey(view(fine, x, 60, 128)).reshape(64, 2, 64, 2).mean(axis=(1, 3)) for x in (60, 59)]
    [found] = global_shift(halved[0][None], halved[1][None])
    assert found == pytest.approx((0.5, 0), abs=0.2)


def test_shift_of_a_blurred_noisy_frame():
    rng = np.random.default_rng(0)
    before, after = grey(view(texture(), 30, 30)), grey(view(texture(), 32, 30))
    noisy = (after + np.roll(after, 1, 0) + np.roll(after, 1, 1)) / 3 + rng.normal(0, 10, after.shape)
    [found] = global_shift(before[None], noisy[None])
    assert found == pytest.approx((-2, 0), abs=0.6)


def test_still_frames_have_no_shift_and_no_flow():
    still = grey(view(texture(), 30, 30))[None]
    flat = np.full_like(still, 90)
    for frames in (still, flat):
        assert np.abs(global_shift(frames, frames)).max() < 1e-6
        assert not block_flow(frames, frames).any()


def test_each_block_has_its_own_flow():
    before = view(texture(), 30, 30)
    after = before.copy()
    # the block at row 1, column 1 moves 4 pixels to the right
    after[16:32, 20:36] = before[16:32, 16:32]
    flow = block_flow(grey(before)[None], grey(after)[None])[0]
    assert flow.shape == (4, 4, 2)
    assert flow[1, 1].tolist() == [4, 0]
    assert not flow[0].any() and not flow[2:].any()


def test_all_blocks_move_with_the_camera():
    before, after = view(texture(), 30, 30), view(texture(), 33, 28)
    flow = block_flow(grey(before)[None], grey(after)[None])[0]
    assert (flow == (-3, 2)).all()


@pytest.mark.parametrize("size", [(12, 10), (90, 160)])
def test_other_frame_sizes(size):
    height, width = size
    wide = texture(side=200)
    before, after = (grey(wide[20 : 20 + height, x : x + width]) for x in (20, 19))
    [shift], [flow] = global_shift(before[None], after[None]), block_flow(before[None], after[None])
    assert flow.shape[:2] == ((1, 1) if height == 12 else (5, 10))
    assert (flow == (1, 0)).all()
    assert shift == pytest.approx((1, 0), abs=0.6)
