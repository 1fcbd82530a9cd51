"""Ways to press the buttons of CoinRun while its frames are recorded."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

PolicyName = Literal["random", "random9", "sticky", "right", "mix", "keys"]
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
_HOLD = {"sticky": (2, 7), "right": (2, 7)}
_RIGHT = {7: 0.28, 8: 0.40, 4: 0.12, 5: 0.05, 1: 0.08, 2: 0.07}
_WAYS = (0.5, 0.32, 0.18)
"""How often `keys` goes right, left, or nowhere."""
_JUMPS = 0.12


class Policy:
    """Chooses actions for one recording.

    - `random`: any of the 15 actions, drawn anew each frame (the paper's, section 3; 7 of the 15 do nothing).
    - `random9`: one of the 9 moves, drawn anew each frame.
    - `sticky`: one of the 9 moves, held for 2 to 7 frames.
    - `right`: runs and jumps to the right, held for 2 to 7 frames, with pauses and some steps to the left.
    - `keys`: somebody at the arrow keys: walks one way or stands, and taps the jump key on the way, so that what is pressed
      shows: in the air a held jump key does nothing.
    - `mix`: for each recording one of `sticky` (45 %), `right` (45 %) and `random9` (10 %).
    """

    def __init__(self, name: PolicyName, rng: np.random.Generator) -> None:
        assert name in POLICIES
        if name == "mix":
            kinds: tuple[PolicyName, ...] = ("sticky", "right", "random9")
            name = kinds[rng.choice(3, p=[0.45, 0.45, 0.1])]
        self.name = name
        self._rng = rng
        self._next: list[int] = []

    def act(self) -> int:
        """The action for the next frame."""
        if not self._next:
            self._next = self._keys() if self.name == "keys" else self._held()
        return self._next.pop()

    def _held(self) -> list[int]:
        """One action for some frames."""
        action = self._draw()
        least, most = _HOLD.get(self.name, (1, 1))
        return [action] * (int(self._rng.integers(least, most + 1)) if most > 1 else 1)

    def _keys(self) -> list[int]:
        """A stretch of walking or standing, or a jump with the flight that follows, the last action first."""
        way = int(self._rng.choice((7, 1, 4), p=_WAYS))
        if self._rng.random() < _JUMPS:
            return [way] * int(self._rng.integers(9, 15)) + [way + 1] * int(self._rng.integers(1, 4))
        return [way] * int(self._rng.integers(3, 8))

    def _draw(self) -> int:
        if self.name == "right":
            return int(self._rng.choice(list(_RIGHT), p=list(_RIGHT.values())))
        return int(self._rng.integers(len(ACTION_NAMES) if self.name == "random" else MOVES))
