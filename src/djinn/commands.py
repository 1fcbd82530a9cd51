"""What each verb of the command line takes, in a person's words, and whom it calls.

The functions and dataclasses here are read by tyro: their parameters become options and their docstrings the help.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, arg

from djinn.config import StageConfig, TrainConfig
from djinn.data.importers.policies import PolicyName
from djinn.errors import UserError
from djinn.presets import PRESETS, get_preset

World = Annotated[str, Positional, arg(metavar="WORLD")]
UNLIMITED = 1_000_000_000
"""Optimizer steps of a stage whose only limit is time."""


# --------------------------------------------------------------------------------------------------------- from argv


def parse(spec: Callable[..., Any], args: list[str], prog: str, **more: Any) -> Any:
    """Parses a command line with tyro; a mistake in it becomes one sentence.

    Args:
        spec: the function or dataclass that describes the command; a function is called.
        args: the command line.
        prog: the command's name.
        **more: passed on to `tyro.cli`.

    Raises:
        UserError: an option is unknown, missing or has a wrong value.
    """
    if "-h" in args or "--help" in args:
        return tyro.cli(spec, args=["--help"], prog=prog, config=(FlagCreatePairsOff,), **more)
    deferred = spec if isinstance(spec, type) else _defer(spec)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            result = tyro.cli(deferred, args=args, prog=prog, config=(FlagCreatePairsOff,), **more)
    except SystemExit:
        raise UserError(_sentence(said.getvalue(), prog)) from None
    return result if isinstance(spec, type) else result()


def _defer(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function as tyro sees it, but it only binds its arguments."""

    @functools.wraps(function)
    def bind(*args: Any, **kwargs: Any) -> Callable[[], Any]:
        return functools.partial(function, *args, **kwargs)

    return bind


def _sentence(box: str, prog: str) -> str:
    """Tyro's boxed message as one sentence: what is wrong, and the option that was perhaps meant."""
    parts = re.split(r"─{6,}", re.sub(r"\x1b\[[0-9;]*m", "", box))
    texts = [" ".join(re.sub(r"[│╭╮╰╯─]", " ", part).split()) for part in parts]
    texts = [text for text in texts if text]
    body = texts[1] if len(texts) > 1 and texts[0][:1].isupper() and not texts[0].endswith(".") else texts[0]
    body = body[:1].lower() + body[1:].rstrip(".")
    missing = re.match(r"missing from [^:]*: (.*)", body)
    if missing:
        names = re.findall(r"--[\w.-]+|\b[A-Z]{3,}(?:\.\.\.)?", re.sub(r"\([^)]*\)", "", missing[1]))
        body = f"{prog} needs {', '.join(dict.fromkeys(names)) or missing[1]}"
    guess = next((re.search(r"--[\w.-]+", text) for text in texts if text.startswith("Perhaps you meant")), None)
    hint = f"did you mean {guess[0]}? " if guess else ""
    return f"{body}; {hint}{prog} --help lists the options"


# -------------------------------------------------------------------------------------------------------------- data


def data_import(
    sources: Annotated[tuple[str, ...], Positional, arg(metavar="SOURCE...")],
    /,
    out: Annotated[Path, arg(metavar="DATASET")],
    size: Annotated[str, arg(metavar="WxH")] = "64x64",
    fps: float = 10.0,
    fit: Literal["crop", "stretch"] | None = None,
    levels: Annotated[str | None, arg(metavar="FIRST:END")] = None,
    frames: Annotated[int | None, arg(metavar="N")] = None,
    mode: Literal["hard", "easy"] | None = None,
    policy: PolicyName | None = None,
    backgrounds: Annotated[Literal["yes", "no"] | None, arg(metavar="yes|no")] = None,
    restrict_themes: Annotated[Literal["yes", "no"] | None, arg(metavar="yes|no")] = None,
    seed: Annotated[int | None, arg(metavar="N")] = None,
    workers: Annotated[int | None, arg(metavar="N")] = None,
) -> None:
    """Turn videos, or a game, into a data set to train on.

    djinn data import my-videos/ --out data/mine --size 64x64 --fps 10
    djinn data import procgen:coinrun --out data/coinrun --levels 0:10000 --frames 1000000 --mode easy

    Args:
        sources: video files, folders of them, or procgen:coinrun to record the game CoinRun.
        out: folder to make. It must not exist yet.
        size: width and height of the frames. Videos are reduced to it; the game has 64x64.
        fps: frames a second. Videos are brought to it by their timestamps.
        fit: for videos of another shape: crop cuts the borders off (the default), stretch distorts the picture.
        levels: for the game: levels to play, the last not included (0:10000 by default). Those from 10000 on are for
            testing only.
        frames: for the game: how many frames to record (1,000,000 by default).
        mode: for the game: hard (the default) has all themes and monsters, easy one theme and nothing that walks.
        policy: for the game: who plays. random (the default) presses any of its 15 buttons, random9 any of the 9 that do
            something, sticky holds them for a while, right runs and jumps to the right, mix does all of these.
        backgrounds: for the game: draw pictures behind the level (the default is yes).
        restrict_themes: for the game: use one set of pictures instead of all (the default is no).
        seed: for the game: another seed plays in another way (the default is 0).
        workers: for the game: processes that play at a time (the default is 1). The data do not depend on it.
    """
    if not sources:
        raise UserError("djinn data import needs a SOURCE: a video file, a folder of videos, or procgen:coinrun")
    from djinn.data.commands import import_data

    switch = {None: None, "yes": True, "no": False}
    import_data(
        sources,
        out,
        size=size,
        fps=fps,
        fit=fit,
        levels=levels,
        frames=frames,
        mode=mode,
        policy=policy,
        backgrounds=switch[backgrounds],
        restrict_themes=switch[restrict_themes],
        seed=seed,
        workers=workers,
    )


