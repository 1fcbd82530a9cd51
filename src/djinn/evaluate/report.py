"""All figures of a world on a data set, with the protocol that made them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from djinn.config import SamplerConfig
from djinn.data.dataset import Dataset
from djinn.errors import UserError
from djinn.evaluate.clips import Errors, Sample, check_match, draw_clips, infer_actions, measuring, play_clips
from djinn.evaluate.controllability import Moves, code_table, code_use, delta_psnr
from djinn.evaluate.fidelity import MSE_FLOOR, psnr_of
from djinn.evaluate.picture import rollout_picture, save_png
from djinn.models.world import World

SHOWN = 4
"""Clips in the picture."""


def evaluate(
    world: World,
    dataset: Dataset,
    *,
    split: str = "test",
    clips: int = 64,
    horizon: int = 7,
    prompt_frames: int = 1,
    sampler: SamplerConfig | None = None,
    seed: int = 0,
    batch: int = 16,
    code_clips: int = 512,
    picture: Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Measures a world on held-out clips.

    Args:
        world: the world, with its latent action model.
        dataset: an open data set with frames of the world's size.
        split: which part of it.
        clips: clips to play.
        horizon: frames to generate from each prompt.
        prompt_frames: real frames at the start.
        sampler: how tokens are drawn; the world's own setting by default.
        seed: of the choice of clips, the random actions, the draws and the bootstrap.
        batch: clips played at once; it takes part in the draws.
        code_clips: clips whose latent actions are inferred for `code_use` and `code_table`.
        picture: where to save some clips and their roll-outs as a PNG; nowhere by default.
        progress: show a progress bar.

    Returns:
        Plain values, ready for JSON: `tokenizer_psnr`; `rollout_psnr` (inferred actions), `random_psnr` and
        `repeat_psnr` (the last prompt frame repeated), each with `mean` and `by_horizon`; `delta_psnr` by horizon
        ("1", "2", ...; the paper reports "4") with `mean`, `low` and `high`; `code_use`; `code_names`; `code_table`
        (None where true actions are not known); and `protocol`. PSNR and its differences are in dB.

    Raises:
        UserError: the split is missing or too short, sizes do not match, or the world cannot infer actions.
    """
    for name, value in (("clips", clips), ("horizon", horizon), ("prompt_frames", prompt_frames), ("batch", batch)):
        if value < 1:
            raise UserError(f"{name} must be at least 1, got {value}")
    check_match(world, dataset)
    sampler = sampler or world.config.sampler
    length = prompt_frames + horizon
    sample = draw_clips(dataset, split, clips, length, seed)
    for_codes = draw_clips(dataset, split, max(code_clips, 1), length, seed)
    random_actions = np.random.default_rng([seed, 1]).integers(world.num_actions, size=(len(sample), horizon))
    errors: list[Errors] = []
    progress_bar = tqdm(total=len(sample) + len(for_codes), desc="measuring", unit=" clips", disable=not progress)
    with measuring(world), progress_bar as bar:
        for i, indices in enumerate(sample.batches(batch)):
            drawn = random_actions[i * batch : i * batch + len(indices)]
            video = sample.clips.batch(indices)
            part, shown = play_clips(world, video, drawn, sampler=sampler, seed=seed + i)
            errors.append(part)
            if i == 0 and picture is not None:
                save_png(rollout_picture(shown, SHOWN), picture)
            bar.update(len(indices))
        codes = _codes_of(world, for_codes, batch, bar)
    protocol = {
        "dataset": str(dataset.path),
        "dataset_identity": dataset.identity,
        "split": split,
        "clips": len(sample),
        "clips_asked": clips,
        "code_clips": len(for_codes),
        "clip_frames": length,
        "prompt_frames": prompt_frames,
        "horizon": horizon,
        "sampler": asdict(sampler),
        "random_actions": "uniform over all codes, one draw a clip",
        "psnr": f"uint8 RGB, mean over frames of each frame's PSNR, squared error at least {MSE_FLOOR:.4f}",
        "seed": seed,
        "batch": batch,
        "device": str(world.device),
    }
    return {**_quality(errors, seed), **codes, "protocol": protocol}


def _codes_of(world: World, sample: Sample, batch: int, bar: tqdm) -> dict[str, Any]:
    """Use of the latent codes, and what they stand for where true actions are known."""
    codes, actions, changed = [], [], []
    for indices in sample.batches(batch):
        video = sample.clips.batch(indices)
        codes.append(infer_actions(world, video))
        changed.append((video[:, 1:] != video[:, :-1]).any(axis=(2, 3, 4)))
        actions.append(sample.clips.actions(indices))
        bar.update(len(indices))
    inferred, table = np.concatenate(codes), None
    if sample.clips.dataset.has_actions:
        taken = np.concatenate(actions)
        moves = Moves.of(sample.clips.dataset.about.get("action_names") or [], taken)
        table = asdict(code_table(inferred, moves(taken), np.concatenate(changed), moves.names, world.num_actions))
    use = asdict(code_use(inferred, world.num_actions))
    return {"code_use": use, "code_names": list(world.action_names), "code_table": table}


