"""`djinn train`: a preset, and every setting of it as an option."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from djinn.cli.parsing import DatasetFolder, parse
from djinn.config import TrainConfig
from djinn.config.presets import PRESETS, get_preset
from djinn.errors import UserError


@dataclass(frozen=True)
class TrainOptions:
    """Train a world on a data set.

    For example:
        djinn train data/mine --preset tiny --out runs/mine --minutes 20
        djinn train data/mine --preset finetune --out runs/mine --minutes 5

    Two stages run one after the other: the tokenizer, then the latent action model and the dynamics
    model together. Afterwards the actions are named and prompt images are chosen. Ctrl-C saves a
    checkpoint; the same command resumes training.

    Besides the options below, every setting of the preset is an option, such as --dynamics.lr 1e-3.
    djinn train --preset NAME --help-config lists them.
    """

    dataset: DatasetFolder
    """Folder of a data set, created by djinn data import."""
    preset: Annotated[str, arg(metavar="NAME", help=f"Sizes and settings: {', '.join(PRESETS)}.")]
    out: Annotated[Path, arg(metavar="RUN")]
    """Folder of the run, for checkpoints, metrics, images and the world. An existing run is
    resumed."""
    stage: Annotated[str, arg(metavar="NAME")] = "all"
    """Stage to train: tokenizer, dynamics, or all."""
    minutes: float | None = None
    """Training time in minutes, instead of the preset's number of steps. --tokenizer-share divides
    it between the stages."""
    steps: int | None = None
    """Optimizer steps of each stage. With --minutes, training ends at whichever comes first."""

    def __post_init__(self) -> None:
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise UserError(f"--minutes must be a positive number, got {self.minutes:g}")
        if self.steps is not None and self.steps < 1:
            raise UserError(f"--steps must be at least 1, got {self.steps}")


def parse_train(args: list[str]) -> tuple[TrainOptions, TrainConfig, set[str]]:
    """Parse the command line of `djinn train`.

    Returns:
        The options; the preset's config with the settings that were given; and the names of all
        options and settings that were given, such as `dynamics.lr`.

    Raises:
        UserError: The preset or an option is unknown, or a value is invalid.
    """
    name = _last_value("preset", args)
    config = get_preset(name) if name is not None else TrainConfig()
    # built here, since the type checker of the tests would refuse a default without options
    options = dataclasses.make_dataclass(
        "AllOptions",
        [("options", Annotated[TrainOptions, arg(name="")]), ("config", Annotated[TrainConfig, arg(name="")], config)],
        namespace={"__doc__": "Train a world on a data set: all options, with the preset's values as defaults."},
    )
    parsed = parse(options, ["--help"] if "--help-config" in args else args, "djinn train")
    given = {text.split("=")[0].removeprefix("--").replace("-", "_") for text in args if text.startswith("--")}
    return parsed.options, parsed.config, given


def _last_value(option: str, args: list[str]) -> str | None:
    """Return the value of an option, the last one if it is given several times."""
    value = None
    for text, following in zip(args, [*args, "--"][1:], strict=True):
        if text.startswith(f"--{option}="):
            value = text.split("=", 1)[1]
        elif text == f"--{option}" and not following.startswith("--"):
            value = following
    return value


def main(args: list[str]) -> None:
    """Run `djinn train`."""
    if "-h" in args or "--help" in args:
        parse(TrainOptions, args, "djinn train")
    options, config, given = parse_train(args)
    from djinn.pipeline import train_and_name

    train_and_name(
        options.dataset,
        options.out,
        config,
        given=given,
        stage=options.stage,
        minutes=options.minutes,
        steps=options.steps,
    )
