"""`djinn plan`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

from djinn.cli.parsing import parse
from djinn.config.presets import PRESETS


@dataclass(frozen=True)
class PlanOptions:
    """Show the parameters, tokens and training memory of a preset.

    For example:
        djinn plan --preset genie-10.1b

    No model is allocated, so this works for sizes that do not fit this machine.
    """

    preset: Annotated[str, arg(metavar="NAME", help=f"One of {', '.join(PRESETS)}.")]


def main(args: list[str]) -> None:
    """Run `djinn plan`."""
    options = parse(PlanOptions, args, "djinn plan")
    from djinn.plan import print_plan

    print_plan(**vars(options))
