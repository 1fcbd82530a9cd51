"""Registry of the training stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from djinn.config import StageConfig, TrainConfig
from djinn.data.dataset import Clips, Dataset
from djinn.errors import UserError
from djinn.models import World
from djinn.train.ranks import Ranks
from djinn.train.stages.stage import Stage


@dataclass(frozen=True)
class StageContext:
    """What a stage is built from."""

    run: Path
    """Run folder."""
    config: TrainConfig
    dataset: Dataset
    clips: Clips
    """Training clips."""
    val: Clips
    """Held-out clips."""
    device: torch.device
    ranks: Ranks = field(default_factory=Ranks)
    init_world: World | None = None
    """World of `TrainConfig.init_from`."""


@dataclass(frozen=True)
class StageSpec:
    """Registration of a stage."""

    name: str
    title: str
    """What the stage trains, for messages."""
    build: Callable[[StageContext], Stage]
    """Builds the stage on its device. Seeds torch by `config.seed` before drawing weights."""
    config: Callable[[TrainConfig], StageConfig]
    """Returns the settings of this stage."""
    requires: tuple[str, ...] = ()
    """Stages whose checkpoints `build` reads. They are final once this stage has a checkpoint."""
    skipped_with_init_from: bool = False
    """Whether the world of `TrainConfig.init_from` replaces this stage."""


STAGES: dict[str, StageSpec] = {}


def register(spec: StageSpec) -> StageSpec:
    """Add a stage to the registry."""
    assert spec.name not in STAGES, f"stage {spec.name} is registered twice"
    STAGES[spec.name] = spec
    return spec


def stage_order() -> list[StageSpec]:
    """Return all stages, each after those that it requires."""
    order: dict[str, StageSpec] = {}

    def add(spec: StageSpec) -> None:
        for name in spec.requires:
            add(STAGES[name])
        order.setdefault(spec.name, spec)

    for spec in STAGES.values():
        add(spec)
    return list(order.values())


def select_stages(stage: str, config: TrainConfig) -> list[StageSpec]:
    """Return the stages to train, in order.

    Args:
        stage: Name of a stage, or `all`.
        config: Config of the run.

    Raises:
        UserError: There is no such stage, or `init_from` replaces it.
    """
    if stage != "all" and stage not in STAGES:
        raise UserError(f"there is no stage '{stage}': use all, {', '.join(STAGES)}")
    chosen = [spec for spec in stage_order() if stage in ("all", spec.name)]
    if config.init_from is None:
        return chosen
    if stage != "all" and chosen[0].skipped_with_init_from:
        raise UserError(f"the {stage} of {config.init_from} is not trained: leave out --stage {stage}, or --init-from")
    return [spec for spec in chosen if not spec.skipped_with_init_from]


def dependents(name: str) -> list[StageSpec]:
    """Return the stages that require stage `name`, directly or through others."""
    direct = [spec for spec in STAGES.values() if name in spec.requires]
    return list({d.name: d for spec in direct for d in (spec, *dependents(spec.name))}.values())
