"""Interactive generation: one frame per action, with caches, for any number of frames."""

from __future__ import annotations

import time as clock
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from djinn.config import SamplerConfig
from djinn.errors import UserError
from djinn.generate.arguments import Actions, Prompt, check_types, to_codes, to_integer, to_seed, to_video
from djinn.generate.backend import Backend, TorchBackend
from djinn.generate.maskgit import fill_frame
from djinn.models.world import World, to_uint8
from djinn.nn.fork import check_device


@dataclass
class _State:
    """Everything in a session that changes from frame to frame, except the caches."""

    time: int
    """Number of frames; the newest is frame `time - 1`."""
    tokens: Tensor
    """Tokens `(B, N)` of the newest frame; the next step adds them to the dynamics' cache."""
    action: Tensor
    """Code `(B, C)` of the action that led to the newest frame; unused for frame 0."""
    frame: np.ndarray
    """Newest frame, uint8 `(B, H, W, 3)`."""


@dataclass
class _Undo:
    """What one step overwrites."""

    state: _State
    generator: Tensor
    dynamics: list[tuple[Tensor, Tensor]]
    decoder: list[tuple[Tensor, Tensor]]


class Session:
    """A running game, or a batch of B games of one world (paper section 2.2).

    Tokens are the state: decoded pixels are never re-encoded. Keys and values of finished frames
    are cached for the dynamics model and the decoder, so the cost of a frame does not depend on the
    length of the game. Each frame attends to the last `world.config.context_frames` frames. The
    cached keys and values of these still depend on frames that have left the window.

    Args:
        world: World to play.
        prompt: Initial frames: a PIL image of any size, which is cropped and resized; uint8 frames
            `(H, W, 3)`, `(P, H, W, 3)` or, for B games, `(B, P, H, W, 3)`; or a sequence of P
            images or frames.
        backend: Engine that computes the frames (`djinn.backends.select`); `TorchBackend(world)` by
            default.
        sampler: Sampling settings; the world's own by default. The attribute may be changed between
            steps.
        seed: Seed of the sampler. The same seed, prompt and actions give the same frames on the
            same machine. It has no effect while `sampler.is_deterministic`, as at temperature 0,
            the default of shipped worlds.
        prompt_actions: Codes or names of the P - 1 actions between the prompt's frames, `(P-1)` or
            `(B, P-1)`; inferred from the frames by default.
        undo_depth: Maximum number of steps that `undo` can revert.

    Raises:
        UserError: An argument has the wrong type, or the prompt's frames do not have the world's
            size.
    """

    def __init__(
        self,
        world: World,
        prompt: Prompt,
        *,
        backend: Backend | None = None,
        sampler: SamplerConfig | None = None,
        seed: int = 0,
        prompt_actions: Actions | None = None,
        undo_depth: int = 32,
    ) -> None:
        check_types(world, backend, sampler)
        check_device(world.device)
        self.world = world
        self.backend = TorchBackend(world) if backend is None else backend
        if self.backend.world is not world:
            raise UserError("the backend belongs to another world: create it with select_backend(world)")
        self.sampler = world.config.sampler if sampler is None else sampler
        self.seed = to_seed(seed)
        self.timings: dict[str, float] = {"dynamics": 0.0, "decode": 0.0}
        """Duration of the parts of the last step, in milliseconds."""
        video = to_video(world, prompt)
        pixels = world.to_float(video)[:, -world.config.context_frames :]
        self.batch, num_frames = pixels.shape[:2]
        if self.batch == 0 or num_frames == 0:
            raise UserError("the prompt contains no frame")
        depth = to_integer(undo_depth, "undo_depth")
        if depth < 0:
            raise UserError(f"undo_depth must be at least 0, got {depth}")
        self._undo: deque[_Undo] = deque(maxlen=depth)
        with torch.inference_mode():
            self._prompt_tokens = world.tokenizer.encode(pixels)
            self._prompt_vectors = world.action_vectors[self._actions_between(video, num_frames, prompt_actions)]
        self.reset()

    def _actions_between(self, video: Tensor, num_frames: int, actions: Actions | None) -> Int[Tensor, "b a"]:
        """Return the actions between the last `num_frames` frames of a prompt."""
        count = num_frames - 1
        if actions is None:
            if count == 0:
                return torch.zeros(self.batch, 0, dtype=torch.int64)
            return self.world.infer_actions(video[:, -num_frames:])
        codes = to_codes(self.world, actions, "prompt_actions")
        codes = codes.expand(self.batch, -1) if codes.ndim == 1 else codes
        shape = (self.batch, video.shape[1] - 1)
        if codes.shape != shape:
            raise UserError(
                f"a prompt of {video.shape[1]} frames needs {shape[1]} prompt actions: expected shape {shape}, got "
                f"{tuple(codes.shape)}"
            )
        return codes[:, codes.shape[1] - count :].to(self.world.device)

    @property
    def frame(self) -> UInt8[np.ndarray, "b h w 3"]:
        """Newest frame of each game."""
        return self._state.frame

    @property
    def tokens(self) -> Int[Tensor, "b n"]:
        """Tokens of the newest frame of each game."""
        return self._state.tokens

    @property
    def time(self) -> int:
        """Number of frames, including those of the prompt."""
        return self._state.time

    @property
    def undoable(self) -> int:
        """Number of steps that `undo` can revert."""
        return len(self._undo)

    @torch.inference_mode()
    def reset(self, seed: int | None = None) -> UInt8[np.ndarray, "b h w 3"]:
        """Return to the prompt and restart the random generator.

        Args:
            seed: New seed; None keeps the current one, so that the same actions give the same
                frames.

        Returns:
            The prompt's last frame, as decoded from its tokens.

        Raises:
            UserError: `seed` is not a valid seed.
        """
        if seed is not None:
            self.seed = to_seed(seed)
        world, backend = self.world, self.backend
        self._generator = torch.Generator(world.device).manual_seed(self.seed)
        self._dynamics, self._decoder = backend.new_cache(), backend.new_cache()
        self._undo.clear()
        tokens, actions = self._prompt_tokens, self._prompt_vectors
        num_frames = tokens.shape[1]
        with backend.inference_context():
            pixels = backend.decode(tokens, self._decoder, 0)
            if num_frames > 1:
                no_positions = tokens.new_empty(self.batch, 0)
                backend.extend(tokens[:, :-1], None, actions[:, :-1], self._dynamics, 0, no_positions)
        frame = to_uint8(pixels[:, -1]).cpu().numpy()
        action = actions[:, -1] if num_frames > 1 else world.action_vectors.new_zeros(self.batch, actions.shape[2])
        self._state = _State(num_frames, tokens[:, -1], action, frame)
        return frame

    @torch.inference_mode()
    def step(self, actions: Actions) -> UInt8[np.ndarray, "b h w 3"]:
        """Generate the next frame of each game.

        If it raises, the session stays as it was, provided that `undo_depth` is positive.

        Args:
            actions: Code or name of one action for all games, or a sequence, array or tensor `(B)`
                with one for each.

        Returns:
            The new frame of each game.

        Raises:
            UserError: The world has no such action, or the number of actions is not that of the
                games.
        """
        check_device(self.world.device)
        codes = to_codes(self.world, actions)
        codes = codes.expand(self.batch) if codes.ndim == 0 else codes
        if codes.shape != (self.batch,):
            expected = "1 action" if self.batch == 1 else f"1 action or {self.batch}, one for each game"
            raise UserError(f"expected {expected}, got shape {tuple(codes.shape)}")
        action = self.world.action_vectors[codes.to(self.world.device)]
        time = self._state.time
        snapshot = self._snapshot() if self._undo.maxlen else None
        start = clock.perf_counter()
        try:
            with self.backend.inference_context():
                tokens = self._next_tokens(action)
                self.backend.synchronize()
                middle = clock.perf_counter()
                pixels = self.backend.decode(tokens[:, None], self._decoder, time)
                frame = to_uint8(pixels[:, 0]).cpu().numpy()
        except BaseException:
            if snapshot is not None:
                self._restore(snapshot)
            raise
        self._state = _State(time + 1, tokens, action, frame)
        if snapshot is not None:
            self._undo.append(snapshot)
        end = clock.perf_counter()
        self.timings = {"dynamics": (middle - start) * 1e3, "decode": (end - middle) * 1e3}
        return frame

    def _next_tokens(self, action: Tensor) -> Tensor:
        """Sample the next frame's tokens.

        The first pass also adds the newest finished frame to the cache.
        """
        state, first_pass = self._state, True

        def predict(tokens: Tensor, masked: Tensor, unknown: Tensor) -> Tensor:
            nonlocal first_pass
            frames, hidden, actions, first = tokens[:, None], masked[:, None], action[:, None], state.time
            if first_pass:
                first_pass, first = False, first - 1
                frames = torch.cat([state.tokens[:, None], frames], dim=1)
                hidden = torch.cat([torch.zeros_like(hidden), hidden], dim=1)
                if first > 0:  # no action leads to frame 0
                    actions = torch.cat([state.action[:, None], actions], dim=1)
            return self.backend.extend(frames, hidden, actions, self._dynamics, first, unknown)

        n = self.world.config.tokens_per_frame
        return fill_frame(predict, self.batch, n, self.sampler, self._generator, self.world.device)

    def undo(self, n: int = 1) -> UInt8[np.ndarray, "b h w 3"]:
        """Revert the last `n` steps, or all that can be reverted if there are fewer.

        The random generator is reverted too: the same actions then give the same frames.

        Args:
            n: Number of steps.

        Returns:
            The newest frame.

        Raises:
            UserError: `n` is not an integer or is negative.
        """
        count = to_integer(n, "the number of steps to undo")
        if count < 0:
            raise UserError(f"the number of steps to undo must be at least 0, got {count}")
        with torch.inference_mode():
            for _ in range(min(count, len(self._undo))):
                self._restore(self._undo.pop())
        return self.frame

    def _snapshot(self) -> _Undo:
        """Copy what a step overwrites."""
        time = self._state.time
        return _Undo(
            self._state, self._generator.get_state(), self._dynamics.snapshot(time), self._decoder.snapshot(time)
        )

    def _restore(self, undo: _Undo) -> None:
        """Write back what `_snapshot` copied."""
        time = undo.state.time
        self._state = undo.state
        self._generator.set_state(undo.generator)
        self._dynamics.restore(time, undo.dynamics)
        self._decoder.restore(time, undo.decoder)

    def fork(self) -> Session:
        """Return an independent copy; with the same actions it generates the same frames."""
        copy = object.__new__(Session)
        copy.__dict__.update(self.__dict__)
        with torch.inference_mode():
            copy._dynamics, copy._decoder = self._dynamics.clone(), self._decoder.clone()
        copy._generator = torch.Generator(self.world.device)
        copy._generator.set_state(self._generator.get_state())
        copy._undo = deque(self._undo, maxlen=self._undo.maxlen)
        copy.timings = dict(self.timings)
        return copy
