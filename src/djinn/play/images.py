"""Pictures in and out: uploads read with care, frames written for the page."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from djinn.errors import UserError
from djinn.images import decode_image

MOST_BYTES = 8_000_000


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
        return fit(decode_image(data))
    except UserError as error:
        text = str(error)
        raise UserError(f"{text[0].upper()}{text[1:]}.") from None


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