def data_info(
    dataset: Annotated[Path, Positional, arg(metavar="DATASET")],
    /,
    picture: Annotated[Path | None, arg(metavar="FILE.png")] = None,
) -> None:
    """Say what is in a data set: frames, episodes, splits, where it came from.

    Args:
        dataset: the data set's folder.
        picture: also write frames of some episodes to this file.
    """
    from djinn.data.commands import info

    info(dataset, picture=picture)


# ------------------------------------------------------------------------------------------------------------- train


@dataclass(frozen=True)
class TrainOptions:
    """Learn a world from a data set.

    djinn train data/mine --preset tiny --out runs/mine --minutes 20

    Two stages run one after the other: the tokenizer, which learns to write frames as tokens, and the world, which learns
    the latent actions and what they do. Stop it whenever you like and start the same command again: it goes on where it was.
    Besides the options here, every size and setting of the preset is an option: --help-config lists them.
    """

    dataset: Annotated[Path, Positional, arg(metavar="DATASET")]
    """Folder made by djinn data import."""
    preset: Annotated[str, arg(metavar="NAME", help=f"What to train: {', '.join(PRESETS)}.")]
    out: Annotated[Path, arg(metavar="RUN")]
    """Folder for the run: checkpoints, figures, pictures and the world itself."""
    stage: Literal["all", "tokenizer", "world"] = "all"
    """Which stage to train."""
    minutes: Annotated[float | None, arg(metavar="M")] = None
    """How long to train, shared out between the stages by --tokenizer-share. It takes the place of the preset's number of
    steps."""
    steps: Annotated[int | None, arg(metavar="N")] = None
    """Optimizer steps of each stage that is trained; with --minutes, whichever ends first."""


@dataclass(frozen=True)
class TrainCommand(TrainOptions):
    """Learn a world from a data set: all options, with the values of the preset."""

    config: Annotated[TrainConfig, arg(name="")] = TrainConfig()


def read_train(args: list[str]) -> tuple[TrainCommand, set[str]]:
    """Reads the options of `djinn train`: the preset first, and then all others on top of it.

    Returns:
        The options, and the names of those that were given.

    Raises:
        UserError: the preset or an option is unknown, or a value is wrong.
    """
    name = _value_of("preset", args)
    preset = get_preset(name) if name is not None else TrainConfig()
    default = TrainCommand(tyro.MISSING, tyro.MISSING, tyro.MISSING, config=preset)
    wants_all = "--help-config" in args
    command = parse(TrainCommand, ["--help"] if wants_all else args, "djinn train", default=default)
    return command, {a.split("=")[0].removeprefix("--").replace("-", "_") for a in args if a.startswith("--")}


def _value_of(option: str, args: list[str]) -> str | None:
    for i, text in enumerate(args):
        if text.startswith(f"--{option}="):
            return text.split("=", 1)[1]
        if text == f"--{option}" and i + 1 < len(args):
            return args[i + 1]
    return None


