"""What computes the frames of a game: torch, or ONNX Runtime on a CPU."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from djinn.errors import UserError
from djinn.models.world import World

Engine = Literal["auto", "torch", "onnx"]


def for_play(world: World, engine: Engine = "auto") -> World:
    """The world as it is played: through ONNX Runtime on a CPU where that is installed, which is faster and as exact.

    The graph is built in memory from the weights as they are now; nothing is stored. Training and measuring stay with torch.

    Args:
        world: the world; it is not changed.
        engine: `onnx` or `torch` to insist.

    Returns:
        The world itself or, with ONNX Runtime, one whose `dynamics` and `tokenizer` can only play.

    Raises:
        UserError: ONNX Runtime was asked for on a GPU, or is not installed.
    """
    if engine == "torch":
        return world
    on_cpu, installed = world.device.type == "cpu", bool(find_spec("onnxruntime") and find_spec("onnx"))
    if engine == "onnx" and not on_cpu:
        raise UserError("the engine 'onnx' plays on a CPU: leave --engine out, or pass --device cpu")
    if engine == "onnx" and not installed:
        raise UserError("the engine 'onnx' needs the extra 'play': pip install 'djinn[play]'")
    if not on_cpu or not installed:
        return world
    from djinn.generate.onnx import through_onnx

    return through_onnx(world)
