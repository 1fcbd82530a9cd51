"""Names and keys for latent actions, from what they do to the picture and from true moves where a data set has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from djinn.actions.labels import AXES, STAY, SURE_FROM, ActionLabel, ordered, read_table
from djinn.config import SamplerConfig
from djinn.data.dataset import Dataset
from djinn.evaluate.action_effects import Effects, measure_effects
from djinn.evaluate.clips import check_match, draw_clips, held_out_split, measuring, read_codes
from djinn.evaluate.controllability import CodeTable
from djinn.models.action_names import ActionName, default_name, proposed
from djinn.models.world import World

SHIFT_FROM = 0.25
"""The whole picture has moved from this many pixels a frame on."""
OBJECT_FROM = 1.0
"""Something in the picture has moved where the motion of all blocks adds up to this many pixels a frame."""
AGREE_FROM = 0.8
"""Share, of the prompts from which a code moves at all, that must move the same way; by chance half of them do."""
ARROWS = (("left", "ArrowLeft"), ("right", "ArrowRight"), ("up", "ArrowUp"), ("jump", "ArrowUp"), ("down", "ArrowDown"))
SPACE = ("fire", "shoot", "jump", "up")
"""Words for the space bar, the first that some code has."""
WAYS = {word: (axis, sign) for axis, pair in enumerate(AXES) for word, sign in zip(pair, (-1, 1), strict=True)}
WAYS["jump"] = WAYS["up"]
"""Axis and sign of each word that says a way."""
Motion = Float[np.ndarray, "codes p 2"]


@dataclass(frozen=True)
class Evidence:
    """What names are proposed from."""

    effects: Effects
    table: CodeTable | None
    """Codes against true moves; None where moves, their names or the latent action model are missing."""
    split: str
    """Part of the data set that was looked at."""


def name_actions(
    world: World,
    dataset: Dataset,
    *,
    prompts: int = 32,
    frames: int = 4,
    clips: int = 256,
    sampler: SamplerConfig | None = None,
    seed: int = 0,
    progress: bool = True,
) -> list[ActionName]:
    """Proposes a name and keys for each latent action; arguments as of `gather`, names as of `propose_names`."""
    return propose_names(
        gather(
            world, dataset, prompts=prompts, frames=frames, clips=clips, sampler=sampler, seed=seed, progress=progress
        )
    )


def gather(
    world: World,
    dataset: Dataset,
    *,
    prompts: int = 32,
    frames: int = 4,
    clips: int = 256,
    sampler: SamplerConfig | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Evidence:
    """Plays each action from held-out prompts and, where a data set names true moves, compares codes with them.

    Args:
        world: the world.
        dataset: a data set with frames of its size.
        prompts: first frames to play from.
        frames: how long each action is held.
        clips: clips whose actions are inferred for the table of true moves.
        sampler: how tokens are drawn; the world's own setting by default.
        seed: of the choice of clips and the draws.
        progress: show progress bars.

    Raises:
        UserError: no episode is long enough for a clip, or the frames do not have the world's size.
    """
    if world.latent_action is not None:
        check_match(world, dataset)
    split = held_out_split(dataset, world.config.context_frames)
    drawn = draw_clips(dataset, split, prompts, 1, seed)
    first = drawn.clips.batch(drawn.indices)
    effects = measure_effects(world, first, frames=frames, sampler=sampler, seed=seed, progress=progress)
    return Evidence(effects, _table(world, dataset, split, clips, seed, progress), split)


def _table(world: World, dataset: Dataset, split: str, clips: int, seed: int, progress: bool) -> CodeTable | None:
    if world.latent_action is None or not dataset.has_actions or not dataset.metadata.get("action_names"):
        return None
    sample = draw_clips(dataset, split, clips, world.config.context_frames, seed)
    bar = tqdm(total=len(sample), desc="comparing with true moves", unit=" clips", disable=not progress)
    with measuring(world), bar:
        return read_codes(world, sample, 16, bar)[1]


def propose_names(evidence: Evidence) -> list[ActionName]:
    """Names and keys for all codes.

    A code is called what the true moves say where these are clear, else what its effect says, else `action i`; but what rises
    is called `up`, even if those who rise in the videos hold a side, too (`_of_both`). Of several codes with one name the one
    that goes farthest that way, and from most prompts no other way as well, has it plain and the next ones are `right 2`,
    `right 3`. The first code of each direction gets
    its arrow key, and a key is given once.

    Args:
        evidence: what `gather` has found.
    """
    seen = read_effects(evidence.effects)
    if evidence.table is not None:
        told = read_table(evidence.table, evidence.split)
        words = [true.words for true in told]
        motion, least, camera = _steered(evidence.effects)
        far, straight = _reach(-motion if camera else motion, words), _straight(motion, least, words)
        told = [
            true if reach is None else replace(true, strength=reach * share + 1e-3 * true.strength)
            for true, reach, share in zip(told, far, straight, strict=True)
        ]
        goes = {true.words for true, reach in zip(told, far, strict=True) if reach is not None and reach >= SHIFT_FROM}
        seen = [
            _of_both(true, effect, reach, true.words in goes)
            for true, effect, reach in zip(told, seen, far, strict=True)
        ]
    names, keys = _distinct(seen), assign_keys(seen)
    return [proposed(code, names[code], keys[code], reading.evidence) for code, reading in enumerate(seen)]


def _of_both(true: ActionLabel, effect: ActionLabel, reach: float | None, other_goes: bool) -> ActionLabel:
    """What true moves say, unless the picture goes up or down instead of to their side, say, or that way as well.

    Left for right is no reason: true moves know better which of the two is which. A code that moves nothing is called so
    where another one goes the way of its true moves: it is what the videos have where a wall or a fall hides the move.

    Args:
        true: what true moves say.
        effect: what is seen when the code is held.
        reach: how far it goes the way of the true moves, in pixels a frame.
        other_goes: whether some code with the same true moves does go that way.
    """
    said, goes = set(true.words), set(effect.words) - {STAY}
    if reach is None or reach >= SHIFT_FROM:
        instead = False
    elif goes:
        instead = not any(set(axis) & said and set(axis) & goes for axis in AXES)
    else:
        instead = other_goes and effect.words == (STAY,)
    return effect if not said or goes > said or instead else true


def read_effects(effects: Effects) -> list[ActionLabel]:
    """Reads each code as the direction it moves in, where it does so from most prompts and hardly ever the other way.

    Where some code shifts the whole picture, the camera follows what is steered: content that goes left means `right`.
    Otherwise the motion of the blocks is that of what is steered. A code that leaves things as they go by themselves, in a
    world where others do not, is read as `stay`.

    Args:
        effects: what `measure_effects` has found.
    """
    motion, least, camera = _steered(effects)
    found = _directions(motion, least)
    what = "the picture goes" if camera else "what moves in the picture goes"
    prompts = motion.shape[1]
    stays = _stays(effects, motion, least) if any(found) else np.zeros(len(found))
    action_labels = []
    for directions, still in zip(found, stays, strict=True):
        if directions:
            words = [AXES[axis][(speed > 0) != camera] for axis, speed, _ in directions]
            said = [f"{abs(v):.1f} px a frame {AXES[axis][v > 0]} from {sure:.0%}" for axis, v, sure in directions]
            strength = min(abs(speed) * sure for _, speed, sure in directions)
            text = f"{what} {' and '.join(said)} of {prompts} prompts"
            action_labels.append(ActionLabel(ordered(words), strength, text))
        elif still >= SURE_FROM:
            text = f"nothing moves by it from {still:.0%} of {prompts} prompts"
            action_labels.append(ActionLabel((STAY,), float(still), text))
        else:
            action_labels.append(ActionLabel(()))
    return action_labels


def _steered(effects: Effects) -> tuple[Motion, float, bool]:
    """The motion that tells of what is steered, from what speed it counts, and whether it is that of a camera that follows."""
    if any(_directions(effects.shifts, SHIFT_FROM)):
        return effects.shifts, SHIFT_FROM, True
    return effects.flows.sum(axis=(2, 3)), OBJECT_FROM, False


def _directions(motion: Motion, least: float) -> list[list[tuple[int, float, float]]]:
    """Axes along which each code moves: axis, median speed, and the share of prompts that go that way.

    Motion counts beside what most codes do from the same prompt, as falling, and must be there by itself as well. To the side,
    where nothing falls, it also counts by itself if some other code does not move so: most codes may be for one side.

    Args:
        motion: from each prompt.
        least: the smallest speed that counts.
    """
    beside = motion - np.median(motion, axis=0)
    by_itself = np.median(motion, axis=1)
    found = []
    for code, own in enumerate(by_itself):
        directions = []
        for axis in (0, 1):
            alone = axis == 0 and np.abs(by_itself[:, axis] - own[axis]).max() >= least
            for values in (beside[code, :, axis], motion[code, :, axis])[: 1 + alone]:
                speed = float(np.median(values))
                along = values * np.sign(speed) >= least / 2
                agree = along.sum() / max(int((np.abs(values) >= least / 2).sum()), 1)
                fast = abs(speed) >= least and own[axis] * np.sign(speed) >= least / 2
                if fast and agree >= AGREE_FROM and along.mean() >= SURE_FROM:
                    directions.append((axis, speed, float(along.mean())))
                    break
        found.append(directions)
    return found


def _stays(effects: Effects, motion: Motion, least: float) -> Float[np.ndarray, " codes"]:
    """Share of prompts from which each code does not move; 0 for those that are unlike both the prompt and other codes.

    Up and down, what most codes do from the same prompt, as falling, does not count.
    """
    beside = np.abs(motion - np.median(motion, axis=0))
    own = np.abs(motion)
    still = (own[..., 0] < least) & (np.minimum(own, beside)[..., 1] < least)
    frames = effects.frames.astype(np.int16)
    unlike_prompt = np.array([np.abs(made[:, 1:] - made[:, :1]).mean() for made in frames])
    unlike_others = np.array([effect.change for effect in effects.codes])
    alike = [unlike <= unlike.max() / 4 for unlike in (unlike_prompt, unlike_others)]
    return still.mean(axis=1) * (alike[0] | alike[1])


def _reach(motion: Motion, words: Sequence[tuple[str, ...]]) -> list[float | None]:
    """How far each code goes the way of its words, in pixels a frame: the median over prompts, the least of several words.

    None where no word says a way. `motion` is that of what is steered.
    """
    reach: list[float | None] = []
    for own, said in zip(np.median(motion, axis=1), words, strict=True):
        along = [float(own[axis] * sign) for axis, sign in (WAYS[word] for word in said if word in WAYS)]
        reach.append(max(0.0, min(along)) if along else None)
    return reach


def _straight(motion: Motion, least: float, words: Sequence[tuple[str, ...]]) -> list[float]:
    """Share of prompts from which each code goes the way of its words alone: not up or down as well if they say a side.

    What most codes do from the same prompt, as falling, does not count.
    """
    stray = np.minimum(np.abs(motion - np.median(motion, axis=0)), np.abs(motion)) >= least
    share = []
    for own, said in zip(stray, words, strict=True):
        other = [axis for axis in (0, 1) if axis not in {WAYS[word][0] for word in said if word in WAYS}]
        share.append(float(1 - own[:, other].any(axis=-1).mean()))
    return share


def _by_strength(action_labels: Sequence[ActionLabel]) -> list[int]:
    return sorted(range(len(action_labels)), key=lambda code: (-action_labels[code].strength, code))


def _distinct(action_labels: Sequence[ActionLabel]) -> list[str]:
    names, used = [default_name(code) for code in range(len(action_labels))], Counter[str]()
    for code in _by_strength(action_labels):
        if action_labels[code].words:
            name = " + ".join(action_labels[code].words)
            used[name] += 1
            names[code] = name if used[name] == 1 else f"{name} {used[name]}"
    return names


def assign_keys(action_labels: Sequence[ActionLabel]) -> list[list[str]]:
    """Keys for each code: an arrow for the strongest of each direction, and the space bar.

    A code that does only what an arrow says comes before one that does more at once, which then is played by holding both
    arrows. `SPACE` says what the space bar is for.

    Args:
        action_labels: what each code does.

    Returns:
        The keys of each code, as a browser names them (`A+B` for two at once); each is given once.
    """
    keys: list[list[str]] = [[] for _ in action_labels]
    given: set[str] = set()
    order = _by_strength(action_labels)
    for alone in (True, False):
        for word, key in ARROWS:
            fits = [
                code
                for code in order
                if word in action_labels[code].words
                and (action_labels[code].words == (word,) if alone else not keys[code])
            ]
            if key not in given and fits:
                keys[fits[0]].append(key)
                given.add(key)
    arrow = dict(ARROWS)
    for code in order:
        together = [arrow[word] for word in action_labels[code].words if word in arrow]
        chord = "+".join(together)
        whole = 1 < len(together) == len(action_labels[code].words) and given.issuperset(together)
        if whole and chord not in given and not keys[code]:
            keys[code].append(chord)
            given.add(chord)
    for word in SPACE:
        fits = [code for code in order if word in action_labels[code].words]
        fits.sort(key=lambda code: len(action_labels[code].words))
        if fits:
            keys[fits[0]].append("Space")
            break
    return keys
