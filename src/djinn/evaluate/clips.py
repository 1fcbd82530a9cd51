"""Held-out clips, and what a world makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from tqdm import tqdm

from djinn.config import SamplerConfig, check_seed
from djinn.data.dataset import Clips, Dataset
from djinn.errors import UserError
from djinn.evaluate.controllability import CodeTable, Moves, code_table
from djinn.evaluate.fidelity import frame_mse, frame_ssim
from djinn.generate.rollout import rollout
from djinn.models.psnr import psnr_from_mse
from djinn.models.world import World

Video = UInt8[np.ndarray, "b t h w 3"]


@dataclass(frozen=True)
class Origin:
    """Where a clip comes from."""

    source: str
    """For instance a level or a video's file name."""
    episode: int | None
    """Which of the source's episodes, counted from 1; None where it has one only."""
    start: int
    """The clip's first frame, counted from 0 inside the episode."""


@dataclass(frozen=True)
class Sample:
    """Clips drawn from one split."""

    clips: Clips
    indices: np.ndarray
    """Which of them, in the order of measuring."""

    def __len__(self) -> int:
        return len(self.indices)

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """The indices, `size` at a time."""
        yield from (self.indices[start : start + size] for start in range(0, len(self), size))

    @property
    def sources(self) -> list[str]:
        """The source of each clip, in the order of the draw."""
        return [self.clips.episodes[e].source for e in self.clips.episode_of(self.indices)]

    def origin(self, place: int) -> Origin:
        """Where the clip at a place of the draw comes from."""
        clips, index = self.clips, self.indices[place : place + 1]
        episode = clips.episodes[clips.episode_of(index)[0]]
        of_source = [e for e in clips.dataset.episodes if e.source == episode.source]
        which = of_source.index(episode) + 1 if len(of_source) > 1 else None
        return Origin(episode.source, which, int(clips.starts(index)[0]))


def spread_over_sources(sources: Sequence[str], count: int) -> list[int]:
    """The first clips of a draw, one from each source before a second from any.

    Args:
        sources: of the clips, in the order of the draw.
        count: how many; fewer where there are fewer.

    Returns:
        Their places in the draw, in order.
    """
    seen: Counter[str] = Counter()
    turns = []
    for source in sources:
        turns.append(seen[source])
        seen[source] += 1
    return sorted(sorted(range(len(turns)), key=turns.__getitem__)[:count])


def draw_clips(dataset: Dataset, split: str, count: int, frames: int, seed: int) -> Sample:
    """Draws clips at random, without overlap where there are enough of them.

    Args:
        dataset: the data set.
        split: `train`, `val` or `test`.
        count: how many; fewer where the split has fewer.
        frames: frames in a clip.
        seed: of the draw.

    Raises:
        UserError: the split is missing, none of its episodes is long enough, or it holds one clip only.
    """
    check_seed(seed)
    clips = dataset.clips(split, frames, stride=frames)
    if len(clips) < count:
        clips = dataset.clips(split, frames, stride=1)
    if len(clips) < 2:
        raise UserError(
            f"split '{split}' of {dataset.path} has a single clip of {frames} frames, and measuring needs two or more: "
            "ask for shorter clips or import more videos"
        )
    indices = np.random.default_rng(seed).permutation(len(clips))[:count]
    return Sample(clips, indices)


def pick_split(dataset: Dataset, asked: str | None) -> str:
    """The split to measure on: the one that is asked for, else `test`, or `val` of a data set that has no `test`.

    Of a single video, and of most sets of fewer than ten, nothing is `test`.
    """
    return asked or next((split for split in ("test", "val") if split in dataset.splits), "test")


