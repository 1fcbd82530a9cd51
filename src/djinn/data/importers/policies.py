"""Ways to press the buttons of CoinRun while its frames are recorded."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

PolicyName = Literal["random", "random9", "sticky", "right", "mix"]
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
_HOLD = (2, 7)
_RIGHT = {7: 0.28, 8: 0.40, 4: 0.12, 5: 0.05, 1: 0.08, 2: 0.07}


class Policy:
    """Chooses actions for one recording.

    - `random`: any of the 15 actions, drawn anew each frame (the paper's, section 3; 7 of the 15 do nothing).
    - `random9`: one of the 9 moves, drawn anew each frame.
    - `sticky`: one of the 9 moves, held for 2 to 7 frames.
    - `right`: runs and jumps to the right, held for 2 to 7 frames, with pauses and some steps to the left.
    - `mix`: for each recording one of `sticky` (45 %), `right` (45 %) and `random9` (10 %).
    """

    def __init__(self, name: PolicyName, rng: np.random.Generator) -> None:
        assert name in POLICIES
        if name == "mix":
            kinds: tuple[PolicyName, ...] = ("sticky", "right", "random9")
            name = kinds[rng.choice(3, p=[0.45, 0.45, 0.1])]
        self.name = name
        self._rng = rng
        self._action = 4
        self._left = 0

    def act(self) -> int:
        """The action for the next frame."""
        if self._left == 0:
            self._action = self._draw()
            self._left = int(self._rng.integers(_HOLD[0], _HOLD[1] + 1)) if self.name in ("sticky", "right") else 1
        self._left -= 1
        return self._action

    def _draw(self) -> int:
        if self.name == "right":
            return int(self._rng.choice(list(_RIGHT), p=list(_RIGHT.values())))
        return int(self._rng.integers(len(ACTION_NAMES) if self.name == "random" else MOVES))
