"""Package a trained run as a shipped world: prompts, named actions and a model card.

    python recipes/ship_world.py RUN DATASET TEST --results results.json --name coinrun

Prompts are frames from the middle of episodes of TEST, the held-out levels: of the candidates,
those from which the arrow keys move the player left, right and up, which they cannot do at a wall
or in the air. Names come from the held-out part of DATASET and its ground-truth actions. The
metrics of the card are read from RESULTS, written by `recipes/coinrun.py` or `djinn eval RUN TEST
--json results.json`. Results of the recipe contain the training machine; otherwise pass `--compute
"two CPU cores"`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from coinrun_results import trained_minutes

from djinn.actions.naming import name_actions
from djinn.actions.prompt_selection import NUM_PROMPTS, most_responsive
from djinn.actions.settings import NamingSettings
from djinn.atomic import check_writable_file, check_writable_folder
from djinn.config import TrainConfig
from djinn.config.yaml import load_yaml
from djinn.data.dataset import Dataset
from djinn.errors import UserError
from djinn.evaluate.action_effects import measure_action_effects
from djinn.models.action_names import ActionName, write_folder_actions
from djinn.models.world import World
from djinn.plan import count_parameters
from djinn.report.animation import save_action_grid

WORLDS = Path(__file__).parent.parent / "src" / "djinn" / "worlds"
CANDIDATES = 64
MIN_EPISODE_FRAMES = 40
"""Minimum length of the episodes that prompts are taken from."""


def main() -> None:
    """Run the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="finished run folder")
    parser.add_argument("dataset", type=Path, help="training data set")
    parser.add_argument("test", type=Path, help="held-out levels")
    parser.add_argument("--results", type=Path, required=True, help="metrics of djinn eval on TEST")
    parser.add_argument("--name", default="coinrun", help="name of the world (%(default)s)")
    parser.add_argument(
        "--grid",
        type=Path,
        help="GIF of the same action from several prompts (docs/actions.gif, or docs/actions-NAME.gif)",
    )
    parser.add_argument("--compute", metavar="TEXT", help="training machine, instead of the one in RESULTS")
    parser.add_argument("--device", help="cpu or cuda; by default cuda if available")
    args = parser.parse_args()
    try:
        ship(args)
    except UserError as error:
        sys.exit(f"ship_world: {error}")


def ship(args: argparse.Namespace) -> None:
    """Write the world folder with its card, and the GIF.

    Raises:
        UserError: A folder or file is missing, or the metrics lack something that the card needs.
    """
    if not args.results.is_file():
        raise UserError(f"no metrics at {args.results}: write them with djinn eval RUN TEST --json {args.results}")
    out = WORLDS / args.name
    grid = args.grid or Path("docs") / ("actions.gif" if args.name == "coinrun" else f"actions-{args.name}.gif")
    check_writable_folder(out)
    check_writable_file(grid)
    metrics = json.loads(args.results.read_text())
    config = load_yaml(TrainConfig, args.run / "config.yaml")
    compute = compute_line(metrics, trained_minutes(args.run), args.compute)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    world, data, test = World.from_pretrained(args.run, device), Dataset.open(args.dataset), Dataset.open(args.test)
    check(metrics, data, test)
    actions = name_actions(world, data, NamingSettings(prompts=64))
    world.prompts = select_prompts(world, test, actions)
    world.save_pretrained(out)
    write_folder_actions(out, actions)
    effects = measure_action_effects(world, np.stack(world.prompts)[:, None], frames=10)
    save_action_grid(effects, grid, [action.name for action in actions], prompts=4)
    (out / "README.md").write_text(model_card(args.name, world, config, compute, data, test, metrics, actions))
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {size / 1e6:.1f} MB; {', '.join(action.name for action in actions)}")


def check(metrics: Mapping[str, Any], data: Dataset, test: Dataset) -> None:
    """Check that metrics and data sets contain everything that the card needs.

    Raises:
        UserError: Something is missing.
    """
    if metrics.get("code_table") is None:
        raise UserError("the metrics have no code-to-action table: evaluate on a data set with ground-truth actions")
    if "4" not in metrics["delta_psnr"]:
        raise UserError("the metrics have no Δ4PSNR: evaluate with --horizon 4 or more")
    for dataset, keys in ((data, ("game", "mode", "policy", "levels_played")), (test, ("levels",))):
        missing = [key for key in keys if dataset.metadata.get(key) is None]
        if missing:
            raise UserError(
                f"{dataset.path} lacks the metadata {', '.join(missing)}: use a data set recorded by recipes/coinrun.py"
            )


