"""`djinn name`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from djinn.actions.naming import gather, propose_names
from djinn.data.dataset import Dataset
from djinn.errors import UserError
from djinn.evaluate.action_effects import Effects
from djinn.evaluate.controllability import CodeTable
from djinn.models.action_names import ActionName, proposed, read_actions, save_actions
from djinn.models.world import World
from djinn.models.world_folder import find_world
from djinn.report.text_report import aligned


def run(
    world: str, dataset: Path, *, force: bool = False, prompts: int = 32, seed: int = 0, device: str | None = None
) -> list[ActionName]:
    """Proposes names and keys for a world's latent actions, prints what speaks for them, and writes `actions.yaml`.

    Names that a person has chosen stay, with their keys.

    Args:
        world: a world folder, a run folder, or the name of a shipped world.
        dataset: a data set whose frames have the world's size; what is held out in it is looked at.
        force: replace the names that a person has chosen, too.
        prompts: pictures to try each action from.
        seed: of the choice of pictures and of the draws.
        device: cpu or cuda; cuda where there is one, by default.

    Returns:
        What was written.

    Raises:
        UserError: world or data set are missing or do not match, or the world's folder cannot be written.
    """
    if prompts < 2:
        raise UserError(f"--prompts must be at least 2, got {prompts}")
    folder = find_world(world)
    data = Dataset.open(dataset)
    loaded = World.from_pretrained(folder, device)
    evidence = gather(loaded, data, prompts=prompts, seed=seed)
    proposals = propose_names(evidence)
    before = read_actions(folder, loaded.num_actions)
    actions = proposals if force else keep_own(before, proposals)
    print(format_names(actions, evidence.effects, evidence.table))
    path = save_actions(folder, actions)
    print(f"\nwrote {path}; edit it, or the names in the page of djinn play, as you like")
    own = sum(action.own for action in actions)
    if own:
        print(f"{own} of the names were chosen by a person and stay: --force replaces them")
    return actions


def keep_own(before: Sequence[ActionName], proposals: Sequence[ActionName]) -> list[ActionName]:
    """Proposals beside the names that a person has chosen; these stay, and no proposal takes a name or a key of theirs.

    Args:
        before: names in use, one for each latent action.
        proposals: names proposed for the same actions.
    """
    chosen = [action for action in before if action.own]
    taken = {key for action in chosen for key in action.keys}
    names = {action.name for action in chosen}
    actions = []
    for old, new in zip(before, proposals, strict=True):
        if old.own:
            actions.append(dataclasses.replace(old, proposal=new.proposal))
            continue
        name = new.name if new.name not in names else f"{new.name} (code {new.code})"
        actions.append(proposed(new.code, name, [key for key in new.keys if key not in taken], new.evidence))
    return actions


def format_names(actions: Sequence[ActionName], effects: Effects, table: CodeTable | None) -> str:
    """A table of names with their evidence, and one of codes against true moves where these are known.

    Args:
        actions: names of all codes.
        effects: what the codes do to the picture.
        table: codes against true moves.
    """
    rows = [["code", "name", "keys", "shift x", "shift y", "agree", "flow agree", "change"]]
    for action, effect in zip(actions, effects.codes, strict=True):
        name = f"{action.name} (yours)" if action.own else action.name
        shift = [f"{pixels:+.2f}" for pixels in effect.shift]
        agree = [f"{effect.shift_agreement:.0%}", f"{effect.flow_agreement:+.2f}", f"{effect.change:.1f}"]
        rows.append([str(action.code), name, " ".join(action.keys) or "-", *shift, *agree])
    summary = effects.summary()
    lines = [
        *aligned(rows),
        "",
        f"Each action was held for {summary['frames']} frames from {summary['prompts']} prompts. Shifts are of the picture, "
        "in pixels a frame, +x",
        "right and +y down: where the camera follows the player, it goes left when the player goes right. Agreement is",
        f"between prompts. Consistency of the motion over all codes: {summary['consistency']:.2f} (0 chance, 1 always the "
        "same).",
        "",
        *(f"{action.code} {action.name}: {action.evidence or 'no proposal'}" for action in actions),
    ]
    if table is not None:
        seen = [j for j in range(len(table.moves)) if any(row[j] for row in table.counts)]
        cells = [["code", "name", *(table.moves[j] for j in seen), "transitions"]]
        for action, counts in zip(actions, table.counts, strict=True):
            shares = [f"{100 * counts[j] / max(sum(counts), 1):.0f}" for j in seen]
            cells.append([str(action.code), action.name, *shares, str(sum(counts))])
        lines += ["", "true moves of each code, in percent of its transitions", *aligned(cells)]
    return "\n".join(lines)
