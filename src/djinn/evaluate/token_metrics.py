"""Accuracy and cross-entropy of the dynamics model on the tokens of the next real frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from djinn.generate.backend import TorchBackend
from djinn.models.code_usage import code_usage, min_tokenizer_perplexity
from djinn.models.masking import frame_mask, paper_mask
from djinn.models.world import World


@dataclass
class TokenScore:
    """Predictions of masked tokens, accumulated over batches."""

    tokens: int = 0
    correct: int = 0
    """Number of tokens whose most likely code was the true one."""
    nats: float = 0.0
    """Sum of the cross-entropies."""

    def add(self, logits: Float[Tensor, "b n v"], target: Int[Tensor, "b n"], masked: Bool[Tensor, "b n"]) -> None:
        """Add the masked tokens of one frame."""
        logits, target = logits[masked].float(), target[masked]
        self.tokens += len(target)
        self.correct += int((logits.argmax(-1) == target).sum())
        self.nats += float(F.cross_entropy(logits, target, reduction="none").double().sum())

    def summary(self) -> dict[str, float]:
        """Return the accuracy in [0, 1], the cross-entropy in nats, and the number of tokens."""
        count = max(self.tokens, 1)
        return {"accuracy": self.correct / count, "cross_entropy": self.nats / count, "tokens": self.tokens}


class TokenMetrics:
    """Prediction of the tokens of the next frame, given the true past and the inferred actions.

    Every frame of a clip but the first is predicted from the true tokens of the frames before it
    and the action inferred for its transition. There are two kinds of masks. `masked` draws them at
    the rates of training, so that visible tokens of the frame help; with `clean_past` this is the
    metric of the training log, without token noise. `full_frame` masks all tokens, as the first
    MaskGIT step.

    Args:
        world: The world. Clips longer than its context are truncated.
        seed: Seed of the masks.
    """

    def __init__(self, world: World, seed: int = 0) -> None:
        self.world = world
        self.masked, self.full_frame = TokenScore(), TokenScore()
        self.counts = torch.zeros(world.config.tokenizer.quantizer.codes, dtype=torch.float64)
        """How often the tokenizer chose each code."""
        self._generator = torch.Generator(world.device).manual_seed(seed)

    @torch.inference_mode()
    def add(self, video: UInt8[np.ndarray, "b t h w 3"], actions: Int[np.ndarray, "b t-1"]) -> None:
        """Add the predictions on some clips.

        Args:
            video: Real clips.
            actions: Latent actions inferred from them.
        """
        world, device = self.world, self.world.device
        tokens = world.encode(torch.from_numpy(video[:, : world.config.context_frames]))
        self.counts += torch.bincount(tokens.flatten().cpu(), minlength=len(self.counts))
        vectors = world.action_vectors[torch.from_numpy(actions[:, : tokens.shape[1] - 1]).to(device)]
        draw = paper_mask if world.config.dynamics.masking == "paper" else frame_mask
        masks = draw(tokens.shape, self._generator, device)
        backend = TorchBackend(world)
        cache = backend.new_cache()
        all_positions = torch.arange(tokens.shape[2], device=device).expand(len(tokens), -1)
        with backend.inference_context():
            for t in range(1, tokens.shape[1]):
                pair, target, mask = np.s_[:, t - 1 : t + 1], tokens[:, t], masks[:, t]
                pair_mask = torch.stack([torch.zeros_like(mask), mask], dim=1)
                actions_to_pair = vectors[:, max(t - 2, 0) : t]  # no action leads to frame 0
                logits = backend.extend(tokens[pair], pair_mask, actions_to_pair, cache, t - 1, all_positions)
                self.masked.add(logits, target, mask)
                full = torch.ones_like(mask)
                logits = backend.extend(
                    target[:, None], full[:, None], actions_to_pair[:, -1:], cache, t, all_positions
                )
                self.full_frame.add(logits, target, full)

    @property
    def perplexity(self) -> float:
        """Effective number of tokenizer codes on the clips."""
        return float(2 ** code_usage(self.counts).entropy_bits)

    @property
    def collapsed(self) -> bool:
        """Whether so few tokenizer codes occur that predicting them is trivial."""
        return self.perplexity < min_tokenizer_perplexity(len(self.counts))

    def summary(self) -> dict[str, Any]:
        """Return plain values, ready for JSON.

        `masked` and `full_frame` have `accuracy`, `cross_entropy` in nats and the number of
        `tokens`; `codebook` has `codes`, `perplexity` and whether it has `collapsed`.
        """
        codebook = {"codes": len(self.counts), "perplexity": self.perplexity, "collapsed": self.collapsed}
        return {"masked": self.masked.summary(), "full_frame": self.full_frame.summary(), "codebook": codebook}

    def lines(self, names: Sequence[str]) -> list[str]:
        """Return text for the terminal; the names of actions do not matter."""
        if self.collapsed:
            return ["next tokens    n/a: the tokenizer has collapsed"]
        parts = []
        for score, label in ((self.masked, "masked as in training"), (self.full_frame, "full frame masked")):
            values = score.summary()
            parts.append(f"accuracy {100 * values['accuracy']:.1f} %, {values['cross_entropy']:.2f} nats, {label}")
        return [f"next tokens    {'; '.join(parts)}; tokenizer perplexity {self.perplexity:.1f} of {len(self.counts)}"]


def collapsed_text(codebook: dict[str, Any]) -> str:
    """Return the warning that replaces the token metrics of a collapsed tokenizer.

    Args:
        codebook: The entry `codebook` of `TokenMetrics.summary`.
    """
    return (
        f"WARNING: the tokenizer has collapsed: its perplexity is {codebook['perplexity']:.2f} of "
        f"{codebook['codes']} codes, so predicting the next tokens is trivial and token accuracy has no meaning"
    )
