"""`djinn name`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from tyro.conf import arg

from djinn.actions.settings import NamingSettings
from djinn.cli.parsing import DatasetFolder, WorldName, parse


@dataclass(frozen=True)
class NameOptions:
    """Name a world's actions by their effect, and assign keys to them.

    For example:
        djinn name runs/mine data/mine

    Each action is held for a few frames from many held-out frames, and the motion is measured. If
    the data set has ground-truth actions with names, their majority vote takes precedence. Names
    and keys are written to the world's actions.yaml. Names that you have chosen are kept.
    """

    world: WorldName
    """World folder, run folder, or name of a shipped world."""
    dataset: DatasetFolder
    """Data set with frames of the world's size."""
    force: bool = False
    """Also replace names that you have chosen."""
    settings: Annotated[NamingSettings, arg(name="")] = field(default_factory=NamingSettings)
    """Settings of the naming."""
    device: str | None = None
    """Device to compute on, for example cpu or cuda. The default is the GPU if there is one."""


def main(args: list[str]) -> None:
    """Run `djinn name`."""
    options = parse(NameOptions, args, "djinn name")
    from djinn.actions.name_world import run_naming

    run_naming(**vars(options))
