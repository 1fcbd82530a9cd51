"""Parameters of a run's tokenizer and the memory of training it, for Table 3.

    python recipes/tokenizer_memory.py RUN/config.yaml --device cpu

Takes a few optimizer steps on random clips of the config's size and batch. On a GPU the result is
the peak of the allocated memory. On a CPU it is the growth of the process at its peak since before
the model was built, so it needs a process of its own. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import torch
import torch.nn.functional as F

from djinn.config import TrainConfig
from djinn.config.yaml import load_yaml
from djinn.models import VideoTokenizer
from djinn.train.memory import peak_memory_mb
from djinn.train.optimizer import build_optimizer
from djinn.train.precision import autocast

STEPS = 3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="config.yaml of a run")
    parser.add_argument("--device", help="cpu or cuda; by default cuda if available")
    args = parser.parse_args()
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    print(json.dumps(measure(load_yaml(TrainConfig, args.config), device)))


def measure(config: TrainConfig, device: torch.device) -> dict[str, float]:
    """Train a tokenizer for a few steps.

    Args:
        config: Sizes, batch and precision.
        device: Device to train on.

    Returns:
        `tokenizer_parameters_m` (millions) and `tokenizer_memory_mb` (MiB).
    """
    short = dataclasses.replace(config, world=dataclasses.replace(config.world, context_frames=2))
    train(short, 1, device)  # excludes what torch loads at the first step
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before = 0.0 if device.type == "cuda" else resident_mb("VmRSS")
    parameters = train(config, config.tokenizer.batch // config.tokenizer.grad_accum_steps, device)
    peak = peak_memory_mb(device) if device.type == "cuda" else resident_mb("VmHWM")
    return {"tokenizer_parameters_m": parameters / 1e6, "tokenizer_memory_mb": peak - before}


def train(config: TrainConfig, clips: int, device: torch.device) -> int:
    """Take `STEPS` optimizer steps on random clips and return the number of parameters."""
    sizes = config.world
    video = torch.rand(clips, sizes.context_frames, sizes.height, sizes.width, 3, device=device)
    tokenizer = VideoTokenizer(sizes).to(device).train()
    optimizer = build_optimizer(tokenizer, config.tokenizer)
    for _ in range(STEPS):
        with autocast(device, config.precision):
            out = tokenizer(video)
            loss = F.mse_loss(out.reconstruction.float(), video) + out.loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return sum(p.numel() for p in tokenizer.parameters())


def resident_mb(key: str) -> float:
    """Return the memory of this process in MiB: `VmRSS` is the current value, `VmHWM` the peak.

    On Linux both are read from `/proc`, because `getrusage` inherits the peak of the parent.
    Elsewhere both are the peak of `getrusage`.
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        return peak_memory_mb(torch.device("cpu"))
    line = next(line for line in status.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
