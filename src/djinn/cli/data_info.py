"""`djinn data info`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from djinn.cli.parsing import DatasetFolder, parse


@dataclass(frozen=True)
class DataInfoOptions:
    """Describe a data set: frames, episodes, splits, and how it was created.

    For example:
        djinn data info data/mine --contact-sheet frames.png
    """

    dataset: DatasetFolder
    """Folder of the data set."""
    contact_sheet: Annotated[Path | None, arg(metavar="FILE.png")] = None
    """Also write an image with frames of several episodes to this .png file."""


def main(args: list[str]) -> None:
    """Run `djinn data info`."""
    options = parse(DataInfoOptions, args, "djinn data info")
    from djinn.data.contact_sheet import check_contact_sheet, write_contact_sheet
    from djinn.data.dataset import Dataset
    from djinn.data.summary import summarize

    if options.contact_sheet is not None:
        check_contact_sheet(options.contact_sheet)
    dataset = Dataset.open(options.dataset)
    print(summarize(dataset))
    if options.contact_sheet is not None:
        write_contact_sheet(dataset, options.contact_sheet)
        print(f"contact sheet: {options.contact_sheet}")