def _quality(errors: list[Errors], seed: int) -> dict[str, Any]:
    def gathered(name: str) -> np.ndarray:
        return psnr_of(np.concatenate([getattr(part, name) for part in errors]))

    def curve(values: np.ndarray) -> dict[str, Any]:
        return {"mean": float(values.mean()), "by_horizon": values.mean(0).tolist()}

    inferred, random, repeat = gathered("inferred"), gathered("random"), gathered("repeat")
    delta = delta_psnr(inferred, random, seed)
    return {
        "tokenizer_psnr": float(gathered("tokenizer").mean()),
        "rollout_psnr": curve(inferred),
        "random_psnr": curve(random),
        "repeat_psnr": curve(repeat),
        "delta_psnr": {str(t): asdict(interval) for t, interval in enumerate(delta, start=1)},
    }


def format_report(figures: dict[str, Any]) -> str:
    """Tables of what `evaluate` gives, for a person to read."""
    protocol, sampler = figures["protocol"], figures["protocol"]["sampler"]
    use = figures["code_use"]
    lines = [
        f"{protocol['clips']} clips of split '{protocol['split']}' of {protocol['dataset']} "
        f"({protocol['dataset_identity']}), {protocol['prompt_frames']} prompt frame(s) + {protocol['horizon']},",
        f"{sampler['steps']} MaskGIT steps, temperature {sampler['temperature']:g}, top-k {sampler['top_k'] or 'off'}, "
        f"noise {sampler['noise']:g}, seed {protocol['seed']}",
        "",
        f"tokenizer PSNR {figures['tokenizer_psnr']:.2f} dB",
        f"roll-out PSNR  {figures['rollout_psnr']['mean']:.2f} dB over {protocol['horizon']} frames",
        *_headline(figures["delta_psnr"]),
        "",
        *_curves(figures),
        "",
        f"latent actions: {use['used']} of {len(use['shares'])} codes in use (at least 2 %), entropy "
        f"{use['entropy_bits']:.2f} bits, {use['transitions']} transitions",
        "",
        *_codes(figures),
    ]
    return "\n".join(lines)


def print_report(figures: dict[str, Any]) -> None:
    """Prints what `evaluate` gives as tables."""
    print(format_report(figures))


def _headline(delta: dict[str, dict[str, float]]) -> list[str]:
    key = "4" if "4" in delta else max(delta, key=int)
    d = delta[key]
    return [f"delta-{key} PSNR   {d['mean']:.2f} dB (95 % interval {d['low']:.2f} to {d['high']:.2f})"]


def _curves(figures: dict[str, Any]) -> list[str]:
    head = ["frame", "inferred", "random", "delta", "95 % interval", "repeat"]
    rows = []
    for i, (t, d) in enumerate(figures["delta_psnr"].items()):
        inferred, random, repeat = (figures[f"{k}_psnr"]["by_horizon"][i] for k in ("rollout", "random", "repeat"))
        interval = f"{d['low']:.2f} to {d['high']:.2f}"
        rows.append([t, f"{inferred:.2f}", f"{random:.2f}", f"{d['mean']:.2f}", interval, f"{repeat:.2f}"])
    return _aligned([head, *rows])


def _codes(figures: dict[str, Any]) -> list[str]:
    shares, names, table = figures["code_use"]["shares"], figures["code_names"], figures["code_table"]
    if table is None:
        rows = [[str(i), names[i], f"{100 * share:.1f} %"] for i, share in enumerate(shares)]
        return _aligned([["code", "name", "share"], *rows])
    seen = [j for j in range(len(table["moves"])) if any(row[j] for row in table["counts"])]
    rows = []
    for i, (share, counts) in enumerate(zip(shares, table["counts"], strict=True)):
        cells = [f"{100 * counts[j] / max(sum(counts), 1):.0f}" for j in seen]
        rows.append([str(i), f"{100 * share:.1f} %", *cells, table["reading"][i]])
    head = ["code", "share", *(table["moves"][j] for j in seen), "mostly"]
    lines = ["true moves of each code, in percent of its transitions", *_aligned([head, *rows])]
    for label, key in (("all transitions", "overall"), ("those whose pixels change", "changed")):
        a = table[key]
        lines.append(
            f"{label} ({a['transitions']}): codes tell {a['mutual_information_bits']:.2f} of "
            f"{a['move_entropy_bits']:.2f} bits; best reading right in {100 * a['accuracy']:.1f} % "
            f"(most frequent move alone {100 * a['majority']:.1f} %)"
        )
    return lines


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
