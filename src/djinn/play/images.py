"""Pictures in and out: uploads read with care, frames written for the page."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
from PIL import Image

from djinn.errors import UserError

MOST_BYTES = 8_000_000
MOST_PIXELS = 40_000_000
READABLE = ("PNG", "JPEG", "WEBP")


def read_picture(data: bytes, fit: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    """Turns an uploaded file into a prompt.

    The size is read from the file's header, before any pixel is decoded.

    Args:
        data: the file's bytes: PNG, JPEG or WebP.
        fit: crops and resizes a picture to the world's frame, as `World.fit_image` does.

    Returns:
        The prompt, uint8 `(H, W, 3)`.

    Raises:
        UserError: the file is too large, has too many pixels, is damaged or is no picture.
    """
    if len(data) > MOST_BYTES:
        raise UserError(too_many_bytes())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=READABLE)
        width, height = image.size
    except Image.DecompressionBombError:
        raise UserError(_too_many_pixels()) from None
    except Exception:
        raise UserError("This file is not a picture that can be read: choose a PNG, JPEG or WebP file.") from None
    if width * height > MOST_PIXELS:
        raise UserError(_too_many_pixels(width, height))
    try:
        if image.format == "JPEG":
            image.draft("RGB", (1024, 1024))
        return np.asarray(fit(image))
    except UserError:
        raise
    except Exception:
        raise UserError("This picture is damaged or incomplete: try another copy of it.") from None


def encode_picture(frame: np.ndarray, image_format: str = "png") -> bytes:
    """Encodes one frame, uint8 `(H, W, 3)`, as `png` or `webp` (both lossless) or `jpeg`."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(frame))
    if image_format == "png":
        image.save(buffer, "PNG", compress_level=1)
    elif image_format == "webp":
        image.save(buffer, "WEBP", lossless=True, quality=0, method=0)
    else:
        image.save(buffer, "JPEG", quality=92, subsampling=0)
    return buffer.getvalue()


def too_many_bytes() -> str:
    """The sentence for a file over the limit on bytes."""
    return f"This file is too large: at most {MOST_BYTES // 1_000_000} MB are taken, so save it smaller first."


def _too_many_pixels(width: int = 0, height: int = 0) -> str:
    size = f"{width} by {height} is {width * height / 1e6:.0f} megapixels; " if width else ""
    most = MOST_PIXELS // 1_000_000
    return f"This picture has too many pixels: {size}at most {most} megapixels are taken, so make it smaller first."
