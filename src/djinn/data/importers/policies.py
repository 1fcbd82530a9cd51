"""Scripted policies that choose the actions of CoinRun while its frames are recorded."""

from __future__ import annotations

import difflib
from typing import Literal, get_args

import numpy as np
from jaxtyping import UInt8

from djinn.errors import UserError

PolicyName = Literal[
    "random", "random9", "sticky", "right", "mix", "held-moves", "keyboard-jump", "keyboard-turn", "keyboard-mix"
]
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
RENAMED_POLICIES: dict[str, PolicyName] = {
    "keys": "keyboard-jump",
    "turns": "keyboard-turn",
    "players": "keyboard-mix",
    "person": "held-moves",
}
"""Names used by Djinn 0.1.0, and the current name of the same policy."""

ACTION_NAMES = (
    "left+down",
    "left",
    "left+up",
    "down",
    "none",
    "up",
    "right+down",
    "right",
    "right+up",
    "d (none)",
    "a (none)",
    "w (none)",
    "s (none)",
    "q (none)",
    "e (none)",
)
"""The 15 actions of Procgen by number. CoinRun ignores the last six."""

_NUM_MOVES = 9
_LEFT, _STAY, _RIGHT = 1, 4, 7
"""Action numbers. `action + 1` adds the jump key, `8 - action` mirrors left and right."""

_MIXTURES: dict[PolicyName, tuple[tuple[PolicyName, ...], tuple[float, ...]]] = {
    "mix": (("sticky", "right", "random9"), (0.45, 0.45, 0.1)),
    "keyboard-mix": (("keyboard-jump", "keyboard-turn"), (0.5, 0.5)),
}
"""Policies of which one is drawn for each recording, and their probabilities."""
_HOLD_FRAMES = {"sticky": (2, 7), "right": (2, 7), "held-moves": (5, 12)}
"""Range of the number of frames for which an action is held, both ends included."""
_ACTION_PROBABILITIES: dict[str, dict[int, float]] = {
    "right": {7: 0.28, 8: 0.40, 4: 0.12, 5: 0.05, 1: 0.08, 2: 0.07},
    "held-moves": {7: 0.26, 8: 0.24, 1: 0.16, 2: 0.14, 4: 0.08, 5: 0.12},
}
"""Distribution over actions. A policy that is not listed draws uniformly."""

_WALK_DIRECTIONS = (0.56, 0.40, 0.04)
"""Probabilities that a keyboard policy walks right, walks left or stands."""
_LONG_WALK_PROBABILITY = 0.3
_SHORT_WALK, _LONG_WALK = (2, 5), (6, 15)
"""Range of the number of frames of a walk, upper end excluded. A long walk reaches full speed."""
_JUMP_PROBABILITY = 0.10
_JUMP_DIRECTIONS = (0.60, 0.25, 0.15)
"""Probabilities that a jump goes right, left or straight up."""
_MIN_WALK_BEFORE_WALL = 3
"""Frames that a direction must have been held before a still frame counts as a wall."""
_MAX_STILL_CHANGE = 0.03
"""Fraction of changed pixels below which a frame counts as still."""
_JUMP_AT_WALL_PROBABILITY = {"keyboard-jump": 0.75, "keyboard-turn": 0.5}
"""Probability of jumping forward at a wall. Otherwise `keyboard-jump` jumps back and
`keyboard-turn` walks back."""


def check_policy(name: str) -> PolicyName:
    """Return `name` if it is a policy.

    Raises:
        UserError: There is no such policy. The message suggests the nearest name.
    """
    if name in POLICIES:
        return name
    suggestion = RENAMED_POLICIES.get(name) or next(iter(difflib.get_close_matches(name, POLICIES, n=1)), None)
    hint = f"did you mean '{suggestion}'? " if suggestion else ""
    raise UserError(f"unknown policy '{name}'; {hint}the policies are {', '.join(POLICIES)}")


