"""Interface between a session and the engine that computes its frames, and the torch engine."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from djinn.models.world import World
from djinn.nn import KVCache


@runtime_checkable
class Backend(Protocol):
    """Engine that runs the cached passes of the dynamics model and the tokenizer's decoder.

    A backend is stateless with respect to sessions: the caches belong to the session, so any number
    of sessions share one backend. `djinn.backends` has further implementations.

    Shapes: B games, T frames, N tokens per frame, M positions, C width of a latent action code, V
    codebook size.
    """

    @property
    def world(self) -> World:
        """World whose weights the backend uses."""
        ...

    def new_cache(self) -> KVCache:
        """Return an empty cache for the dynamics model or the decoder of one session."""
        ...

    def inference_context(self) -> AbstractContextManager[object]:
        """Return a context with the precision and thread settings that `extend` and `decode` need.

        A session enters it once per frame.
        """
        ...

    def extend(
        self,
        tokens: Int[Tensor, "b t n"],
        masked: Bool[Tensor, "b t n"] | None,
        actions: Float[Tensor, "b a c"],
        cache: KVCache,
        first: int,
        positions: Int[Tensor, "b m"],
    ) -> Float[Tensor, "b m v"]:
        """Add the next frames to the dynamics model's cache and predict tokens of the last one.

        A second pass with the same `first` replaces the frames in the cache.

        Args:
            tokens: Tokens `(B, T, N)` of the frames; values of masked tokens are ignored.
            masked: True where a token is masked. None masks no token.
            actions: Latent action codes that lead to each frame. No action leads to frame 0, so
                there are `T - 1` if `first` is 0, else `T`.
            cache: Keys and values of earlier frames; modified in place.
            first: Time of the first frame.
            positions: Positions in the last frame whose logits to return; `M` may be 0.

        Returns:
            Logits in fp32.
        """
        ...

    def decode(self, tokens: Int[Tensor, "b t n"], cache: KVCache, first: int) -> Float[Tensor, "b t h w 3"]:
        """Add the next frames to the decoder's cache and decode them.

        Args:
            tokens: Tokens `(B, T, N)` of the frames.
            cache: Keys and values of earlier frames; modified in place.
            first: Time of the first frame.

        Returns:
            Pixels in [0, 1].
        """
        ...

    def synchronize(self) -> None:
        """Wait until all computation on the device has finished."""
        ...


class TorchBackend:
    """Backend that runs the world's own modules: fp32 on a CPU, bf16 autocast on CUDA.

    Args:
        world: World to run, on any device.
    """

    def __init__(self, world: World) -> None:
        self.world = world

    def new_cache(self) -> KVCache:
        """Return an empty cache; see `Backend.new_cache`."""
        return KVCache(self.world.config.context_frames)

    def inference_context(self) -> torch.autocast:
        """Return the autocast context; see `Backend.inference_context`.

        It spans a whole frame, so that autocast converts each weight once per frame.
        """
        device = self.world.device.type
        return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")

    def extend(
        self,
        tokens: Int[Tensor, "b t n"],
        masked: Bool[Tensor, "b t n"] | None,
        actions: Float[Tensor, "b a c"],
        cache: KVCache,
        first: int,
        positions: Int[Tensor, "b m"],
    ) -> Float[Tensor, "b m v"]:
        """Extend the dynamics model's cache; see `Backend.extend`."""
        b, t, n = tokens.shape
        last = torch.arange(t - 1, b * t, t, device=tokens.device)  # of each game in (b t)
        logits = self.world.dynamics(
            tokens,
            masked,
            actions,
            cache=cache,
            first=first,
            query_positions=(last[:, None] * n + positions).flatten(),
        )
        return logits.float().view(*positions.shape, logits.shape[-1])

    def decode(self, tokens: Int[Tensor, "b t n"], cache: KVCache, first: int) -> Float[Tensor, "b t h w 3"]:
        """Decode the next frames; see `Backend.decode`."""
        return self.world.tokenizer.decode(tokens, cache, first)

    def synchronize(self) -> None:
        """Wait for the GPU; see `Backend.synchronize`."""
        if self.world.device.type == "cuda":
            torch.cuda.synchronize(self.world.device)
