"""What `coinrun.py` notes of its runs: where they were trained, for how long, and a row of figures for each."""

from __future__ import annotations

import csv
import datetime
import io
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from study_report import write

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
"""Of results.csv."""
TRAINED_ON = "trained_on.json"


def is_trained(run: Path, stage: str, config: TrainConfig) -> bool:
    """Whether a stage of a run has reached the end of its steps or minutes.

    Raises:
        UserError: its checkpoint is damaged.
    """
    import torch

    from djinn.train.checkpointer import checkpoint_path, load_checkpoint
    from djinn.train.schedule import progress

    path = checkpoint_path(run, stage)
    if not path.exists():
        return False
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # the tensors stay on the disk
        step, seconds = state["step"], state["seconds"]
    except Exception:
        load_checkpoint(path, stage)  # says what is wrong with it
        raise
    return progress(config.dynamics if stage == "world" else config.tokenizer, step, seconds) >= 1


def note_machine(run: Path, stage: str, device: str) -> None:
    """Notes in a run folder's `trained_on.json` that a stage is trained on this machine."""
    import torch

    from djinn.benchmark.machine import describe_machine

    host = describe_machine(torch.device(device))
    name = host["gpu"] or f"{host['threads']} thread(s) of {host['cores']} cores, {host['cpu']}"
    notes = trained_on(run)
    if name not in notes.setdefault(stage, []):
        notes[stage].append(name)
        run.parent.mkdir(parents=True, exist_ok=True)
        write(run.parent / TRAINED_ON, json.dumps(notes, indent=1) + "\n")


def trained_on(run: Path) -> dict[str, list[str]]:
    """The machines on which each stage of a run was trained, as far as they were noted."""
    path = run.parent / TRAINED_ON
    return json.loads(path.read_text()) if path.is_file() else {}


def trained_minutes(run: Path) -> dict[str, float]:
    """Minutes for which each stage of a run was trained, pauses not counted."""
    from djinn.train.loggers import read_metrics

    return {r["stage"]: round(r["seconds"] / 60, 2) for r in read_metrics(run) if "seconds" in r}


def row_of(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The row of results.csv for what `coinrun.py` writes to results.json."""
    recipe, protocol, config = figures["recipe"], figures["protocol"], figures["recipe"]["config"]
    machines = {name: None for names in recipe["trained_on"].values() for name in names}
    low, high = figures["delta_psnr_interval"]["4"]
    steps = f"{config['tokenizer']['steps']} + {config['dynamics']['steps']} steps"
    table = figures["code_table"]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **{key: recipe[key] for key in ("preset", "mode", "policy", "frames")},
        "budget": steps if recipe["smoke"] or recipe["budget"] is None else f"{recipe['budget']:g} minutes",
        "device": " + ".join(machines) or protocol["device"],
        "clips": protocol["clips"],
        "horizon": protocol["horizon"],
        "tokenizer_psnr": f"{figures['tokenizer_psnr']:.2f}",
        "rollout_psnr": f"{figures['rollout_psnr']:.2f}",
        "rollout_ssim": f"{figures['rollout_ssim']:.3f}",
        "delta4": f"{figures['delta_psnr']['4']:.2f}",
        "delta4_low": f"{low:.2f}",
        "delta4_high": f"{high:.2f}",
        "codes_used": figures["code_use"]["used"],
        "best_mapping_changed": "" if table is None else f"{table['changed']['accuracy']:.3f}",
        "commit": commit() or "",
    }


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Appends a row to a CSV file; the file is replaced, whole, or stays as it was.

    Raises:
        UserError: the file has other columns.
    """
    rows: list[Mapping[str, Any]] = []
    if path.is_file():
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise UserError(f"{path} has other columns: move it away, and a new one is begun")
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*rows, row])
    write(path, text.getvalue())


def commit() -> str | None:
    """The commit that this file belongs to, `-dirty` where it was changed since; None without git."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
