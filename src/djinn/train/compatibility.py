"""Check of whether a run may continue with a config: settings that change a step must agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from djinn.config.yaml import from_dict, to_dict
from djinn.errors import UserError

FREE_KEYS = (
    "steps",
    "minutes",
    "min_steps",
    "log_every",
    "eval_every",
    "save_every",
    "loggers",
    "compile",
    "tokenizer_share",
    "sampler",
    "fps",
)
"""Config keys, at any depth, that may change between two calls of the same run.

None of them changes what a step computes, except for the learning rate, which depends on the share
of `steps`, `minutes` or `min_steps` that is done.
"""


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Return the keys in which two configs differ, as `key: old -> new`, without `FREE_KEYS`.

    Args:
        old: Config as plain data.
        new: Config as plain data.
        prefix: Key of both in a larger config.
    """
    if not (isinstance(old, dict) and isinstance(new, dict)):
        plain = [list(v) if isinstance(v, tuple) else v for v in (old, new)]
        return [] if plain[0] == plain[1] else [f"{prefix}: {plain[0]} -> {plain[1]}"]
    found = []
    for key in [*old, *(k for k in new if k not in old)]:
        if key not in FREE_KEYS:
            found += differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else str(key))
    return found


def with_defaults(config: dict[str, Any], kinds: dict[str, type]) -> dict[str, Any]:
    """Add the default values of config fields that are missing, for example in an older checkpoint.

    Args:
        config: Config as plain data, by part.
        kinds: Dataclass of each part that is one. Other parts, and parts that cannot be read, are
            returned unchanged.
    """

    def fill(kind: type, part: Any) -> Any:
        try:
            return to_dict(from_dict(kind, part))
        except UserError:
            return part

    return {key: fill(kinds[key], part) if key in kinds else part for key, part in config.items()}


def check_same(old: Any, new: Any, folder: Path) -> None:
    """Refuse to continue a run with another config.

    Args:
        old: Config that the run was started with, as plain data.
        new: Config of this call, as plain data.
        folder: Run folder, for the message.

    Raises:
        UserError: The configs differ; the message names the keys.
    """
    found = differences(old, new)
    if found:
        listed = "; ".join(found[:6]) + (f"; and {len(found) - 6} more" if len(found) > 6 else "")
        raise UserError(
            f"the run in {folder} was started with other settings ({listed}): "
            "continue it with those, or start a new run with another --out"
        )
