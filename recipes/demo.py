"""Train a world on videos of CoinRun, and play: the recipe behind `make demo`.

    python recipes/demo.py --minutes 1 --steps 50

The page opens at once and plays the shipped world `coinrun`, while the new world is trained at low
priority. Then the server is restarted with the new world on the same port, and the page reconnects.
Ctrl-C saves the training, and the same command resumes it. Options that are not listed below are
passed to `djinn play`. Requires the extra 'play'.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from djinn.config import TrainConfig, with_limits
from djinn.config.presets import get_preset
from djinn.errors import UserError

VIDEOS = Path(__file__).parent.parent / "assets" / "coinrun-videos"
WORLD = "my-coinrun"
NICE = 10
"""Niceness of import and training, so that the page stays responsive."""


def main() -> None:
    """Run the recipe."""
    args, play_options = parse_arguments()
    try:
        config = training_config(args.preset, args.minutes, args.steps)
        if args.train:
            return train_world(args, config)
    except UserError as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:  # in the training process, also while it imports torch
        sys.exit(130)
    dataset, run = args.folder / "data", args.folder / WORLD
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        with contextlib.ExitStack() as children:
            server = Server("coinrun", args.port, play_options, children)
            print(f"The page plays the shipped world coinrun until {WORLD} is trained: {server.url}", flush=True)
            import_videos(args.videos, dataset, children)
            print(f"Training takes at least {args.minutes:g} min and {args.steps} steps; Ctrl-C saves it.", flush=True)
            run_in_background([__file__, "--train", *sys.argv[1:]], children)
            print(f"== 5/5 play {WORLD}", flush=True)
            server.stop()
            port = int(server.url.rsplit(":", 1)[1])
            server = Server(str(run), port, [*play_options, "--no-browser"], children)
            print(f"The page plays {WORLD}: {server.url}  (Ctrl-C to stop)", flush=True)
            if server.process.wait() != 0:
                raise SystemExit(server.process.returncode)
    except KeyboardInterrupt:
        print("Stopped. To continue, run the same command.", flush=True)


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    """Parse the command line; return the options of this recipe, and those of `djinn play`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="folder for data and world (%(default)s)")
    parser.add_argument("--videos", type=Path, default=VIDEOS, help="folder of videos (default: %(default)s)")
    parser.add_argument("--preset", default="finetune", help="preset of the training (%(default)s)")
    parser.add_argument("--minutes", type=float, default=1.0, help="minimum training time in minutes (%(default)s)")
    parser.add_argument("--steps", type=int, default=50, help="minimum number of steps per stage (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port of the page (%(default)s)")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)  # the training process
    return parser.parse_known_args()


def import_videos(videos: Path, dataset: Path, children: contextlib.ExitStack) -> None:
    """Create the data set from a folder of videos, unless it exists."""
    if (dataset / "dataset.json").exists():
        print(f"== 2/5 import the videos: done before ({dataset})", flush=True)
        return
    print(f"== 2/5 import the videos in {videos}", flush=True)
    run_in_background(["-m", "djinn", "data", "import", str(videos), "--out", str(dataset)], children)


def training_config(preset: str, minutes: float, steps: int) -> TrainConfig:
    """Return a preset that trains each stage for at least `steps` steps.

    Raises:
        UserError: The preset is unknown, or a limit is not positive.
    """
    config = get_preset(preset)
    with_limits(config, minutes=minutes)  # checks the limit, which is applied in training
    tokenizer = config.tokenizer if config.init_from else dataclasses.replace(config.tokenizer, min_steps=steps)
    return dataclasses.replace(
        config, tokenizer=tokenizer, dynamics=dataclasses.replace(config.dynamics, min_steps=steps)
    )


def train_world(args: argparse.Namespace, config: TrainConfig) -> None:
    """Train in this process, name the actions and choose prompt images.

    Raises:
        UserError: The run folder is not usable, for example trained with other settings.
    """
    from djinn.pipeline import AFTER_TRAINING, stage_texts, train_and_name

    dataset, run = args.folder / "data", args.folder / WORLD
    limits = ["--minutes", f"{args.minutes:g}", "--dynamics.min-steps", str(args.steps)]
    limits += [] if config.init_from else ["--tokenizer.min-steps", str(args.steps)]
    # the command that the trainer prints for resuming the run
    sys.argv = ["djinn", "train", str(dataset), "--preset", args.preset, "--out", str(run), *limits]

    texts = stage_texts()

    def announce(stage: str) -> None:
        print(f"== {4 if stage in AFTER_TRAINING else 3}/5 {texts[stage]}", flush=True)

    train_and_name(dataset, run, config, minutes=args.minutes, announce=announce)


class Server:
    """`djinn play` in a child process."""

    def __init__(self, world: str, port: int, options: Sequence[str], children: contextlib.ExitStack) -> None:
        """Start the server and wait until it is ready.

        Args:
            world: World to play.
            port: Port to listen on, 0 for a free one.
            options: Further options of `djinn play`.
            children: Stops the process when it is closed.

        Raises:
            SystemExit: The server did not start; the reason is on stderr.
        """
        command = [sys.executable, "-m", "djinn", "play", world, "--port", str(port), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        children.callback(self.stop)
        assert self.process.stdout is not None
        found = re.search(r"http://\S+", self.process.stdout.readline())
        if found is None:
            raise SystemExit(self.process.wait() or 1)
        self.url = found[0]
        print(self.process.stdout.readline(), end="", flush=True)  # on the training of the world
        threading.Thread(target=self._forward_output, daemon=True).start()

    def stop(self) -> None:
        """Stop the server."""
        _stop(self.process)

    def _forward_output(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line != "Stopped.\n":
                print(line, end="", flush=True)


def run_in_background(arguments: Sequence[str], children: contextlib.ExitStack) -> None:
    """Run Python with these arguments at low priority, and wait for its end.

    Raises:
        SystemExit: The process failed; the reason is on stderr.
    """
    process = subprocess.Popen([sys.executable, *arguments], start_new_session=True, preexec_fn=lambda: os.nice(NICE))
    children.callback(_stop, process)
    if process.wait() != 0:
        raise SystemExit(process.returncode)


def _stop(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Interrupt a child process and wait for its end; a further Ctrl-C kills it.

    Children run in sessions of their own, so that Ctrl-C in the terminal reaches them once.
    """
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait()
    except KeyboardInterrupt:
        process.kill()
        process.wait()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
