"""Pictures that move as they are told, and sessions that make them."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from djinn.config import LatentActionConfig, QuantizerConfig, WorldConfig
from djinn.models.world import World

SIDE = 64


def texture(seed: int = 0, side: int = 128) -> np.ndarray:
    """A random picture with detail at several scales, `(side, side, 3)`."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((side, side, 3))
    for scale in (2, 4, 8):
        part = rng.normal(0, 1, (side // scale + 1, side // scale + 1, 3))
        picture += part.repeat(scale, 0).repeat(scale, 1)[:side, :side]
    return (128 + 30 * picture).clip(0, 255).astype(np.uint8)


def view(picture: np.ndarray, x: int, y: int, side: int = SIDE) -> np.ndarray:
    """What a camera at `(x, y)` sees of a picture."""
    return picture[y : y + side, x : x + side]


class Scroller(World):
    """A world without weights: code k moves the camera by `moves[k]` a frame over the picture that a prompt is cut from.

    Args:
        moves: `(dx, dy)` of the camera for each code, or None for a code whose camera jumps about at random.
    """

    def __init__(self, moves: list[tuple[int, int] | None]) -> None:
        nn.Module.__init__(self)
        self.moves = moves
        latent_action = LatentActionConfig(quantizer=QuantizerConfig(codes=len(moves)))
        self.config = WorldConfig(height=SIDE, width=SIDE, context_frames=5, latent_action=latent_action)
        self.latent_action = None
        self.action_vectors = torch.zeros(len(moves), 1)
        self.pictures = {view(texture(i), 32, 32).tobytes(): texture(i) for i in range(16)}


def prompts(count: int = 8) -> np.ndarray:
    """Prompts of a `Scroller`, each of another picture."""
    return np.stack([view(texture(i), 32, 32) for i in range(count)])[:, None]


class ScrollerSession:
    """Plays a `Scroller` as `djinn.generate.session.Session` would."""

    def __init__(self, world: Scroller, prompt: np.ndarray, *, sampler=None, seed: int = 0, undo_depth: int) -> None:
        self.world, self.seed = world, seed
        self.pictures = [world.pictures[frame[0].tobytes()] for frame in prompt]
        self.reset()

    def reset(self) -> None:
        self.places = [(32, 32)] * len(self.pictures)
        self.rng = np.random.default_rng(self.seed)

    def step(self, code: int) -> np.ndarray:
        for i, (x, y) in enumerate(self.places):
            move = self.world.moves[code]
            dx, dy = self.rng.integers(-5, 6, 2) if move is None else move
            self.places[i] = (int(np.clip(x + dx, 0, 64)), int(np.clip(y + dy, 0, 64)))
        return np.stack([view(p, *place) for p, place in zip(self.pictures, self.places, strict=True)])
