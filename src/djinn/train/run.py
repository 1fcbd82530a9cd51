"""A training run: its stages one after the other, in one run folder."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from djinn.config import TrainConfig
from djinn.config.yaml import to_dict
from djinn.data.dataset import Clips, Dataset
from djinn.data.loader import Loader
from djinn.errors import UserError
from djinn.models import World
from djinn.train.checkpointer import FileCheckpointer
from djinn.train.loggers import MetricsLog, last_evaluation, open_loggers
from djinn.train.ranks import Ranks, process_group, select_device
from djinn.train.run_folder import open_run_folder
from djinn.train.stages import StageContext, StageSpec, select_stages
from djinn.train.stages.registry import dependents
from djinn.train.summary import summarize
from djinn.train.trainer import Trainer


def train(
    dataset_path: str | Path,
    out: str | Path,
    config: TrainConfig,
    stage: str = "all",
    *,
    device: torch.device | str | None = None,
    announce: Callable[[str], None] = lambda stage: None,
) -> dict[str, float]:
    """Train a world on a data set.

    A second call with the same arguments resumes a stopped run, and has no effect on a finished
    one. The world in the run folder can be played as soon as the dynamics have a checkpoint, while
    training continues.

    Args:
        dataset_path: Data set of `djinn data import`.
        out: Run folder: `config.yaml`, `metrics.jsonl`, `images/`, `world/`, and a folder with the
            checkpoint of each stage.
        config: Sizes and settings; `djinn.config.with_limits` sets a limit for the whole run.
        stage: `all`, or the name of a stage: `tokenizer` or `dynamics`.
        device: Device to train on. `cuda` without an index is the GPU of the local rank; by default
            that GPU, or the CPU.
        announce: Called with the name of each stage before it begins.

    Returns:
        Metrics of the last evaluation of the last stage, from this or an earlier call.

    Raises:
        UserError: Data set, run folder and config do not match.
        Stopped: After Ctrl-C or SIGTERM, with the state saved.
    """
    out = Path(out)
    specs = select_stages(stage, config)
    with process_group() as ranks:
        place = select_device(device, ranks)
        dataset = Dataset.open(dataset_path)
        check_size(dataset, config)
        frames = config.world.context_frames
        clips = dataset.clips("train", frames, max(1, frames // 2))
        val = _held_out_clips(dataset, frames, ranks)
        init_world = None if config.init_from is None else _load_init_world(config)
        with open_run_folder(out, dataset, config, ranks):
            loggers = open_loggers(config.loggers, out, to_dict(config)) if ranks.is_first else []
            log = MetricsLog(out, loggers)
            try:
                context = StageContext(out, config, dataset, clips, val, place, ranks, init_world)
                run = TrainingRun(context, log)
                for spec in specs:
                    announce(spec.name)
                    run.train_stage(spec, alone=stage != "all")
            finally:
                log.close()
        if ranks.is_first:
            print(summarize(out))
    return last_evaluation(out, specs[-1].name)


def check_size(dataset: Dataset, config: TrainConfig) -> None:
    """Check that the frames of a data set have the world's size.

    Raises:
        UserError: They differ; the message names both sizes and two remedies.
    """
    world = config.world
    if (dataset.height, dataset.width) != (world.height, world.width):
        actual, expected = f"{dataset.width}x{dataset.height}", f"{world.width}x{world.height}"
        change = f"pass --world.width {dataset.width} --world.height {dataset.height}, or "
        raise UserError(
            f"the frames of {dataset.path} are {actual}, but the world has {expected}"
            + ("" if config.init_from is None else f" like {config.init_from}")
            + f": {change if config.init_from is None else ''}import the videos with --size {expected}"
        )


def _held_out_clips(dataset: Dataset, frames: int, ranks: Ranks) -> Clips:
    try:
        return dataset.clips("val", frames, frames)
    except UserError as error:
        if ranks.is_first:
            print(f"no evaluation clips ({error}): training clips are used for evaluation", file=sys.stderr)
        return dataset.clips("train", frames, frames)


def _load_init_world(config: TrainConfig) -> World:
    """Load the world of `init_from`.

    Raises:
        UserError: There is none, its sizes differ from the config, or it cannot infer actions.
    """
    assert config.init_from is not None
    world = World.from_pretrained(config.init_from, "cpu")
    # settings of play, on which no weight depends
    free = {"fps": config.world.fps, "sampler": config.world.sampler}
    if dataclasses.replace(world.config, **free) != config.world:
        raise UserError(f"the sizes in the config differ from those of {config.init_from}, from which training starts")
    if world.latent_action is None:
        raise UserError(f"{config.init_from} has no latent_action.safetensors, so training cannot start from it")
    return world


@dataclass(frozen=True)
class TrainingRun:
    """Trains stages in a run folder."""

    context: StageContext
    log: MetricsLog

    def train_stage(self, spec: StageSpec, alone: bool) -> None:
        """Train a stage to its end, unless a later stage already depends on it.

        Args:
            spec: Stage to train.
            alone: Whether only this stage was requested.

        Raises:
            UserError: This stage alone was requested and is not finished, but a later stage
                depends on it.
        """
        context = self.context
        built_on = [d for d in dependents(spec.name) if FileCheckpointer(context.run, d.name).exists()]
        if built_on and not alone:
            return
        stage = spec.build(context)
        config = spec.config(context.config)
        trainer = Trainer(
            stage,
            config,
            context.config,
            self._loader_factory(config.batch),
            context.run,
            log=self.log,
            ranks=context.ranks,
            depends={"data": context.dataset.identity},
        )
        if built_on:
            trainer.resume()
            if not trainer.finished:
                raise UserError(
                    f"the {built_on[0].name} stage in {context.run} is already trained on the {spec.name}, which can no "
                    f"longer be trained: continue with --stage {built_on[0].name}, or start a new run with another "
                    "--out"
                )
        trainer.run()
        trainer.repair_export()
        if context.ranks.is_first:
            stage.close()

    def _loader_factory(self, batch: int) -> Callable[[int], Loader]:
        context = self.context
        return lambda position: Loader(
            context.clips,
            batch,
            seed=context.config.seed,
            position=position,
            rank=context.ranks.rank,
            ranks=context.ranks.count,
            pin_memory=context.device.type == "cuda",
        )
