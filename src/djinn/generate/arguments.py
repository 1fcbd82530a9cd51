"""Conversion and validation of the arguments of sessions and roll-outs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from djinn.config import SamplerConfig, check_seed
from djinn.errors import UserError
from djinn.models.action_syntax import action_code
from djinn.models.world import World

Action = int | str
"""Code or name of an action."""
Actions = Action | Sequence[Any] | np.ndarray | Tensor
"""One action or several; several may be nested, with one level for each dimension."""
Frame = Image.Image | np.ndarray | Tensor
Prompt = Frame | Sequence[Frame]
"""Images of any size, or uint8 frames of the world's size (`to_video` has the shapes)."""


def check_types(world: object, backend: object, sampler: object) -> None:
    """Check the types of a session's arguments.

    Raises:
        UserError: An argument has another type; the message says how to create it.
    """
    if not isinstance(world, World):
        raise UserError(f"world must be a World, got {_shorten(world)}: pass djinn.World.from_pretrained('coinrun')")
    if backend is not None and not hasattr(backend, "world"):
        raise UserError(f"backend must be a Backend, got {_shorten(backend)}: pass select_backend(world, 'onnx')")
    if sampler is not None and not isinstance(sampler, SamplerConfig):
        raise UserError(f"sampler must be a SamplerConfig, got {_shorten(sampler)}: pass SamplerConfig(steps=4)")


def to_codes(world: World, actions: Actions, name: str = "actions") -> Int[Tensor, "..."]:
    """Convert actions to their codes.

    Args:
        world: World that the actions belong to.
        actions: Codes or names, alone, in a sequence, or as an integer array or tensor.
        name: Name of the argument in error messages.

    Raises:
        UserError: A value is not an integer or a name, or the world has no such action.
    """
    if isinstance(actions, np.ndarray | Tensor) and not _has_integers(actions):
        actions = actions.tolist()
    if isinstance(actions, np.ndarray | Tensor):
        codes = torch.as_tensor(actions).to(torch.int64)
    else:
        nested = _nested_codes(world, actions)
        try:
            codes = torch.tensor(nested, dtype=torch.int64)
        except (TypeError, ValueError):
            raise UserError(f"{name} must have one length in all games, got {_shorten(actions)}") from None
    world.check_actions(codes)
    return codes


def to_video(world: World, prompt: Prompt) -> Tensor:
    """Convert a prompt to a tensor `(B, P, H, W, 3)`, whose dtype and size `World.to_float` checks.

    Args:
        world: World to play.
        prompt: A PIL image, which is cropped and resized; frames `(H, W, 3)`, `(P, H, W, 3)` or,
            for B games, `(B, P, H, W, 3)` as an array or tensor; or a sequence of P images or
            frames.

    Raises:
        UserError: It has another type, or its frames do not have the same shape.
    """
    if isinstance(prompt, Image.Image | np.ndarray | Tensor):
        video = _to_tensor(world, prompt)
    elif isinstance(prompt, Sequence) and not isinstance(prompt, str | bytes):
        frames = [_to_tensor(world, frame) for frame in prompt]
        if not frames:
            raise UserError("the prompt contains no frame")
        shapes = {tuple(frame.shape) for frame in frames}
        if len(shapes) > 1:
            raise UserError(f"the frames of a prompt must have the same shape, got {sorted(shapes)}")
        video = torch.stack(frames)
    else:
        raise UserError(_refuse_prompt(prompt))
    return video[(None,) * (5 - video.ndim)] if video.ndim in (3, 4) else video


def to_seed(seed: int) -> int:
    """Return a seed as an `int`.

    Raises:
        UserError: It is not an integer in [0, 2**63).
    """
    seed = to_integer(seed, "seed")
    check_seed(seed)
    return seed


def to_integer(value: object, name: str) -> int:
    """Return an integer of any type, such as a NumPy integer, as an `int`.

    Raises:
        UserError: It is not an integer.
    """
    scalar = value.item() if isinstance(value, np.ndarray | np.generic | Tensor) and value.ndim == 0 else value
    if isinstance(scalar, int) and not isinstance(scalar, bool):
        return scalar
    raise UserError(f"{name} must be an integer, got {_shorten(value)}")


def _has_integers(values: np.ndarray | Tensor) -> bool:
    if isinstance(values, np.ndarray):
        return values.dtype.kind in "iu"
    return not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)


def _nested_codes(world: World, actions: Any) -> Any:
    """Convert a code or name to a code, and a sequence to a list."""
    if isinstance(actions, str):
        return action_code(actions, world.action_names)
    if getattr(actions, "ndim", 0) > 0 or (isinstance(actions, Sequence) and not isinstance(actions, bytes)):
        return [_nested_codes(world, action) for action in actions]
    last = world.num_actions - 1
    try:
        code = to_integer(actions, "action")
    except UserError:
        raise UserError(
            f"action {_shorten(actions)} is neither a code nor a name: pass an integer from 0 to {last} or one of "
            f"{', '.join(world.action_names)}"
        ) from None
    if not -(2**63) <= code < 2**63:  # does not fit into a tensor
        raise UserError(f"action {code} is out of range: pass an integer from 0 to {last}")
    return code


def _to_tensor(world: World, frame: Any) -> Tensor:
    """Convert an image, a frame or an array of frames to a tensor."""
    if isinstance(frame, Image.Image):
        return torch.from_numpy(world.fit_image(frame))
    if isinstance(frame, Tensor):
        return frame
    if isinstance(frame, np.ndarray):
        if frame.dtype.kind not in "biuf":
            raise UserError(f"a prompt must have uint8 frames, got dtype {frame.dtype}")
        return torch.tensor(frame)  # a copy, since the array of a PIL image is read-only
    raise UserError(_refuse_prompt(frame))


def _refuse_prompt(prompt: object) -> str:
    hint = f"PIL.Image.open({prompt!r})" if isinstance(prompt, str) else "a PIL image or uint8 frames (H, W, 3)"
    return f"a prompt cannot be of type {type(prompt).__name__}: pass {hint}"


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
