"""Decoding and encoding of video files with PyAV."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import av.error
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8
from PIL import Image

from djinn.atomic import atomic_write, check_readable_file
from djinn.errors import UserError

Fit = Literal["crop", "stretch"]
VIDEO_SUFFIXES = (
    *(".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".gif", ".mpg", ".mpeg"),
    *(".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".ogv"),
)
_MAX_FRAME_SECONDS = 10.0
"""Maximum display time of a frame. A longer gap between timestamps is a discontinuity and is
closed."""
_MIN_MISSING_SECONDS, _MIN_MISSING_FRACTION = 1.0, 0.1
"""A file counts as cut short if both this time and this fraction of its duration are missing."""
_MIN_DISPLAY_SIDE = 256
"""Small frames are enlarged to at least this height and width for viewing."""


class BrokenVideoError(UserError):
    """A video file that cannot be decoded completely."""


class _TruncatedError(Exception):
    """The stream ends early or contains an incomplete frame."""


def read_video(
    path: str | Path, fps: float, size: tuple[int, int], fit: Fit = "crop"
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Decode a video file at a given frame rate and size.

    Frames are selected by their timestamps: frame k is the one that a player shows at time k / fps,
    so files of any constant or variable frame rate keep their speed. Frames repeat if the file has
    a lower rate. Frames are downscaled by area averaging, and rotated according to the metadata of
    the file.

    Args:
        path: The file.
        fps: Frames per second to return.
        size: Height and width of the frames to return, in pixels.
        fit: `crop` cuts off the borders to keep the aspect ratio, `stretch` keeps the whole frame
            and distorts it.

    Yields:
        Frames `(H, W, 3)`.

    Raises:
        UserError: There is no such file, or it cannot be read.
        BrokenVideoError: The file is not a video, or is damaged or cut short. The intact frames are
            yielded first.
    """
    path = check_readable_file(path, "video file")
    count = 0
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stream = _video_stream(container, path)
            aspect = float(stream.sample_aspect_ratio or 1)
            scaler = VideoReformatter()
            for frame in _resample(_timed_frames(container, stream), fps):
                yield _to_array(frame, scaler, aspect, size, fit)
                count += 1
    except (av.error.FFmpegError, EOFError, _TruncatedError) as error:
        reason = str(getattr(error, "strerror", "") or error)
        if count:
            raise BrokenVideoError(f"{path} is damaged or cut short after {count} frames ({reason})") from None
        raise BrokenVideoError(f"{path} is not a video that can be decoded ({reason})") from None
    if count == 0:
        raise BrokenVideoError(f"{path} contains no frames")


def is_single_frame(path: str | Path) -> bool:
    """Return whether a decodable video file contains fewer than two frames."""
    with av.open(str(path), metadata_errors="replace") as container:
        return len(list(itertools.islice(container.decode(video=0), 2))) < 2


def duration(path: str | Path) -> float | None:
    """Return the duration in seconds that a video file states, None if there is none."""
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            return None if container.duration is None else container.duration / av.time_base
    except (av.error.FFmpegError, OSError):
        return None


