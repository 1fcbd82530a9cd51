"""`djinn bench`: benchmark of one world on this machine."""

from __future__ import annotations

import dataclasses
import os
import sys
from json import dumps
from pathlib import Path
from typing import Any

import torch

from djinn.backends.select import Engine, resolve_engine, select_backend
from djinn.benchmark.machine import describe_machine
from djinn.benchmark.play import EARLY, LONG, play, play_long
from djinn.benchmark.training import Compile, benchmark_training
from djinn.config import StageConfig, TrainConfig, adjust
from djinn.config.presets import get_preset
from djinn.config.yaml import load_yaml
from djinn.errors import UserError
from djinn.models.device import select_device
from djinn.models.world import World, build
from djinn.models.world_folder import find_world
from djinn.train.memory import peak_memory_mb

DEFAULT_BATCH = 4
"""Clips per training step for a world without a run folder."""

_ENGINES = {"torch": "PyTorch", "onnx": "ONNX Runtime", "int8": "ONNX Runtime with int8 products in the dynamics"}


def bench(
    world: str,
    *,
    json: bool,
    long: bool,
    train: bool,
    frames: int,
    steps: int | None,
    compile: Compile,
    engine: Engine,
    device: str | None,
) -> None:
    """Benchmark a world and print the result.

    Args:
        world: World folder, run folder, name of a shipped world, or `preset:NAME`.
        json: Print one JSON object instead of a table.
        long: Also play `LONG` frames.
        train: Also benchmark training.
        frames: Frames to play after the warm-up.
        steps: MaskGIT steps per frame; None is the world's own setting.
        compile: Use of `torch.compile` in training.
        engine: Engine that computes the frames in play (see `djinn.backends.select`).
        device: Device to compute on; None is the GPU if there is one.

    Raises:
        UserError: There is no such world, preset or device.
    """
    if frames < 2:
        raise UserError(f"--frames must be at least 2, got {frames}")
    place = select_device(device)
    loaded, config = load(world, place)
    sampler = adjust(loaded.config.sampler, steps, None)
    backend = select_backend(loaded, engine)
    results: dict[str, Any] = {"world": world, **play(backend, sampler, frames, _log)}
    results["play"]["engine"] = resolve_engine(loaded, engine)
    if long:
        results["long"] = play_long(backend, sampler, _log)
    if train:
        results |= benchmark_training(loaded, config, compile, _log)
    results["peak_memory_mb"] = round(peak_memory_mb(place), 1)
    results["machine"] = describe_machine(place)
    print(dumps(results) if json else format_results(results))


def load(name: str, device: torch.device) -> tuple[World, TrainConfig]:
    """Load a world and the settings of its training.

    The settings are those of its preset or run; without these, batches of `DEFAULT_BATCH` clips.

    Raises:
        UserError: There is no such world or preset.
    """
    if name.startswith("preset:"):
        config = get_preset(name.removeprefix("preset:"))
        torch.manual_seed(0)
        with device:
            world = build(config.world)
        return world.eval(), config
    folder = find_world(name)
    world = World.from_pretrained(folder, device)
    run = Path(os.path.abspath(folder)).parent / "config.yaml"
    if run.is_file() and run.with_name("dataset.txt").is_file():  # else the file is not of a Djinn run
        return world, dataclasses.replace(load_yaml(TrainConfig, run), world=world.config)
    stage = StageConfig(batch=DEFAULT_BATCH)
    return world, TrainConfig(world=world.config, tokenizer=stage, dynamics=stage)


def format_results(results: dict[str, Any]) -> str:
    """Return the results as lines of text."""
    fps, ms, playing, machine = results["play_fps"], results["ms"], results["play"], results["machine"]
    lines = [
        f"world      {results['world']}: {playing['tokens_per_frame']} tokens per frame, "
        f"{playing['maskgit_steps']} MaskGIT steps",
        f"machine    {machine['gpu'] or machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"torch {machine['torch']} (load {machine['load']})",
        f"play       {fps['p50']} frames/s (median), {fps['p95']} (slowest 5 %), with {_ENGINES[playing['engine']]}",
        f"per frame  {ms['dynamics']} ms dynamics, {ms['decode']} ms decoder; {ms['encode']} ms to encode a prompt frame",
    ]
    for name, part in results.get("train", {}).items():
        share = part.get("share_of_bf16_peak")
        peak = f", {100 * share:.1f} % of the bf16 peak" if share is not None else ""
        trained = "latent actions + dynamics" if name == "dynamics_stage" else name
        lines.append(
            f"train      {trained}: {part['fps']} frames/s "
            f"({part['batch']} x {part['frames']} in {part['ms_per_step']} ms, {part['tflops']:.3g} TFLOP/s{peak})"
        )
    if "long" in results:
        long = results["long"]
        memory = ", ".join(f"{mb:,} MB at {frame}" for frame, mb in long["peak_memory_mb"].items())
        lines.append(f"long       frame {LONG:,} takes {long['late_over_early']} x frame {EARLY}; peak memory {memory}")
    lines.append(f"memory     peak {results['peak_memory_mb']:,} MB ({playing['peak_memory_mb']:,} MB to play)")
    return "\n".join(lines)


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
