"""`djinn data info`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from djinn.cli.parsing import DatasetFolder, parse


@dataclass(frozen=True)
class DataInfoOptions:
    """Describe a data set: frames, episodes, splits, and how it was made.

    For example:
        djinn data info data/mine --picture frames.png
    """

    dataset: DatasetFolder
    """Folder of the data set."""
    picture: Path | None = None
    """Also write frames of some episodes to this .png file."""


def main(args: list[str]) -> None:
    """Run `djinn data info`."""
    options = parse(DataInfoOptions, args, "djinn data info")
    from djinn.data.commands import info

    info(options.dataset, picture=options.picture)
