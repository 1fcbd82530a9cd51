"""World folders: lookup by path or name, and atomic replacement.

A new world is written to a folder beside its target. Two renames then exchange the two, so a
process killed at any moment leaves at least one complete world, which `find_world` finds.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Generator
from pathlib import Path

from djinn.atomic import is_disk_full, read_error
from djinn.errors import UserError

SHIPPED = Path(__file__).parent.parent / "worlds"
"""Worlds inside the package, found by name."""
MODEL_FILE, LATENT_ACTION_FILE = "model.safetensors", "latent_action.safetensors"
WEIGHTS = (MODEL_FILE, LATENT_ACTION_FILE)
PARTS = ("config.yaml", *WEIGHTS, "actions.yaml", "training.yaml", "prompts")
"""Entries of a world folder that saving replaces. Everything else belongs to the user."""
MARK = ".djinn-saving"
"""File in temporary folders of `replace_world_folder`, which distinguishes them from folders of
the user."""


def find_world(path_or_name: str | Path) -> Path:
    """Return the world folder for a world folder, a run folder or the name of a shipped world.

    Raises:
        UserError: There is no world at this path.
    """
    if not isinstance(path_or_name, str | Path):
        raise UserError(f"a world is given as a path or a name such as 'coinrun', got {path_or_name!r}")
    path = Path(path_or_name)
    try:
        for folder in (path, path / "world", SHIPPED / str(path_or_name)):
            candidate = folder if folder.exists() else _old(folder)  # a save was interrupted between its renames
            if (candidate / MODEL_FILE).is_file():
                return candidate
        raise UserError(_describe_missing(path))
    except OSError as error:
        raise read_error(path, error, "world") from None


def _describe_missing(path: Path) -> str:
    """Return why `path` is not a world."""
    shipped = sorted(file.parent.name for file in SHIPPED.glob(f"*/{MODEL_FILE}"))
    names = f"; shipped worlds: {', '.join(shipped)}" if shipped else ""
    if (path / "dataset.json").is_file():
        return (
            f"{path} is a data set, not a world: train a world on it first (djinn train {path} --preset tiny --out RUN)"
        )
    if (path / "config.yaml").is_file():
        return f"{path} contains no finished world: train its dynamics stage first (djinn train ... --out {path})"
    if path.exists():
        return f"{path} is not a world or run folder: it contains no {MODEL_FILE}{names}"
    return f"no world at {path}{names}"


def user_images(folder: Path) -> list[Path]:
    """Return the prompt images that a user added; saved prompts have two-digit names."""
    files = sorted((folder / "prompts").glob("*"))
    return [file for file in files if not re.fullmatch(r"\d\d\.png", file.name) and file.is_file()]


@contextlib.contextmanager
def replace_world_folder(folder: Path) -> Generator[Path]:
    """Yield an empty folder that replaces `folder` on success and is removed on failure.

    Files that the user added to the old folder are copied to the new one.

    Args:
        folder: Absolute path of a world folder. It need not exist.

    Raises:
        UserError: `folder` is not a world, a folder with its temporary name exists, or the disk is
            full.
    """
    old, new = _old(folder), folder.with_name(folder.name + ".new")
    for temporary in (old, new):
        _refuse_unmarked(temporary, folder)
    if not folder.exists() and (old / MODEL_FILE).is_file():
        old.rename(folder)  # a save was interrupted between its renames
        _unmark(folder)
    _refuse_other(folder)
    _remove_temporary(new)
    new.mkdir(parents=True)
    try:
        _mark(new)
        yield new
        _copy_user_files(folder, new)
        if folder.exists():
            _mark(folder)
    except BaseException as error:
        _remove_temporary(new)
        with contextlib.suppress(OSError):
            _unmark(folder)
        if is_disk_full(error) or (error.__cause__ is not None and is_disk_full(error.__cause__)):
            raise UserError(
                f"no space left to save world {folder}: free some space; an older world is intact"
            ) from None
        raise
    try:
        _remove_temporary(old)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        _unmark(folder)  # new world, or the old one if a rename failed
    _remove_temporary(old)


def _copy_user_files(folder: Path, new: Path) -> None:
    """Copy the user's files: model card, notes and prompt images."""
    for path in folder.iterdir() if folder.exists() else ():
        if path.name in (*PARTS, MARK):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, new / path.name, symlinks=True)
        else:
            shutil.copy2(path, new / path.name, follow_symlinks=False)
    for path in user_images(folder):
        (new / "prompts").mkdir(exist_ok=True)
        shutil.copy2(path, new / "prompts" / path.name)


def _old(folder: Path) -> Path:
    folder = Path(os.path.abspath(folder))  # "." and ".." have no name
    return folder.with_name(folder.name + ".old") if folder.name else folder


def _mark(folder: Path) -> None:
    (folder / MARK).write_text("Temporary folder of an unfinished save.\n", encoding="utf-8")


def _unmark(folder: Path) -> None:
    (folder / MARK).unlink(missing_ok=True)


def _refuse_unmarked(temporary: Path, folder: Path) -> None:
    """Refuse to replace a folder of the user; temporary folders are marked or empty."""
    is_temporary = not temporary.is_symlink() and (
        (temporary / MARK).is_file() or (temporary.is_dir() and not any(temporary.iterdir()))
    )
    if os.path.lexists(temporary) and not is_temporary:
        raise UserError(
            f"{temporary} is in the way of saving {folder}, which uses that name temporarily: move or delete it"
        )


def _remove_temporary(folder: Path) -> None:
    """Remove a temporary folder, its mark last, so that an interrupted removal can be repeated."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != MARK:
            with contextlib.suppress(OSError):
                path.unlink()
    if {path.name for path in folder.iterdir()} <= {MARK}:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_other(folder: Path) -> None:
    """Refuse to replace anything but a world, for instance a run folder with its checkpoints."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, not a world: give another folder")
    if (folder / "dataset.txt").exists():
        raise UserError(f"{folder} is a run folder, not a world: give another folder, for instance {folder / 'world'}")
    is_world = (folder / "config.yaml").is_file() and any(
        (folder / name).is_file() for name in (*WEIGHTS, "actions.yaml")
    )
    if folder.exists() and any(folder.iterdir()) and not is_world:
        raise UserError(f"{folder} is not empty and not a world: give another folder")
