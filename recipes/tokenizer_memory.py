"""Parameters of a run's tokenizer, and the memory that training it takes. Table 3 starts it anew for each tokenizer.

    python recipes/tokenizer_memory.py RUN/config.yaml --device cpu

A few optimizer steps are taken on random clips of the config's size and batch. On a GPU it is the most that was
allocated; on a CPU what the process has grown at its peak since before the model was made, so that it has to be a process
of its own. One line of JSON goes to stdout.
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
from djinn.train.optimizer import build_optimizer
from djinn.train.precision import autocast
from djinn.train.trainer import peak_memory_mb

STEPS = 3


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="config.yaml of a run")
    parser.add_argument("--device", help="cpu or cuda; cuda where there is one by default")
    args = parser.parse_args()
    place = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    print(json.dumps(measure(load_yaml(TrainConfig, args.config), place)))


def measure(config: TrainConfig, device: torch.device) -> dict[str, float]:
    """Trains a tokenizer for a few steps.

    Args:
        config: sizes, batch and precision.
        device: where.

    Returns:
        `tokenizer_parameters_m` (millions) and `tokenizer_memory_mb` (MiB).
    """
    short = dataclasses.replace(config, world=dataclasses.replace(config.world, context_frames=2))
    train(short, 1, device)  # what torch loads at the first step is not counted
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before = 0.0 if device.type == "cuda" else resident_mb("VmRSS")
    parameters = train(config, config.tokenizer.batch // config.tokenizer.grad_accum_steps, device)
    peak = peak_memory_mb(device) if device.type == "cuda" else resident_mb("VmHWM")
    return {"tokenizer_parameters_m": parameters / 1e6, "tokenizer_memory_mb": peak - before}


def train(config: TrainConfig, clips: int, device: torch.device) -> int:
    """Takes `STEPS` optimizer steps on random clips; returns the number of parameters."""
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
    """Memory of this process in MiB: `VmRSS` is now, `VmHWM` its peak.

    On Linux both come from the kernel's table, because the peak that `getrusage` gives there is also that of the process
    which started this one. Elsewhere it is the peak of `getrusage` for either key.
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        return peak_memory_mb(torch.device("cpu"))
    found = next(line for line in status.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(found.split()[1]) / 1024


if __name__ == "__main__":
    main()
