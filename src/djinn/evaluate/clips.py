"""Held-out clips to measure on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from djinn.config import check_seed
from djinn.data.dataset import Clips, Dataset
from djinn.errors import UserError
from djinn.models.world import World


@dataclass(frozen=True)
class ClipOrigin:
    """Source of a clip in its data set."""

    source: str
    """For example a level or the name of a video file."""
    episode: int | None
    """Number of the episode within its source, from 1; None where the source has only one."""
    start: int
    """First frame of the clip, counted from 0 within the episode."""


@dataclass(frozen=True)
class ClipSample:
    """Clips drawn from one split."""

    clips: Clips
    indices: np.ndarray
    """Indices of the drawn clips, in the order of the draw."""

    def __len__(self) -> int:
        return len(self.indices)

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """Yield the indices in batches of `size`."""
        yield from (self.indices[start : start + size] for start in range(0, len(self), size))

    def first_frames(self, count: int, frame: int = 0) -> UInt8[np.ndarray, "p 1 h w 3"]:
        """Return one frame of each of the first `count` clips, as prompts.

        Args:
            count: Number of clips, fewer where the sample has fewer.
            frame: Index of the frame within the clip.
        """
        return self.clips.batch(self.indices[:count])[:, frame : frame + 1]

    @property
    def sources(self) -> list[str]:
        """Source of each clip, in the order of the draw."""
        return [self.clips.episodes[e].source for e in self.clips.episode_of(self.indices)]

    def origin(self, position: int) -> ClipOrigin:
        """Return the source of the clip at a position of the draw."""
        clips, index = self.clips, self.indices[position : position + 1]
        episode = clips.episodes[clips.episode_of(index)[0]]
        of_source = [e for e in clips.dataset.episodes if e.source == episode.source]
        number = of_source.index(episode) + 1 if len(of_source) > 1 else None
        return ClipOrigin(episode.source, number, int(clips.starts(index)[0]))


def spread_over_sources(sources: Sequence[str], count: int) -> list[int]:
    """Choose the first clips of a draw, one from each source before a second from any.

    Args:
        sources: Source of each clip, in the order of the draw.
        count: Number of clips to choose, fewer where there are fewer.

    Returns:
        Positions in the draw, in ascending order.
    """
    seen: Counter[str] = Counter()
    turns = []
    for source in sources:
        turns.append(seen[source])
        seen[source] += 1
    return sorted(sorted(range(len(turns)), key=turns.__getitem__)[:count])


def draw_clips(dataset: Dataset, split: str, count: int, frames: int, seed: int) -> ClipSample:
    """Draw clips at random, without overlap where there are enough of them.

    Args:
        dataset: The data set.
        split: `train`, `val` or `test`.
        count: Number of clips, fewer where the split has fewer.
        frames: Frames per clip.
        seed: Seed of the draw.

    Raises:
        UserError: The split is missing, none of its episodes is long enough, or it has a single
            clip.
    """
    check_seed(seed)
    clips = dataset.clips(split, frames, stride=frames)
    if len(clips) < count:
        clips = dataset.clips(split, frames, stride=1)
    if len(clips) < 2:
        raise UserError(
            f"split '{split}' of {dataset.path} has a single clip of {frames} frames, but at least 2 are needed: "
            "use shorter clips or import more videos"
        )
    indices = np.random.default_rng(seed).permutation(len(clips))[:count]
    return ClipSample(clips, indices)


def default_split(dataset: Dataset, requested: str | None) -> str:
    """Return the split to measure on: the requested one, else `test`, or `val` without `test`.

    A single video has no `test` split, and neither do most data sets of fewer than ten videos.
    """
    return requested or next((split for split in ("test", "val") if split in dataset.splits), "test")


def held_out_split(dataset: Dataset, frames: int) -> str:
    """Return the first held-out split with at least two clips, `train` if there is none.

    Raises:
        UserError: No split has two clips of `frames` frames.
    """
    for split in ("val", "test"):
        try:
            draw_clips(dataset, split, 2, frames, 0)
        except UserError:
            continue
        return split
    draw_clips(dataset, "train", 2, frames, 0)
    return "train"


def check_match(world: World, dataset: Dataset) -> None:
    """Check that a world can be measured on a data set.

    Raises:
        UserError: The frame sizes differ, or the world has no latent action model.
    """
    size = (world.config.height, world.config.width)
    if (dataset.height, dataset.width) != size:
        raise UserError(
            f"the frames of data set {dataset.path} are {dataset.width}x{dataset.height}, but those of the world are "
            f"{size[1]}x{size[0]}: import the videos with --size {size[1]}x{size[0]}"
        )
    if world.latent_action is None:
        raise UserError(
            "the world has no latent_action.safetensors, which is needed to infer actions: "
            "use the world folder of its training run"
        )
