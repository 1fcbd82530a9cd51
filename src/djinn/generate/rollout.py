"""Roll-outs: the video that follows from a prompt and a list of actions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import UInt8
from torch import Tensor

from djinn.config import SamplerConfig
from djinn.errors import UserError
from djinn.generate.arguments import Actions, Prompt, to_codes, to_video
from djinn.generate.backend import Backend
from djinn.generate.session import Session
from djinn.models.world import World


def rollout(
    world: World,
    prompt: Prompt,
    actions: Actions,
    *,
    backend: Backend | None = None,
    sampler: SamplerConfig | None = None,
    seed: int = 0,
    prompt_actions: Actions | None = None,
    on_frame: Callable[[], object] | None = None,
) -> UInt8[Tensor, "b t h w 3"]:
    """Generate the frames that follow from given actions, for a batch of B games.

    Args:
        world: World to play.
        prompt: Initial frames `(B, P, H, W, 3)`, or another form of prompt that `Session` takes.
        actions: Codes or names of the actions, `(K)` for all games or `(B, K)`; action k leads to
            frame P + k.
        backend: Engine that computes the frames; torch by default.
        sampler: Sampling settings; the world's own by default.
        seed: Seed of the sampler; no effect while the sampler is deterministic.
        prompt_actions: Actions between the prompt's frames, `(P-1)` or `(B, P-1)`; inferred by
            default.
        on_frame: Called after each time step, for example to advance a progress bar.

    Returns:
        The prompt's frames, unchanged, followed by the K generated frames.

    Raises:
        UserError: As for `Session`, or the actions do not have one of these shapes.
    """
    video = to_video(world, prompt)
    session = Session(
        world, video, backend=backend, sampler=sampler, seed=seed, prompt_actions=prompt_actions, undo_depth=0
    )
    codes = to_codes(world, actions)
    codes = codes.expand(session.batch, -1) if codes.ndim == 1 else codes
    if codes.ndim != 2 or len(codes) != session.batch:
        raise UserError(f"expected actions of shape (K) or ({session.batch}, K), got {tuple(codes.shape)}")
    frames = [video.cpu()]
    for k in range(codes.shape[1]):
        frames.append(torch.from_numpy(session.step(codes[:, k]))[:, None])
        if on_frame is not None:
            on_frame()
    return torch.cat(frames, dim=1)
