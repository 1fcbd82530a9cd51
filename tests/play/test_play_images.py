import io

import numpy as np
import pytest
from PIL import Image
from playing import huge_png

from djinn.errors import UserError
from djinn.models.world import World
from djinn.play.images import MOST_BYTES, encode_picture, read_picture


def save(image: Image.Image, format: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **settings)
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("size", [(32, 32), (300, 200), (7, 90), (1, 1)])
def test_pictures_of_any_size_become_prompts(world: World, format: str, size: tuple[int, int]) -> None:
    prompt = read_picture(save(Image.new("RGB", size, (200, 30, 90)), format), world.fit_image)
    assert prompt.shape == (32, 32, 3) and prompt.dtype == np.uint8
    assert np.abs(prompt.astype(int) - (200, 30, 90)).max() < 12


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "I;16", "1"])
def test_pictures_of_any_kind_become_prompts(world: World, mode: str) -> None:
    prompt = read_picture(save(Image.new(mode, (40, 40)), "PNG"), world.fit_image)
    assert prompt.shape == (32, 32, 3)


def test_sixteen_bits_keep_their_brightness(world: World) -> None:
    grey = Image.fromarray(np.full((40, 40), 128 * 257, np.uint16))
    assert (read_picture(save(grey, "PNG"), world.fit_image) == 128).all()


def test_a_turned_photo_is_turned_back(world: World) -> None:
    image = Image.new("RGB", (64, 32), "white")
    image.paste((0, 0, 0), (0, 0, 32, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    prompt = read_picture(save(image, "PNG", exif=exif), world.fit_image)
    assert prompt[:16].max() == 0 and prompt[16:].min() == 255


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "not a readable image"),
        (b"hello, I am a text file", "not a readable image"),
        (b"\x89PNG\r\n\x1a\n", "not a readable image"),
        (save(Image.new("RGB", (64, 64)), "GIF"), "not a readable image"),
        (b"\0" * (MOST_BYTES + 1), "at most 8 MB"),
        (huge_png(10_000), "100 megapixels .10000x10000. and exceeds the limit of 40"),
        (huge_png(60_000), "limit of 40 megapixels"),
        (huge_png(1_000), "damaged or incomplete"),
        (save(Image.effect_noise((200, 200), 90), "JPEG")[:3000], "damaged or incomplete"),
    ],
)
def test_bad_files_get_a_sentence(world: World, data: bytes, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_picture(data, world.fit_image)


@pytest.mark.parametrize("format", ["png", "webp"])
def test_frames_travel_exactly(format: str) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (30, 17, 3), np.uint8)
    assert np.array_equal(np.array(Image.open(io.BytesIO(encode_picture(frame, format)))), frame)
