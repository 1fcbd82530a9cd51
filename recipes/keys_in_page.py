"""Whether keys do what their names say, in a real browser: each named key is held from each picture of the gallery.

    python recipes/keys_in_page.py WORLD --prompts 10 --out keys.png

Prints for each key how many pixels a frame the scene moved, and from how many pictures it moved as the name says: the
camera follows the player, so the scene goes left when the player goes right, and down when he jumps. The picture has one
row for each prompt: where it began, and where each key led. Needs the extra 'play' and Chromium.
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
from play_gif import PORT, TIME, reach

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "play"))
from chrome import Tab, chromium

from djinn.evaluate.motion import global_shift, grey
from djinn.models.world import World

AS_NAMED = {"right": (0, -1), "left": (0, 1), "up": (1, 1), "jump": (1, 1)}
"""Axis (0 is x, 1 is y) and sign in which the scene moves."""
LEAST = 0.25
"""Pixels a frame from which a scene moves."""


def main() -> None:
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", help="world folder, run folder or name of a shipped world")
    parser.add_argument("--prompts", type=int, default=10, help="pictures of the gallery (%(default)s)")
    parser.add_argument("--frames", type=int, default=6, help="frames that each key is held (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("keys.png"), help="picture to write (%(default)s)")
    args = parser.parse_args()
    world = World.from_pretrained(args.world, "cpu")
    named = {code: name for code, name in enumerate(world.action_names) if set(name.split()) & set(AS_NAMED)}
    if not named:
        sys.exit(f"no action of {args.world} has a name with {', '.join(AS_NAMED)} in it: djinn name gives names")
    command = [sys.executable, "-m", "djinn", "play", args.world, "--port", str(PORT), "--no-browser"]
    server = subprocess.Popen(command)
    try:
        with chromium() as browser:
            tab = browser.tab()
            tab.size(1120, 700)
            reach(tab)
            played = {code: [hold(tab, code, i, args.frames) for i in range(args.prompts)] for code in named}
            print(f"the page complained of {tab.complaints() or 'nothing'}")
    finally:
        server.terminate()
        server.wait()
    for code, name in named.items():
        print(verdict(code, name, np.stack(played[code])))
    rows = [
        np.concatenate([played[next(iter(named))][i][0], *(played[c][i][-1] for c in named)], 1)
        for i in range(args.prompts)
    ]
    picture = Image.fromarray(np.concatenate(rows))
    picture.resize((3 * picture.width, 3 * picture.height), Image.Resampling.NEAREST).save(args.out)
    print(f"wrote {args.out}")


def hold(tab: Tab, code: int, prompt: int, frames: int) -> np.ndarray:
    """Frames of a game in which one key is held from the start, the prompt first; uint8 `(frames + 1, h, w, 3)`."""
    tab.js(f"document.querySelectorAll('#gallery > *')[{prompt}].click()")
    tab.wait(f"{TIME} <= 1")
    time.sleep(0.3)
    tab.js(
        "document.getElementById('pause').getAttribute('aria-pressed') === 'true' || document.getElementById('pause').click()"
    )
    shots = [canvas(tab)]
    for _ in range(frames):
        before = tab.js(TIME)
        tab.press(str(code + 1))
        tab.wait(f"{TIME} > {before}")
        shots.append(canvas(tab))
    return np.stack(shots)


def canvas(tab: Tab) -> np.ndarray:
    """The frame that the page shows."""
    data = tab.js("document.getElementById('view').toDataURL('image/png')").split(",", 1)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def verdict(code: int, name: str, games: np.ndarray) -> str:
    """One line on a key: median shift, and from how many prompts it moves as its name says."""
    shades = grey(games)
    n, steps = games.shape[0], games.shape[1] - 1
    shift = global_shift(shades[:, :-1].reshape(-1, *shades.shape[2:]), shades[:, 1:].reshape(-1, *shades.shape[2:]))
    mean = shift.reshape(n, steps, 2).mean(1)
    parts = []
    for word in name.split():
        if word in AS_NAMED:
            axis, sign = AS_NAMED[word]
            parts.append(
                f"{word}: {(sign * mean[:, axis] > LEAST).sum()} of {n}, against it {(sign * mean[:, axis] < -LEAST).sum()}"
            )
    dx, dy = np.median(mean, axis=0)
    return f"key {code + 1}, {name:<12} scene {dx:+.2f} {dy:+.2f} px a frame; {'; '.join(parts)}"


if __name__ == "__main__":
    main()
