"""Importer of image sequences."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm
from tyro.conf import Positional, arg

from djinn.atomic import check_readable_file
from djinn.data.importers.find_files import check_source, natural_key, unique_name, walk_files
from djinn.data.importers.importer import Episode, Importer, frame_progress, stack_runs, warn
from djinn.data.importers.resize_options import ResizeOptions
from djinn.data.video import VIDEO_SUFFIXES
from djinn.errors import UserError
from djinn.images import read_image

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class ImageOptions(ResizeOptions):
    """Import folders of image sequences."""

    sources: Annotated[tuple[str, ...], Positional, arg(metavar="FOLDER...", help_behavior_hint="(required)")]
    """Folders that are searched for PNG, JPEG and WebP files at any depth. Each folder with images
    is one episode, in natural order of the file names: frame2.png before frame10.png."""
    fps: float = field(default=10.0, kw_only=True)
    """Frames per second at which the images were taken. All images are kept."""

    def __post_init__(self) -> None:
        if not self.sources or "" in self.sources:
            raise UserError("data import images needs a SOURCE: name at least one folder of images")
        super().__post_init__()


@dataclass(frozen=True)
class ImageSequence:
    """A folder of images to import."""

    name: str
    """Path below the folder that was given. It is the source of the episodes."""
    paths: tuple[Path, ...]
    """Images in the order of time."""


def read_images(options: ImageOptions) -> Generator[Episode]:
    """Read image sequences at one frame size.

    A folder is one episode. An image that cannot be read is skipped with a warning and ends the
    episode; the images after it begin another one.

    Raises:
        UserError: A source does not exist, cannot be read or contains no images, or no folder has
            two consecutive images that can be read.
    """
    sequences = find_sequences(options.sources)
    total = sum(len(sequence.paths) for sequence in sequences)
    num_imported = 0
    with frame_progress("reading images", total) as progress:
        for sequence in sequences:
            for run in _read_runs(sequence, options, progress):
                num_imported += len(run)
                yield Episode(run, sequence.name)
    if num_imported == 0:
        raise UserError(
            f"nothing was imported, because none of the {len(sequences)} folders has two consecutive images that can "
            "be read: give a folder with at least 2 images"
        )
    if num_imported < total:
        warn(f"{total - num_imported} of {total} images were skipped")


def find_sequences(sources: Sequence[str]) -> list[ImageSequence]:
    """Find the folders with images in sources, sorted by path within each source, each folder once.

    Raises:
        UserError: A source does not exist, is not a folder, cannot be read, or contains no images.
    """
    sequences: dict[Path, ImageSequence] = {}
    taken: set[str] = set()
    for source in map(Path, sources):
        check_source(source)
        if source.is_file():
            is_image = source.suffix.lower() in IMAGE_SUFFIXES
            kind = "an image: give the folder that contains the sequence" if is_image else "a file: give a folder"
            raise UserError(f"{source} is {kind}")
        folders: dict[Path, list[Path]] = {}
        num_videos = 0
        for path in walk_files(source):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                folders.setdefault(path.parent, []).append(path)
            num_videos += path.suffix.lower() in VIDEO_SUFFIXES
        if not folders:
            raise UserError(_explain_no_images(source, num_videos))
        for folder in sorted(folders):
            if folder.resolve() not in sequences:
                relative = folder.relative_to(source).as_posix()
                name = unique_name(relative if relative != "." else source.resolve().name, folder, taken)
                sequences[folder.resolve()] = ImageSequence(name, tuple(sorted(folders[folder], key=natural_key)))
    return list(sequences.values())


def _explain_no_images(folder: Path, num_videos: int) -> str:
    suffixes = " ".join(IMAGE_SUFFIXES)
    if num_videos:
        return (
            f"folder {folder} contains {num_videos} video files but no images ({suffixes}): import it with "
            f"`djinn data import videos {folder}`"
        )
    return f"folder {folder} contains no images ({suffixes}): give another folder"


def _read_runs(
    sequence: ImageSequence, options: ImageOptions, progress: tqdm
) -> Iterator[UInt8[np.ndarray, "f h w 3"]]:
    """Yield the runs of consecutive images that can be read."""
    remaining = iter(sequence.paths)
    is_finished = False
    while not is_finished:
        try:
            yield from stack_runs(_read_frames(remaining, options, progress), options.frame_size)
            is_finished = True
        except UserError as error:
            warn(f"{error}; skipped")


def _read_frames(paths: Iterator[Path], options: ImageOptions, progress: tqdm) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    for path in paths:
        progress.update()
        check_readable_file(path, "image")
        if options.fit == "crop":
            yield read_image(path, options.frame_size)
        else:
            yield _stretch(read_image(path), options.frame_size)


def _stretch(frame: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h2 w2 3"]:
    height, width = size
    is_smaller = height <= frame.shape[0] and width <= frame.shape[1]
    resample = Image.Resampling.BOX if is_smaller else Image.Resampling.BICUBIC
    return np.array(Image.fromarray(frame).resize((width, height), resample))


def _metadata(options: ImageOptions, num_sources: int) -> dict[str, Any]:
    return {"folders": num_sources, "fit": options.fit}


IMPORTER = Importer("images", "folders of image sequences", ImageOptions, read_images, _metadata)
