import io

import numpy as np
import pytest
from PIL import Image
from play_helpers import huge_png

from djinn.errors import UserError
from djinn.models.world import World
from djinn.play.images import MAX_BYTES, decode_upload, encode_frame


def save(image: Image.Image, format: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **settings)
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("size", [(32, 32), (300, 200), (7, 90), (1, 1)])
def test_image_of_any_size_becomes_prompt(world: World, format: str, size: tuple[int, int]) -> None:
    prompt = decode_upload(save(Image.new("RGB", size, (200, 30, 90)), format), world.fit_image)
    assert prompt.shape == (32, 32, 3) and prompt.dtype == np.uint8
    assert np.abs(prompt.astype(int) - (200, 30, 90)).max() < 12


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "I;16", "1"])
def test_image_of_any_mode_becomes_prompt(world: World, mode: str) -> None:
    prompt = decode_upload(save(Image.new(mode, (40, 40)), "PNG"), world.fit_image)
    assert prompt.shape == (32, 32, 3)


def test_sixteen_bit_image_keeps_brightness(world: World) -> None:
    grey = Image.fromarray(np.full((40, 40), 128 * 257, np.uint16))
    assert (decode_upload(save(grey, "PNG"), world.fit_image) == 128).all()


def test_exif_orientation_is_applied(world: World) -> None:
    image = Image.new("RGB", (64, 32), "white")
    image.paste((0, 0, 0), (0, 0, 32, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    prompt = decode_upload(save(image, "PNG", exif=exif), world.fit_image)
    assert prompt[:16].max() == 0 and prompt[16:].min() == 255


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "not a readable image"),
        (b"hello, I am a text file", "not a readable image"),
        (b"\x89PNG\r\n\x1a\n", "not a readable image"),
        (save(Image.new("RGB", (64, 64)), "GIF"), "not a readable image"),
        (b"\0" * (MAX_BYTES + 1), "limit is 8 MB"),
        (huge_png(10_000), "100 megapixels .10000x10000. and exceeds the limit of 40"),
        (huge_png(60_000), "limit of 40 megapixels"),
        (huge_png(1_000), "damaged or incomplete"),
        (save(Image.effect_noise((200, 200), 90), "JPEG")[:3000], "damaged or incomplete"),
    ],
)
def test_invalid_file_raises_user_error(world: World, data: bytes, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        decode_upload(data, world.fit_image)


@pytest.mark.parametrize("format", ["png", "webp"])
def test_lossless_formats_keep_pixels(format: str) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (30, 17, 3), np.uint8)
    assert np.array_equal(np.array(Image.open(io.BytesIO(encode_frame(frame, format)))), frame)