def resolve_train(command: TrainCommand, given: set[str], size: tuple[int, int], fps: float) -> TrainConfig:
    """The config of a run: preset and options, with the data set's frames and the time and steps of each stage.

    Args:
        command: the options.
        given: which of them were given.
        size: `(height, width)` of the data set.
        fps: its frames a second.

    Raises:
        UserError: a size was asked for that the data set does not have.
    """
    config, world = command.config, command.config.world
    for side, has in zip(("height", "width"), size, strict=True):
        asked = getattr(world, side)
        if f"world.{side}" in given and asked != has:
            raise UserError(
                f"--world.{side} is {asked}, but the data set has frames of {size[1]}x{size[0]}: leave the option out, or "
                "import the data with another --size"
            )
    world = dataclasses.replace(world, height=size[0], width=size[1])
    if "world.fps" not in given:
        world = dataclasses.replace(world, fps=fps)
    share = config.tokenizer_share if command.stage == "all" else 1.0
    tokenizer, dynamics = config.tokenizer, config.dynamics
    if command.stage != "world":
        tokenizer = _limit(tokenizer, "tokenizer", command, given, share)
    if command.stage != "tokenizer":
        dynamics = _limit(dynamics, "dynamics", command, given, 1 - share if command.stage == "all" else 1.0)
    return dataclasses.replace(config, world=world, tokenizer=tokenizer, dynamics=dynamics)


def _limit(stage: StageConfig, name: str, command: TrainCommand, given: set[str], share: float) -> StageConfig:
    """A stage's steps and minutes; `--tokenizer.steps` and the like count for more than `--steps`."""
    steps, minutes = stage.steps, stage.minutes
    if f"{name}.minutes" not in given and command.minutes is not None:
        minutes = command.minutes * share
    if f"{name}.steps" not in given:
        if command.steps is not None:
            steps = command.steps
        elif command.minutes is not None:
            steps = UNLIMITED
    return dataclasses.replace(stage, steps=steps, minutes=minutes)


def train(args: list[str]) -> None:
    """`djinn train`."""
    if "-h" in args or "--help" in args:
        parse(TrainOptions, args, "djinn train")
    command, given = read_train(args)
    from djinn.data.dataset import Dataset

    dataset = Dataset.open(command.dataset)
    config = resolve_train(command, given, (dataset.height, dataset.width), dataset.fps)
    from djinn.train.run import train as train_run

    train_run(command.dataset, command.out, config, stage=command.stage)


# -------------------------------------------------------------------------------------------------------- the others


def sample(
    world: World,
    /,
    image: Annotated[Path, arg(metavar="IMG")],
    actions: Annotated[str, arg(metavar="0,0,3,3")],
    out: Annotated[Path, arg(metavar="FILE")],
    seed: Annotated[int, arg(metavar="N")] = 0,
    steps: Annotated[int | None, arg(metavar="K")] = None,
    temperature: Annotated[float | None, arg(metavar="T")] = None,
    fps: float | None = None,
    device: str | None = None,
) -> None:
    """Make a video from a picture and a list of actions.

    djinn sample runs/mine --image start.png --actions 0,0,3,3 --out film.mp4

    Args:
        world: world folder, run folder, or name of a shipped world.
        image: picture to start from, PNG, JPEG or WebP of any size. It is cropped and resized to the world's frame.
        actions: latent actions, one for each frame to make, with commas between. 3x10 stands for ten times action 3.
        out: file to write: .mp4, .gif, or .png for all frames side by side.
        seed: another seed gives another future.
        steps: MaskGIT steps for each frame: more is slower and often better. The world's own by default.
        temperature: 0 always takes the likeliest token, higher is more varied. The world's own by default.
        fps: frames a second of the video. The world's own by default.
        device: where to compute, for instance cpu or cuda. CUDA where there is one, by default.
    """
    from djinn.sample import sample as sample_video

    sample_video(world, image, actions, out, seed=seed, steps=steps, temperature=temperature, fps=fps, device=device)


def play(
    world: World,
    /,
    host: str = "127.0.0.1",
    port: int = 8000,
    browser: bool = True,
    fps: float | None = None,
    max_players: int = 8,
    prompt: Annotated[tuple[Path, ...], arg(metavar="IMG")] = (),
    allowed_host: Annotated[tuple[str, ...], arg(metavar="NAME")] = (),
    device: str | None = None,
) -> None:
    """Play a world in the browser, until Ctrl-C.

    Args:
        world: world folder, run folder, or name of a shipped world.
        host: address to listen on. 127.0.0.1 is this machine only, 0.0.0.0 everyone who can reach it.
        port: port to listen on. 0 takes any that is free.
        browser: do not open the page, only serve it.
        fps: the pace to start with, in frames a second. 0 is as fast as it goes; the world's own by default.
        max_players: how many may play at once.
        prompt: pictures to start from, besides those that the world brings.
        allowed_host: further names by which the page may be asked for, for instance behind a proxy.
        device: where to compute, for instance cpu or cuda. CUDA where there is one, by default.
    """
    from djinn.sample import check_device, read_image

    check_device(device)
    prompts = [read_image(path) for path in prompt]
    from djinn.play.server import serve

    serve(
        world,
        host,
        port,
        browser,
        prompts=prompts,
        fps=fps,
        max_players=max_players,
        allowed_hosts=allowed_host,
        device=device,
    )


