"""Video files in and out, by PyAV: frames at any rate and size, and files that browsers play."""

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

from djinn.atomic import atomic_write
from djinn.errors import UserError

Fit = Literal["crop", "stretch"]
VIDEO_SUFFIXES = (
    *(".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".gif", ".mpg", ".mpeg"),
    *(".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".ogv"),
)
_LONGEST_HOLD = 10.0
"""Seconds that one frame may be shown; a longer gap between timestamps is taken as a jump of the clock."""
_MISSING = 1.0
"""Seconds (and a tenth of the film) that must lack at the end before a file counts as cut short."""
_CLEAR = 256
"""Small frames are enlarged to at least this many rows and columns for people."""


class BrokenVideoError(UserError):
    """A video file that cannot be read, or not to its end; the message names the file."""


class _CutShortError(Exception):
    """The film ends before its end."""


def read_video(
    path: str | Path, fps: float, size: tuple[int, int], fit: Fit = "crop"
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Reads a video file at a given rate and size.

    Frames are taken by their timestamps: the frame at time k / fps is the one that a player would show then, so files
    of any constant or variable rate keep their speed. Where the source has fewer frames a second, frames repeat.
    Frames are reduced with an area filter, and turned upright where the file says so.

    Args:
        path: the file.
        fps: frames a second to return.
        size: `(height, width)` of the frames to return.
        fit: `crop` cuts the borders off to keep the proportions, `stretch` keeps the whole picture and distorts it.

    Yields:
        One frame after another.

    Raises:
        UserError: there is no such file.
        BrokenVideoError: it is not a video, has no picture, is damaged or cut short (good frames were yielded before).
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no video file at {path}")
    count = 0
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stream = _video_stream(container, path)
            aspect = float(stream.sample_aspect_ratio or 1)
            scaler = VideoReformatter()
            for frame in _resampled(_timed(container, stream), fps):
                yield _picture(frame, scaler, aspect, size, fit)
                count += 1
    except (av.error.FFmpegError, EOFError, _CutShortError) as error:
        reason = str(getattr(error, "strerror", "") or error)
        if count:
            raise BrokenVideoError(f"{path} is damaged or cut short after {count} frames ({reason})") from None
        raise BrokenVideoError(f"{path} is not a video that can be read ({reason})") from None
    if count == 0:
        raise BrokenVideoError(f"{path} has no frames")


def duration(path: str | Path) -> float | None:
    """Seconds that a video file says it lasts; None where it does not say or cannot be opened."""
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            return None if container.duration is None else container.duration / av.time_base
    except (av.error.FFmpegError, OSError):
        return None


def write_video(
    path: str | Path, frames: UInt8[np.ndarray, "t h w 3"], fps: float, *, scale: int | None = None, exact: bool = False
) -> None:
    """Writes frames as `.mp4`, `.gif` or, side by side, as one `.png`; the file appears when it is complete.

    Args:
        path: file to write; its suffix chooses the format.
        frames: the frames.
        fps: frames a second.
        scale: rows and columns that each pixel of a `.mp4` or `.gif` takes; by default as many as make small frames clear.
        exact: for `.mp4` only: keep the size and full colour (4:4:4), as good data for `djinn data import`. Browsers
            may not play such a file.

    Raises:
        UserError: the suffix is unknown, there are no frames, or the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".mp4", ".gif", ".png"):
        raise UserError(f"cannot write video to {path.name}: name a file that ends in .mp4, .gif or .png")
    if exact and suffix != ".mp4":
        raise UserError(f"exact is for .mp4 only, not for {path.name}")
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or len(frames) == 0:
        raise UserError(f"a video must be uint8 (T, H, W, 3) with T >= 1, got {frames.dtype} {frames.shape}")
    factor = 1 if exact else scale or _factor(frames, _CLEAR)
    large = (_magnify(frame, factor) for frame in frames)
    with atomic_write(path) as temporary:
        if suffix == ".png":
            _write_png(temporary, frames)
        elif suffix == ".gif":
            _write_gif(temporary, large, len(frames), fps)
        else:
            try:
                _write_mp4(temporary, large, fps, exact)
            except av.error.FFmpegError as error:
                raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def _factor(frames: np.ndarray, least: int) -> int:
    return -(-least // min(frames.shape[1:3]))


def _magnify(frames: UInt8[np.ndarray, "*t h w 3"], factor: int) -> UInt8[np.ndarray, "*t kh kw 3"]:
    return frames if factor == 1 else frames.repeat(factor, axis=-3).repeat(factor, axis=-2)


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    for stream in container.streams.video:
        if stream.codec_context is None:
            raise BrokenVideoError(f"{path} is in a format that the installed PyAV cannot decode")
        if not stream.disposition & av.stream.Disposition.attached_pic:  # a cover picture is no video
            stream.codec_context.thread_type = "SLICE"  # with threads per frame, errors are lost
            return stream
    raise BrokenVideoError(f"{path} has no video, only {'sound' if container.streams.audio else 'other data'}")


def _timed(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[tuple[float, av.VideoFrame]]:
    """Frames with rising times in seconds, the first at 0; gaps and jumps of the clock are closed.

    Raises:
        _CutShortError: a frame is incomplete, or the film ends long before it says it would.
    """
    step = float(1 / stream.average_rate) if stream.average_rate else 0.04
    shift: float | None = None
    last = clock = -step
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise _CutShortError("a frame is incomplete")
        for frame in packet.decode():
            if frame.is_corrupt:
                raise _CutShortError("a frame is damaged")
            time = last + step
            if frame.time is not None:
                clock = max(clock, frame.time)
                shift = frame.time if shift is None else shift
                if last < frame.time - shift <= last + _LONGEST_HOLD:
                    time = frame.time - shift
                else:
                    shift = frame.time - time
            yield time, frame
            last = time
    stated = _stated_seconds(stream)
    if stated - max(clock, last) > max(_MISSING, 0.1 * stated):
        raise _CutShortError(f"it should last {stated:.1f} s but ends after {max(clock, last):.1f} s")


def _stated_seconds(stream: av.VideoStream) -> float:
    """How long a stream says it lasts; 0 where it does not say. Matroska has it as text, such as `00:01:02.5`."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    parts = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    return 3600 * int(parts[1]) + 60 * int(parts[2]) + float(parts[3]) if parts else 0.0


def _resampled(timed: Iterator[tuple[float, av.VideoFrame]], fps: float) -> Iterator[av.VideoFrame]:
    """The frame on show at each k / fps, up to the time of the last frame."""
    slack = min(0.005, 0.1 / fps)
    shown: av.VideoFrame | None = None
    shown_at, count = 0.0, 0
    for time, frame in timed:
        while shown is not None and count / fps < time - slack:
            yield shown
            count += 1
        shown, shown_at = frame, time
    if shown is not None and count / fps <= shown_at + slack:
        yield shown


def _picture(
    frame: av.VideoFrame, scaler: VideoReformatter, aspect: float, size: tuple[int, int], fit: Fit
) -> np.ndarray:
    height, width = size
    quarters = round(frame.rotation / 90) % 4
    if quarters % 2:
        height, width = width, height
    cover = _cover(frame.width * aspect, frame.height, (height, width), fit)
    reduced = scaler.reformat(frame, *cover, format="rgb24", interpolation="AREA")
    return np.ascontiguousarray(np.rot90(_centre(reduced.to_ndarray(), height, width), quarters))


def _cover(width: float, height: float, size: tuple[int, int], fit: Fit) -> tuple[int, int]:
    """Width and height of the smallest picture of the same proportions that covers `size`."""
    if fit == "stretch":
        return size[1], size[0]
    scale = max(size[1] / width, size[0] / height)
    return max(size[1], round(width * scale)), max(size[0], round(height * scale))


def _centre(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


def _write_mp4(path: Path, frames: Iterator[np.ndarray], fps: float, exact: bool) -> None:
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.pix_fmt = "yuv444p" if exact else "yuv420p"
        stream.gop_size = 32
        stream.options = {"crf": "16", "preset": "veryslow" if exact else "medium"}
        for number, frame in enumerate(frames):
            if not exact:  # that format has colours for two rows and columns at a time
                frame = np.pad(frame, [(0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)], mode="edge")
            if number == 0:
                stream.height, stream.width = frame.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))


def _write_png(path: Path, frames: np.ndarray) -> None:
    Image.fromarray(np.concatenate(list(frames), axis=1)).save(path)


def _write_gif(path: Path, frames: Iterator[np.ndarray], count: int, fps: float) -> None:
    """A GIF counts in hundredths of a second: frames last one more or less, so that the film as a whole lasts as it should.

    No frame lasts less than two of them, which browsers take for ten.
    """
    hundredths = [round(100 * i / fps) for i in range(count + 1)]
    durations = [10 * max(2, after - before) for before, after in itertools.pairwise(hundredths)]
    images = (Image.fromarray(frame).quantize(256, Image.Quantize.MEDIANCUT) for frame in frames)
    next(images).save(path, save_all=True, append_images=images, duration=durations, loop=0)
