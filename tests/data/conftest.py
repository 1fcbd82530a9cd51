from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest


@pytest.fixture
def make_video(tmp_path) -> Callable[..., Path]:
    """Encodes frames into a real video file, at given times in seconds."""

    def make(name: str, frames: np.ndarray, fps: float = 10, times: list[float] | None = None, options=None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w", options=options or {}) as container:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv444p"
            stream.codec_context.time_base = Fraction(1, 1000)
            stream.options = {"crf": "4", "preset": "ultrafast"}
            for number, frame in enumerate(frames):
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
                picture.time_base = Fraction(1, 1000)
                picture.pts = round(1000 * (times[number] if times else number / fps))
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        return path

    return make


@pytest.fixture
def make_noise_video(make_video) -> Callable[..., Path]:
    """Encodes noise, whose file is large enough to be cut in the middle."""

    def make(name: str, count: int = 40, seed: int = 0, **options) -> Path:
        frames = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        return make_video(name, frames, **options)

    return make