def select_prompts(world: World, test: Dataset, actions: list[ActionName]) -> list[np.ndarray]:
    """Select the frames of held-out levels from which the arrow keys move the player farthest.

    Raises:
        UserError: No episode is long enough.
    """
    long = [episode for episode in test.episodes if episode.length >= MIN_EPISODE_FRAMES]
    if not long:
        raise UserError(f"no episode of {test.path} has {MIN_EPISODE_FRAMES} frames: record longer ones")
    chosen = [long[i] for i in np.linspace(0, len(long) - 1, min(CANDIDATES, len(long))).astype(int)]
    frames = np.stack([test.read(episode)[episode.length // 2] for episode in chosen])
    return most_responsive(world, frames, actions, frames=6) or list(frames[:NUM_PROMPTS])


def compute_line(metrics: Mapping[str, Any], minutes: Mapping[str, float], given: str | None = None) -> str:
    """Return the training machine and time of a world in words.

    Args:
        metrics: Contents of results.json; with `coinrun.py` they contain machine and time.
        minutes: Training minutes by stage, from the log of the run.
        given: Training machine, instead of the one in `metrics`.

    Raises:
        UserError: The machine is unknown.
    """
    recipe = metrics.get("recipe") or {}
    minutes = {**(recipe.get("minutes") or {}), **minutes}
    machines = dict.fromkeys(name for names in (recipe.get("trained_on") or {}).values() for name in names)
    machine = given or ", then ".join(machines)
    if not machine:
        device = metrics["protocol"]["device"]
        raise UserError(
            f"the metrics do not contain the training machine (they were measured on {device}): "
            'pass it with --compute "TEXT"'
        )
    parts = {"tokenizer": "the tokenizer", "dynamics": "the latent actions and the dynamics"}
    spent = [f"{_minutes(minutes[stage])} for {part}" for stage, part in parts.items() if stage in minutes]
    return ", ".join([machine, *([" and ".join(spent)] if spent else [])])


def _minutes(count: float) -> str:
    return f"{count:.0f} minutes" if count >= 10 else f"{count:.1f} minutes"


def model_card(
    name: str,
    world: World,
    config: TrainConfig,
    compute: str,
    data: Dataset,
    test: Dataset,
    metrics: dict[str, Any],
    actions: list[ActionName],
) -> str:
    """Return the model card in Markdown; `check` has verified its inputs."""
    protocol, metadata, table = metrics["protocol"], data.metadata, metrics["code_table"]
    first, end = test.metadata["levels"]
    counts = count_parameters(config.world)
    low, high = metrics["delta_psnr_interval"]["4"]
    rows = [
        ("tokenizer PSNR", f"{metrics['tokenizer_psnr']:.2f} dB"),
        (f"roll-out PSNR over {protocol['horizon']} frames", f"{metrics['rollout_psnr']:.2f} dB"),
        ("roll-out SSIM", f"{metrics['rollout_ssim']:.3f}"),
        ("Δ4PSNR", f"{metrics['delta_psnr']['4']:.2f} dB (95 % interval {low:.2f} to {high:.2f})"),
        ("codes in use", f"{metrics['action_usage']['num_used']} of {world.num_actions}"),
        (
            "code-to-action accuracy (majority vote), transitions whose pixels change",
            f"{100 * table['changed']['accuracy']:.1f} %",
        ),
    ]
    action_rows = "\n".join(f"| {a.code} | {a.name} | {' '.join(a.keys) or '-'} | {a.evidence} |" for a in actions)
    sizes = ", ".join(f"{k} {v / 1e6:.1f}" for k, v in counts.items())
    metric_rows = "\n".join(f"| {metric} | {value} |" for metric, value in rows)
    return f"""# {name}

A playable world learned from videos of CoinRun without labels. Play it with `djinn play {name}`.

- **Data:** {metadata["game"]}, mode {metadata["mode"]}, policy `{metadata["policy"]}`, {data.frames:,} frames of
  {data.width}x{data.height} at {data.fps:g} frames/s, from {metadata["levels_played"]} levels (seeds below 10,000).
  The ground-truth actions were not used in training.
- **Compute:** {compute}.
- **Size:** {sum(counts.values()) / 1e6:.1f} million parameters ({sizes}),
  {world.config.tokens_per_frame} tokens per frame, context of {world.config.context_frames} frames.

Measured on {protocol["clips"]} clips of levels {first:,} to {end - 1:,}, {protocol["prompt_frames"]} prompt frame,
{protocol["sampler"]["steps"]} MaskGIT steps at temperature {protocol["sampler"]["temperature"]:g}, seed {protocol["seed"]}:

| Metric | Value |
|---|---|
{metric_rows}

| Action | Name | Keys | Evidence |
|---|---|---|---|
{action_rows}

**Limits.** The world was trained on one game in {metadata["mode"]} mode and has a context of
{world.config.context_frames} frames: content that leaves the screen is generated from scratch when it returns.
Frames are blurry, coins and monsters appear and disappear, and no level can be won. From images of other games
it generates something like CoinRun.

**License.** The weights are Apache-2.0, as Djinn. The game is Procgen (OpenAI, MIT). Its art, visible
in the prompts and imitated by the world, is CC0, CC-BY 3.0 and CC-BY 4.0, by Kenney and others, as
`ASSET_LICENSES.md` of github.com/openai/procgen lists.
"""


if __name__ == "__main__":
    main()
