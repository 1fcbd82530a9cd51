from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def make_video(tmp_path) -> Callable[..., Path]:
    """Encode frames into a video file, at given times in seconds."""

    def make(name: str, frames: np.ndarray, fps: float = 10, times: list[float] | None = None, options=None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w", options=options or {}) as container:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv444p"
            stream.codec_context.time_base = Fraction(1, 1000)
            stream.options = {"crf": "4", "preset": "ultrafast"}
            for number, array in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(array, format="rgb24")
                frame.time_base = Fraction(1, 1000)
                frame.pts = round(1000 * (times[number] if times else number / fps))
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return make


@pytest.fixture
def make_noise_video(make_video) -> Callable[..., Path]:
    """Encode noise, whose file is large enough to be cut in the middle."""

    def make(name: str, count: int = 40, seed: int = 0, **options) -> Path:
        frames = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        return make_video(name, frames, **options)

    return make


@pytest.fixture
def make_images(tmp_path) -> Callable[..., Path]:
    """Write frames as `0.png`, `1.png` and so on into a folder."""

    def make(folder: str, frames: np.ndarray, suffix: str = ".png") -> Path:
        path = tmp_path / folder
        path.mkdir(parents=True, exist_ok=True)
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(path / f"{number}{suffix}")
        return path

    return make
