"""Generate a video from a prompt image and a list of actions."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from djinn.atomic import check_writable_file
from djinn.config import SamplerConfig, adjust, check_fps, check_seed
from djinn.errors import UserError
from djinn.generate.session import Session
from djinn.images import read_image
from djinn.models.action_syntax import parse_actions
from djinn.models.world import World

FORMATS = (".mp4", ".gif", ".png")


def sample(
    world: str | Path,
    actions: str,
    out: Path,
    *,
    image: Path | None,
    prompt: int | None,
    seed: int | None,
    steps: int | None,
    temperature: float | None,
    fps: float | None,
    device: str | None,
) -> None:
    """Generate a video and write it.

    Args:
        world: World folder, run folder, or name of a shipped world.
        actions: List of actions in the syntax of `parse_actions`, one per generated frame.
        out: Video file: `.mp4`, `.gif`, or `.png` for all frames side by side.
        image: Image file to start from; None starts from one of the world's prompts.
        prompt: Number of the world's prompt; None is the first one.
        seed: Random seed; None is 0.
        steps: MaskGIT steps per frame; None is the world's own setting.
        temperature: Sampling temperature; None is the world's own setting.
        fps: Frames per second of the video; None is the world's own speed.
        device: Device to compute on; None is the GPU if there is one.

    Raises:
        UserError: The world, the image or an action is invalid, or the video cannot be written.
    """
    from djinn.data.video import write_video

    _check_options(out, image, prompt, seed, fps)
    loaded = World.from_pretrained(world, device)
    codes = parse_actions(actions, loaded.action_names)
    sampler = adjust(loaded.config.sampler, steps, temperature)
    start = _start_frame(loaded, image, prompt)
    _print_notes(loaded, sampler, seed)
    session = Session(loaded, start, sampler=sampler, seed=seed or 0, undo_depth=0)
    frames = [session.frame[0]]
    for code in tqdm(codes, desc="sampling", unit=" frames", leave=False, disable=not sys.stderr.isatty()):
        frames.append(session.step(code)[0])
    write_video(out, np.stack(frames), fps or loaded.config.fps)
    print(f"wrote {len(frames)} frames to {out}")


def _check_options(out: Path, image: Path | None, prompt: int | None, seed: int | None, fps: float | None) -> None:
    """Check the options that can be checked before the world is loaded."""
    if image is not None and prompt is not None:
        raise UserError("--image and --prompt are two ways to choose the first frame: give one of them")
    if out.suffix.lower() not in FORMATS:
        raise UserError(f"cannot write video to {out}: give a file name that ends in {', '.join(FORMATS)}")
    if image is not None and out.resolve() == image.resolve():
        raise UserError(f"{out} is the image to start from: give --out another name")
    if fps is not None:
        check_fps(fps)
    if seed is not None:
        check_seed(seed)
    check_writable_file(out)


def _start_frame(world: World, image: Path | None, prompt: int | None) -> UInt8[np.ndarray, "h w 3"]:
    if image is not None:
        return read_image(image, (world.config.height, world.config.width))
    if not world.prompts:
        raise UserError("this world has no prompt images: give an image to start from with --image")
    number = prompt or 0
    if not 0 <= number < len(world.prompts):
        raise UserError(f"prompt {number} is out of range: this world has {len(world.prompts)}, numbered from 0")
    return world.prompts[number]


def _print_notes(world: World, sampler: SamplerConfig, seed: int | None) -> None:
    """Print notes on an untrained world and on a seed without effect."""
    summary = world.training_summary
    if summary is not None and (summary.level == "untrained" or summary.controllability in ("none", "weak")):
        print(f"note: {summary.describe()}", file=sys.stderr)
    if seed is not None and sampler.is_deterministic:
        print(
            f"note: --seed {seed} has no effect, since this world is sampled greedily (temperature 0): pass for "
            "example --temperature 1 to draw tokens at random",
            file=sys.stderr,
        )
