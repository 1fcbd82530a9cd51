"""Contents of a world folder: YAML, PNG and safetensors files, none of which can execute code.

```
config.yaml                 WorldConfig
model.safetensors           tokenizer, dynamics, action codebook
latent_action.safetensors   latent action model (optional)
actions.yaml                names and keys of the latent actions
training.yaml               TrainingSummary (optional)
prompts/*.png               prompt images (optional)
```
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from djinn.atomic import check_readable_file, read_error
from djinn.config.yaml import save_yaml
from djinn.errors import UserError
from djinn.images import read_image
from djinn.models.action_names import merge_with_older, read_actions, write_folder_actions
from djinn.models.training_summary import load_training_summary, save_training_summary
from djinn.models.world_folder import LATENT_ACTION_FILE, MODEL_FILE, replace_world_folder, user_images

if TYPE_CHECKING:
    from djinn.models.world import World

DTYPES = {"fp16": torch.float16, "fp32": torch.float32}
LATENT_ACTION = "latent_action."
"""Prefix of the latent action model's keys in the state dict of a `World`."""


def save_world(world: World, folder: Path, dtype: str) -> None:
    """Write a world folder. An older world is replaced only when the new one is complete.

    Args:
        world: World to save.
        folder: Target folder.
        dtype: `fp16` or `fp32`, for the weights; buffers such as codebooks keep their dtype.

    Raises:
        UserError: `dtype` is unknown, a tensor is not finite, or the folder cannot be replaced
            (see `replace_world_folder`).
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    weights = dict(world.named_parameters())
    for key, weight in weights.items():
        if is_finite(weight) and not is_finite(weight.to(DTYPES[dtype])):
            raise UserError(f"tensor '{key}' is not finite in {dtype}: save with dtype='fp32'")
    state = {k: _convert(v, DTYPES[dtype] if k in weights else v.dtype) for k, v in world.state_dict().items()}
    model = {k: v for k, v in state.items() if not k.startswith(LATENT_ACTION)}
    latent_action = {k.removeprefix(LATENT_ACTION): v for k, v in state.items() if k.startswith(LATENT_ACTION)}
    folder = folder.absolute()
    with replace_world_folder(folder) as new:
        save_yaml(world.config, new / "config.yaml")
        save_tensors(model, new / MODEL_FILE)
        if latent_action:
            save_tensors(latent_action, new / LATENT_ACTION_FILE)
        write_folder_actions(new, merge_with_older(folder, world.action_names, world.action_keys))
        if world.training_summary is not None:
            save_training_summary(world.training_summary, new)
        prompts = _prompts_to_save(world, folder)
        if prompts:
            (new / "prompts").mkdir()
        for i, prompt in enumerate(prompts):
            Image.fromarray(prompt).save(new / "prompts" / f"{i:02}.png")


def load_world(world: World, folder: Path) -> None:
    """Load the contents of a world folder into a world of the same config.

    Raises:
        UserError: A file is missing or invalid, or belongs to another world; the message names the
            file and the key.
    """
    state = {k: v for k, v in world.state_dict().items() if not k.startswith(LATENT_ACTION)}
    load_tensors(world, state, folder / MODEL_FILE)
    if world.latent_action is not None:
        load_tensors(world.latent_action, world.latent_action.state_dict(), folder / LATENT_ACTION_FILE)
    actions = read_actions(folder, world.num_actions)
    world.action_names, world.action_keys = [a.name for a in actions], [list(a.keys) for a in actions]
    world.training_summary = load_training_summary(folder)
    size = (world.config.height, world.config.width)
    world.prompts = [read_image(path, size) for path in _prompt_files(folder / "prompts")]


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file with the default permissions, which `save_file` would restrict.

    Raises:
        UserError: A tensor is not finite; the message names it.
    """
    for key, tensor in tensors.items():
        if not is_finite(tensor):
            raise UserError(f"cannot save {path.name}: {describe_non_finite(key, tensor)}")
    path.touch()
    mode = path.stat().st_mode
    save_file(dict(tensors), path)
    path.chmod(mode)


def load_tensors(module: nn.Module, expected: dict[str, Tensor], path: Path) -> None:
    """Load a safetensors file into the tensors of a module.

    Args:
        module: Module that is loaded.
        expected: Its tensors by key. The file must contain exactly these keys and shapes.
        path: The file.

    Raises:
        UserError: The file cannot be read, a key is missing, unknown or of another shape, or a
            tensor is not finite.
    """
    try:
        found = load_file(check_readable_file(path))  # safetensors reports any failure to open as a missing file
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a valid safetensors file ({error}): use another copy") from None
    remedy = "the file does not match the config.yaml beside it"
    for key in expected.keys() - found.keys():
        raise UserError(f"{path} lacks the tensor '{key}': {remedy}")
    for key in found.keys() - expected.keys():
        raise UserError(f"{path} has an unknown tensor '{key}': {remedy}")
    for key, tensor in expected.items():
        if tensor.shape != found[key].shape:
            shapes = f"{tuple(found[key].shape)}, but the config requires {tuple(tensor.shape)}"
            raise UserError(f"{path}: tensor '{key}' has shape {shapes}: {remedy}")
        if not is_finite(found[key]):
            raise UserError(f"{path}: {describe_non_finite(key, found[key])}: use another copy")
    with torch.no_grad():
        for key, tensor in expected.items():
            tensor.copy_(found[key])


def is_whole(path: Path) -> bool:
    """Return whether a safetensors file exists and has the length that its header states."""
    try:
        with safe_open(path, framework="np"):
            return True
    except (OSError, SafetensorError):
        return False


def _prompt_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".png")  # glob skips a closed folder
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise read_error(folder, error, "folder") from None


def _convert(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.detach().to(dtype).cpu().contiguous()


def is_finite(tensor: Tensor) -> bool:
    """Return whether all values of a tensor are finite, which integers are."""
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def describe_non_finite(key: str, tensor: Tensor) -> str:
    """Return which tensor is not finite, and how many of its values."""
    count = int((~torch.isfinite(tensor)).sum())
    return f"tensor '{key}' has {count} of {tensor.numel()} values that are not finite (NaN or infinity)"


def _prompts_to_save(world: World, folder: Path) -> list[np.ndarray]:
    """Return the world's prompts without the user's images in `folder`, which are copied."""
    copied = []
    for path in user_images(folder):
        with contextlib.suppress(UserError):
            copied.append(read_image(path, (world.config.height, world.config.width)))
    return [prompt for prompt in world.prompts if not any(np.array_equal(prompt, image) for image in copied)]
