"""A running game: frame after frame from a prompt and actions, with caches, in real time and without end."""

from __future__ import annotations

import contextlib
import time as clock
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from djinn.config import SamplerConfig, check_seed
from djinn.errors import UserError
from djinn.generate.maskgit import fill_frame
from djinn.models.dynamics import DynamicsModel
from djinn.models.world import World, to_uint8
from djinn.nn import KVCache
from djinn.nn.cpu_parallel import torch_threads


@dataclass
class _State:
    """All of a session that changes from frame to frame, apart from the caches."""

    time: int
    """Number of frames so far; the newest is frame `time - 1`."""
    tokens: Tensor
    """Tokens of the newest frame, `(b, n)`; it enters the dynamics' cache together with the next frame's first pass."""
    action: Tensor
    """Code of the action that led to the newest frame, `(b, d)`."""
    frame: np.ndarray
    """The newest frame, uint8 `(b, h, w, 3)`."""


@dataclass
class _Undo:
    """What one step replaced."""

    state: _State
    generator: Tensor
    dynamics: list[tuple[Tensor, Tensor]]
    decoder: list[tuple[Tensor, Tensor]]


class Session:
    """Plays a world: `step(action)` makes the next frame (paper section 2.2).

    Tokens are the state: pixels that were decoded are never encoded again. Keys and values of finished frames are cached for
    the dynamics and the decoder, so a frame costs the same however long the game has been going on. The window slides over
    the last `world.config.context_frames` frames; what their cached keys carry of older frames stays, so the memory fades rather
    than ends. Several games of one world run side by side as a batch.

    Args:
        world: the world to play.
        prompt: uint8 frames of the world's size to start from: `(H, W, 3)`, `(P, H, W, 3)` or, for B games,
            `(B, P, H, W, 3)`.
        sampler: how a frame's tokens are drawn; the world's own setting by default. May be changed at any time.
        seed: of everything random; the same seed, prompt and actions give the same frames.
        prompt_actions: the P-1 actions between several prompt frames, `(P-1)` or `(B, P-1)`; inferred by default.
        undo_depth: how many steps `undo` can take back.

    Raises:
        UserError: the prompt has another shape than the world's frames, or actions are missing or out of range.
    """

    def __init__(
        self,
        world: World,
        prompt: UInt8[np.ndarray | Tensor, "..."],
        *,
        sampler: SamplerConfig | None = None,
        seed: int = 0,
        prompt_actions: Sequence[int] | Int[Tensor, "..."] | None = None,
        undo_depth: int = 32,
    ) -> None:
        self.world = world
        self.sampler = sampler or world.config.sampler
        check_seed(seed)
        self.seed = seed
        self.timings: dict[str, float] = {"dynamics": 0.0, "decode": 0.0}
        """Milliseconds that the parts of the last step took."""
        video = prompt if isinstance(prompt, Tensor) else torch.tensor(prompt)  # a picture's array may be read-only
        video = video[None, None] if video.ndim == 3 else video[None] if video.ndim == 4 else video
        pixels = world.to_float(video)[:, -world.config.context_frames :]
        self.batch, frames = pixels.shape[:2]
        if self.batch == 0 or frames == 0:
            raise UserError("the prompt holds no frame")
        with torch.inference_mode():
            self._prompt_tokens = world.tokenizer.encode(pixels)
            self._prompt_vectors = world.action_vectors[self._between(video, frames, prompt_actions)]
        self._undo: deque[_Undo] = deque(maxlen=undo_depth)
        self.reset()

    def _between(self, video: Tensor, frames: int, actions: Sequence[int] | Tensor | None) -> Tensor:
        """Actions between the last `frames` frames of a prompt, which are all that the window holds."""
        count = frames - 1
        if actions is None:
            return (
                self.world.infer_actions(video[:, -frames:]) if count else torch.zeros(self.batch, 0, dtype=torch.int64)
            )
        given = torch.as_tensor(actions, dtype=torch.int64)
        given = given.expand(self.batch, -1) if given.ndim == 1 else given
        if given.shape != (self.batch, video.shape[1] - 1):
            shape = (self.batch, video.shape[1] - 1)
            raise UserError(
                f"{video.shape[1]} prompt frames need {shape[1]} prompt actions, {shape} in all, got {tuple(given.shape)}"
            )
        self.world.check_actions(given)
        return given[:, given.shape[1] - count :].to(self.world.device)

    @property
    def frame(self) -> UInt8[np.ndarray, "b h w 3"]:
        """The newest frame of each game."""
        return self._state.frame

    @property
    def tokens(self) -> Int[Tensor, "b n"]:
        """Tokens of the newest frame of each game."""
        return self._state.tokens

    @property
    def time(self) -> int:
        """Number of frames so far, the prompt's included."""
        return self._state.time

    @property
    def undoable(self) -> int:
        """How many steps can be taken back."""
        return len(self._undo)

    @torch.inference_mode()
    def reset(self, seed: int | None = None) -> UInt8[np.ndarray, "b h w 3"]:
        """Goes back to the prompt.

        Args:
            seed: a new seed; the old one by default, so that the same actions give the same frames again.
        """
        if seed is not None:
            check_seed(seed)
            self.seed = seed
        world, device = self.world, self.world.device
        self._generator = torch.Generator(device).manual_seed(self.seed)
        self._dynamics = KVCache(world.config.context_frames)
        self._decoder = KVCache(world.config.context_frames)
        self._undo.clear()
        tokens, vectors = self._prompt_tokens, self._prompt_vectors
        action_emb = torch.cat([torch.zeros_like(world.action_vectors[:1]).expand(self.batch, 1, -1), vectors], dim=1)
        with self._precision():
            pixels = world.tokenizer.decode(tokens, self._decoder, 0)
            if tokens.shape[1] > 1:
                nothing = torch.empty(0, dtype=torch.int64, device=device)
                actions = action_emb[:, 1:-1]
                world.dynamics(tokens[:, :-1], None, actions, cache=self._dynamics, query_positions=nothing)
        frame = to_uint8(pixels[:, -1]).cpu().numpy()
        self._state = _State(tokens.shape[1], tokens[:, -1], action_emb[:, -1], frame)
        return frame

    @torch.inference_mode()
    def step(self, actions: int | Sequence[int] | Int[Tensor, "b"]) -> UInt8[np.ndarray, "b h w 3"]:
        """Makes the next frame of each game.

        Args:
            actions: one latent action for all games, or one for each.

        Raises:
            UserError: an action is out of range, or their number is not that of the games.
        """
        chosen = torch.as_tensor(actions, dtype=torch.int64)
        chosen = chosen.expand(self.batch) if chosen.ndim == 0 else chosen
        if chosen.shape != (self.batch,):
            raise UserError(f"expected one action or {self.batch} (one for each game), got shape {tuple(chosen.shape)}")
        self.world.check_actions(chosen)
        action = self.world.action_vectors[chosen.to(self.world.device)]
        time = self._state.time
        before = self._snapshot() if self._undo.maxlen else None
        started = clock.perf_counter()
        try:
            with self._precision(), self._threads():
                tokens = self._next_tokens(action)
                self._wait()
                between = clock.perf_counter()
                pixels = self.world.tokenizer.decode(tokens[:, None], self._decoder, time)
                frame = to_uint8(pixels[:, 0]).cpu().numpy()
        except BaseException:
            if before is not None:
                self._restore(before)
            raise
        self._state = _State(time + 1, tokens, action, frame)
        if before is not None:
            self._undo.append(before)
        ended = clock.perf_counter()
        self.timings = {"dynamics": (between - started) * 1e3, "decode": (ended - between) * 1e3}
        return frame

    def _next_tokens(self, action: Tensor) -> Tensor:
        """Fills the next frame; its first pass also brings the newest finished frame into the cache."""
        dynamics, state = self.world.dynamics, self._state
        finished = False

        def predict(tokens: Tensor, masked: Tensor, unknown: Tensor) -> Tensor:
            nonlocal finished
            frames, hidden, action_emb, first = tokens[:, None], masked[:, None], action[:, None], state.time
            row = torch.arange(self.batch, device=tokens.device)[:, None]
            if not finished:
                finished = True
                frames = torch.cat([state.tokens[:, None], frames], dim=1)
                hidden = torch.cat([torch.zeros_like(hidden), hidden], dim=1)
                if state.time > 1:  # no action leads to frame 0
                    action_emb = torch.cat([state.action[:, None], action_emb], dim=1)
                first = state.time - 1
            b, t, n = frames.shape
            positions = (unknown + (row * t + t - 1) * n).flatten()
            logits = dynamics(frames, hidden, action_emb, cache=self._dynamics, first=first, query_positions=positions)
            return logits.float().unflatten(0, (b, -1))

        n = self.world.config.tokens_per_frame
        return fill_frame(predict, self.batch, n, self.sampler, self._generator, self.world.device)

    def undo(self, n: int = 1) -> UInt8[np.ndarray, "b h w 3"]:
        """Takes back the last `n` steps, or as many as are kept; the same actions then give the same frames again."""
        with torch.inference_mode():
            for _ in range(min(n, len(self._undo))):
                self._restore(self._undo.pop())
        return self.frame

    def _snapshot(self) -> _Undo:
        """What a step is about to write over."""
        time = self._state.time
        return _Undo(
            self._state, self._generator.get_state(), self._dynamics.snapshot(time), self._decoder.snapshot(time)
        )

    def _restore(self, before: _Undo) -> None:
        """Takes back what a step has written."""
        time = before.state.time
        self._state = before.state
        self._generator.set_state(before.generator)
        self._dynamics.restore(time, before.dynamics)
        self._decoder.restore(time, before.decoder)

    def fork(self) -> Session:
        """A copy that goes its own way from here; with the same actions it makes the same frames."""
        copy = object.__new__(Session)
        copy.__dict__.update(self.__dict__)
        with torch.inference_mode():
            copy._dynamics, copy._decoder = self._dynamics.clone(), self._decoder.clone()
        copy._generator = torch.Generator(self.world.device)
        copy._generator.set_state(self._generator.get_state())
        copy._undo = deque(self._undo, maxlen=self._undo.maxlen)
        copy.timings = dict(self.timings)
        return copy

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.world.device.type == "cuda")

    def _threads(self) -> contextlib.AbstractContextManager[object]:
        """One thread for torch where another engine has the models: threads of both that wait would keep each other waiting."""
        return contextlib.nullcontext() if isinstance(self.world.dynamics, DynamicsModel) else torch_threads(1)

    def _wait(self) -> None:
        if self.world.device.type == "cuda":
            torch.cuda.synchronize(self.world.device)
