"""Speed of play: frames per second from action to pixels, and the cost of late frames."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from djinn.benchmark.machine import timed
from djinn.config import SamplerConfig
from djinn.generate.backend import Backend
from djinn.generate.session import Session
from djinn.models.world import World
from djinn.train.memory import peak_memory_mb

LONG = 2_000
"""Frames of the long session of `play_long`."""
EARLY, COMPARED = 20, 50
"""`play_long` compares the median time of `COMPARED` steps after frames `LONG` and `EARLY`."""


def play(backend: Backend, sampler: SamplerConfig, frames: int, log: Callable[[str], None]) -> dict[str, Any]:
    """Time each frame of a session with changing actions, once the context window is full.

    Args:
        backend: Engine that computes the frames.
        sampler: Sampling settings.
        frames: Frames to time.
        log: Called with a line about the progress.

    Returns:
        `play_fps`: frames per second at the median (`p50`) and at the slow tail (`p95`: 95 % of the
        frames are at least as fast). `ms`: median milliseconds to encode a prompt frame, of the
        dynamics and of the decoder. `play`: settings and peak memory.
    """
    world = backend.world
    warmup = world.config.context_frames + 4
    log(f"playing {warmup} + {frames} frames at {sampler.steps} MaskGIT steps")
    session = Session(world, _noise(world, 1)[0], backend=backend, sampler=sampler)
    for i in range(warmup):
        session.step(i % world.num_actions)
    seconds, parts = [], []
    for i in tqdm(range(frames), unit=" frames", leave=False, disable=not sys.stderr.isatty()):
        started = time.perf_counter()
        session.step(i % world.num_actions)
        seconds.append(time.perf_counter() - started)
        parts.append(session.timings)
    encode = [timed(lambda: world.encode(_noise(world, 1)), world.device) for _ in range(12)][2:]
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


def play_long(backend: Backend, sampler: SamplerConfig, log: Callable[[str], None]) -> dict[str, Any]:
    """Play `LONG` frames and test that memory and time per frame do not grow.

    Afterwards a second session is played to frame `EARLY`, and both take `COMPARED` steps
    alternately, so that the load of the machine affects both equally.

    Args:
        backend: Engine that computes the frames.
        sampler: Sampling settings.
        log: Called with a line about the progress.

    Returns:
        `peak_memory_mb` by frame, and `late_over_early`: the median time per step of the long
        session divided by that of the short one.
    """
    world = backend.world
    log(f"playing {LONG:,} frames")
    late = Session(world, _noise(world, 1)[0], backend=backend, sampler=sampler)
    memory = {}
    for i in tqdm(range(1, LONG), unit=" frames", leave=False, disable=not sys.stderr.isatty()):
        late.step(i % world.num_actions)
        if i + 1 in (LONG // 20, LONG // 4, LONG // 2, LONG):
            memory[str(i + 1)] = round(peak_memory_mb(world.device), 1)
            log(f"  frame {i + 1:,}: {memory[str(i + 1)]} MB")
    early = Session(world, _noise(world, 1)[0], backend=backend, sampler=sampler)
    for i in range(1, EARLY):
        early.step(i % world.num_actions)
    late_seconds, early_seconds = [], []
    for i in range(COMPARED):
        late_seconds.append(timed(partial(late.step, i % world.num_actions), world.device))
        early_seconds.append(timed(partial(early.step, i % world.num_actions), world.device))
    ratio = statistics.median(late_seconds) / statistics.median(early_seconds)
    return {"frames": LONG, "late_over_early": round(ratio, 3), "peak_memory_mb": memory}


def _noise(world: World, frames: int) -> UInt8[Tensor, "1 t h w 3"]:
    generator = torch.Generator().manual_seed(0)
    size = (1, frames, world.config.height, world.config.width, 3)
    return torch.randint(256, size, generator=generator, dtype=torch.uint8)
