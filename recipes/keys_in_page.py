"""Check in Chromium whether the keys of a world move the scene as their names state.

    python recipes/keys_in_page.py WORLD --prompts 10 --out keys.png

Each named action is played with its digit key from several prompts. The recipe prints the median
shift of the scene per frame, and the number of prompts from which the scene moves in the expected
direction. The camera follows the player, so the scene moves left when the player moves right, and
down when the player jumps. The output image has one row for each prompt: the first frame, and the
last frame for each key. Requires the extra 'play' and Chromium.
"""

from __future__ import annotations

import argparse
import base64
import io
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from play_gif import PORT, TIME, open_page

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "play"))
from chrome import Tab, chromium

from djinn.atomic import check_writable_file
from djinn.errors import UserError
from djinn.evaluate.motion import global_shift, grey
from djinn.models.world import World

DIRECTIONS = {"right": (0, -1), "left": (0, 1), "up": (1, 1), "jump": (1, 1)}
"""Axis (0 is x, 1 is y) and sign of the expected shift of the scene."""
MIN_SHIFT = 0.25
"""Shift in pixels per frame from which the scene counts as moving."""


def main() -> None:
    """Run the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", help="world folder, run folder or name of a shipped world")
    parser.add_argument("--prompts", type=int, default=10, help="number of prompts (%(default)s)")
    parser.add_argument("--frames", type=int, default=6, help="frames that each key is held (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("keys.png"), help="output image (%(default)s)")
    args = parser.parse_args()
    try:
        check_writable_file(args.out)
    except UserError as error:
        sys.exit(f"keys_in_page: {error}")
    names = World.from_pretrained(args.world, "cpu").action_names[:10]  # only these have digit keys
    named = {code: name for code, name in enumerate(names) if set(name.split()) & set(DIRECTIONS)}
    if not named:
        sys.exit(f"no action of {args.world} has {', '.join(DIRECTIONS)} in its name: name actions with djinn name")
    command = [sys.executable, "-m", "djinn", "play", args.world, "--port", str(PORT), "--no-browser"]
    server = subprocess.Popen(command)
    try:
        with chromium() as browser:
            tab = browser.tab()
            tab.size(1120, 700)
            open_page(tab)
            played = {code: [hold(tab, code, i, args.frames) for i in range(args.prompts)] for code in named}
            print(f"errors on the page: {tab.errors() or 'none'}")
    finally:
        server.terminate()
        server.wait()
    for code, name in named.items():
        print(describe(code, name, np.stack(played[code])))
    rows = [
        np.concatenate([played[next(iter(named))][i][0], *(played[c][i][-1] for c in named)], 1)
        for i in range(args.prompts)
    ]
    grid = Image.fromarray(np.concatenate(rows))
    grid.resize((3 * grid.width, 3 * grid.height), Image.Resampling.NEAREST).save(args.out)
    print(f"wrote {args.out}")


def hold(tab: Tab, code: int, prompt: int, frames: int) -> np.ndarray:
    """Return the prompt and the frames of a game with one action, uint8 `(frames + 1, H, W, 3)`."""
    tab.js(f"document.querySelectorAll('#gallery > *')[{prompt}].click()")
    tab.wait(f"{TIME} <= 1")
    time.sleep(0.3)
    pause = "document.getElementById('pause')"
    tab.js(f"{pause}.getAttribute('aria-pressed') === 'true' || {pause}.click()")
    shots = [canvas(tab)]
    for _ in range(frames):
        before = tab.js(TIME)
        tab.press(str(code))
        tab.wait(f"{TIME} > {before}")
        shots.append(canvas(tab))
    return np.stack(shots)


def canvas(tab: Tab) -> np.ndarray:
    """Return the frame on the page, uint8 `(H, W, 3)`."""
    data = tab.js("document.getElementById('view').toDataURL('image/png')").split(",", 1)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def describe(code: int, name: str, games: np.ndarray) -> str:
    """Return one line on an action.

    Args:
        code: Code of the action.
        name: Name of the action.
        games: Frames of a game from each prompt, uint8 `(prompts, frames + 1, H, W, 3)`.
    """
    gray = grey(games)
    n, steps = games.shape[0], games.shape[1] - 1
    shift = global_shift(gray[:, :-1].reshape(-1, *gray.shape[2:]), gray[:, 1:].reshape(-1, *gray.shape[2:]))
    mean = shift.reshape(n, steps, 2).mean(1)
    parts = []
    for word in name.split():
        if word in DIRECTIONS:
            axis, sign = DIRECTIONS[word]
            expected, opposite = (sign * mean[:, axis] > MIN_SHIFT).sum(), (sign * mean[:, axis] < -MIN_SHIFT).sum()
            parts.append(f"{word}: as expected from {expected} of {n} prompts, opposite from {opposite}")
    dx, dy = np.median(mean, axis=0)
    return f"key {code}, {name:<12} median shift of the scene {dx:+.2f} {dy:+.2f} px/frame; {'; '.join(parts)}"


if __name__ == "__main__":
    main()
