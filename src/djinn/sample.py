"""`djinn sample`: a picture and a list of actions make a video."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from djinn.config import adjust, check_fps
from djinn.errors import UserError
from djinn.generate.session import Session
from djinn.images import read_image
from djinn.models.world import World

MOST_FRAMES = 100_000


def sample(
    world: str | Path,
    image: Path,
    actions: str,
    out: Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    temperature: float | None = None,
    fps: float | None = None,
    device: str | None = None,
) -> None:
    """Plays a world through a list of actions and writes the video.

    Args:
        world: a world folder, a run folder, or the name of a shipped world.
        image: picture to start from.
        actions: as of `parse_actions`.
        out: video file: `.mp4`, `.gif` or `.png`.
        seed: of everything random.
        steps: MaskGIT steps a frame; the world's own by default.
        temperature: of the token draw; the world's own by default.
        fps: frames a second of the video; the world's own by default.
        device: where to compute; CUDA where there is one, by default.

    Raises:
        UserError: the world, the picture or an action is not what it should be, or the video cannot be written.
    """
    from djinn.data.video import write_video

    chosen = parse_actions(actions)
    if out.suffix.lower() not in (".mp4", ".gif", ".png"):
        raise UserError(f"cannot write video to {out}: name a file that ends in .mp4, .gif or .png")
    if fps is not None:
        check_fps(fps)
    if out.is_dir():
        raise UserError(f"{out} is a folder: give --out the name of a file")
    if out.resolve() == image.resolve():
        raise UserError(f"{out} is the picture to start from: give --out another name")
    loaded = World.from_pretrained(world, check_device(device))
    loaded.check_actions(torch.tensor(chosen))
    prompt = read_image(image, (loaded.config.height, loaded.config.width))
    session = Session(loaded, prompt, sampler=adjust(loaded.config.sampler, steps, temperature), seed=seed)
    frames = [session.frame[0]]
    for action in tqdm(chosen, desc="sampling", unit=" frames", leave=False):
        frames.append(session.step(action)[0])
    write_video(out, np.stack(frames), fps or loaded.config.fps)
    print(f"wrote {len(frames)} frames to {out}")


def parse_actions(text: str) -> list[int]:
    """Reads actions such as `0,0,3x10,2`, where `3x10` stands for ten times action 3.

    Raises:
        UserError: it is not such a list.
    """
    actions: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:x(\d{1,9}))?\s*", part)
        if not match:
            raise UserError(
                f"actions must be numbers with commas between, for instance 0,0,3,3 or 0x5,3x10, got '{text}'"
            )
        if len(actions) + int(match[2] or 1) > MOST_FRAMES:
            raise UserError(f"at most {MOST_FRAMES:,} frames can be sampled in one go: give fewer actions")
        actions += [int(match[1])] * int(match[2] or 1)
    return actions


def check_device(name: str | None) -> str | None:
    """Returns the name of a device that is there.

    Raises:
        UserError: there is no such device on this machine.
    """
    if name is None:
        return None
    try:
        kind = torch.device(name)
        there = kind.type == "cpu" or torch.zeros(1, device=kind).item() == 0  # the device "meta" has no values
    except (RuntimeError, AssertionError):
        there = False
    if not there:
        has = "cpu and cuda" if torch.cuda.is_available() else "cpu only"
        raise UserError(f"no device '{name}' on this machine: torch sees {has}")
    return name