def write_video(
    path: str | Path, frames: UInt8[np.ndarray, "t h w 3"], fps: float, *, scale: int | None = None, exact: bool = False
) -> None:
    """Write frames atomically as `.mp4`, as `.gif` or, side by side, as one `.png`.

    Args:
        path: File to write; its suffix selects the format.
        frames: Frames `(T, H, W, 3)`.
        fps: Frames per second.
        scale: Integer factor by which `.mp4` and `.gif` are enlarged. By default small frames are
            enlarged to at least 256 pixels.
        exact: For `.mp4` only: keep the size and the full color resolution (4:4:4), for use with
            `djinn data import`. Browsers may not play such a file.

    Raises:
        UserError: The suffix is unknown, there are no frames, or the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".mp4", ".gif", ".png"):
        raise UserError(f"cannot write a video to {path.name}: give a file name that ends in .mp4, .gif or .png")
    if exact and suffix != ".mp4":
        raise UserError(f"exact is for .mp4 only, not for {path.name}")
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or len(frames) == 0:
        raise UserError(f"a video must be uint8 (T, H, W, 3) with T >= 1, got {frames.dtype} {frames.shape}")
    factor = 1 if exact else scale or _scale_factor(frames, _MIN_DISPLAY_SIDE)
    enlarged = (_repeat_pixels(frame, factor) for frame in frames)
    with atomic_write(path) as temporary:
        if suffix == ".png":
            _write_png(temporary, frames)
        elif suffix == ".gif":
            _write_gif(temporary, enlarged, len(frames), fps)
        else:
            try:
                _write_mp4(temporary, enlarged, fps, exact)
            except av.error.FFmpegError as error:
                raise UserError(f"cannot write {path} ({error.strerror or error}): choose another file name") from error


def enlarge(frames: UInt8[np.ndarray, "t h w 3"], min_side: int) -> UInt8[np.ndarray, "t kh kw 3"]:
    """Repeat pixels by an integer factor until height and width are at least `min_side`."""
    return _repeat_pixels(frames, _scale_factor(frames, min_side))


def _scale_factor(frames: np.ndarray, min_side: int) -> int:
    return -(-min_side // min(frames.shape[1:3]))


def _repeat_pixels(frames: UInt8[np.ndarray, "*t h w 3"], factor: int) -> UInt8[np.ndarray, "*t kh kw 3"]:
    return frames if factor == 1 else frames.repeat(factor, axis=-3).repeat(factor, axis=-2)


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """Return the first video stream of a file.

    Raises:
        BrokenVideoError: The file is an image or has no video stream.
    """
    if container.format.name == "image2" or container.format.name.endswith("_pipe"):
        raise BrokenVideoError(
            f"{path} is an image, not a video: import folders of images with `djinn data import images`"
        )
    for stream in container.streams.video:
        if stream.codec_context is None:
            raise BrokenVideoError(f"{path} has a format that the installed PyAV cannot decode")
        if not stream.disposition & av.stream.Disposition.attached_pic:  # cover art is not a video
            stream.codec_context.thread_type = "SLICE"  # frame threads lose errors
            return stream
    raise BrokenVideoError(f"{path} has no video, only {'audio' if container.streams.audio else 'other data'}")


def _timed_frames(
    container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[tuple[float, av.VideoFrame]]:
    """Decode frames with increasing times in seconds, from 0, without gaps and discontinuities.

    Raises:
        _TruncatedError: A frame is incomplete, or the stream is shorter than it states.
    """
    step = float(1 / stream.average_rate) if stream.average_rate else 0.04
    shift: float | None = None
    last = clock = -step
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise _TruncatedError("a frame is incomplete")
        for frame in packet.decode():
            if frame.is_corrupt:
                raise _TruncatedError("a frame is damaged")
            time = last + step
            if frame.time is not None:
                clock = max(clock, frame.time)
                shift = frame.time if shift is None else shift
                if last < frame.time - shift <= last + _MAX_FRAME_SECONDS:
                    time = frame.time - shift
                else:
                    shift = frame.time - time
            yield time, frame
            last = time
    stated = _stated_duration(stream)
    end = max(clock, last)
    if stated - end > max(_MIN_MISSING_SECONDS, _MIN_MISSING_FRACTION * stated):
        raise _TruncatedError(f"it states a duration of {stated:.1f} s but ends after {end:.1f} s")


def _stated_duration(stream: av.VideoStream) -> float:
    """Return the duration in seconds that a stream states, 0 if none.

    Matroska states it as text, such as `00:01:02.5`.
    """
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    parts = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    return 3600 * int(parts[1]) + 60 * int(parts[2]) + float(parts[3]) if parts else 0.0


def _resample(timed: Iterator[tuple[float, av.VideoFrame]], fps: float) -> Iterator[av.VideoFrame]:
    """Yield the frame shown at each time k / fps, up to the time of the last frame."""
    tolerance = min(0.005, 0.1 / fps)
    current: av.VideoFrame | None = None
    current_time, count = 0.0, 0
    for time, frame in timed:
        while current is not None and count / fps < time - tolerance:
            yield current
            count += 1
        current, current_time = frame, time
    if current is not None and count / fps <= current_time + tolerance:
        yield current


def _to_array(
    frame: av.VideoFrame, scaler: VideoReformatter, aspect: float, size: tuple[int, int], fit: Fit
) -> np.ndarray:
    """Scale, crop and rotate a frame to `(H, W, 3)`."""
    height, width = size
    quarter_turns = round(frame.rotation / 90) % 4
    if quarter_turns % 2:
        height, width = width, height
    scaled_size = _covering_size(frame.width * aspect, frame.height, (height, width), fit)
    scaled = scaler.reformat(frame, *scaled_size, format="rgb24", interpolation="AREA")
    return np.ascontiguousarray(np.rot90(_crop_center(scaled.to_ndarray(), height, width), quarter_turns))


def _covering_size(width: float, height: float, size: tuple[int, int], fit: Fit) -> tuple[int, int]:
    """Return width and height of the smallest frame of this aspect ratio that covers `size`."""
    if fit == "stretch":
        return size[1], size[0]
    scale = max(size[1] / width, size[0] / height)
    return max(size[1], round(width * scale)), max(size[0], round(height * scale))


def _crop_center(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    top, left = (frame.shape[0] - height) // 2, (frame.shape[1] - width) // 2
    return frame[top : top + height, left : left + width]


def _write_mp4(path: Path, frames: Iterator[np.ndarray], fps: float, exact: bool) -> None:
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.pix_fmt = "yuv444p" if exact else "yuv420p"
        stream.gop_size = 32
        stream.options = {"crf": "16", "preset": "veryslow" if exact else "medium"}
        for number, frame in enumerate(frames):
            if not exact:  # 4:2:0 needs an even height and width
                frame = np.pad(frame, [(0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)], mode="edge")
            if number == 0:
                stream.height, stream.width = frame.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))


def _write_png(path: Path, frames: np.ndarray) -> None:
    Image.fromarray(np.concatenate(list(frames), axis=1)).save(path)


def _write_gif(path: Path, frames: Iterator[np.ndarray], count: int, fps: float) -> None:
    """Write a GIF whose total duration matches `fps`.

    GIF stores durations in hundredths of a second, so those of single frames are rounded. None is
    below two hundredths, because browsers show such frames for ten.
    """
    times = [round(100 * i / fps) for i in range(count + 1)]
    durations = [10 * max(2, after - before) for before, after in itertools.pairwise(times)]
    images = (Image.fromarray(frame).quantize(256, Image.Quantize.MEDIANCUT) for frame in frames)
    next(images).save(path, save_all=True, append_images=images, duration=durations, loop=0)
