"""How well the dynamics model knows the tokens of the next real frame, before anything is drawn from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from djinn.generate.backend import TorchBackend
from djinn.models.masking import frame_mask, paper_mask
from djinn.models.world import World


@dataclass
class Tally:
    """Hidden tokens that were predicted, counted over batches."""

    tokens: int = 0
    right: int = 0
    """Those whose most likely code was the true one."""
    nats: float = 0.0
    """Sum of their cross-entropies."""

    def add(self, logits: Float[Tensor, "b n v"], target: Int[Tensor, "b n"], hidden: Bool[Tensor, "b n"]) -> None:
        """Counts the hidden tokens of one frame."""
        logits, target = logits[hidden].float(), target[hidden]
        self.tokens += len(target)
        self.right += int((logits.argmax(-1) == target).sum())
        self.nats += float(F.cross_entropy(logits, target, reduction="none").double().sum())

    def summary(self) -> dict[str, float]:
        """Share of right tokens, mean cross-entropy in nats, and how many tokens there were."""
        count = max(self.tokens, 1)
        return {"accuracy": self.right / count, "cross_entropy": self.nats / count, "tokens": self.tokens}


class TokenScores:
    """Accuracy and cross-entropy of the next frame's tokens, given the true past and inferred actions.

    Every frame of a clip but the first is predicted from the true tokens of the frames before it and the action that
    was inferred to lead to it, as in play but for the past, which is real. Two ways of hiding it: `masked`, at the rates
    of the world's training, so that some tokens of the frame help with the others (with `clean_past` the figure
    that training logs, with nothing corrupted); and `full_frame`, all tokens at once, which is MaskGIT's first step.

    Args:
        world: the world; clips beyond its `frames` are cut.
        seed: of the masks.
    """

    def __init__(self, world: World, seed: int = 0) -> None:
        self.world = world
        self.masked, self.full_frame = Tally(), Tally()
        self._generator = torch.Generator(world.device).manual_seed(seed)

    @torch.inference_mode()
    def add(self, video: UInt8[np.ndarray, "b t h w 3"], actions: Int[np.ndarray, "b t-1"]) -> None:
        """Predicts the frames of some clips.

        Args:
            video: real clips.
            actions: the latent actions inferred from them.
        """
        world, device = self.world, self.world.device
        tokens = world.encode(torch.from_numpy(video[:, : world.config.context_frames]))
        vectors = world.action_vectors[torch.from_numpy(actions[:, : tokens.shape[1] - 1]).to(device)]
        draw = paper_mask if world.config.dynamics.masking == "paper" else frame_mask
        masks = draw(tokens.shape, self._generator, device)
        backend = TorchBackend(world)
        cache = backend.new_cache()
        everywhere = torch.arange(tokens.shape[2], device=device).expand(len(tokens), -1)
        with backend.inference_context():
            for t in range(1, tokens.shape[1]):
                pair, target, mask = np.s_[:, t - 1 : t + 1], tokens[:, t], masks[:, t]
                hidden = torch.stack([torch.zeros_like(mask), mask], dim=1)
                led = vectors[:, max(t - 2, 0) : t]  # the actions that lead to both frames; none leads to frame 0
                logits = backend.extend(tokens[pair], hidden, led, cache, t - 1, everywhere)
                self.masked.add(logits, target, mask)
                all_of_it = torch.ones_like(mask)
                logits = backend.extend(target[:, None], all_of_it[:, None], led[:, -1:], cache, t, everywhere)
                self.full_frame.add(logits, target, all_of_it)

    def summary(self) -> dict[str, Any]:
        """Plain values: `masked` and `full_frame`, each with `accuracy`, `cross_entropy` in nats, and `tokens`."""
        return {"masked": self.masked.summary(), "full_frame": self.full_frame.summary()}
