"""Records of `coinrun.py` on its runs: machine, training time, and a row of metrics per run."""

from __future__ import annotations

import csv
import datetime
import io
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from study_report import write_text

from djinn.config import TrainConfig
from djinn.errors import UserError

COLUMNS = (
    "date",
    "preset",
    "mode",
    "policy",
    "budget",
    "device",
    "frames",
    "clips",
    "horizon",
    "tokenizer_psnr",
    "rollout_psnr",
    "rollout_ssim",
    "delta4",
    "delta4_low",
    "delta4_high",
    "codes_used",
    "best_mapping_changed",
    "commit",
)
"""Columns of results.csv."""
TRAINED_ON = "trained_on.json"


def is_trained(run: Path, stage: str, config: TrainConfig) -> bool:
    """Return whether a stage of a run has reached its limit of steps or minutes.

    Raises:
        UserError: Its checkpoint is damaged.
    """
    import torch

    from djinn.train.checkpointer import checkpoint_path, load_checkpoint
    from djinn.train.schedule import progress

    path = checkpoint_path(run, stage)
    if not path.exists():
        return False
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # tensors stay on disk
        step, seconds = state["step"], state["seconds"]
    except Exception:
        load_checkpoint(path, stage)  # raises an error with the reason
        raise
    return progress(config.dynamics if stage == "dynamics" else config.tokenizer, step, seconds) >= 1


def record_machine(run: Path, stage: str, device: str) -> None:
    """Record in `trained_on.json` that a stage is trained on this machine."""
    import torch

    from djinn.benchmark.machine import describe_machine

    host = describe_machine(torch.device(device))
    name = host["gpu"] or f"{host['threads']} thread(s) of {host['cores']} cores, {host['cpu']}"
    machines = trained_on(run)
    if name not in machines.setdefault(stage, []):
        machines[stage].append(name)
        write_text(run.parent / TRAINED_ON, json.dumps(machines, indent=1) + "\n")


def trained_on(run: Path) -> dict[str, list[str]]:
    """Return the recorded machines of each stage of a run."""
    path = run.parent / TRAINED_ON
    return json.loads(path.read_text()) if path.is_file() else {}


def trained_minutes(run: Path) -> dict[str, float]:
    """Return the training minutes of each stage of a run, without pauses."""
    from djinn.train.loggers import read_metrics

    return {r["stage"]: round(r["seconds"] / 60, 2) for r in read_metrics(run) if "seconds" in r}


def result_row(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of results.csv for the contents of results.json."""
    recipe, protocol, config = metrics["recipe"], metrics["protocol"], metrics["recipe"]["config"]
    machines = {name: None for names in recipe["trained_on"].values() for name in names}
    low, high = metrics["delta_psnr_interval"]["4"]
    steps = f"{config['tokenizer']['steps']} + {config['dynamics']['steps']} steps"
    table = metrics["code_table"]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **{key: recipe[key] for key in ("preset", "mode", "policy", "frames")},
        "budget": steps if recipe["smoke"] or recipe["budget"] is None else f"{recipe['budget']:g} minutes",
        "device": " + ".join(machines) or protocol["device"],
        "clips": protocol["clips"],
        "horizon": protocol["horizon"],
        "tokenizer_psnr": f"{metrics['tokenizer_psnr']:.2f}",
        "rollout_psnr": f"{metrics['rollout_psnr']:.2f}",
        "rollout_ssim": f"{metrics['rollout_ssim']:.3f}",
        "delta4": f"{metrics['delta_psnr']['4']:.2f}",
        "delta4_low": f"{low:.2f}",
        "delta4_high": f"{high:.2f}",
        "codes_used": metrics["action_usage"]["num_used"],
        "best_mapping_changed": "" if table is None else f"{table['changed']['accuracy']:.3f}",
        "commit": commit() or "",
    }


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row to a CSV file atomically.

    Raises:
        UserError: The file has other columns.
    """
    rows: list[Mapping[str, Any]] = []
    if path.is_file():
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise UserError(f"{path} has other columns: move it away to start a new one")
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*rows, row])
    write_text(path, text.getvalue())


def commit() -> str | None:
    """Return the commit of this checkout, with `-dirty` after changes; None without git."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        result = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None
