"""Says which speed targets hold on this machine: `python benchmarks/targets.py`, on two otherwise idle cores.

It takes over five minutes, nearly all of them for the 2,000 frames; each row is printed as soon as it is known.
"""

from __future__ import annotations

import sys

import torch

from djinn import benchmark as bench
from djinn.backends.select import prepare_for_inference
from djinn.malloc import keep_freed_memory

GROWTH_MB = 10.0
"""Memory may grow by so little from frame 500 to frame 2,000 and still be called flat."""


def main() -> None:
    """Measures what `djinn bench preset:bench --long` does, training of the dynamics only, and compares."""
    keep_freed_memory()
    place = torch.device("cpu")
    host = bench.machine(place)
    print(f"{host['cpu']}, {host['cores']} cores, load {host['load']}, torch {host['torch']}", flush=True)
    world, config = bench.load("preset:bench", place)
    played, sampler = prepare_for_inference(world), world.config.sampler

    median = bench.play(played, sampler, 60, _say)["play_fps"]["p50"]
    _row("play, frames/s (median)", median, "at least 10", median >= 10)
    long = bench.play_long(played, sampler, _say)
    late = long["late_over_early"]
    _row(f"frame {bench.LONG:,} / frame {bench.EARLY}", late, "at most 1.05", late <= 1.05)
    quarter, whole = bench.LONG // 4, bench.LONG
    growth = round(long["peak_memory_mb"][str(whole)] - long["peak_memory_mb"][str(quarter)], 1)
    _row(f"memory, frame {quarter:,} to {whole:,}, MB", growth, f"at most {GROWTH_MB:g}", growth <= GROWTH_MB)
    # last, since the peak of memory that training leaves would hide what play takes
    trained = bench.training(world, config, "auto", _say, ["dynamics"])["train_fps"]
    _row("training the dynamics, frames/s", trained, "at least 45", trained >= 45)


def _row(name: str, value: float, target: str, holds: bool) -> None:
    print(f"{'ok  ' if holds else 'MISS'}  {name:<34}{value:>10}   {target}", flush=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
