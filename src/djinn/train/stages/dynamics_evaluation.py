"""Evaluation of latent actions and dynamics on held-out clips."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from djinn.generate import rollout
from djinn.models import World
from djinn.models.code_usage import code_usage
from djinn.models.latent_action import inside_border
from djinn.models.psnr import frame_psnr
from djinn.train.evaluation import EVALUATION_BATCH, GREEDY_STEPS
from djinn.train.progress_bar import evaluation_bar


@dataclasses.dataclass(frozen=True)
class _PartResult:
    """Results of some clips."""

    frame_psnrs: dict[str, Float[Tensor, "b f"]]
    inferred: Int[Tensor, "b a"]
    """Inferred actions."""
    videos: dict[str, UInt8[Tensor, "b t h w 3"]]
    """Real clips and roll-outs, by label."""


def evaluate_dynamics(
    world: World, clips: UInt8[Tensor, "b t h w 3"]
) -> tuple[dict[str, float], list[dict[str, np.ndarray]]]:
    """Measure how much inferred actions improve the prediction over random ones.

    Args:
        world: World with its latent action model, after `World.sync_actions`.
        clips: Held-out clips.

    Returns:
        Videos of each clip by label (real, inferred, random), and these metrics, in dB of PSNR as a
        mean over frames unless noted otherwise:

        - `val_lam_psnr`, `val_lam_random_psnr`, `val_lam_gain`: next-frame prediction of the latent
          action model with inferred and with uniformly random actions, and the difference;
          `val_lam_repeat_psnr`: the last frame repeated. All without `ignored_border`. A model of
          tokens predicts its most likely tokens.
        - `val_rollout_psnr`, `val_rollout_random_psnr`, `val_gain`: the same for roll-outs from one
          frame over the rest of the clip with `GREEDY_STEPS`, and `val_gain4`: the gain at frame 4
          (the paper's delta-t PSNR with t = 4), or at the last frame of shorter clips.
        - `val_action_top` (share of the most frequent action), `val_actions_used` (number of
          actions), `val_action_bits` (entropy): usage of the inferred actions.
        - `val_clips`, `val_frames`: number of clips, and of generated frames per clip.
    """
    draw = torch.Generator().manual_seed(0)
    random = torch.randint(world.num_actions, (len(clips), clips.shape[1] - 1), generator=draw)
    with evaluation_bar("evaluating the dynamics", 2 * len(clips), "roll-outs") as bar:
        parts = [
            _evaluate_part(world, part, part_random, bar.update)
            for part, part_random in zip(clips.split(EVALUATION_BATCH), random.split(EVALUATION_BATCH), strict=True)
        ]
    frame_psnrs = {key: torch.cat([part.frame_psnrs[key] for part in parts]) for key in parts[0].frame_psnrs}
    inferred = torch.cat([part.inferred for part in parts])
    usage = code_usage(torch.bincount(inferred.flatten(), minlength=world.num_actions))
    means = {f"val_{key}": value.mean().item() for key, value in frame_psnrs.items()}
    gains = (frame_psnrs["rollout_psnr"] - frame_psnrs["rollout_random_psnr"]).mean(0)
    metrics = {
        **means,
        "val_lam_gain": means["val_lam_psnr"] - means["val_lam_random_psnr"],
        "val_gain": gains.mean().item(),
        "val_gain4": gains[min(4, len(gains)) - 1].item(),
        "val_action_top": usage.top_share.item(),
        "val_actions_used": usage.num_used.item(),
        "val_action_bits": usage.entropy_bits.item(),
        "val_clips": len(clips),
        "val_frames": len(gains),
    }
    videos = [
        {label: video[i].numpy() for label, video in part.videos.items()}
        for part in parts
        for i in range(len(part.inferred))
    ]
    return metrics, videos


def _evaluate_part(world: World, clips: Tensor, random: Tensor, advance) -> _PartResult:
    sampler = dataclasses.replace(
        world.config.sampler,
        steps=min(GREEDY_STEPS, world.config.sampler.steps),
        temperature=0.0,
        choice_temperature=0.0,
    )
    inferred = world.infer_actions(clips).cpu()
    past, future = clips[:, :-1], clips[:, 1:]
    inside = inside_border(world.config.latent_action.ignored_border)

    def generate(actions: Tensor) -> Tensor:
        video = rollout(world, clips[:, :1], actions, sampler=sampler)
        advance(len(clips))
        return video

    def lam_psnr(predicted: Tensor) -> Tensor:
        return frame_psnr(predicted.cpu()[inside], future[inside])

    with_inferred, with_random = generate(inferred), generate(random)
    frame_psnrs = {
        "lam_psnr": lam_psnr(world.predict_next(clips, inferred)),
        "lam_random_psnr": lam_psnr(world.predict_next(clips, random)),
        "lam_repeat_psnr": lam_psnr(past),
        "rollout_psnr": frame_psnr(with_inferred[:, 1:], future),
        "rollout_random_psnr": frame_psnr(with_random[:, 1:], future),
    }
    videos = {"real": clips, "inferred": with_inferred, "random": with_random}
    return _PartResult({key: value.cpu() for key, value in frame_psnrs.items()}, inferred, videos)
