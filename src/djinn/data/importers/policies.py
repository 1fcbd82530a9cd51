"""Ways to press the buttons of CoinRun while its frames are recorded."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from jaxtyping import UInt8

PolicyName = Literal["random", "random9", "sticky", "right", "mix", "person", "keys", "turns", "players"]
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)

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
"""The 15 actions of Procgen by number; CoinRun ignores the last six."""

MOVES = 9
_OF: dict[PolicyName, tuple[tuple[PolicyName, ...], tuple[float, ...]]] = {
    "mix": (("sticky", "right", "random9"), (0.45, 0.45, 0.1)),
    "players": (("keys", "turns"), (0.5, 0.5)),
}
"""What is drawn for each recording, and how often."""
_HOLD = {"sticky": (2, 7), "right": (2, 7), "person": (5, 12)}
_RIGHT = {7: 0.28, 8: 0.40, 4: 0.12, 5: 0.05, 1: 0.08, 2: 0.07}
_PERSON = {7: 0.26, 8: 0.24, 1: 0.16, 2: 0.14, 4: 0.08, 5: 0.12}
_STAY = 4
_WAYS = (0.56, 0.40, 0.04)
"""How often `keys` and `turns` go right, left, or nowhere."""
_LONG = 0.3
"""How often it goes on for `_FAR` frames, long enough to run at full speed, and not for `_NEAR`."""
_NEAR, _FAR = (2, 5), (6, 15)
_JUMPS = 0.10
"""How often it jumps for no reason."""
_JUMP_WAYS = (0.60, 0.25, 0.15)
"""How often such a jump goes right, left, or straight up."""
_PATIENCE = 3
"""Frames after which it sees that it stands at a wall, where fewer pixels than the share `_STILL` change."""
_STILL = 0.03
_ON = {"keys": 0.75, "turns": 0.5}
"""How often it then jumps on in its way; else it turns round, `keys` with a jump and `turns` at a run."""


class Policy:
    """Chooses actions for one recording.

    - `random`: any of the 15 actions, drawn anew each frame (the paper's, section 3; 7 of the 15 do nothing).
    - `random9`: one of the 9 moves, drawn anew each frame.
    - `sticky`: one of the 9 moves, held for 2 to 7 frames.
    - `right`: runs and jumps to the right, held for 2 to 7 frames, with pauses and some steps to the left.
    - `person`: the six moves that act (left, right, either with a jump, a jump, nothing), held for 5 to 12 frames, about
      as long as a jump lasts.
    - `keys`: somebody who looks at the screen and hardly presses what does nothing: walks or runs one way, seldom stands,
      taps the jump key now and then and holds the way in the air, and at a wall jumps on or back.
    - `turns`: the same, but at a wall turns round and runs, or jumps on: who rises along a wall shows nobody which way is held.
    - `players`: for each recording `keys` or `turns`.
    - `mix`: for each recording one of `sticky` (45 %), `right` (45 %) and `random9` (10 %).
    """

    def __init__(self, name: PolicyName, rng: np.random.Generator) -> None:
        assert name in POLICIES
        if name in _OF:
            kinds, shares = _OF[name]
            name = kinds[rng.choice(len(kinds), p=shares)]
        self.name = name
        self._rng = rng
        self._next: list[int] = []
        self._seen: np.ndarray | None = None
        self._way, self._walked = _STAY, 0

    def act(self, frame: UInt8[np.ndarray, "h w 3"] | None = None) -> int:
        """The action for the next frame.

        Args:
            frame: what the screen shows; `keys` and `turns` look at it.
        """
        if self.name in _ON and self._at_a_wall(frame):
            if self._rng.random() < _ON[self.name]:
                self._next = self._jump(self._way)
            else:
                self._next = self._jump(8 - self._way) if self.name == "keys" else self._run(8 - self._way, _FAR)
        if not self._next:
            self._next = self._keys() if self.name in _ON else self._held()
        return self._next.pop()

    def _at_a_wall(self, frame: np.ndarray | None) -> bool:
        """Whether nothing moves although a way is pressed for long enough."""
        before, self._seen = self._seen, frame
        self._walked += 1
        if frame is None or before is None or self._way == _STAY or self._walked < _PATIENCE:
            return False
        return bool((frame != before).any(axis=-1).mean() < _STILL)

    def _held(self) -> list[int]:
        """One action for some frames."""
        action = self._draw()
        least, most = _HOLD.get(self.name, (1, 1))
        return [action] * (int(self._rng.integers(least, most + 1)) if most > 1 else 1)

    def _keys(self) -> list[int]:
        """A stretch of walking or standing, or a jump."""
        if self._rng.random() < _JUMPS:
            return self._jump(int(self._rng.choice((7, 1, _STAY), p=_JUMP_WAYS)))
        way = int(self._rng.choice((7, 1, _STAY), p=_WAYS))
        return self._run(way, _FAR if self._rng.random() < _LONG else _NEAR)

    def _run(self, way: int, frames: tuple[int, int]) -> list[int]:
        """One way for some frames."""
        self._turn(way)
        return [way] * int(self._rng.integers(*frames))

    def _jump(self, way: int) -> list[int]:
        """A tap of the jump key and the flight that follows with the way held, the last action first."""
        self._turn(way)
        return [way] * int(self._rng.integers(9, 15)) + [way + 1] * int(self._rng.integers(1, 3))

    def _turn(self, way: int) -> None:
        if way != self._way:
            self._way, self._walked = way, 0

    def _draw(self) -> int:
        weights = {"right": _RIGHT, "person": _PERSON}.get(self.name)
        if weights is not None:
            return int(self._rng.choice(list(weights), p=list(weights.values())))
        return int(self._rng.integers(len(ACTION_NAMES) if self.name == "random" else MOVES))
