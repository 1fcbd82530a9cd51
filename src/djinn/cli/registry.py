"""The verbs of the command line."""

from __future__ import annotations

from collections.abc import Callable

from djinn.cli import verbs
from djinn.cli.parsing import parse
from djinn.cli.train import train


def _verb(function: Callable[..., None], name: str) -> Callable[[list[str]], None]:
    return lambda args: parse(function, args, f"djinn {name}")


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "data import": _verb(verbs.data_import, "data import"),
    "data info": _verb(verbs.data_info, "data info"),
    "train": train,
    "play": _verb(verbs.play, "play"),
    "sample": _verb(verbs.sample, "sample"),
    "eval": _verb(verbs.evaluate, "eval"),
    "name": _verb(verbs.name, "name"),
    "diagnose": _verb(verbs.diagnose, "diagnose"),
    "bench": _verb(verbs.bench, "bench"),
    "plan": _verb(verbs.plan, "plan"),
}
"""Each verb of `djinn.cli.VERBS`, as a function of the rest of the command line."""
