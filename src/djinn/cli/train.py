"""`djinn train`: the preset first, then every option on top of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from djinn.cli.parsing import parse
from djinn.config import StageConfig, TrainConfig, WorldConfig, with_limits
from djinn.config.presets import PRESETS, get_preset
from djinn.config.yaml import load_yaml
from djinn.errors import UserError


@dataclass(frozen=True)
class TrainOptions:
    """Learn a world from a data set.

    For instance: djinn train data/mine --preset tiny --out runs/mine --minutes 20

    Two stages run one after the other: the tokenizer, which learns to write frames as tokens, and the world, which
    learns the latent actions and what they do. Stop it whenever you like and start the same command again: it goes on
    where it was.

    Besides the options here, every size and setting of the preset is an option: --help-config lists them.
    """

    dataset: Annotated[Path, Positional, arg(metavar="DATASET")]
    """Folder made by djinn data import."""
    preset: Annotated[str, arg(metavar="NAME", help=f"What to train: {', '.join(PRESETS)}.")]
    out: Annotated[Path, arg(metavar="RUN")]
    """Folder for the run: checkpoints, figures, pictures and the world itself."""
    stage: Literal["all", "tokenizer", "world"] = "all"
    """Which stage to train."""
    minutes: Annotated[float | None, arg(metavar="M", help_behavior_hint="")] = None
    """How long to train, in place of the preset's steps. --tokenizer-share divides it between the stages."""
    steps: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Optimizer steps of each stage. With --minutes, whichever ends first."""


def read_train(args: list[str]) -> tuple[TrainOptions, TrainConfig, set[str]]:
    """Reads the command line of `djinn train`: the preset first, and then all options on top of it.

    Returns:
        The options, the preset with the keys that were given, and the names of all that was given.

    Raises:
        UserError: the preset or an option is unknown, or a value is wrong.
    """
    name = _value_of("preset", args)
    preset = get_preset(name) if name is not None else TrainConfig()

    def bind(
        options: Annotated[TrainOptions, arg(name="")], config: Annotated[TrainConfig, arg(name="")] = preset
    ) -> tuple[TrainOptions, TrainConfig]:
        """Learn a world from a data set: all options, with the values of the preset."""
        return options, config

    options, config = parse(bind, ["--help"] if "--help-config" in args else args, "djinn train")
    return options, config, {a.split("=")[0].removeprefix("--").replace("-", "_") for a in args if a.startswith("--")}


def _value_of(option: str, args: list[str]) -> str | None:
    """An option's value; of several the last, as tyro has it."""
    value = None
    for i, text in enumerate(args):
        if text.startswith(f"--{option}="):
            value = text.split("=", 1)[1]
        elif text == f"--{option}" and i + 1 < len(args):
            value = args[i + 1]
    return value


def resolve_train(
    options: TrainOptions, config: TrainConfig, given: set[str], size: tuple[int, int], fps: float
) -> TrainConfig:
    """The config of a run: preset and options, with the data set's frames and the time and steps of each stage.

    With `init_from` the sizes are those of the world that training starts from; the speed stays the data set's.

    Args:
        options: the options.
        config: the preset with the keys that were given.
        given: the names of all options and keys that were given.
        size: `(height, width)` of the data set.
        fps: its frames a second.

    Raises:
        UserError: a size was asked for that the data set, or the world to start from, does not have, or a setting for a
            stage that does not run.
    """
    if config.init_from is not None:
        _refuse_fixed(config.init_from, given)
        asked = config.world.fps
        config = dataclasses.replace(config, world=dataclasses.replace(_sizes_of(config.init_from), fps=asked))
    world = config.world
    for side, has in zip(("height", "width"), size, strict=True):
        asked = getattr(world, side)
        if f"world.{side}" in given and asked != has:
            raise UserError(
                f"--world.{side} is {asked}, but the data set has frames of {size[1]}x{size[0]}: leave the option out "
                "or import the data with another --size"
            )
    if config.init_from is None:
        world = dataclasses.replace(world, height=size[0], width=size[1])
    if "world.fps" not in given:
        world = dataclasses.replace(world, fps=fps)
    stage = options.stage if config.init_from is None else "world"
    limited = with_limits(config, stage, minutes=options.minutes, steps=options.steps)
    return dataclasses.replace(
        config,
        world=world,
        tokenizer=_as_given(limited.tokenizer, config.tokenizer, "tokenizer", given),
        dynamics=_as_given(limited.dynamics, config.dynamics, "dynamics", given),
    )


def _refuse_fixed(start: str, given: set[str]) -> None:
    """Refuses keys for what stays as it is in the world to start from."""
    sizes = sorted(key for key in given - {"world.fps"} if key.startswith("world."))
    if sizes:
        raise UserError(f"--{sizes[0]} cannot be chosen with --init-from: the sizes are those of {start}")
    idle = sorted(key for key in given if key == "tokenizer_share" or key.startswith("tokenizer."))
    if idle:
        option = idle[0].replace("_", "-")
        raise UserError(f"--{option} does nothing with --init-from: the tokenizer of {start} stays as it is")


def _sizes_of(start: str) -> WorldConfig:
    """The sizes of the world to start from.

    Raises:
        UserError: there is no such world.
    """
    from djinn.models.world_folder import find_world

    return load_yaml(WorldConfig, find_world(start) / "config.yaml")


def _as_given(limited: StageConfig, stage: StageConfig, name: str, given: set[str]) -> StageConfig:
    """`--tokenizer.steps` and the like count for more than `--steps` and `--minutes`."""
    keys = [key for key in ("steps", "minutes") if f"{name}.{key}" in given]
    return dataclasses.replace(limited, **{key: getattr(stage, key) for key in keys})


def train(args: list[str]) -> None:
    """`djinn train`."""
    if "-h" in args or "--help" in args:
        parse(TrainOptions, args, "djinn train")
    options, config, given = read_train(args)
    from djinn.data.dataset import Dataset

    dataset = Dataset.open(options.dataset)
    config = resolve_train(options, config, given, (dataset.height, dataset.width), dataset.fps)
    from djinn.train.run import train as train_run

    before = _last_export(options.out)
    train_run(options.dataset, options.out, config, stage=options.stage)
    if options.stage != "tokenizer":
        from djinn.actions.name_world import name_run
        from djinn.actions.prompt_selection import choose_for_run

        name_run(options.out, options.dataset, config.init_from)
        if _last_export(options.out) != before:
            choose_for_run(options.out, options.dataset)


def _last_export(run: Path) -> float | None:
    """When the world of a run was last written, if it was."""
    file = run / "world" / "model.safetensors"
    return file.stat().st_mtime if file.is_file() else None
