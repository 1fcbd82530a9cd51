"""Speed of training: frames per second of an optimizer step, FLOPs and share of a GPU's peak."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from djinn.benchmark.machine import timed
from djinn.config import StageConfig, TrainConfig
from djinn.models.latent_action import LatentActionModel
from djinn.models.world import World
from djinn.train.optimizer import build_optimizer
from djinn.train.precision import autocast, compile_blocks

Compile = Literal["auto", "on", "off"]
Part = Literal["dynamics", "dynamics_stage", "tokenizer"]
"""What is trained: the dynamics model alone, the dynamics stage (with the latent action model), or
the tokenizer."""
PARTS: tuple[Part, ...] = ("dynamics", "dynamics_stage", "tokenizer")
MIN_SECONDS, MIN_STEPS, WARMUP_STEPS = 3.0, 5, 3
"""Minimum seconds and steps for which each part is timed, and warm-up steps before."""

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
"""Dense bf16 peak of GPUs by a part of their name, from the data sheets."""


def benchmark_training(
    world: World,
    config: TrainConfig,
    compile: Compile,
    log: Callable[[str], None],
    parts: Sequence[Part] = PARTS,
) -> dict[str, Any]:
    """Time optimizer steps on random clips.

    Tokens are precomputed, as the token cache of training does. A frame counts once per step.

    Args:
        world: The world, which is not changed.
        config: Settings of training.
        compile: Use of `torch.compile` per block.
        log: Called with a line about the progress.
        parts: Parts to train, `dynamics` among them.

    Returns:
        `train_fps`: frames per second of the dynamics alone. `train`: for each part frames per
        second, milliseconds per step, FLOPs per frame and, on a known GPU, the share of its bf16
        peak.
    """
    results = {}
    for part in parts:
        stage = config.tokenizer if part == "tokenizer" else config.dynamics
        batch = stage.batch // stage.grad_accum_steps
        log(f"training {part}: batches of {batch} x {config.world.context_frames} frames")
        module = _trained_module(world, part)
        flops = count_flops(module, part, config, world.device)
        compile_blocks(module, world.device, compile)
        results[part] = _time_steps(part, module, config, stage, batch, world.device)
        results[part] |= _throughput(flops, results[part]["fps"], world.device)
        del module
    return {"train_fps": results["dynamics"]["fps"], "train": results}


def _trained_module(world: World, part: Part) -> nn.Module:
    """Copy the modules of a part; a missing latent action model gets random weights."""
    if part == "tokenizer":
        return copy.deepcopy(world.tokenizer).train()
    modules: dict[str, nn.Module] = {"dynamics": copy.deepcopy(world.dynamics)}
    if part == "dynamics_stage" and world.latent_action is not None:
        modules["latent_action"] = copy.deepcopy(world.latent_action)
    elif part == "dynamics_stage":
        modules["latent_action"] = LatentActionModel(world.config).to(world.device)
    return nn.ModuleDict(modules).train().requires_grad_(True)


def _loss(
    part: Part,
    module: Any,
    video: Float[Tensor, "b t h w 3"],
    tokens: Int[Tensor, "b t n"],
    vectors: Float[Tensor, "b t-1 d"],
) -> Float[Tensor, ""]:
    """Compute the loss that the stages of `djinn.train.stages` train with, without metrics."""
    if part == "tokenizer":
        out = module(video)
        return F.mse_loss(out.reconstruction.float(), video) + out.loss
    masks = module["dynamics"].draw_masks(tokens.shape)
    if part == "dynamics":
        return module["dynamics"].loss(tokens, vectors, masks)[0]
    model = module["latent_action"]
    clip = tokens if model.reads_tokens else video
    out = model(clip)
    dynamics = module["dynamics"].loss(tokens, out.vectors.detach(), masks)[0]
    return model.prediction_loss(out.prediction, clip) + out.loss + dynamics


def _random_inputs(config: TrainConfig, batch: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Draw random video, tokens and action vectors."""
    sizes = config.world
    video = torch.rand(batch, sizes.context_frames, sizes.height, sizes.width, 3, device=device)
    codes = sizes.tokenizer.quantizer.codes
    tokens = torch.randint(codes, (batch, sizes.context_frames, sizes.tokens_per_frame), device=device)
    vectors = torch.randn(batch, sizes.context_frames - 1, sizes.latent_action.quantizer.dim, device=device)
    return video, tokens, vectors


def _time_steps(
    part: Part, module: nn.Module, config: TrainConfig, stage: StageConfig, batch: int, device: torch.device
) -> dict[str, Any]:
    optimizer = build_optimizer(module, stage)
    inputs = _random_inputs(config, batch, device)

    def step() -> None:
        with autocast(device, config.precision):
            loss = _loss(part, module, *inputs)
        loss.backward()
        if stage.grad_clip > 0:
            nn.utils.clip_grad_norm_(module.parameters(), stage.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(WARMUP_STEPS):
        step()
    seconds: list[float] = []
    while sum(seconds) < MIN_SECONDS or len(seconds) < MIN_STEPS:
        seconds.append(timed(step, device))
    median = statistics.median(seconds)
    return {
        "fps": round(batch * config.world.context_frames / median, 1),
        "ms_per_step": round(1e3 * median, 1),
        "batch": batch,
        "frames": config.world.context_frames,
        "masking": None if part == "tokenizer" else config.world.dynamics.masking,
    }


def count_flops(module: nn.Module, part: Part, config: TrainConfig, device: torch.device) -> float:
    """Count the FLOPs per frame of a training step, forward and backward, on one clip.

    Matrix products and attention are counted; causal attention counts as full attention.

    Args:
        module: Module that `part` trains, not compiled.
        part: What is trained.
        config: Sizes of the world.
        device: Device of the module.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        _loss(part, module, *_random_inputs(config, 1, device)).backward()
    module.zero_grad(set_to_none=True)
    return counter.get_total_flops() / config.world.context_frames


def _throughput(flops: float, fps: float, device: torch.device) -> dict[str, Any]:
    """Return FLOPs per frame, TFLOP/s, and on a GPU the share of its bf16 peak."""
    metrics: dict[str, Any] = {"gflops_per_frame": round(flops / 1e9, 3), "tflops": round(flops * fps / 1e12, 3)}
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        peak = next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)
        metrics["share_of_bf16_peak"] = None if peak is None else round(flops * fps / (peak * 1e12), 4)
    return metrics
