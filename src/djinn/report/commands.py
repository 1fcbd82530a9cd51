"""`djinn eval` and `djinn diagnose`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from djinn.atomic import check_writable_file, check_writable_folder
from djinn.config import adjust
from djinn.data.dataset import Dataset
from djinn.diagnose.verdict import diagnose, format_diagnosis
from djinn.evaluate.clips import pick_split
from djinn.models.device import select_device
from djinn.models.world import World
from djinn.report.evaluation import evaluate, write_json
from djinn.report.text_report import print_report


def run(
    world: str,
    dataset: Path,
    *,
    json: Path | None = None,
    report: Path | None = None,
    split: str | None = None,
    clips: int = 64,
    horizon: int = 7,
    prompt_frames: int = 1,
    steps: int | None = None,
    temperature: float | None = None,
    seed: int = 0,
    batch: int = 16,
    drift_frames: int | None = None,
    long: int | None = None,
    shown: int | None = None,
    fvd_detector: str | None = None,
    random_frechet: bool = False,
    device: str | None = None,
) -> dict[str, Any]:
    """Measures a world on held-out clips: how good its frames are, and whether its actions act.

    Args:
        world: a world folder, a run folder, or the name of a shipped world.
        dataset: a data set whose frames have the world's size.
        json: write all figures to this file.
        report: write report.html, results.json and rollouts.png into this folder.
        split: part of the data set: train, val or test; test by default, and val where there is no test.
        clips: how many clips to play.
        horizon: how many frames to generate from each prompt.
        prompt_frames: how many real frames to start from.
        steps: MaskGIT steps for each frame; the world's own setting by default.
        temperature: of the token draw, 0 for the most likely token; the world's own setting by default.
        seed: of everything random.
        batch: how many clips to play at once.
        drift_frames: how long the games are in which drift is measured; with a report 200 by default, else none.
        long: also play N frames (for instance 100) from as many prompts as episodes allow, with the actions inferred from
            the true video, and give PSNR and SSIM at frames 1, 10, 25, 50 and so on, and at the last one.
        shown: how many clips the report shows: the first ones drawn, from different levels or videos, spread_over_sources;
            `djinn.report.evaluation.SHOWN` by default.
        fvd_detector: network for FVD: a TorchScript file or `module:callable`.
        random_frechet: also give the distance of a random network, which is not FVD.
        device: cpu or cuda; cuda where there is one, by default.

    Returns:
        The figures, as `djinn.report.evaluation.evaluate` gives them.

    Raises:
        UserError: world or data set are missing or do not match, a file cannot be written, or `shown` is given without
            `report`.
    """
    place = select_device(device)
    if json is not None:
        check_writable_file(json)
    if report is not None:
        check_writable_folder(report)
    data = Dataset.open(dataset)
    loaded = World.from_pretrained(world, place)
    figures = evaluate(
        loaded,
        data,
        split=pick_split(data, split),
        clips=clips,
        horizon=horizon,
        prompt_frames=prompt_frames,
        sampler=adjust(loaded.config.sampler, steps, temperature),
        seed=seed,
        batch=batch,
        drift_frames=drift_frames,
        long=long,
        shown=shown,
        fvd_detector=fvd_detector,
        random_frechet=random_frechet,
        report=report,
        name=world,
    )
    print_report(figures)
    if json is not None:
        write_json(json, figures)
    if report is not None:
        print(f"\nwrote {report / 'report.html'}, results.json and rollouts.png beside it")
    return figures


def run_diagnose(
    world: str,
    dataset: Path,
    *,
    json: Path | None = None,
    split: str | None = None,
    clips: int = 64,
    seed: int = 0,
    batch: int = 16,
    device: str | None = None,
) -> dict[str, Any]:
    """Says in one verdict what is wrong with a world, if anything is, and prints the evidence.

    Args:
        world: a world folder, a run folder, or the name of a shipped world.
        dataset: a data set whose frames have the world's size.
        json: write the diagnosis to this file.
        split: part of the data set: train, val or test; test by default, and val where there is no test.
        clips: how many clips to measure on.
        seed: of everything random.
        batch: how many clips to play at once.
        device: cpu or cuda; cuda where there is one, by default.

    Returns:
        The diagnosis, as `djinn.diagnose.verdict.diagnose` gives it.

    Raises:
        UserError: world or data set are missing or do not match, or the file cannot be written.
    """
    place = select_device(device)
    if json is not None:
        check_writable_file(json)
    data = Dataset.open(dataset)
    loaded = World.from_pretrained(world, place)
    diagnosis = diagnose(loaded, data, split=pick_split(data, split), clips=clips, seed=seed, batch=batch)
    diagnosis["protocol"]["world"] = world
    print(format_diagnosis(diagnosis))
    if json is not None:
        write_json(json, diagnosis)
    return diagnosis
