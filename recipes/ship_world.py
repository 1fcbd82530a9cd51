"""Makes a trained run a world that comes with Djinn: pictures to start from, named actions, a model card.

    python recipes/ship_world.py RUN DATASET TEST --results results.json --name coinrun

Pictures are taken from the middle of episodes of TEST, the levels that training has not seen; of those tried, the ones from
which the arrow keys lead both ways and up are kept, for a start at a wall or in the air shows little.
Names come from the held-out part of DATASET and its true actions. The figures in the card are those of RESULTS, which
`recipes/coinrun.py` writes, or `djinn eval RUN TEST --json results.json`. What it was trained on is in those of the recipe;
otherwise say it with `--compute "two CPU cores"`.
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
from djinn.actions.prompt_selection import KEPT, most_responsive
from djinn.config import TrainConfig
from djinn.config.yaml import load_yaml
from djinn.data.dataset import Dataset
from djinn.errors import UserError
from djinn.evaluate.action_effects import measure_effects
from djinn.models.action_names import ActionName, write_folder_actions
from djinn.models.world import World
from djinn.plan import count_parameters
from djinn.report.animation import save_action_grid

WORLDS = Path(__file__).parent.parent / "src" / "djinn" / "worlds"
TRIED = 64
LEAST_FRAMES = 40
"""Episodes from whose middle pictures are taken are no shorter."""


def main() -> None:
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="finished run folder")
    parser.add_argument("dataset", type=Path, help="what it was trained on")
    parser.add_argument("test", type=Path, help="levels that it has not seen")
    parser.add_argument("--results", type=Path, required=True, help="figures of djinn eval on TEST")
    parser.add_argument("--name", default="coinrun", help="name of the world (%(default)s)")
    parser.add_argument(
        "--grid",
        type=Path,
        help="same action, many prompts (docs/actions.gif, or docs/actions-NAME.gif for another name)",
    )
    parser.add_argument("--compute", metavar="TEXT", help="what it was trained on, in place of what RESULTS tells")
    parser.add_argument("--device", help="cpu or cuda; cuda where there is one by default")
    args = parser.parse_args()
    try:
        ship(args)
    except UserError as error:
        sys.exit(f"ship_world: {error}")


def ship(args: argparse.Namespace) -> None:
    """Writes the world folder, with its card, and the moving picture.

    Raises:
        UserError: a folder or file is missing, or something that the card tells is not known.
    """
    if not args.results.is_file():
        raise UserError(f"no figures at {args.results}: make them with djinn eval RUN TEST --json {args.results}")
    figures = json.loads(args.results.read_text())
    config = load_yaml(TrainConfig, args.run / "config.yaml")
    compute = compute_line(figures, trained_minutes(args.run), args.compute)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    world, data, test = World.from_pretrained(args.run, device), Dataset.open(args.dataset), Dataset.open(args.test)
    check(figures, data, test)
    actions = name_actions(world, data, prompts=64)
    world.prompts = pictures(world, test, actions)
    out = WORLDS / args.name
    world.save_pretrained(out)
    write_folder_actions(out, actions)
    effects = measure_effects(world, np.stack(world.prompts)[:, None], frames=10)
    grid = args.grid or Path("docs") / ("actions.gif" if args.name == "coinrun" else f"actions-{args.name}.gif")
    save_action_grid(effects, grid, [action.name for action in actions], prompts=4)
    (out / "README.md").write_text(model_card(args.name, world, config, compute, data, test, figures, actions))
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {size / 1e6:.1f} MB; {', '.join(action.name for action in actions)}")


def check(figures: Mapping[str, Any], data: Dataset, test: Dataset) -> None:
    """Refuses what lacks something that the card tells.

    Raises:
        UserError: figures or a data set lack it.
    """
    if figures.get("code_table") is None:
        raise UserError("the figures have no table of codes and true moves: take them on a data set with true actions")
    if "4" not in figures["delta_psnr"]:
        raise UserError("the figures have no delta-4 PSNR: take them with --horizon 4 or more")
    for dataset, keys in ((data, ("game", "mode", "policy", "levels_played")), (test, ("levels",))):
        lacking = [key for key in keys if dataset.metadata.get(key) is None]
        if lacking:
            raise UserError(
                f"{dataset.path} does not tell its {', '.join(lacking)}: take a data set that recipes/coinrun.py recorded"
            )


def pictures(world: World, test: Dataset, actions: list[ActionName]) -> list[np.ndarray]:
    """Frames of unseen levels from which the arrow keys lead farthest.

    Raises:
        UserError: no episode is long enough.
    """
    long = [episode for episode in test.episodes if episode.length >= LEAST_FRAMES]
    if not long:
        raise UserError(f"no episode of {test.path} has {LEAST_FRAMES} frames: record longer ones")
    chosen = [long[i] for i in np.linspace(0, len(long) - 1, min(TRIED, len(long))).astype(int)]
    frames = np.stack([test.read(episode)[episode.length // 2] for episode in chosen])
    return most_responsive(world, frames, actions, frames=6) or list(frames[:KEPT])


def compute_line(figures: Mapping[str, Any], minutes: Mapping[str, float], given: str | None = None) -> str:
    """What a world was trained on and for how long.

    Args:
        figures: of results.json; those of `coinrun.py` tell on what each stage was trained, and how long.
        minutes: by stage, as the run's log has them.
        given: what it was trained on, in place of what the figures tell.

    Raises:
        UserError: neither tells it.
    """
    recipe = figures.get("recipe") or {}
    minutes = {**(recipe.get("minutes") or {}), **minutes}
    machines = dict.fromkeys(name for names in (recipe.get("trained_on") or {}).values() for name in names)
    where = given or ", then ".join(machines)
    if not where:
        device = figures["protocol"]["device"]
        raise UserError(
            f"the figures do not tell on what the world was trained (they were taken on {device}): "
            'say it with --compute "TEXT"'
        )
    parts = {"tokenizer": "the tokenizer", "world": "the latent actions and the dynamics"}
    spent = [f"{_minutes(minutes[stage])} for {part}" for stage, part in parts.items() if stage in minutes]
    return ", ".join([where, *([" and ".join(spent)] if spent else [])])


def _minutes(count: float) -> str:
    return f"{count:.0f} minutes" if count >= 10 else f"{count:.1f} minutes"


def model_card(
    name: str,
    world: World,
    config: TrainConfig,
    compute: str,
    data: Dataset,
    test: Dataset,
    figures: dict[str, Any],
    actions: list[ActionName],
) -> str:
    """What a person should know before using the world; `check` has found all that it tells."""
    protocol, about, table = figures["protocol"], data.metadata, figures["code_table"]
    first, end = test.metadata["levels"]
    counts = count_parameters(config.world)
    low, high = figures["delta_psnr_interval"]["4"]
    rows = [
        ("tokenizer PSNR", f"{figures['tokenizer_psnr']:.2f} dB"),
        (f"roll-out PSNR over {protocol['horizon']} frames", f"{figures['rollout_psnr']:.2f} dB"),
        ("roll-out SSIM", f"{figures['rollout_ssim']:.3f}"),
        ("delta-4 PSNR", f"{figures['delta_psnr']['4']:.2f} dB (95 % interval {low:.2f} to {high:.2f})"),
        ("codes in use", f"{figures['code_use']['used']} of {world.num_actions}"),
        ("best code to move reading, where pixels change", f"{100 * table['changed']['accuracy']:.1f} %"),
    ]
    named = "\n".join(f"| {a.code + 1} | {a.name} | {' '.join(a.keys) or '-'} | {a.evidence} |" for a in actions)
    return f"""# {name}

