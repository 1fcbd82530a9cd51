"""`djinn eval`."""

from __future__ import annotations

import dataclasses
from json import dumps
from pathlib import Path
from typing import Any

from djinn.data.dataset import Dataset
from djinn.errors import UserError
from djinn.evaluate.report import evaluate, print_report
from djinn.models.world import World


def run(
    world: str,
    dataset: Path,
    *,
    json: Path | None = None,
    report: Path | None = None,
    split: str = "test",
    clips: int = 64,
    horizon: int = 7,
    prompt_frames: int = 1,
    steps: int | None = None,
    temperature: float | None = None,
    seed: int = 0,
    batch: int = 16,
    device: str | None = None,
) -> dict[str, Any]:
    """Measures a world on held-out clips: how good its frames are, and whether its actions act.

    Args:
        world: a world folder, a run folder, or the name of a shipped world.
        dataset: a data set whose frames have the world's size.
        json: write all figures to this file.
        report: write the figures and a picture of some roll-outs into this folder.
        split: part of the data set: train, val or test.
        clips: how many clips to play.
        horizon: how many frames to generate from each prompt.
        prompt_frames: how many real frames to start from.
        steps: MaskGIT steps for each frame; the world's own setting by default.
        temperature: of the token draw, 0 for the most likely token; the world's own setting by default.
        seed: of everything random.
        batch: how many clips to play at once.
        device: cpu or cuda; cuda where there is one, by default.

    Returns:
        The figures, as `djinn.evaluate.report.evaluate` gives them.

    Raises:
        UserError: world or data set are missing or do not match, or a file cannot be written.
    """
    for folder in (json.parent if json else None, report):  # before the long part, not after it
        if folder is not None:
            _make(folder)
    data = Dataset.open(dataset)
    loaded = World.from_pretrained(world, device)
    sampler = loaded.config.sampler
    if steps is not None:
        sampler = dataclasses.replace(sampler, steps=steps)
    if temperature is not None:
        sampler = dataclasses.replace(sampler, temperature=temperature)
    figures = evaluate(
        loaded,
        data,
        split=split,
        clips=clips,
        horizon=horizon,
        prompt_frames=prompt_frames,
        sampler=sampler,
        seed=seed,
        batch=batch,
        picture=None if report is None else report / "rollouts.png",
    )
    figures["protocol"]["world"] = str(world)
    print_report(figures)
    if json is not None:
        _write(json, figures)
    if report is not None:
        _write(report / "results.json", figures)
        print(f"\nwrote {report / 'results.json'} and {report / 'rollouts.png'}")
    return figures


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror or error}") from None


def _write(path: Path, figures: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(dumps(figures, indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
