"""Read image files, and crop and resize images to prompts."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from djinn.atomic import check_readable_file
from djinn.errors import UserError

MAX_PIXELS = 40_000_000
"""Images with more pixels are refused before they are decoded."""
FORMATS = ("PNG", "JPEG", "WEBP")


def decode_image(data: bytes, name: str = "this file") -> Image.Image:
    """Decode an image file and apply its EXIF orientation.

    The size is read from the header and checked before any pixel is decoded.

    Args:
        data: Content of a PNG, JPEG or WebP file.
        name: Name of the file in error messages.

    Returns:
        An RGB image, transparent parts white. Large JPEG files are decoded at reduced resolution.

    Raises:
        UserError: The file is not an image, has too many pixels or is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
    except Image.DecompressionBombError:
        raise UserError(_too_many_pixels(name)) from None
    except Exception:
        raise UserError(f"{name} is not a readable image: use a PNG, JPEG or WebP file") from None
    if width * height > MAX_PIXELS:
        raise UserError(_too_many_pixels(f"{name} has {width * height / 1e6:.0f} megapixels ({width}x{height}) and"))
    try:
        if image.format == "JPEG":
            image.draft("RGB", (1024, 1024))
        return to_rgb(image)
    except Exception:
        raise UserError(f"{name} is a damaged or incomplete image: use another copy") from None


def read_image(path: Path, size: tuple[int, int] | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Read an image file.

    Args:
        path: PNG, JPEG or WebP file.
        size: Height and width to crop and resize it to; None keeps its size.

    Raises:
        UserError: The file cannot be read (`check_readable_file`), or is not an image
            (`decode_image`).
    """
    data = check_readable_file(path, "PNG, JPEG or WebP file").read_bytes()
    image = decode_image(data, str(path))
    return np.array(image) if size is None else fit_image(image, *size)


def to_rgb(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation, composite transparency over white, and convert to 8-bit RGB."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits per channel, scaled to 8
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    if image.mode not in ("RGB", "L") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


def fit_image(image: Image.Image, height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """Crop the center of an image to an aspect ratio and resize it.

    Downscaling averages over areas, upscaling is bicubic.

    Args:
        image: Image of any mode; see `to_rgb`.
        height: Height of the result in pixels.
        width: Width of the result in pixels.
    """
    image = to_rgb(image)
    scale = min(image.width / width, image.height / height)
    crop_width, crop_height = width * scale, height * scale
    left, top = (image.width - crop_width) / 2, (image.height - crop_height) / 2
    resample = Image.Resampling.BOX if scale >= 1 else Image.Resampling.BICUBIC
    box = (left, top, left + crop_width, top + crop_height)
    return np.array(image.resize((width, height), resample, box=box), dtype=np.uint8)


def _too_many_pixels(name: str) -> str:
    return f"{name} exceeds the limit of {MAX_PIXELS // 1_000_000} megapixels: make it smaller"
