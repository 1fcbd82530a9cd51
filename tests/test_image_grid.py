import numpy as np
import pytest
from PIL import Image

from djinn.errors import UserError
from djinn.image_grid import GridRow, draw_grid, save_png


def find_block(image: np.ndarray, block: np.ndarray) -> bool:
    """Return whether `block` occurs in `image`."""
    height, width = block.shape[:2]
    corners = np.argwhere((image == block[0, 0]).all(-1))
    return any(np.array_equal(image[y : y + height, x : x + width], block) for y, x in corners)


def test_frames_are_enlarged_by_an_integer_factor() -> None:
    video = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), np.uint8)
    rows = [GridRow(video, "real"), GridRow(video[:2], "generated", ["a", "b"], starts_group=True)]
    image = np.asarray(draw_grid(rows, ["0", "1", "2"]))
    assert find_block(image, video[1].repeat(2, 0).repeat(2, 1))
    large = np.asarray(draw_grid([GridRow(video)], tile=256))
    assert find_block(large, video[1].repeat(4, 0).repeat(4, 1))


def test_labels_and_groups_take_room() -> None:
    video = np.zeros((2, 96, 96, 3), np.uint8)
    plain = draw_grid([GridRow(video), GridRow(video)])
    assert draw_grid([GridRow(video, "real"), GridRow(video)]).width > plain.width
    assert draw_grid([GridRow(video), GridRow(video, starts_group=True)]).height > plain.height
    assert draw_grid([GridRow(video, starts_group=True), GridRow(video)]).size == plain.size


def test_an_unwritable_path_is_a_user_error(tmp_path) -> None:
    image = draw_grid([GridRow(np.zeros((1, 8, 8, 3), np.uint8))])
    save_png(image, tmp_path / "new" / "grid.png")
    assert Image.open(tmp_path / "new" / "grid.png").size == image.size
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        save_png(image, tmp_path / "file" / "grid.png")
