"""Choice of the engine that computes the frames of a session: torch, or ONNX Runtime on a CPU."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from djinn.errors import UserError
from djinn.generate.backend import Backend, TorchBackend
from djinn.models.world import World

Engine = Literal["auto", "torch", "onnx", "int8"]
MIN_INT8_WIDTH = 256
"""Smallest `d_model` of the dynamics at which int8 is faster than fp32."""


def select_backend(world: World, engine: Engine = "auto") -> Backend:
    """Create the backend of an engine.

    ONNX graphs are built in memory from the current weights. Training and evaluation use torch.

    Args:
        world: World to play.
        engine: Requested engine; see `resolve_engine`.

    Raises:
        UserError: The engine is not available.
    """
    resolved = resolve_engine(world, engine)
    if resolved == "torch":
        return TorchBackend(world)
    from djinn.backends.onnx_backend import OnnxBackend

    return OnnxBackend(world, int8=resolved == "int8")


def resolve_engine(world: World, engine: Engine = "auto") -> Literal["torch", "onnx", "int8"]:
    """Resolve `auto` and check that an engine is available.

    Args:
        world: World to play.
        engine: `torch`; `onnx`, ONNX Runtime in fp32; `int8`, ONNX Runtime with int8 matrix
            products in the dynamics model, whose frames differ slightly; or `auto`: torch on a GPU
            or without ONNX Runtime, `int8` if the dynamics is at least `MIN_INT8_WIDTH` wide, else
            `onnx`.

    Raises:
        UserError: An ONNX engine is requested for a world on a GPU, or ONNX Runtime is not
            installed.
    """
    if engine == "torch":
        return engine
    on_cpu, installed = world.device.type == "cpu", bool(find_spec("onnxruntime") and find_spec("onnx"))
    if engine == "auto":
        wide = world.config.dynamics.transformer.d_model >= MIN_INT8_WIDTH
        return "torch" if not on_cpu or not installed else "int8" if wide else "onnx"
    if not on_cpu:
        raise UserError(f"the engine '{engine}' runs on a CPU: omit --engine, or pass --device cpu")
    if not installed:
        raise UserError(f"the engine '{engine}' needs the extra 'play': pip install 'djinn[play]'")
    return engine
