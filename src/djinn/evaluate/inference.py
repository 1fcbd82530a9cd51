"""Latent actions and reconstructions of clips of any length."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Int, UInt8
from tqdm import tqdm

from djinn.evaluate.clips import ClipSample
from djinn.evaluate.code_table import CodeTable, GroundTruthActions, code_table
from djinn.models.world import World

Video = UInt8[np.ndarray, "b t h w 3"]


@contextmanager
def evaluation_mode(world: World) -> Iterator[None]:
    """Put a world into evaluation mode without gradients; restore each module afterwards."""
    modes = [(module, module.training) for module in world.modules()]
    world.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def infer_actions(world: World, video: Video) -> Int[np.ndarray, "b steps"]:
    """Infer the latent actions of clips of any length.

    Clips longer than the context of the world are processed in windows that overlap by half. Each
    transition is taken from the first window that contains it, in which its past is longest: the
    whole past, or at least `context_frames // 2 - 1` transitions.
    """
    overlap = max(1, world.config.context_frames // 2)
    windows = _windows(video.shape[1], world.config.context_frames, overlap)
    tensor = torch.from_numpy(video)
    parts = [world.infer_actions(tensor[:, window]).cpu().numpy() for window in windows]
    return np.concatenate([parts[0], *(codes[:, overlap - 1 :] for codes in parts[1:])], axis=1)


def reconstruct(world: World, video: Video) -> Video:
    """Encode and decode clips of any length, in windows of at most the context of the world."""
    windows = _windows(video.shape[1], world.config.context_frames, overlap=0)
    tensor = torch.from_numpy(video)
    return np.concatenate([world.decode(world.encode(tensor[:, window])).cpu().numpy() for window in windows], axis=1)


def infer_code_table(
    world: World, sample: ClipSample, batch: int, bar: tqdm
) -> tuple[Int[np.ndarray, "clips steps"], CodeTable | None]:
    """Infer the latent actions of clips and compare them with the ground truth.

    The world must be in `evaluation_mode`.

    Args:
        world: The world.
        sample: The clips.
        batch: Clips per batch.
        bar: Progress bar, advanced by one per clip.

    Returns:
        The latent actions, and their counts against the ground-truth actions, None where the data
        set has none.
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
    true_ids = np.concatenate(actions)
    truth = GroundTruthActions.from_names(dataset.metadata.get("action_names") or [], true_ids)
    return inferred, code_table(inferred, truth(true_ids), np.concatenate(changed), truth.names, world.num_actions)


def _windows(frames: int, window: int, overlap: int) -> list[slice]:
    return [slice(start, start + window) for start in range(0, max(frames - overlap, 1), window - overlap)]
