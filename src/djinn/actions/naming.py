"""Names of latent actions from their effect and from ground-truth actions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tqdm import tqdm

from djinn.actions.keys import assign_keys, by_strength
from djinn.actions.labels import AXES, MIN_TRANSITIONS, STAY, ActionLabel, labels_from_ground_truth
from djinn.actions.motion_labels import (
    DIRECTIONS,
    MIN_SHIFT,
    SAME_OUTCOME,
    identical_outcomes,
    labels_from_motion,
    player_motion,
    reach,
    straightness,
)
from djinn.actions.settings import NamingSettings
from djinn.data.dataset import Dataset
from djinn.evaluate.action_effects import ActionEffects, measure_action_effects
from djinn.evaluate.action_usage import ActionUsage, action_usage
from djinn.evaluate.clips import check_match, draw_clips, held_out_split
from djinn.evaluate.code_table import CodeTable
from djinn.evaluate.inference import evaluation_mode, infer_code_table
from djinn.evaluate.text import percent
from djinn.models.action_names import ActionName, default_name, proposed
from djinn.models.training_summary import TrainingSummary
from djinn.models.world import World

BATCH = 16
"""Clips per batch when actions are inferred."""


@dataclass(frozen=True)
class Evidence:
    """Measurements from which names are proposed."""

    effects: ActionEffects
    table: CodeTable | None
    """Codes against ground-truth actions, None if a data set or a world has none."""
    split: str
    """Split of the data set that was measured."""
    usage: ActionUsage | None = None
    """Usage of the codes, None without the latent action model."""
    training: TrainingSummary | None = None
    """Training of the world, None if it was not recorded."""


def name_actions(
    world: World,
    dataset: Dataset,
    settings: NamingSettings | None = None,
    *,
    progress: bool = True,
) -> list[ActionName]:
    """Propose a name and keys for each latent action, see `gather` and `propose_names`."""
    return propose_names(gather(world, dataset, settings, progress=progress))


def gather(
    world: World,
    dataset: Dataset,
    settings: NamingSettings | None = None,
    *,
    progress: bool = True,
) -> Evidence:
    """Hold each action from held-out prompts, and infer the actions of held-out clips.

    Args:
        world: The world.
        dataset: Data set with frames of the size of the world.
        settings: Settings, by default those of `NamingSettings`.
        progress: Show progress bars.

    Returns:
        The measurements; `propose_names` derives names from them.

    Raises:
        UserError: No episode is long enough for a clip, or the frames do not have the size of the
            world.
    """
    settings = settings or NamingSettings()
    seed = settings.seed
    if world.latent_action is not None:
        check_match(world, dataset)
    split = held_out_split(dataset, world.config.context_frames)
    first = draw_clips(dataset, split, settings.prompts, 1, seed).first_frames(settings.prompts)
    effects = measure_action_effects(world, first, frames=settings.frames, seed=seed, progress=progress)
    if world.latent_action is None:
        return Evidence(effects, None, split, training=world.training_summary)
    sample = draw_clips(dataset, split, settings.clips, world.config.context_frames, seed)
    bar = tqdm(total=len(sample), desc="inferring actions", unit=" clips", disable=not progress)
    with evaluation_mode(world), bar:
        codes, table = infer_code_table(world, sample, BATCH, bar)
    usage = action_usage(codes, world.num_actions)
    named = bool(dataset.metadata.get("action_names"))
    return Evidence(effects, table if named else None, split, usage, world.training_summary)


def propose_names(evidence: Evidence) -> list[ActionName]:
    """Propose names and keys for all codes.

    A code is named after its ground-truth actions where these are clear, else after its motion,
    else `action N`. Codes with the same name are numbered (`right`, `right 2`): the plain name goes
    to the code that moves farthest in that direction and from most prompts in no other. The first
    code of each direction gets its arrow key.

    An untrained world, and one in which all actions generate the same frames, gets neither names
    nor keys. A code gets no keys if it is not used in the videos, generates the same frames as
    another one, or does not move in the direction of its name.

    Args:
        evidence: As returned by `gather`.

    Returns:
        A name for each code, in the order of the codes.
    """
    reason = _no_effect(evidence)
    if reason is not None:
        codes = range(len(evidence.effects.codes))
        return [proposed(code, default_name(code), [], reason) for code in codes]
    labels = _without_duplicates(evidence, _labels(evidence))
    names, keys = _unique_names(labels), assign_keys(labels)
    return [proposed(code, names[code], keys[code], label.evidence) for code, label in enumerate(labels)]


def _no_effect(evidence: Evidence) -> str | None:
    """Return why none of the actions has an effect, None if some have one."""
    training = evidence.training
    if training is not None:
        unmeasured = training.controllability == "unknown" and training.level == "untrained"
        if training.controllability == "none" or unmeasured:
            return training.describe()
    if (evidence.effects.differences <= SAME_OUTCOME).all():
        return "no measurable effect: all actions generate the same frames"
    return None


def _labels(evidence: Evidence) -> list[ActionLabel]:
    """Label the codes by their motion and, where there are any, their ground-truth actions."""
    by_motion = labels_from_motion(evidence.effects)
    if evidence.table is None:
        return by_motion
    by_truth = labels_from_ground_truth(evidence.table, evidence.split)
    words = [label.words for label in by_truth]
    motion, least, camera = player_motion(evidence.effects)
    speeds, shares = reach(-motion if camera else motion, words), straightness(motion, least, words)
    by_truth = [
        label if speed is None else replace(label, strength=speed * share + 1e-3 * label.strength)
        for label, speed, share in zip(by_truth, speeds, shares, strict=True)
    ]
    moving = {
        label.words for label, speed in zip(by_truth, speeds, strict=True) if speed is not None and speed >= MIN_SHIFT
    }
    groups = identical_outcomes(evidence.effects).tolist()
    return [
        _combine(truth, seen, speed, can_stay=truth.words in moving or groups.count(groups[code]) > 1)
        for code, (truth, seen, speed) in enumerate(zip(by_truth, by_motion, speeds, strict=True))
    ]


def _combine(truth: ActionLabel, seen: ActionLabel, speed: float | None, can_stay: bool) -> ActionLabel:
    """Combine the label by ground-truth actions with the one by motion.

    Ground truth takes precedence, also where the motion is opposite. Motion takes precedence if it
    is vertical instead of horizontal, or has a direction more. In the videos, a wall or a fall may
    hide the effect of an action: a code without motion is labelled `stay` only if `can_stay`.
    Otherwise it keeps its name, without keys.

    Args:
        truth: Label by ground-truth actions.
        seen: Label by motion.
        speed: Speed in the direction of the ground-truth actions, in pixels per frame.
        can_stay: Whether another code moves in that direction, or generates the same frames as this
            one.
    """
    words, moved = set(truth.words), set(seen.words) - {STAY}
    stays = seen.words == (STAY,)
    if speed is None or speed >= MIN_SHIFT:
        replaced = False
    elif moved:
        replaced = not any(set(axis) & words and set(axis) & moved for axis in AXES)
    else:
        replaced = can_stay and stays
    if not words or moved > words or replaced:
        return seen
    return replace(truth, has_effect=not (stays and any(word in DIRECTIONS for word in words)))


def _without_duplicates(evidence: Evidence, labels: list[ActionLabel]) -> list[ActionLabel]:
    """Mark codes without a distinct effect: unused ones, and duplicates of a stronger code."""
    groups = identical_outcomes(evidence.effects)
    leaders: dict[int, int] = {}
    for code in by_strength(labels):
        leaders.setdefault(int(groups[code]), code)
    usage = evidence.usage
    marked = []
    for code, label in enumerate(labels):
        leader = leaders[int(groups[code])]
        if leader != code:
            note = f"generates the same frames as action {leader}"
        elif usage is not None and usage.transitions >= MIN_TRANSITIONS and usage.shares[code] < usage.min_share:
            note = f"inferred for only {percent(usage.shares[code])} of {usage.transitions:,} transitions"
        else:
            marked.append(label)
            continue
        marked.append(replace(label, has_effect=False, evidence=f"{label.evidence}; {note}"))
    return marked


def _unique_names(labels: Sequence[ActionLabel]) -> list[str]:
    names, used = [default_name(code) for code in range(len(labels))], Counter[str]()
    for code in by_strength(labels):
        if labels[code].words:
            name = " + ".join(labels[code].words)
            used[name] += 1
            names[code] = name if used[name] == 1 else f"{name} {used[name]}"
    return names