class Policy:
    """Chooses the actions of one recording.

    - `random`: one of the 15 actions, drawn every frame, as in the paper (section 3.1). 7 of the 15
      have no effect.
    - `random9`: one of the 9 moves, drawn every frame.
    - `sticky`: one of the 9 moves, held for 2 to 7 frames.
    - `right`: runs and jumps to the right, held for 2 to 7 frames, with pauses and a few steps to
      the left.
    - `mix`: one of `sticky` (45 %), `right` (45 %) and `random9` (10 %), drawn for each recording.
    - `held-moves`: one of the six moves that have an effect (left, right, either with a jump, jump,
      none), held for 5 to 12 frames, about the length of a jump.
    - `keyboard-jump`: imitates a keyboard player. Walks or runs in one direction, rarely stands,
      taps the jump key from time to time and holds the direction in the air. Jumps forward or back
      at walls, which it detects from still frames.
    - `keyboard-turn`: as `keyboard-jump`, but at walls it turns around and walks, or jumps forward.
      Frames of a player sliding up a wall reveal no direction; this policy produces fewer of them.
    - `keyboard-mix`: `keyboard-jump` or `keyboard-turn`, drawn for each recording.

    Args:
        name: One of `POLICIES`.
        rng: Generator of all random draws.
    """

    def __init__(self, name: PolicyName, rng: np.random.Generator) -> None:
        assert name in POLICIES
        if name in _MIXTURES:
            names, probabilities = _MIXTURES[name]
            name = names[rng.choice(len(names), p=probabilities)]
        self.name = name
        self._rng = rng
        self._queue: list[int] = []
        """Actions to come, the next one last."""
        self._last_frame: np.ndarray | None = None
        self._direction, self._frames_in_direction = _STAY, 0

    def act(self, frame: UInt8[np.ndarray, "h w 3"] | None = None) -> int:
        """Return the action for the next frame.

        Args:
            frame: The current frame `(H, W, 3)`. Only keyboard policies use it, to detect walls.
        """
        if self.name in _JUMP_AT_WALL_PROBABILITY and self._is_at_wall(frame):
            if self._rng.random() < _JUMP_AT_WALL_PROBABILITY[self.name]:
                self._queue = self._jump(self._direction)
            elif self.name == "keyboard-jump":
                self._queue = self._jump(8 - self._direction)
            else:
                self._queue = self._walk(8 - self._direction, _LONG_WALK)
        if not self._queue:
            is_keyboard = self.name in _JUMP_AT_WALL_PROBABILITY
            self._queue = self._sample_keyboard_actions() if is_keyboard else self._sample_held_action()
        return self._queue.pop()

    def _is_at_wall(self, frame: np.ndarray | None) -> bool:
        """Return whether the frame is still although a direction has been held for some frames."""
        last, self._last_frame = self._last_frame, frame
        self._frames_in_direction += 1
        if frame is None or last is None or self._direction == _STAY:
            return False
        if self._frames_in_direction < _MIN_WALK_BEFORE_WALL:
            return False
        return bool((frame != last).any(axis=-1).mean() < _MAX_STILL_CHANGE)

    def _sample_held_action(self) -> list[int]:
        """Sample an action and the number of frames to hold it."""
        action = self._sample_action()
        low, high = _HOLD_FRAMES.get(self.name, (1, 1))
        return [action] * (int(self._rng.integers(low, high + 1)) if high > 1 else 1)

    def _sample_keyboard_actions(self) -> list[int]:
        """Sample a walk, a pause or a jump."""
        if self._rng.random() < _JUMP_PROBABILITY:
            return self._jump(int(self._rng.choice((_RIGHT, _LEFT, _STAY), p=_JUMP_DIRECTIONS)))
        direction = int(self._rng.choice((_RIGHT, _LEFT, _STAY), p=_WALK_DIRECTIONS))
        return self._walk(direction, _LONG_WALK if self._rng.random() < _LONG_WALK_PROBABILITY else _SHORT_WALK)

    def _walk(self, direction: int, frames: tuple[int, int]) -> list[int]:
        """Return one direction for a random number of frames."""
        self._set_direction(direction)
        return [direction] * int(self._rng.integers(*frames))

    def _jump(self, direction: int) -> list[int]:
        """Return a tap of the jump key and the direction held in the air, the last action first."""
        self._set_direction(direction)
        return [direction] * int(self._rng.integers(9, 15)) + [direction + 1] * int(self._rng.integers(1, 3))

    def _set_direction(self, direction: int) -> None:
        if direction != self._direction:
            self._direction, self._frames_in_direction = direction, 0

    def _sample_action(self) -> int:
        probabilities = _ACTION_PROBABILITIES.get(self.name)
        if probabilities is not None:
            return int(self._rng.choice(list(probabilities), p=list(probabilities.values())))
        return int(self._rng.integers(len(ACTION_NAMES) if self.name == "random" else _NUM_MOVES))
