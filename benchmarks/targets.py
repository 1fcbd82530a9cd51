"""Test the speed targets of the project: `python benchmarks/targets.py`, on two idle cores.

Takes over five minutes, most of them for a session of 2,000 frames. Each row is printed as soon as
it is measured.
"""

from __future__ import annotations

import sys

import torch

from djinn.backends.select import select_backend
from djinn.benchmark import machine, play, run, training
from djinn.malloc import keep_freed_memory

MAX_GROWTH_MB = 10.0
"""Growth of memory from frame 500 to frame 2,000 that still counts as constant."""


def main() -> None:
    """Benchmark `preset:bench` and compare each result with its target."""
    keep_freed_memory()
    device = torch.device("cpu")
    host = machine.describe_machine(device)
    print(f"{host['cpu']}, {host['cores']} cores, load {host['load']}, torch {host['torch']}", flush=True)
    world, config = run.load("preset:bench", device)
    backend, sampler = select_backend(world), world.config.sampler

    median = play.play(backend, sampler, 60, _log)["play_fps"]["p50"]
    _print_row("play, frames/s (median)", median, "at least 10", median >= 10)
    long = play.play_long(backend, sampler, _log)
    ratio = long["late_over_early"]
    _print_row(f"frame {play.LONG:,} / frame {play.EARLY}", ratio, "at most 1.05", ratio <= 1.05)
    quarter, end = play.LONG // 4, play.LONG
    growth = round(long["peak_memory_mb"][str(end)] - long["peak_memory_mb"][str(quarter)], 1)
    target = f"at most {MAX_GROWTH_MB:g}"
    _print_row(f"memory, frame {quarter:,} to {end:,}, MB", growth, target, growth <= MAX_GROWTH_MB)
    # training comes last: its peak of memory would hide that of play
    fps = training.benchmark_training(world, config, "auto", _log, ["dynamics"])["train_fps"]
    _print_row("training the dynamics, frames/s", fps, "at least 45", fps >= 45)


def _print_row(name: str, value: float, target: str, reached: bool) -> None:
    print(f"{'ok  ' if reached else 'MISS'}  {name:<34}{value:>10}   {target}", flush=True)


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
