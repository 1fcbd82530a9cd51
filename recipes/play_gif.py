"""Record a GIF of the page while a world is played in Chromium with key events.

    python recipes/play_gif.py WORLD --out docs/play.gif

Requires the extra 'play' and Chromium. Chromium is driven as in the tests of the page.
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

from djinn.atomic import check_writable_file
from djinn.errors import UserError

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "play"))
from chrome import Tab, chromium

PORT = 8127
TIME = "Number(document.getElementById('view').dataset.time)"


def main() -> None:
    """Run the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", help="world folder, run folder or name of a shipped world")
    parser.add_argument("--out", type=Path, default=Path("docs/play.gif"), help="output file (%(default)s)")
    parser.add_argument(
        "--keys", default="22004422550044", help="digit keys, each held for --hold frames (%(default)s)"
    )
    parser.add_argument("--hold", type=int, default=4, help="frames that each key is held (%(default)s)")
    parser.add_argument("--prompt", type=int, default=0, help="prompt to start from (%(default)s)")
    parser.add_argument("--width", type=int, default=720, help="width of the GIF in pixels (%(default)s)")
    args = parser.parse_args()
    try:
        check_writable_file(args.out)
    except UserError as error:
        sys.exit(f"play_gif: {error}")
    command = [sys.executable, "-m", "djinn", "play", args.world, "--port", str(PORT), "--no-browser"]
    server = subprocess.Popen(command)
    try:
        with chromium() as browser:
            tab = browser.tab()
            tab.size(1120, 700)
            open_page(tab)
            shots = play(tab, args)
            print(f"{tab.js(TIME)} frames played; errors on the page: {tab.errors() or 'none'}")
    finally:
        server.terminate()
        server.wait()
    height = round(args.width * shots[0].height / shots[0].width)
    small = [shot.resize((args.width, height), Image.Resampling.LANCZOS) for shot in shots]
    palette = small[len(small) // 2].quantize(128, dither=Image.Dither.NONE)
    frames = [shot.quantize(palette=palette, dither=Image.Dither.NONE) for shot in small]
    frames[0].save(args.out, save_all=True, append_images=frames[1:], duration=200, loop=0, optimize=True)
    print(f"{args.out}: {len(frames)} images, {args.out.stat().st_size / 1e6:.1f} MB")


def open_page(tab: Tab, port: int = PORT) -> None:
    """Open the page as soon as the server accepts connections, and wait for the first frame."""
    deadline = time.monotonic() + 60
    while True:
        try:
            tab.open(f"http://127.0.0.1:{port}/")
            tab.wait("Number(document.getElementById('view')?.dataset.number)")
            return
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def play(tab: Tab, args: argparse.Namespace) -> list[Image.Image]:
    """Hold the keys one after the other, and take screenshots meanwhile."""
    shots: list[Image.Image] = []
    tab.js(f"document.querySelectorAll('#gallery > *')[{args.prompt}]?.click()")
    time.sleep(1)
    for key in args.keys:
        start = tab.js(TIME)
        tab.key("down", key)
        deadline = time.monotonic() + 20
        while tab.js(TIME) < start + args.hold:
            shots.append(screenshot(tab))
            if time.monotonic() > deadline:
                raise SystemExit(f"key {key} plays no frames: digit key N plays action N")
        tab.key("up", key)
    return shots


def screenshot(tab: Tab) -> Image.Image:
    """Return an image of the page."""
    data = tab.call("Page.captureScreenshot", format="png")["data"]
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


if __name__ == "__main__":
    main()
