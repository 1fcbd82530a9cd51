"""`djinn name`: propose and write names of the actions of a world."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from djinn.actions.naming import Evidence, gather, propose_names
from djinn.actions.settings import NamingSettings
from djinn.data.dataset import Dataset
from djinn.evaluate.text import align
from djinn.models.action_names import ActionName, proposed, read_actions, save_actions
from djinn.models.device import select_device
from djinn.models.world import World
from djinn.models.world_folder import find_world


def run_naming(
    world: str,
    dataset: Path,
    settings: NamingSettings | None = None,
    *,
    force: bool = False,
    device: str | None = None,
) -> list[ActionName]:
    """Propose names and keys, print the evidence, and write `actions.yaml`.

    Names chosen by the user are kept, with their keys.

    Args:
        world: World folder, run folder, or name of a shipped world.
        dataset: Folder of a data set with frames of the size of the world.
        settings: Settings, by default those of `NamingSettings`.
        force: Also replace the names chosen by the user.
        device: Device to compute on, by default the GPU if there is one.

    Returns:
        The names that were written.

    Raises:
        UserError: The world or the data set is missing, they do not match, or the file cannot be
            written.
    """
    selected = select_device(device)
    folder = find_world(world)
    data = Dataset.open(dataset)
    loaded = World.from_pretrained(folder, selected)
    evidence = gather(loaded, data, settings)
    proposals = propose_names(evidence)
    before = read_actions(folder, loaded.num_actions)
    actions = proposals if force else keep_own(before, proposals)
    print(format_names(actions, evidence))
    path = save_actions(folder, actions)
    print(f"\nwrote {path}; edit the names there or in the page of djinn play")
    own = sum(action.is_custom for action in actions)
    if own:
        print(f"kept {own} name(s) that you chose; --force replaces them")
    return actions


def keep_own(before: Sequence[ActionName], proposals: Sequence[ActionName]) -> list[ActionName]:
    """Merge proposals with the names chosen by the user, whose names and keys take precedence.

    Args:
        before: Names in use, one for each latent action.
        proposals: Names proposed for the same actions.
    """
    chosen = [action for action in before if action.is_custom]
    taken = {key for action in chosen for key in action.keys}
    names = {action.name for action in chosen}
    actions = []
    for old, new in zip(before, proposals, strict=True):
        if old.is_custom:
            actions.append(dataclasses.replace(old, proposal=new.proposal))
            continue
        name = new.name if new.name not in names else f"{new.name} (code {new.code})"
        actions.append(proposed(new.code, name, [key for key in new.keys if key not in taken], new.evidence))
    return actions


def format_names(actions: Sequence[ActionName], evidence: Evidence) -> str:
    """Return names, keys and their evidence as text for the terminal.

    Args:
        actions: Names of all codes.
        evidence: Measurements behind the proposals.
    """
    rows = [["action", "name", "keys", "evidence"]]
    for action in actions:
        name = f"{action.name} (yours)" if action.is_custom else action.name
        rows.append([str(action.code), name, " ".join(action.keys) or "-", action.evidence or "no proposal"])
    names = [action.name for action in actions]
    lines = [*align(rows, left=4), "", *evidence.effects.lines(names)]
    lines += ["where the camera follows the player, the frame moves left when the player moves right"]
    if evidence.table is not None:
        lines += ["", *evidence.table.lines(names)]
    return "\n".join(lines)