def evaluate(
    world: World,
    dataset: Annotated[Path, Positional, arg(metavar="DATASET")],
    /,
    json: Annotated[Path | None, arg(metavar="FILE")] = None,
    report: Annotated[Path | None, arg(metavar="FOLDER")] = None,
    split: Literal["train", "val", "test"] = "test",
    clips: Annotated[int, arg(metavar="N")] = 64,
    horizon: Annotated[int, arg(metavar="N")] = 7,
    prompt_frames: Annotated[int, arg(metavar="N")] = 1,
    steps: Annotated[int | None, arg(metavar="K")] = None,
    temperature: Annotated[float | None, arg(metavar="T")] = None,
    seed: Annotated[int, arg(metavar="N")] = 0,
    batch: Annotated[int, arg(metavar="N")] = 16,
    device: str | None = None,
) -> None:
    """Measure a world on clips that it has not seen: how good its frames are, and whether its actions act.

    Args:
        world: world folder, run folder, or name of a shipped world.
        dataset: data set whose frames have the world's size.
        json: write all figures to this file.
        report: write the figures and a picture of some roll-outs into this folder.
        split: part of the data set to measure on.
        clips: how many clips to play.
        horizon: how many frames to generate from each prompt.
        prompt_frames: how many real frames to start from.
        steps: MaskGIT steps for each frame. The world's own by default.
        temperature: 0 always takes the likeliest token, higher is more varied. The world's own by default.
        seed: of everything random.
        batch: how many clips to play at once.
        device: where to compute, for instance cpu or cuda. CUDA where there is one, by default.
    """
    from djinn.evaluate.commands import run
    from djinn.sample import check_device

    run(
        world,
        dataset,
        json=json,
        report=report,
        split=split,
        clips=clips,
        horizon=horizon,
        prompt_frames=prompt_frames,
        steps=steps,
        temperature=temperature,
        seed=seed,
        batch=batch,
        device=check_device(device),
    )


def bench(
    world: World,
    /,
    json: bool = False,
    long: bool = False,
    train: bool = True,
    frames: Annotated[int, arg(metavar="N")] = 60,
    steps: Annotated[int | None, arg(metavar="K")] = None,
    compile: Literal["auto", "on", "off"] = "auto",
    device: str | None = None,
) -> None:
    """Measure how fast a world is on this machine: play, training and memory.

    Args:
        world: world folder, run folder, name of a shipped world, or preset:NAME for random weights of a preset's size.
        json: print one JSON object on stdout and nothing else.
        long: also play 2,000 frames, and watch the time for a frame and the memory.
        train: do not measure training.
        frames: frames to play, after the warm-up.
        steps: MaskGIT steps for each frame. The world's own by default.
        compile: torch.compile in training: auto is on CUDA only.
        device: where to compute, for instance cpu or cuda. CUDA where there is one, by default.
    """
    from djinn.bench import bench as run_bench

    run_bench(world, json=json, long=long, train=train, frames=frames, steps=steps, compile=compile, device=device)


def plan(preset: Annotated[str, arg(metavar="NAME", help=f"Which one: {', '.join(PRESETS)}.")]) -> None:
    """Say what a preset would cost, before training it: parameters, tokens and memory.

    Nothing is built for it, so that it works for sizes far beyond this machine.

    Args:
        preset: which one.
    """
    from djinn.plan import print_plan

    print_plan(preset)


def _verb(function: Callable[..., None], name: str) -> Callable[[list[str]], None]:
    return lambda args: parse(function, args, f"djinn {name}")


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "data import": _verb(data_import, "data import"),
    "data info": _verb(data_info, "data info"),
    "train": train,
    "play": _verb(play, "play"),
    "sample": _verb(sample, "sample"),
    "eval": _verb(evaluate, "eval"),
    "bench": _verb(bench, "bench"),
    "plan": _verb(plan, "plan"),
}
"""Each verb of `djinn.cli.VERBS`, as a function of the rest of the command line."""
