"""What computes the frames of a game: torch, or ONNX Runtime on a CPU."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from djinn.errors import UserError
from djinn.models.world import World

Engine = Literal["auto", "torch", "onnx", "int8"]
WIDE = 256
"""Width of the dynamics from which products in eight bits pay; in smaller ones rounding costs what it saves."""


def prepare_for_inference(world: World, engine: Engine = "auto") -> World:
    """The world as it is played: through ONNX Runtime on a CPU where that is installed, which is faster.

    The graph is built in memory from the weights as they are now; nothing is stored. Training and measuring stay with torch.

    Args:
        world: the world; it is not changed.
        engine: as of `choose`.

    Returns:
        The world itself or, with ONNX Runtime, one whose `dynamics` and `tokenizer` can only play.

    Raises:
        UserError: as of `choose`.
    """
    chosen = choose(world, engine)
    if chosen == "torch":
        return world
    from djinn.backends.onnx_backend import through_onnx

    return through_onnx(world, int8=chosen == "int8")


def choose(world: World, engine: Engine = "auto") -> Literal["torch", "onnx", "int8"]:
    """What will play a world.

    Args:
        world: the world.
        engine: to insist: `torch`; `onnx`, which is as exact; or `int8`, ONNX Runtime with the dynamics' products in eight
            bits, whose frames differ a little. `auto` is `int8` on a CPU where the dynamics is wide, and else `onnx`.

    Raises:
        UserError: ONNX Runtime was asked for on a GPU, or is not installed.
    """
    if engine == "torch":
        return engine
    on_cpu, installed = world.device.type == "cpu", bool(find_spec("onnxruntime") and find_spec("onnx"))
    if engine == "auto":
        wide = world.config.dynamics.transformer.d_model >= WIDE
        return "torch" if not on_cpu or not installed else "int8" if wide else "onnx"
    if not on_cpu:
        raise UserError(f"the engine '{engine}' plays on a CPU: leave --engine out, or pass --device cpu")
    if not installed:
        raise UserError(f"the engine '{engine}' needs the extra 'play': pip install 'djinn[play]'")
    return engine
