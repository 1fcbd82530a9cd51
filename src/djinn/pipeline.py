"""From a data set to a playable world: train the stages, name the actions, choose prompt images."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from pathlib import Path

from djinn.actions.after_training import after_training, is_first_process
from djinn.atomic import check_writable_folder
from djinn.config import TrainConfig
from djinn.data.dataset import Dataset
from djinn.models.world_folder import WEIGHTS
from djinn.train.resolve import resolve_config
from djinn.train.run import train
from djinn.train.stages import select_stages, stage_order

AFTER_TRAINING = {"names": "naming the actions", "prompts": "choosing prompt images"}
"""Steps after the training stages, with the text that is printed when each begins."""


def train_and_name(
    dataset: Path,
    out: Path,
    config: TrainConfig,
    *,
    given: Collection[str] = (),
    stage: str = "all",
    minutes: float | None = None,
    steps: int | None = None,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Train a world on a data set and prepare it for play, announcing each stage on stderr.

    Args:
        dataset: Folder of the data set.
        out: Run folder.
        config: Preset with the settings that were given.
        given: Names of the settings that were given (see `resolve_config`).
        stage: `all` or the stage to train. Actions are named if the dynamics are trained.
        minutes: Training time of the whole run.
        steps: Optimizer steps of each stage.
        announce: Called with the name of each stage when it begins, instead of printing it.

    Raises:
        UserError: The data set, the run folder and the settings are inconsistent.
        Stopped: After Ctrl-C or SIGTERM, with a checkpoint saved.
    """
    stages = stages_of(config, stage)
    data = Dataset.open(dataset)
    config = resolve_config(config, data, given=given, stage=stage, minutes=minutes, steps=steps)
    check_writable_folder(out)
    announce = announce or stage_announcer(stages)
    before = _last_export(out)
    train(dataset, out, config, stage=stage, announce=announce)
    if "dynamics" in stages:
        exported = _last_export(out) != before
        after_training(out, dataset, init_from=config.init_from, exported=exported, announce=announce)


def stages_of(config: TrainConfig, stage: str) -> list[str]:
    """Return the names of the training stages of a run and of the steps after them."""
    trained = [spec.name for spec in select_stages(stage, config)]
    if "dynamics" not in trained:
        return trained
    return [*trained, *(name for name in AFTER_TRAINING if name != "names" or config.init_from is None)]


def stage_texts() -> dict[str, str]:
    """Return what is printed when a stage begins, for each registered stage and what follows."""
    return {spec.name: f"training {spec.title}" for spec in stage_order()} | AFTER_TRAINING


def stage_announcer(stages: list[str]) -> Callable[[str], None]:
    """Return a function that prints a stage with its number, for example `2/4 training ...`."""
    texts = stage_texts()

    def announce(name: str) -> None:
        if is_first_process():
            print(f"{stages.index(name) + 1}/{len(stages)} {texts[name]}", file=sys.stderr, flush=True)

    return announce


def _last_export(run: Path) -> float | None:
    """Return the time at which the world of a run was last written, None if it was not."""
    file = run / "world" / WEIGHTS[0]
    return file.stat().st_mtime if file.is_file() else None
