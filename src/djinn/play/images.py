"""Decode uploaded images and encode frames for the page."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from djinn.errors import UserError
from djinn.images import decode_image

MAX_BYTES = 8_000_000


def decode_upload(data: bytes, fit: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    """Decode an uploaded file to a prompt.

    Args:
        data: Content of a PNG, JPEG or WebP file.
        fit: Function that crops and resizes an image to the world's frame size, as
            `World.fit_image` does.

    Returns:
        The prompt, uint8 `(H, W, 3)`.

    Raises:
        UserError: The file is too large or not a valid image (see `djinn.images.decode_image`).
    """
    if len(data) > MAX_BYTES:
        raise UserError(too_many_bytes())
    try:
        return fit(decode_image(data))
    except UserError as error:
        text = str(error)
        raise UserError(f"{text[0].upper()}{text[1:]}.") from None


def encode_frame(frame: np.ndarray, image_format: str = "png") -> bytes:
    """Encode one frame, uint8 `(H, W, 3)`, as `png` or `webp` (both lossless) or `jpeg`."""
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
    """Return the error message for an upload above `MAX_BYTES`."""
    return f"This file is too large: the limit is {MAX_BYTES // 1_000_000} MB. Save a smaller copy first."
