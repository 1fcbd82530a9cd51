"""World folders on disk: `config.yaml`, `model.safetensors`, `actions.yaml`, `latent_action.safetensors`.

Tensors are safetensors and the rest is plain YAML, so a world from a stranger can hold nothing that runs.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from djinn.atomic import is_full
from djinn.config import WorldConfig
from djinn.config.yaml import load_yaml, save_yaml
from djinn.errors import UserError
from djinn.models.action_names import kept, read_actions, save_actions
from djinn.models.training_summary import load_training_summary, save_training_summary

if TYPE_CHECKING:
    from djinn.models.world import World

SHIPPED = Path(__file__).parent.parent / "worlds"
"""Worlds that come with the package, found by name."""
DTYPES = {"fp16": torch.float16, "fp32": torch.float32}
LATENT_ACTION = "latent_action."
WEIGHTS = ("model.safetensors", "latent_action.safetensors")
PARTS = ("config.yaml", *WEIGHTS, "actions.yaml", "training.yaml", "prompts")
"""What `save_world` writes into a world folder; the rest is by people."""
MARK = ".djinn-saving"
"""File in the folders that `save_world` puts beside its target: by it they are told from a folder of the user's."""


def find_world(path_or_name: str | Path) -> Path:
    """The world folder that is meant by a world folder, a run folder or the name of a shipped world.

    Raises:
        UserError: there is none.
    """
    path = Path(path_or_name)
    for folder in (path, path / "world", SHIPPED / str(path_or_name)):
        candidate = folder if folder.exists() else _old(folder)  # a save was killed between two renames
        if (candidate / "model.safetensors").is_file():
            return candidate
    shipped = sorted(p.parent.name for p in SHIPPED.glob("*/model.safetensors"))
    names = f"; shipped worlds: {', '.join(shipped)}" if shipped else ""
    if (path / "config.yaml").is_file():
        raise UserError(
            f"{path} holds no finished world yet: train its world stage first (djinn train ... --out {path})"
        )
    if path.exists():
        raise UserError(f"{path} is no world or run folder: it holds no model.safetensors{names}")
    raise UserError(f"no world at {path}{names}")


def save_world(world: World, folder: Path, dtype: str) -> None:
    """Writes a world folder, replacing an older one only when the new one is complete.

    Args:
        world: what to save.
        folder: where.
        dtype: `fp16` or `fp32`, of the weights; codebooks and counters stay as they are.

    Raises:
        UserError: `dtype` is unknown, `folder` holds something that is no world, for instance a run, or a folder that is
            not of this function's making has the name of one that it puts beside `folder`.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    folder = folder.absolute()
    old, fresh = _old(folder), folder.with_name(folder.name + ".new")
    for beside in (old, fresh):
        _refuse_unmarked(beside, folder)
    if not folder.exists() and (old / "model.safetensors").is_file():
        old.rename(folder)  # a save was killed between two renames: names and card of that world still count
        _unmark(folder)
    _refuse_other(folder)
    _remove(fresh)
    fresh.mkdir(parents=True)
    try:
        _mark(fresh)
        weights = {name for name, _ in world.named_parameters()}
        state = {k: _narrow(v, DTYPES[dtype] if k in weights else v.dtype) for k, v in world.state_dict().items()}
        latent = {k.removeprefix(LATENT_ACTION): v for k, v in state.items() if k.startswith(LATENT_ACTION)}
        save_yaml(world.config, fresh / "config.yaml")
        _save({k: v for k, v in state.items() if not k.startswith(LATENT_ACTION)}, fresh / "model.safetensors")
        if latent:
            _save(latent, fresh / "latent_action.safetensors")
        save_actions(fresh, kept(folder, world.action_names, world.action_keys))
        if world.training_summary is not None:
            save_training_summary(world.training_summary, fresh)
        prompts = _without_own(world, folder)
        if prompts:
            (fresh / "prompts").mkdir()
        for i, prompt in enumerate(prompts):
            Image.fromarray(prompt).save(fresh / "prompts" / f"{i:02}.png")
        _carry_over(folder, fresh)
        if folder.exists():
            _mark(folder)
    except BaseException as error:
        _remove(fresh)
        with contextlib.suppress(OSError):
            _unmark(folder)
        if is_full(error):
            raise UserError(
                f"no space left to save world {folder}: free some space; an older world is intact"
            ) from None
        raise
    try:
        _remove(old)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    finally:
        _unmark(folder)  # the new world, or the older one where that failed: neither is ours to remove
    _remove(old)


def _carry_over(folder: Path, fresh: Path) -> None:
    """Copies what people have put into a world folder: its card, notes, and pictures of their own to start from."""
    ours = {*PARTS, MARK}
    for path in folder.iterdir() if folder.exists() else ():
        if path.name not in ours and path.is_dir() and not path.is_symlink():
            shutil.copytree(path, fresh / path.name, symlinks=True)
        elif path.name not in ours:
            shutil.copy2(path, fresh / path.name, follow_symlinks=False)
    for path in _own_pictures(folder):
        (fresh / "prompts").mkdir(exist_ok=True)
        shutil.copy2(path, fresh / "prompts" / path.name)


def _own_pictures(folder: Path) -> list[Path]:
    """What people have put beside our own pictures to start from, which have two digits for a name."""
    return [
        path
        for path in sorted((folder / "prompts").glob("*"))
        if not re.fullmatch(r"\d\d\.png", path.name) and path.is_file()
    ]


def _without_own(world: World, folder: Path) -> list[np.ndarray]:
    """The world's prompts but for those read from people's pictures in `folder`, which stay there as they are."""
    own = []
    for path in _own_pictures(folder):
        with contextlib.suppress(UserError):
            own.append(_load_prompt(world, path))
    return [prompt for prompt in world.prompts if not any(np.array_equal(prompt, picture) for picture in own)]


def _mark(folder: Path) -> None:
    (folder / MARK).write_text("Djinn was saving a world here.\n", encoding="utf-8")


def _unmark(folder: Path) -> None:
    (folder / MARK).unlink(missing_ok=True)


def _refuse_unmarked(beside: Path, folder: Path) -> None:
    """Refuses to save where what is not of our making would have to go; an empty folder is no loss, a link never ours."""
    ours = not beside.is_symlink() and ((beside / MARK).is_file() or (beside.is_dir() and not any(beside.iterdir())))
    if os.path.lexists(beside) and not ours:
        raise UserError(
            f"{beside} is in the way of saving {folder}: that name is needed for a moment, and what is there would be "
            "lost; move it, or delete it if it is not needed"
        )


def _remove(folder: Path) -> None:
    """Removes a folder of our making as far as that goes, its mark last: what is left of it stays ours."""
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
    """Refuses to replace what is no world: a run folder has a `config.yaml` too, and its checkpoints would be gone."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file and no world: give another folder")
    if (folder / "dataset.txt").exists():
        raise UserError(f"{folder} is a run folder and no world: give another folder, for instance {folder / 'world'}")
    ours = (folder / "config.yaml").is_file() and any((folder / name).is_file() for name in PARTS[1:4])
    if folder.exists() and any(folder.iterdir()) and not ours:
        raise UserError(f"{folder} is not empty and no world: give another folder")


