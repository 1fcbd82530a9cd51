"""Says which speed targets hold on this machine: `python benchmarks/targets.py`, on two otherwise idle cores."""

from __future__ import annotations

import json
import subprocess
import sys

GROWTH_MB = 10.0
"""Memory may grow by so little from frame 500 to frame 2,000 and still be called flat."""


def main() -> None:
    """Runs `djinn bench preset:bench --long` and compares."""
    command = [sys.executable, "-m", "djinn", "bench", "preset:bench", "--long", "--json"]
    figures = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
    memory = figures["long"]["peak_memory_mb"]
    growth = memory["2000"] - memory["500"]
    rows = [
        ("play, frames/s (median)", figures["play_fps"]["p50"], "at least 10", figures["play_fps"]["p50"] >= 10),
        ("training the dynamics, frames/s", figures["train_fps"], "at least 45", figures["train_fps"] >= 45),
        (
            "frame 1,000 / frame 20",
            figures["long"]["late_over_early"],
            "<= 1.05",
            figures["long"]["late_over_early"] <= 1.05,
        ),
        ("memory, frame 500 to 2,000, MB", round(growth, 1), f"at most {GROWTH_MB:g}", growth <= GROWTH_MB),
    ]
    host = figures["machine"]
    print(f"{host['cpu']}, {host['cores']} cores, load {host['load']}, torch {host['torch']}")
    for name, value, target, holds in rows:
        print(f"{'ok  ' if holds else 'MISS'}  {name:<34}{value:>10}   {target}")


if __name__ == "__main__":
    main()