A world to play, learned by Djinn from videos of CoinRun without labels. `djinn play {name}`

- **Data:** {about["game"]}, mode {about["mode"]}, policy `{about["policy"]}`, {data.frames:,} frames
  of {data.width}x{data.height} at {data.fps:g} a second, from {about["levels_played"]} levels (seeds below 10,000). The
  true actions were not shown to it.
- **Compute:** {compute}.
- **Size:** {sum(counts.values()) / 1e6:.1f} million parameters ({", ".join(f"{k} {v / 1e6:.1f}" for k, v in counts.items())}),
  {world.config.tokens_per_frame} tokens a frame, {world.config.context_frames} frames of memory.

Measured on {protocol["clips"]} clips of levels {first:,} to {end - 1:,}, {protocol["prompt_frames"]} prompt frame,
{protocol["sampler"]["steps"]} MaskGIT steps at temperature {protocol["sampler"]["temperature"]:g}, seed {protocol["seed"]}:

| what | figure |
|---|---|
{chr(10).join(f"| {what} | {value} |" for what, value in rows)}

| key | action | also | evidence |
|---|---|---|---|
{named}

**Limits.** It knows one game in its {about["mode"]} mode and remembers {world.config.context_frames} frames: what leaves the
screen is made up anew when it comes back. Pictures are soft, coins and monsters come and go, and no game is won. Of other
pictures it makes something like CoinRun.

**Licence.** The weights are Apache-2.0 as Djinn is. The game is Procgen (OpenAI, MIT); its art, seen in the starting
pictures and imitated by the world, is CC0, CC-BY 3.0 and CC-BY 4.0, by Kenney and others, as `ASSET_LICENSES.md` of
github.com/openai/procgen lists.
"""


if __name__ == "__main__":
    main()
