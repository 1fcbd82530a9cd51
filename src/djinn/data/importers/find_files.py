"""Search of folders for files to import."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from djinn.atomic import read_error
from djinn.data.importers.importer import warn
from djinn.errors import UserError


def walk_files(folder: Path) -> Iterator[Path]:
    """Yield all files in a folder and below it, sorted by folder.

    Links to folders are followed, but no folder is visited twice. Folders below `folder` that
    cannot be read are skipped with a warning.

    Raises:
        UserError: `folder` itself cannot be read.
    """

    def handle_error(error: OSError) -> None:
        reason = read_error(error.filename, error, "folder")
        if Path(error.filename) == folder:
            raise reason
        warn(f"{reason}; skipped")

    visited = set()
    with tqdm(desc=f"searching {folder}", unit=" files", delay=2, leave=False) as progress:
        for path, folders, names in os.walk(folder, onerror=handle_error, followlinks=True):
            folders.sort()
            real_path = os.path.realpath(path)
            if real_path in visited:  # a link to a folder above
                folders.clear()
                continue
            visited.add(real_path)
            progress.update(len(names))
            yield from (Path(path, name) for name in names)


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Return a sort key that orders numbers in a name by value: frame2 before frame10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def unique_name(name: str, path: Path, taken: set[str]) -> str:
    """Return a source name that is valid Unicode and not in `taken`, and add it to `taken`.

    Args:
        name: Preferred name.
        path: Path of the source, used if the name is taken.
        taken: Names of other sources.
    """
    unique = os.fsencode(name if name not in taken else path.as_posix()).decode("utf-8", "replace")
    taken.add(unique)
    return unique


def check_source(path: Path) -> None:
    """Check that a source is a file or folder.

    Raises:
        UserError: There is nothing at `path`, or it is a pipe or a device.
    """
    try:
        path.stat()
    except OSError as error:
        raise read_error(path, error, "file or folder") from None
    if not path.is_file() and not path.is_dir():
        raise UserError(f"{path} is neither a file nor a folder: copy its content to a file and import that")


def count_matching(folder: Path, matches: Callable[[Path], bool]) -> int:
    """Return the number of files in a folder and below it that match."""
    return sum(matches(path) for path in walk_files(folder))
