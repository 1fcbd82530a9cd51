"""Resolve a preset and the options of `djinn train` to the config of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from djinn.config import StageConfig, TrainConfig, WorldConfig, stage_settings, with_limits
from djinn.config.yaml import load_yaml
from djinn.data.dataset import Dataset
from djinn.errors import UserError
from djinn.models.world_folder import find_world


def resolve_config(
    config: TrainConfig,
    dataset: Dataset,
    *,
    given: Collection[str] = (),
    stage: str = "all",
    minutes: float | None = None,
    steps: int | None = None,
) -> TrainConfig:
    """Return the config of a run: frame size and speed of the data set, limits of each stage.

    With `init_from`, all sizes are those of the world to start from; only the speed is the data
    set's.

    Args:
        config: The preset with the settings that were given.
        dataset: The data set to train on.
        given: Names of the settings that were given, such as `world.height`; they take precedence.
        stage: Stage to train.
        minutes: Training time of the whole run.
        steps: Optimizer steps of each stage.

    Raises:
        UserError: A given size is not that of the data set or of the world to start from, or a
            setting is for a stage that is not trained.
    """
    if config.init_from is not None:
        _check_fixed_settings(config.init_from, given)
        sizes = load_yaml(WorldConfig, find_world(config.init_from) / "config.yaml")
        config = dataclasses.replace(config, world=dataclasses.replace(sizes, fps=config.world.fps))
        stage = "dynamics" if stage == "all" else stage
    world = config.world
    for side, actual in (("height", dataset.height), ("width", dataset.width)):
        if f"world.{side}" in given and getattr(world, side) != actual:
            raise UserError(
                f"--world.{side} is {getattr(world, side)}, but the data set has frames of "
                f"{dataset.width}x{dataset.height}: leave the option out, or import the data with another --size"
            )
    if config.init_from is None:
        world = dataclasses.replace(world, height=dataset.height, width=dataset.width)
    if "world.fps" not in given:
        world = dataclasses.replace(world, fps=dataset.fps)
    limited = with_limits(config, stage, minutes=minutes, steps=steps)
    stages: dict[str, Any] = {
        name: _keep_given_limits(settings, getattr(config, name), name, given)
        for name, settings in stage_settings(limited).items()
    }
    return dataclasses.replace(config, world=world, **stages)


def _check_fixed_settings(init_from: str, given: Collection[str]) -> None:
    """Refuse settings that training from an existing world cannot change."""
    sizes = sorted(key for key in given if key.startswith("world.") and key != "world.fps")
    if sizes:
        raise UserError(f"--{sizes[0]} cannot be set with --init-from: the sizes are those of {init_from}")
    unused = sorted(key for key in given if key == "tokenizer_share" or key.startswith("tokenizer."))
    if unused:
        option = unused[0].replace("_", "-")
        raise UserError(f"--{option} has no effect with --init-from: the tokenizer of {init_from} is not trained")


def _keep_given_limits(limited: StageConfig, stage: StageConfig, name: str, given: Collection[str]) -> StageConfig:
    """Let `--tokenizer.steps` and the like take precedence over `--steps` and `--minutes`."""
    keys = [key for key in ("steps", "minutes") if f"{name}.{key}" in given]
    return dataclasses.replace(limited, **{key: getattr(stage, key) for key in keys})
