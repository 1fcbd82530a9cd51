"""Makes a data set from video files: one file, several, or all in a folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from djinn.config import check_fps
from djinn.data import splits
from djinn.data.dataset import Dataset
from djinn.data.video import VIDEO_SUFFIXES, BrokenVideoError, Fit, duration, read_video
from djinn.data.writer import DatasetWriter
from djinn.errors import UserError

VAL, TEST = 0.05, 0.05
_PIECE_BYTES = 128 * 2**20
_HELD_OUT_TIME = 0.1


@dataclass(frozen=True)
class VideoFile:
    """A file to import."""

    path: Path
    name: str
    """Its path below the folder that was named, with `/`: it decides the split and is noted as the source."""
    named: bool
    """The user named this very file, so that it must not be left out."""


def import_videos(
    sources: Sequence[str | Path], out: str | Path, size: tuple[int, int], *, fps: float = 10, fit: Fit = "crop"
) -> Dataset:
    """Reads video files at one rate and size and writes them as a data set.

    Each file is one episode, or a few where it is very long. Files are dealt to train, val and test by a hash of their
    names; with two files or more one is in `val`. A single file is cut by time, however long: its last tenth is `val`.
    In a folder, a file that is no video is left out with a warning, and one that is cut short is kept up to there.

    Args:
        sources: files and folders; folders are searched for videos at any depth.
        out: folder to make.
        size: `(height, width)`.
        fps: frames a second.
        fit: `crop` or `stretch`, see `read_video`.

    Returns:
        The data set.

    Raises:
        UserError: a source does not exist, a named file cannot be read, nothing is left, or `out` cannot be written.
    """
    check_fps(fps)
    files = find_videos(sources)
    names = [f.name for f in files]
    split = dict(zip(names, splits.assign(names, val=VAL, test=TEST), strict=True))
    about = {"kind": "videos", "files": len(files), "fit": fit}
    left_out = 0
    with (
        DatasetWriter(out, height=size[0], width=size[1], fps=fps, metadata=about) as writer,
        tqdm(
            total=_expected(files, fps), unit=" frames", desc="reading videos", unit_scale=True, mininterval=0.5
        ) as bar,
    ):
        for file in files:
            before = writer.frames
            try:
                for piece in _pieces(file.path, fps, size, fit):
                    writer.add_episode(piece, source=file.name, split=split[file.name])
                    bar.update(len(piece))
            except BrokenVideoError as error:
                if file.named:
                    raise
                kept = writer.frames - before
                left_out += kept == 0
                _warn(f"{error}; " + (f"kept {kept} frames" if kept else "left out"))
            else:
                if writer.frames == before:
                    too_few = f"{file.path} has fewer than 2 frames at {fps:g} frames/s"
                    if file.named:
                        raise UserError(f"{too_few}: leave it out or import it with a higher --fps")
                    left_out += 1
                    _warn(f"{too_few}; left out")
        writer.metadata["files"] = len(files) - left_out
        if left_out:
            _warn(f"{left_out} of {len(files)} files were left out")
        if writer.frames == 0:
            raise UserError(
                f"nothing was imported: none of the {len(files)} video files found could be read and has 2 frames or more"
            )
        count = _settle_splits(writer)
    if count == 1:
        _warn("only one file: its last tenth is split 'val'; import more files to measure on other ones")
    return Dataset.open(out)


def find_videos(sources: Sequence[str | Path]) -> list[VideoFile]:
    """All video files that sources name, in the order of their names in each source, each file once.

    Raises:
        UserError: a source does not exist, or a folder holds no video.
    """
    files: dict[Path, VideoFile] = {}
    taken: set[str] = set()
    for source in map(Path, sources):
        if source.is_file():
            found = [(source, source.name, True)]
        elif source.is_dir():
            paths = sorted(p for p in _files_in(source) if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())
            found = [(p, p.relative_to(source).as_posix(), False) for p in paths]
            if not found:
                kinds = " ".join(VIDEO_SUFFIXES)
                raise UserError(f"folder {source} holds no video file ({kinds}): name a folder with videos")
        else:
            raise UserError(f"there is no file or folder at {source}")
        for path, name, named in found:
            if path.resolve() in files:
                continue
            unique = os.fsencode(name if name not in taken else path.as_posix()).decode("utf-8", "replace")
            taken.add(unique)
            files[path.resolve()] = VideoFile(path, unique, named)
    if not files:
        raise UserError("name at least one video file or folder to import")
    return list(files.values())


def _files_in(folder: Path) -> Iterator[Path]:
    """All files in a folder and those inside it, linked ones too, but none twice."""
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        real = os.path.realpath(place)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(place, name) for name in names)


def _pieces(path: Path, fps: float, size: tuple[int, int], fit: Fit) -> Iterator[UInt8[np.ndarray, "f h w 3"]]:
    """A file's frames in runs that fit into memory; the good part comes before the error of a broken file."""
    most = max(256, _PIECE_BYTES // (size[0] * size[1] * 3))
    frames: list[np.ndarray] = []
    broken: BrokenVideoError | None = None
    try:
        for frame in read_video(path, fps, size, fit):
            frames.append(frame)
            if len(frames) == most:
                yield np.stack(frames)
                frames = []
    except BrokenVideoError as error:
        broken = error
    if len(frames) > 1:
        yield np.stack(frames)
    if broken is not None:
        raise broken


def _settle_splits(writer: DatasetWriter) -> int:
    """Makes sure of `train` and `val` whatever files were left out; returns how many files there are.

    The episodes of a single file are cut by time, and of several files one is moved where none is.
    """
    sources = sorted({e["source"] for e in writer.episodes}, key=splits.share)
    if len(sources) == 1:
        writer.episodes = _cut(writer.episodes)
        return 1
    split_of = {e["source"]: e["split"] for e in writer.episodes}
    for split in ("train", "val"):
        if split not in split_of.values():
            can_spare = {s for s in split_of.values() if s == "test" or list(split_of.values()).count(s) > 1}
            moved = next(s for s in sources if split_of[s] in can_spare)
            split_of[moved] = split
    for episode in writer.episodes:
        episode["split"] = split_of[episode["source"]]
    return len(sources)


def _cut(episodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Makes `val` of the end of a film whose episodes follow one another; no part is shorter than 2 frames."""
    total = sum(episode["length"] for episode in episodes)
    held_out = round(total * _HELD_OUT_TIME)
    left = total - held_out if held_out >= 2 else total
    parts = []
    for episode in episodes:
        length = episode["length"]
        kept = min(max(left, 0), length)
        left -= length
        if kept == 1:
            kept = 0
        elif length - kept == 1:
            kept = length
        if kept:
            parts.append({**episode, "split": "train", "length": kept})
        if kept < length:
            parts.append({**episode, "split": "val", "start": episode["start"] + kept, "length": length - kept})
    return parts


def _expected(files: list[VideoFile], fps: float) -> int | None:
    """Frames to come, as far as the files say; None where there are too many files to ask."""
    if len(files) > 2000:
        return None
    return round(sum(duration(f.path) or 0 for f in files) * fps) or None


def _warn(message: str) -> None:
    tqdm.write(f"djinn: {message}", file=sys.stderr)
