"""`djinn bench`: how fast a world plays and trains on this machine, and how much memory it takes."""

from __future__ import annotations

import copy
import dataclasses
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from json import dumps
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from djinn.backends.select import Engine, choose, prepare_for_inference
from djinn.config import StageConfig, TrainConfig, adjust
from djinn.config.presets import get_preset
from djinn.config.yaml import load_yaml
from djinn.errors import UserError
from djinn.generate.session import Session
from djinn.models.device import select_device
from djinn.models.latent_action import LatentActionModel
from djinn.models.world import World, build
from djinn.models.world_folder import find_world
from djinn.train.optimizer import build_optimizer
from djinn.train.precision import autocast, compile_blocks
from djinn.train.trainer import peak_memory_mb

LONG = 2_000
EARLY, NEAR = 20, 50
"""`--long` compares the median time of `NEAR` steps after frame `LONG` with that after frame `EARLY` of another game."""
PRESET_BATCH = 4
"""Clips a training step where no run says how many."""
LEAST_SECONDS, LEAST_STEPS, WARMUP_STEPS = 3.0, 5, 3

PEAK_TFLOPS = {
    "B200": 2250,
    "H200": 989,
    "H100 PCIe": 756,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "A10": 125,
    "RTX 4090": 165,
    "RTX 3090": 71,
}
"""Dense bf16 peak of GPUs by a part of their name, as their maker prints it."""

Compile = Literal["auto", "on", "off"]


def bench(
    world: str,
    *,
    json: bool = False,
    long: bool = False,
    train: bool = True,
    frames: int = 60,
    steps: int | None = None,
    compile: Compile = "auto",
    engine: Engine = "auto",
    device: str | None = None,
) -> None:
    """Measures a world and prints the figures.

    Args:
        world: a world folder, a run folder, the name of a shipped world, or `preset:NAME`.
        json: print one JSON object instead of lines for people.
        long: also play `LONG` frames.
        train: also measure training.
        frames: frames to play, after the warm-up.
        steps: MaskGIT steps a frame; the world's own by default.
        compile: `torch.compile` in training.
        engine: what plays; see `djinn.backends.select`.
        device: where to compute; CUDA where there is one, by default.

    Raises:
        UserError: there is no such world, preset or device.
    """
    if frames < 2:
        raise UserError(f"frames must be at least 2, got {frames}")
    place = select_device(device)
    loaded, config = load(world, place)
    sampler = adjust(loaded.config.sampler, steps, None)
    played = prepare_for_inference(loaded, engine)
    figures: dict[str, Any] = {"world": world, **play(played, sampler, frames, _say)}
    figures["play"]["engine"] = choose(loaded, engine)
    if long:
        figures["long"] = play_long(played, sampler, _say)
    if train:
        figures |= training(loaded, config, compile, _say)
    figures["peak_memory_mb"] = round(peak_memory_mb(place), 1)
    figures["machine"] = machine(place)
    print(dumps(figures) if json else format_figures(figures))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def load(name: str, device: torch.device) -> tuple[World, TrainConfig]:
    """The world, and how it is trained: as its preset or run says, or else in batches of `PRESET_BATCH`.

    Raises:
        UserError: there is no such world or preset.
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
    if run.is_file() and run.with_name("dataset.txt").is_file():  # else some other program's
        return world, dataclasses.replace(load_yaml(TrainConfig, run), world=world.config)
    stage = StageConfig(batch=PRESET_BATCH)
    return world, TrainConfig(world=world.config, tokenizer=stage, dynamics=stage)


# -------------------------------------------------------------------------------------------------------------- play


def play(world: World, sampler: Any, frames: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Plays with changing actions, once the window is full, and times each frame from action to pixels.

    Returns:
        `play_fps`: frames a second at the median frame (`p50`) and at the slow tail (`p95`: 95 of 100 frames are at
        least as fast); `ms`: median milliseconds to encode a prompt frame, for the dynamics and for the decoder.
    """
    warmup = world.config.context_frames + 4
    say(f"playing {warmup} + {frames} frames at {sampler.steps} MaskGIT steps")
    session = Session(world, _noise(world, 1)[0], sampler=sampler)
    for i in range(warmup):
        session.step(i % world.num_actions)
    seconds, parts = [], []
    for i in tqdm(range(frames), unit=" frames", leave=False, disable=not sys.stderr.isatty()):
        started = time.perf_counter()
        session.step(i % world.num_actions)
        seconds.append(time.perf_counter() - started)
        parts.append(session.timings)
    encode = [_timed(lambda: world.encode(_noise(world, 1)), world.device) for _ in range(12)][2:]
    tail = sorted(seconds)[min(len(seconds) - 1, int(0.95 * len(seconds)))]
    return {
        "play_fps": {"p50": round(1 / statistics.median(seconds), 2), "p95": round(1 / tail, 2)},
        "ms": {
            "encode": round(1e3 * statistics.median(encode), 2),
            "dynamics": round(statistics.median(p["dynamics"] for p in parts), 2),
            "decode": round(statistics.median(p["decode"] for p in parts), 2),
        },
        "play": {
            "frames": frames,
            "maskgit_steps": sampler.steps,
            "temperature": sampler.temperature,
            "tokens_per_frame": world.config.tokens_per_frame,
            "peak_memory_mb": round(peak_memory_mb(world.device), 1),
        },
    }


