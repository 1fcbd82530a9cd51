import base64
import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

from djinn.errors import UserError
from djinn.evaluate.action_effects import effects_from_frames
from djinn.report.animation import action_rows, png_uri, save_action_grid, side_by_side, stack_vertically, webp_uri


def open_uri(uri):
    head, data = uri.split(",", 1)
    assert head.startswith("data:image/")
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.fixture
def video():
    return np.random.default_rng(0).integers(256, size=(5, 12, 16, 3), dtype=np.uint8)


@pytest.fixture
def effects():
    frames = np.random.default_rng(1).integers(256, size=(3, 2, 4, 16, 20, 3), dtype=np.uint8)
    frames[:, :, 0] = frames[0, :, 0]
    return effects_from_frames(frames)


def test_images_and_animations_are_lossless(video):
    assert (np.asarray(open_uri(png_uri(video[0]))) == video[0]).all()
    animation = open_uri(webp_uri(video))
    frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(animation)]
    assert (np.stack(frames) == video).all()
    assert animation.info["loop"] == 0


def test_an_animation_of_one_frame(video):
    assert (np.asarray(open_uri(webp_uri(video[:1])).convert("RGB")) == video[0]).all()


def test_videos_side_by_side_and_stacked(video):
    pair = side_by_side([video, video[::-1]])
    assert pair.shape == (5, 12, 34, 3)
    assert (pair[:, :, :16] == video).all()
    assert (pair[:, :, 18:] == video[::-1]).all()
    assert stack_vertically([pair, pair, pair]).shape == (5, 40, 34, 3)


def test_numbers_below_frames(video):
    numbered = side_by_side([video, video], [[None, 1, 17, 4, 4], [0, 1, 2, 3, 4]])
    assert numbered.shape == (5, 19, 34, 3)
    assert (numbered[:, :12, :16] == video).all()
    strip = (numbered[:, 12:] == 230).all(axis=-1)
    assert not strip[0, :, :16].any()
    assert strip[1, :, :16].sum() == 8  # the pixels of a 1
    assert strip[2, :, :16].sum() == 8 + 7  # and of a 7
    assert (strip[3] == strip[4])[:, :16].all()
    ones = ["".join(".#"[int(p)] for p in row[1:4]) for row in strip[1, 1:6]]
    assert ones == [".#.", "##.", ".#.", ".#.", "###"]


def test_action_rows_start_with_the_still_prompt(effects):
    rows = action_rows(effects.frames, 6)
    assert len(rows) == 2
    assert len(rows[0]) == 1 + 3
    assert (rows[1][0] == effects.frames[0, 1, 0]).all()
    assert (rows[1][3] == effects.frames[2, 1]).all()


def test_action_grid(effects, tmp_path):
    save_action_grid(effects, tmp_path / "grid.gif", ["left", "right", "a very long name for an action"])
    with Image.open(tmp_path / "grid.gif") as image:
        assert image.n_frames >= 4
        assert image.width > image.height > 2 * 16
    save_action_grid(effects, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as image:
        assert image.width > 4 * 96
    with pytest.raises(UserError, match=r"\.gif or a \.png"):
        save_action_grid(effects, tmp_path / "grid.jpg")
