from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def world(make_world, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a very small world without prompt images, with 5 actions."""
    folder = tmp_path_factory.mktemp("worlds") / "small"
    make_world().save_pretrained(folder)
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image of random pixels."""
    path = tmp_path / "start.png"
    Image.fromarray(np.random.default_rng(0).integers(256, size=(30, 40, 3), dtype=np.uint8)).save(path)
    return path
