"""A world whose actions move a camera over random textures, and its sessions."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from djinn.config import LatentActionConfig, QuantizerConfig, WorldConfig
from djinn.models.world import World

SIDE = 64


def texture(seed: int = 0, side: int = 128) -> np.ndarray:
    """Return a random image with detail at several scales, `(side, side, 3)`."""
    rng = np.random.default_rng(seed)
    image = np.zeros((side, side, 3))
    for scale in (2, 4, 8):
        part = rng.normal(0, 1, (side // scale + 1, side // scale + 1, 3))
        image += part.repeat(scale, 0).repeat(scale, 1)[:side, :side]
    return (128 + 30 * image).clip(0, 255).astype(np.uint8)


def view(image: np.ndarray, x: int, y: int, side: int = SIDE) -> np.ndarray:
    """Return the square of an image with its top left corner at `(x, y)`."""
    return image[y : y + side, x : x + side]


class Scroller(World):
    """World in which code k moves the camera by `moves[k]` per frame over a texture.

    Args:
        moves: `(dx, dy)` of the camera for each code, None for random jumps.
    """

    def __init__(self, moves: list[tuple[int, int] | None]) -> None:
        nn.Module.__init__(self)
        self.moves = moves
        latent_action = LatentActionConfig(quantizer=QuantizerConfig(codes=len(moves)))
        self.config = WorldConfig(height=SIDE, width=SIDE, context_frames=5, latent_action=latent_action)
        self.latent_action = None
        self.training_summary = None
        self.action_vectors = torch.zeros(len(moves), 1)
        self.textures = {view(texture(i), 32, 32).tobytes(): texture(i) for i in range(16)}


def prompts(count: int = 8) -> np.ndarray:
    """Return prompts of a `Scroller`, each of another texture."""
    return np.stack([view(texture(i), 32, 32) for i in range(count)])[:, None]


class ScrollerSession:
    """Session of a `Scroller`, with the interface of `djinn.generate.session.Session`."""

    def __init__(self, world: Scroller, prompt: np.ndarray, *, sampler=None, seed: int = 0, undo_depth: int) -> None:
        self.world, self.seed = world, seed
        self.textures = [world.textures[frame[0].tobytes()] for frame in prompt]
        self.reset()

    def reset(self) -> None:
        self.positions = [(32, 32)] * len(self.textures)
        self.rng = np.random.default_rng(self.seed)

    def step(self, code: int) -> np.ndarray:
        for i, (x, y) in enumerate(self.positions):
            move = self.world.moves[code]
            dx, dy = self.rng.integers(-5, 6, 2) if move is None else move
            self.positions[i] = (int(np.clip(x + dx, 0, 64)), int(np.clip(y + dy, 0, 64)))
        return np.stack([view(t, *position) for t, position in zip(self.textures, self.positions, strict=True)])
