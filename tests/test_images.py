import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from djinn.errors import UserError
from djinn.images import decode_image, fit_image, read_image

HEIGHT, WIDTH = 12, 10


def encode(image: Image.Image, format: str, **settings) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **settings)
    return buffer.getvalue()


def fit(image: Image.Image) -> np.ndarray:
    return fit_image(image, HEIGHT, WIDTH)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "LA", "I;16", "1", "CMYK"])
@pytest.mark.parametrize("size", [(WIDTH, HEIGHT), (300, 40), (3, 200), (1, 1)])
def test_image_of_any_mode_and_size_is_fitted(mode, size):
    fitted = fit(Image.new(mode, size))
    assert fitted.shape == (HEIGHT, WIDTH, 3)
    assert fitted.dtype == np.uint8


def test_transparent_color_becomes_white():
    image = Image.new("RGB", (24, 24), "magenta")
    image.info["transparency"] = (255, 0, 255)
    assert (fit(image) == 255).all()
    assert (fit(Image.new("RGBA", (20, 24), (9, 9, 9, 0))) == 255).all()


def test_frame_of_the_target_size_is_unchanged():
    frame = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    assert np.array_equal(fit(Image.fromarray(frame)), frame)


def test_image_is_cropped_around_its_center():
    large = np.full((24, 60, 3), 50, np.uint8)
    large[:, 20:40] = 200  # the center of the target's aspect ratio
    assert (fit(Image.fromarray(large)) == 200).all()


def test_16_bit_image_keeps_its_brightness():
    grey = Image.fromarray(np.full((HEIGHT, WIDTH), 128 * 257, np.uint16))
    assert (fit(grey) == 128).all()


def test_exif_orientation_is_applied():
    rotated = Image.new("RGB", (12, 10))
    rotated.paste((255, 255, 255), (0, 0, 6, 10))
    exif = rotated.getexif()
    exif[0x0112] = 6  # the left half of the stored image is the top half
    for image in (rotated, decode_image(encode(rotated, "PNG", exif=exif))):
        fitted = fit(image)
        assert (fitted[:6] == 255).all() and (fitted[6:] == 0).all()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_image_files_are_read_as_rgb(tmp_path, format):
    path = tmp_path / "image"
    path.write_bytes(encode(Image.new("RGB", (30, 20), (200, 30, 90)), format))
    image = read_image(path)
    assert image.shape == (20, 30, 3) and image.flags.writeable
    assert np.abs(image.astype(int) - (200, 30, 90)).max() < 12
    assert read_image(path, (HEIGHT, WIDTH)).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a readable image"),
        (b"plain text", "not a readable image"),
        (encode(Image.new("RGB", (64, 64)), "GIF"), "not a readable image"),
        (encode(Image.new("1", (10_000, 10_000)), "PNG"), r"100 megapixels \(10000x10000\).*limit of 40 megapixels"),
        (encode(Image.effect_noise((200, 200), 90), "JPEG")[:3000], "damaged or incomplete"),
    ],
)
def test_invalid_image_file_is_refused_by_name(tmp_path, data, message):
    path = tmp_path / "start.png"
    path.write_bytes(data)
    with pytest.raises(UserError, match=rf"start\.png .*{message}"):
        read_image(path)


def test_missing_and_unreadable_files_are_refused_with_the_reason(tmp_path, public_folder, unprivileged):
    with pytest.raises(UserError, match=r"there is no PNG, JPEG or WebP file at .*none\.png"):
        read_image(tmp_path / "none.png")
    with pytest.raises(UserError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(UserError, match="/dev/zero is not a regular file"):  # it has no end
        read_image(Path("/dev/zero"))
    path = public_folder / "start.png"
    path.touch(mode=0o000)
    with unprivileged(), pytest.raises(UserError, match=r"no permission to read .*start\.png: change the permissions"):
        read_image(path)
