"""Importer of video files."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm
from tyro.conf import Positional, arg

from djinn.data.importers.find_files import check_source, count_matching, unique_name, walk_files
from djinn.data.importers.images import IMAGE_SUFFIXES
from djinn.data.importers.importer import Episode, Importer, frame_progress, stack_runs, warn
from djinn.data.importers.resize_options import ResizeOptions
from djinn.data.store.index import INDEX_FILE
from djinn.data.video import VIDEO_SUFFIXES, duration, is_single_frame, read_video
from djinn.errors import UserError

_MAX_FILES_TO_OPEN = 500
"""Number of files whose duration is read for the progress bar."""


@dataclass(frozen=True)
class VideoOptions(ResizeOptions):
    """Import video files."""

    sources: Annotated[tuple[str, ...], Positional, arg(metavar="SOURCE...", help_behavior_hint="(required)")]
    """Video files, and folders that are searched for videos at any depth."""
    fps: float = field(default=10.0, kw_only=True)
    """Frames per second. Videos are resampled by their timestamps."""

    def __post_init__(self) -> None:
        if not self.sources or "" in self.sources:
            raise UserError("data import videos needs a SOURCE: name at least one video file or folder of videos")
        super().__post_init__()


@dataclass(frozen=True)
class VideoFile:
    """A video file to import."""

    path: Path
    name: str
    """Path below the folder that was given, with `/`. It is the source of the episodes."""
    is_given: bool
    """Whether the file itself was given, so that skipping it is an error."""


def read_videos(options: VideoOptions) -> Generator[Episode]:
    """Decode video files at one frame rate and size.

    A file is one episode, or several if it is very long. Files found in a folder are skipped with a
    warning if they cannot be decoded. If a file is cut short, its intact frames are kept.

    Raises:
        UserError: A source does not exist, a given file cannot be decoded, or no file can.
    """
    files = find_videos(options.sources)
    num_skipped = 0
    with frame_progress("reading videos", _expected_frames(files, options.fps)) as progress:
        for file in files:
            num_frames = 0
            try:
                frames = _count(read_video(file.path, options.fps, options.frame_size, options.fit), progress)
                for run in stack_runs(frames, options.frame_size):
                    num_frames += len(run)
                    yield Episode(run, file.name)
                if num_frames == 0:
                    raise UserError(_explain_too_short(file.path, options.fps))
            except UserError as error:
                if file.is_given:
                    raise
                num_skipped += num_frames == 0
                warn(f"{error}; {f'kept {num_frames} frames' if num_frames else 'skipped'}")
    if num_skipped:
        warn(f"{num_skipped} of {len(files)} files were skipped")
    if num_skipped == len(files):
        raise UserError(
            f"nothing was imported, because none of the {len(files)} video files found is usable: see above"
        )


def find_videos(sources: Sequence[str]) -> list[VideoFile]:
    """Find the video files in sources, sorted by name within each source, each file once.

    Raises:
        UserError: A source does not exist or cannot be read, or a folder contains no video.
    """
    files: dict[Path, VideoFile] = {}
    taken: set[str] = set()
    for source in map(Path, sources):
        check_source(source)
        if source.is_file():
            found = [(source, source.name)]
        else:
            paths = sorted(path for path in walk_files(source) if _is_video(path))
            found = [(path, path.relative_to(source).as_posix()) for path in paths]
            if not found:
                raise UserError(_explain_no_video(source))
        for path, name in found:
            if path.resolve() not in files:
                files[path.resolve()] = VideoFile(path, unique_name(name, path, taken), path == source)
    return list(files.values())


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def _explain_no_video(folder: Path) -> str:
    if (folder / INDEX_FILE).is_file():
        return f"{folder} is a data set already: pass it to `djinn train` or `djinn data info`"
    num_images = count_matching(folder, lambda path: path.suffix.lower() in IMAGE_SUFFIXES)
    if num_images:
        return (
            f"folder {folder} contains {num_images} images but no video file: import it with "
            f"`djinn data import images {folder}`"
        )
    return f"folder {folder} contains no video file that can be found ({' '.join(VIDEO_SUFFIXES)}): give another folder"


def _explain_too_short(path: Path, fps: float) -> str:
    if is_single_frame(path):
        return f"{path} has a single frame, and an episode needs 2: leave it out"
    return f"{path} has fewer than 2 frames at {fps:g} frames/s: leave it out or import it with a higher --fps"


def _count(frames: Iterator[UInt8[np.ndarray, "h w 3"]], progress: tqdm) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    for frame in frames:
        progress.update()
        yield frame


def _expected_frames(files: list[VideoFile], fps: float) -> int | None:
    """Estimate the number of frames from the durations of up to `_MAX_FILES_TO_OPEN` files."""
    step = -(-len(files) // _MAX_FILES_TO_OPEN)
    durations = [duration(file.path) or 0 for file in files[::step]]
    return round(sum(durations) / len(durations) * len(files) * fps) or None


def _metadata(options: VideoOptions, num_sources: int) -> dict[str, Any]:
    return {"files": num_sources, "fit": options.fit}


IMPORTER = Importer("videos", "video files, and folders of them", VideoOptions, read_videos, _metadata)