def held_out_split(dataset: Dataset, frames: int) -> str:
    """The first split with two clips or more that training has not seen; `train` where there is none.

    Raises:
        UserError: no split has two clips of so many frames.
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
    """Refuses a data set that a world cannot be measured on.

    Raises:
        UserError: frames differ in size, or the world has no latent action model.
    """
    size = (world.config.height, world.config.width)
    if (dataset.height, dataset.width) != size:
        raise UserError(
            f"data set {dataset.path} has frames of {dataset.width}x{dataset.height}, but the world makes "
            f"{size[1]}x{size[0]}: import the videos again with --size {size[1]}x{size[0]}"
        )
    if world.latent_action is None:
        raise UserError(
            "this world has no latent_action.safetensors, which measuring needs to infer actions: "
            "use the world folder of its training run"
        )


@contextmanager
def measuring(world: World) -> Iterator[None]:
    """Puts a world into evaluation mode without gradients, and every module back into its own mode afterwards."""
    modes = [(module, module.training) for module in world.modules()]
    world.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def infer_actions(world: World, video: Video) -> Int[np.ndarray, "b steps"]:
    """Latent actions of clips of any length: never more frames at once than the world was trained on.

    Longer clips are read in windows that overlap by half. Each transition is taken from the first window that holds it,
    where it has the most past: all of it, or at least `frames // 2 - 1` transitions.
    """
    overlap = max(1, world.config.context_frames // 2)
    pieces = _windows(video.shape[1], world.config.context_frames, overlap)
    tensor = torch.from_numpy(video)
    read = [world.infer_actions(tensor[:, piece]).cpu().numpy() for piece in pieces]
    return np.concatenate([read[0], *(codes[:, overlap - 1 :] for codes in read[1:])], axis=1)


def read_codes(
    world: World, sample: Sample, batch: int, bar: tqdm
) -> tuple[Int[np.ndarray, "clips steps"], CodeTable | None]:
    """Latent actions of clips, and what they stand for; to be called inside `measuring`.

    Args:
        world: the world.
        sample: the clips.
        batch: clips looked at together.
        bar: moves by one for each clip.

    Returns:
        The actions, and them against the true ones; None where the data set has none.
    """
    codes, actions, changed = [], [], []
    for indices in sample.batches(batch):
        video = sample.clips.batch(indices)
        codes.append(infer_actions(world, video))
        actions.append(sample.clips.actions(indices))
        changed.append((video[:, 1:] != video[:, :-1]).any(axis=(2, 3, 4)))
        bar.update(len(indices))
    inferred, dataset = np.concatenate(codes), sample.clips.dataset
    if not dataset.has_actions:
        return inferred, None
    taken = np.concatenate(actions)
    moves = Moves.of(dataset.metadata.get("action_names") or [], taken)
    return inferred, code_table(inferred, moves(taken), np.concatenate(changed), moves.names, world.num_actions)


def reconstruct(world: World, video: Video) -> Video:
    """Clips of any length through the tokenizer and back: never more frames at once than it was trained on."""
    pieces = _windows(video.shape[1], world.config.context_frames, overlap=0)
    tensor = torch.from_numpy(video)
    return np.concatenate([world.decode(world.encode(tensor[:, piece])).cpu().numpy() for piece in pieces], axis=1)


def _windows(frames: int, window: int, overlap: int) -> list[slice]:
    return [slice(start, start + window) for start in range(0, max(frames - overlap, 1), window - overlap)]


@dataclass(frozen=True)
class Examples:
    """A few clips with what was made of them, for pictures."""

    real: Video
    inferred: Video
    random: Video
    inferred_actions: Int[np.ndarray, "b steps"]
    random_actions: Int[np.ndarray, "b steps"]

    def rows(self, chosen: slice | list[int]) -> Examples:
        """Some of the clips."""
        return Examples(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    @classmethod
    def joined(cls, parts: Sequence[Examples]) -> Examples:
        """Several batches of clips as one."""
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})


@dataclass(frozen=True)
class FrameMetrics:
    """How close a world's frames are to the real ones, frame by frame."""

    mse: Float[np.ndarray, "clips t"]
    """Mean squared error of each frame, in squared grey levels."""
    ssim: Float[np.ndarray, "clips t"]

    @property
    def psnr(self) -> Float[np.ndarray, "clips t"]:
        """PSNR of each frame in dB."""
        return psnr_from_mse(self.mse, max_value=255)

    @classmethod
    def of(cls, real: UInt8[np.ndarray, "b #t h w 3"], made: UInt8[np.ndarray, "b #t h w 3"]) -> FrameMetrics:
        """Compares frames; `made` is broadcast against `real`."""
        return cls(frame_mse(real, made), frame_ssim(real, made))

    @classmethod
    def joined(cls, parts: Sequence[FrameMetrics]) -> FrameMetrics:
        """Several batches of clips as one."""
        return cls(np.concatenate([part.mse for part in parts]), np.concatenate([part.ssim for part in parts]))


ROLLOUTS = ("inferred", "random", "empirical", "repeat")
"""What is compared with the rest of a clip: roll-outs with actions inferred from it, drawn uniformly, and drawn from the
distribution of inferred ones; and its last prompt frame, repeated."""


def play_clips(
    world: World,
    video: Video,
    random_actions: Int[np.ndarray, "b k"],
    empirical_actions: Int[np.ndarray, "b k"],
    *,
    sampler: SamplerConfig | None = None,
    seed: int = 0,
) -> tuple[dict[str, FrameMetrics], Examples]:
    """Reconstructs clips, and plays them from their first frames with inferred and with drawn actions.

    All roll-outs draw from the same seed, so that a world that ignores its actions makes the same frames each time.

    Args:
        world: the world.
        video: real clips of p + k frames; the first p are the prompt.
        random_actions: actions drawn uniformly.
        empirical_actions: actions drawn from the distribution of inferred ones.
        sampler: how tokens are drawn; the world's own setting by default.
        seed: of the draws.

    Returns:
        How close each of `ROLLOUTS` is to the clips' last k frames, and under `tokenizer` how close reconstructions are
        to all of them; and the clips with their roll-outs.
    """
    horizon = random_actions.shape[1]
    prompt_frames = video.shape[1] - horizon
    assert prompt_frames >= 1
    inferred_actions = infer_actions(world, video)
    led, chosen = np.split(inferred_actions, [prompt_frames - 1], axis=1)
    prompt = torch.from_numpy(video[:, :prompt_frames])

    def play(actions: np.ndarray) -> Video:
        made = rollout(
            world, prompt, torch.from_numpy(actions), sampler=sampler, seed=seed, prompt_actions=torch.from_numpy(led)
        )
        return made.cpu().numpy()

    future = np.s_[:, prompt_frames:]
    inferred, random = play(chosen), play(random_actions)
    made = {
        "inferred": inferred[future],
        "random": random[future],
        "empirical": play(empirical_actions)[future],
        "repeat": video[:, prompt_frames - 1, None],
    }
    close = {name: FrameMetrics.of(video[future], made[name]) for name in ROLLOUTS}
    close["tokenizer"] = FrameMetrics.of(video, reconstruct(world, video))
    shown = Examples(video, inferred, random, inferred_actions, np.concatenate([led, random_actions], axis=1))
    return close, shown