def _old(folder: Path) -> Path:
    folder = Path(os.path.abspath(folder))  # "." and ".." have no name of their own
    return folder.with_name(folder.name + ".old") if folder.name else folder


def _save(state: dict[str, Tensor], file: Path) -> None:
    """Writes tensors into a file that others may read as they may what else is made here; safetensors shuts them out."""
    file.touch()
    mode = file.stat().st_mode
    save_file(state, file)
    file.chmod(mode)


def _narrow(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.detach().to(dtype).cpu().contiguous()


def load_world(folder: Path) -> World:
    """Reads a world folder.

    Raises:
        UserError: a file is missing, broken or belongs to another world; the message names it and the key.
    """
    from djinn.models.latent_action import LatentActionModel
    from djinn.models.world import World

    config = load_yaml(WorldConfig, folder / "config.yaml")
    latent_file = folder / "latent_action.safetensors"
    try:
        world = World(config, LatentActionModel(config) if latent_file.is_file() else None)
    except (RuntimeError, TypeError, MemoryError, OverflowError) as error:  # so torch says that a size is absurd
        said = str(error).splitlines()[0] if str(error) else "no memory for it"
        raise UserError(f"no world can be built with the sizes in {folder / 'config.yaml'}: {said[:200]}") from None
    own = {k: v for k, v in world.state_dict().items() if not k.startswith(LATENT_ACTION)}
    load_tensors(world, own, folder / "model.safetensors")
    if world.latent_action is not None:
        load_tensors(world.latent_action, world.latent_action.state_dict(), latent_file)
    actions = read_actions(folder, world.num_actions)
    world.action_names, world.action_keys = [a.name for a in actions], [list(a.keys) for a in actions]
    world.training_summary = load_training_summary(folder)
    world.prompts = [_load_prompt(world, path) for path in sorted((folder / "prompts").glob("*.png"))]
    return world


def is_whole(file: Path) -> bool:
    """Whether a safetensors file is there and as long as its header says; its values are not read."""
    try:
        with safe_open(file, framework="np"):
            return True
    except (OSError, SafetensorError):
        return False


def load_tensors(module: nn.Module, expected: dict[str, Tensor], path: Path) -> None:
    """Fills `module` from a safetensors file that must hold exactly the tensors of `expected`.

    Raises:
        UserError: the file is broken, or a key is missing, unknown or of another shape; the message names it.
    """
    try:
        found = load_file(path)
    except FileNotFoundError:
        raise UserError(f"no file {path}") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable safetensors file ({error}): get the file again") from None
    hint = "the file does not belong to the config.yaml beside it"
    for key in expected.keys() - found.keys():
        raise UserError(f"{path} lacks the tensor '{key}': {hint}")
    for key in found.keys() - expected.keys():
        raise UserError(f"{path} has an unknown tensor '{key}': {hint}")
    for key, tensor in expected.items():
        if tensor.shape != found[key].shape:
            shapes = f"{tuple(found[key].shape)}, but the config asks for {tuple(tensor.shape)}"
            raise UserError(f"{path}: tensor '{key}' has shape {shapes}: {hint}")
    with torch.no_grad():
        for key, tensor in expected.items():
            tensor.copy_(found[key])


def _load_prompt(world: World, path: Path) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            return world.fit_image(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow's for broken PNG files
        raise UserError(f"{path} is not a readable picture ({error}): delete it or get it again") from None
