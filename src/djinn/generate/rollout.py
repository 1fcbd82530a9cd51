"""Whole roll-outs: a prompt and a list of actions to a video."""

from __future__ import annotations

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from djinn.config import SamplerConfig
from djinn.generate.session import Session
from djinn.models.world import World


def rollout(
    world: World,
    prompt: UInt8[Tensor, "b p h w 3"],
    actions: Int[Tensor, "b k"],
    *,
    sampler: SamplerConfig | None = None,
    seed: int = 0,
    prompt_actions: Int[Tensor, "b p-1"] | None = None,
) -> UInt8[Tensor, "b p+k h w 3"]:
    """Plays B games through given actions.

    Args:
        world: the world to play.
        prompt: frames to start from.
        actions: the latent actions of each game; the k-th makes frame p+k.
        sampler: how tokens are drawn; the world's own setting by default.
        seed: of the draws.
        prompt_actions: actions between several prompt frames; inferred by default.

    Returns:
        The prompt as it was given, then the frames that were made.
    """
    session = Session(world, prompt, sampler=sampler, seed=seed, prompt_actions=prompt_actions, undo_depth=0)
    frames = [torch.from_numpy(session.step(actions[:, k]))[:, None] for k in range(actions.shape[1])]
    return torch.cat([prompt.cpu(), *frames], dim=1)
