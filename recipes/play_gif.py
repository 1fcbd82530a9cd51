"""The moving picture of the README: a world's page in a real browser, played with real key events.

    python recipes/play_gif.py RUN --out docs/play.gif

Needs the extra 'play' and Chromium; it drives the browser as the tests of the page do.
"""

from __future__ import annotations

import argparse
import base64
import io
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "play"))
from chrome import Tab, chromium

PORT = 8127
TIME = "Number(document.getElementById('view').dataset.time)"


def main() -> None:
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", help="world folder, run folder or name of a shipped world")
    parser.add_argument("--out", type=Path, default=Path("docs/play.gif"), help="file to write (%(default)s)")
    parser.add_argument("--keys", default="33115533661155", help="number keys, each held for --hold frames")
    parser.add_argument("--hold", type=int, default=4, help="frames that each key is held (%(default)s)")
    parser.add_argument("--prompt", type=int, default=0, help="picture of the gallery to start from (%(default)s)")
    parser.add_argument("--width", type=int, default=720, help="width of the picture (%(default)s)")
    args = parser.parse_args()
    command = [sys.executable, "-m", "djinn", "play", args.world, "--port", str(PORT), "--no-browser"]
    server = subprocess.Popen(command)
    try:
        with chromium() as browser:
            tab = browser.tab()
            tab.size(1120, 700)
            reach(tab)
            shots = play(tab, args)
            print(f"{tab.js(TIME)} frames played; the page complained of {tab.complaints() or 'nothing'}")
    finally:
        server.terminate()
        server.wait()
    height = round(args.width * shots[0].height / shots[0].width)
    small = [shot.resize((args.width, height), Image.Resampling.LANCZOS) for shot in shots]
    palette = small[len(small) // 2].quantize(128, dither=Image.Dither.NONE)
    frames = [shot.quantize(palette=palette, dither=Image.Dither.NONE) for shot in small]
    frames[0].save(args.out, save_all=True, append_images=frames[1:], duration=200, loop=0, optimize=True)
    print(f"{args.out}: {len(frames)} pictures, {args.out.stat().st_size / 1e6:.1f} MB")


def reach(tab: Tab) -> None:
    """Opens the page as soon as the server is there, and waits for its first frame."""
    until = time.monotonic() + 60
    while True:
        try:
            tab.open(f"http://127.0.0.1:{PORT}/")
            tab.wait("Number(document.getElementById('view')?.dataset.number)")
            return
        except AssertionError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def play(tab: Tab, args: argparse.Namespace) -> list[Image.Image]:
    """Holds the keys one after the other and takes a picture after each frame."""
    shots: list[Image.Image] = []
    tab.js(f"document.querySelectorAll('#gallery > *')[{args.prompt}]?.click()")
    time.sleep(1)
    for key in args.keys:
        start = tab.js(TIME)
        tab.key("down", key)
        until = time.monotonic() + 20
        while tab.js(TIME) < start + args.hold:
            shots.append(picture(tab))
            if time.monotonic() > until:
                raise SystemExit(f"key {key} makes no frames: the keys of the actions start at 1")
        tab.key("up", key)
    return shots


def picture(tab: Tab) -> Image.Image:
    """The page as it is now."""
    data = tab.call("Page.captureScreenshot", format="png")["data"]
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


if __name__ == "__main__":
    main()