def play_long(world: World, sampler: Any, say: Callable[[str], None]) -> dict[str, Any]:
    """Plays `LONG` frames: whether memory grows, and whether late frames cost more than early ones.

    In the end a second game is begun and brought to frame `EARLY`; then both take `NEAR` steps in turn, so that whatever
    else the machine does falls on both alike.

    Returns:
        `peak_memory_mb` by frame; `late_over_early`: median time of a step of the long game over that of the young one.
    """
    say(f"playing {LONG:,} frames")
    old = Session(world, _noise(world, 1)[0], sampler=sampler)
    memory = {}
    for i in tqdm(range(1, LONG), unit=" frames", leave=False, disable=not sys.stderr.isatty()):
        old.step(i % world.num_actions)
        if i + 1 in (LONG // 20, LONG // 4, LONG // 2, LONG):
            memory[str(i + 1)] = round(peak_memory_mb(world.device), 1)
            say(f"  frame {i + 1:,}: {memory[str(i + 1)]} MB")
    young = Session(world, _noise(world, 1)[0], sampler=sampler)
    for i in range(1, EARLY):
        young.step(i % world.num_actions)
    late, early = [], []
    for i in range(NEAR):
        late.append(_timed(partial(old.step, i % world.num_actions), world.device))
        early.append(_timed(partial(young.step, i % world.num_actions), world.device))
    ratio = statistics.median(late) / statistics.median(early)
    return {"frames": LONG, "late_over_early": round(ratio, 3), "peak_memory_mb": memory}


def _noise(world: World, frames: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    size = (1, frames, world.config.height, world.config.width, 3)
    return torch.randint(256, size, generator=generator, dtype=torch.uint8)


def _timed(work: Callable[[], Any], device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# ------------------------------------------------------------------------------------------------------------- train


def training(
    world: World,
    config: TrainConfig,
    compile: Compile,
    say: Callable[[str], None],
    parts: Sequence[str] = ("dynamics", "world", "tokenizer"),
) -> dict[str, Any]:
    """Times optimizer steps on random clips: dynamics alone, the world stage (LAM + dynamics), and the tokenizer.

    Tokens are given, as they are cached in training. A frame counts once, however many passes it takes.

    Args:
        world: what is trained; it is not changed.
        config: how.
        compile: `torch.compile` per block.
        say: is told what is under way.
        parts: which of the three, `dynamics` among them.

    Returns:
        `train_fps`: frames a second of the dynamics alone; `train`: for each part frames a second, milliseconds
        a step, FLOPs a frame and, on a GPU that is known, the share of its bf16 peak.
    """
    results = {}
    for name in parts:
        stage = config.tokenizer if name == "tokenizer" else config.dynamics
        batch = stage.batch // stage.grad_accum_steps
        say(f"training {name}: batches of {batch} x {config.world.context_frames} frames")
        module = _trained(world, name)
        flops = count_flops(module, name, config, world.device)
        compile_blocks(module, world.device, compile)
        results[name] = _train_stage(name, module, config, stage, batch, world.device)
        results[name] |= _share_of_peak(flops, results[name]["fps"], world.device)
        del module
    return {"train_fps": results["dynamics"]["fps"], "train": results}


def _trained(world: World, name: str) -> nn.Module:
    """A copy of what a stage trains; a world without its latent action model gets one of random weights."""
    if name == "tokenizer":
        return copy.deepcopy(world.tokenizer).train()
    parts: dict[str, nn.Module] = {"dynamics": copy.deepcopy(world.dynamics)}
    if name == "world" and world.latent_action is not None:
        parts["latent_action"] = copy.deepcopy(world.latent_action)
    elif name == "world":
        parts["latent_action"] = LatentActionModel(world.config).to(world.device)
    return nn.ModuleDict(parts).train().requires_grad_(True)


def _loss(name: str, module: Any, video: Tensor, tokens: Tensor, vectors: Tensor) -> Tensor:
    """The loss of a stage of `djinn.train.stages`, without its figures."""
    if name == "tokenizer":
        out = module(video)
        return F.mse_loss(out.reconstruction.float(), video) + out.loss
    masks = module["dynamics"].draw_masks(tokens.shape)
    if name == "dynamics":
        return module["dynamics"].loss(tokens, vectors, masks)[0]
    model = module["latent_action"]
    clip = tokens if model.reads_tokens else video
    out = model(clip)
    return (
        model.error(out.prediction, clip) + out.loss + module["dynamics"].loss(tokens, out.vectors.detach(), masks)[0]
    )


def _inputs(config: TrainConfig, batch: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    sizes = config.world
    video = torch.rand(batch, sizes.context_frames, sizes.height, sizes.width, 3, device=device)
    codes = sizes.tokenizer.quantizer.codes
    tokens = torch.randint(codes, (batch, sizes.context_frames, sizes.tokens_per_frame), device=device)
    vectors = torch.randn(batch, sizes.context_frames - 1, sizes.latent_action.quantizer.dim, device=device)
    return video, tokens, vectors


def _train_stage(
    name: str, module: nn.Module, config: TrainConfig, stage: StageConfig, batch: int, device: torch.device
) -> dict[str, Any]:
    optimizer = build_optimizer(module, stage)
    inputs = _inputs(config, batch, device)

    def step() -> None:
        with autocast(device, config.precision):
            loss = _loss(name, module, *inputs)
        loss.backward()
        if stage.grad_clip > 0:
            nn.utils.clip_grad_norm_(module.parameters(), stage.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(WARMUP_STEPS):
        step()
    seconds: list[float] = []
    while sum(seconds) < LEAST_SECONDS or len(seconds) < LEAST_STEPS:
        seconds.append(_timed(step, device))
    middle = statistics.median(seconds)
    return {
        "fps": round(batch * config.world.context_frames / middle, 1),
        "ms_per_step": round(1e3 * middle, 1),
        "batch": batch,
        "frames": config.world.context_frames,
        "masking": None if name == "tokenizer" else config.world.dynamics.masking,
    }


def count_flops(module: nn.Module, name: str, config: TrainConfig, device: torch.device) -> float:
    """FLOPs of a training step for each frame, forward and backward, counted in a real step on one clip.

    Matrix products and attention are counted; attention in full, also where its mask is causal.

    Args:
        module: what stage `name` trains, not compiled.
        name: `tokenizer`, `dynamics` or `world`.
        config: its sizes.
        device: where it is.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        _loss(name, module, *_inputs(config, 1, device)).backward()
    module.zero_grad(set_to_none=True)
    return counter.get_total_flops() / config.world.context_frames


def _share_of_peak(flops: float, fps: float, device: torch.device) -> dict[str, Any]:
    figures: dict[str, Any] = {"gflops_per_frame": round(flops / 1e9, 3), "tflops": round(flops * fps / 1e12, 3)}
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        peak = next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)
        figures["share_of_bf16_peak"] = None if peak is None else round(flops * fps / (peak * 1e12), 4)
    return figures


# ------------------------------------------------------------------------------------------------------------ report


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were taken on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = models[0] if models else cpu
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": cpu,
        "cores": cores,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


_ENGINES = {"torch": "torch", "onnx": "ONNX Runtime", "int8": "ONNX Runtime with int8 products in the dynamics"}


def format_figures(figures: dict[str, Any]) -> str:
    """The figures in lines for people."""
    play_fps, ms, plays, host = figures["play_fps"], figures["ms"], figures["play"], figures["machine"]
    lines = [
        f"world      {figures['world']}: {plays['tokens_per_frame']} tokens a frame, "
        f"{plays['maskgit_steps']} MaskGIT steps",
        f"machine    {host['gpu'] or host['cpu']}, {host['cores']} cores, {host['threads']} threads, "
        f"torch {host['torch']} (load {host['load']})",
        f"play       {play_fps['p50']} frames/s (median), {play_fps['p95']} (slowest 5 %)"
        f", by {_ENGINES[plays['engine']]}",
        f"a frame    {ms['dynamics']} ms dynamics, {ms['decode']} ms decode; a prompt frame {ms['encode']} ms encode",
    ]
    for name, part in figures.get("train", {}).items():
        share = part.get("share_of_bf16_peak")
        peak = f", {100 * share:.1f} % of the bf16 peak" if share is not None else ""
        what = "latent actions + dynamics" if name == "world" else name
        lines.append(
            f"train      {what}: {part['fps']} frames/s "
            f"({part['batch']} x {part['frames']} in {part['ms_per_step']} ms, {part['tflops']:.3g} TFLOP/s{peak})"
        )
    if "long" in figures:
        long = figures["long"]
        grown = ", ".join(f"{mb:,} MB at {frame}" for frame, mb in long["peak_memory_mb"].items())
        lines.append(f"long       frame {LONG:,} takes {long['late_over_early']} x frame {EARLY}; peak memory {grown}")
    lines.append(f"memory     {figures['peak_memory_mb']:,} MB at most ({plays['peak_memory_mb']:,} MB to play)")
    return "\n".join(lines)
