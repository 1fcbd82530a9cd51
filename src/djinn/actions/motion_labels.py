"""Labels of latent actions from the motion that they cause."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from djinn.actions.labels import AXES, MIN_SHARE, STAY, ActionLabel, sort_words
from djinn.evaluate.action_effects import ActionEffects
from djinn.evaluate.text import percent

MIN_SHIFT = 0.25
"""Shift of the whole frame, in pixels per frame, that counts as motion."""
MIN_OBJECT_MOTION = 1.0
"""Sum of the motion of all blocks, in pixels per frame, that counts as motion of an object."""
MIN_AGREEMENT = 0.8
"""Share of the prompts with motion in which its direction must agree; by chance half."""
SAME_OUTCOME = 0.5
"""Mean difference in grey levels up to which two codes generate the same frames."""
DIRECTIONS = {word: (axis, sign) for axis, pair in enumerate(AXES) for word, sign in zip(pair, (-1, 1), strict=True)}
DIRECTIONS["jump"] = DIRECTIONS["up"]
"""Axis and sign of each word that is a direction."""
Motion = Float[np.ndarray, "codes p 2"]


def labels_from_motion(effects: ActionEffects) -> list[ActionLabel]:
    """Label each code with the direction of its motion, if it is the same from most prompts.

    Where some code shifts the whole frame, the camera follows the player: content that moves left
    means `right`. Otherwise the motion of the blocks is that of the player. A code without motion,
    in a world where others cause some, is labelled `stay`.

    Args:
        effects: Effects of all codes.
    """
    motion, least, camera = player_motion(effects)
    found = _directions(motion, least)
    what = "the frame moves" if camera else "content moves"
    prompts = motion.shape[1]
    stay = _stay_shares(effects, motion, least) if any(found) else np.zeros(len(found))
    labels = []
    for directions, still in zip(found, stay, strict=True):
        if directions:
            words = [AXES[axis][(speed > 0) != camera] for axis, speed, _ in directions]
            parts = [
                f"{abs(v):.1f} px per frame {AXES[axis][v > 0]} from {percent(share)}" for axis, v, share in directions
            ]
            strength = min(abs(speed) * share for _, speed, share in directions)
            evidence = f"{what} {' and '.join(parts)} of {prompts} prompts"
            labels.append(ActionLabel(sort_words(words), strength, evidence))
        elif still >= MIN_SHARE:
            labels.append(ActionLabel((STAY,), float(still), f"no motion from {percent(still)} of {prompts} prompts"))
        else:
            labels.append(ActionLabel(()))
    return labels


def player_motion(effects: ActionEffects) -> tuple[Motion, float, bool]:
    """Return the motion of the player, its threshold, and whether a camera follows."""
    if any(_directions(effects.shifts, MIN_SHIFT)):
        return effects.shifts, MIN_SHIFT, True
    return effects.flows.sum(axis=(2, 3)), MIN_OBJECT_MOTION, False


def identical_outcomes(effects: ActionEffects) -> Int[np.ndarray, " codes"]:
    """Return for each code the first one with the same frames to within `SAME_OUTCOME`."""
    return (effects.differences <= SAME_OUTCOME).argmax(axis=1)


def _directions(motion: Motion, least: float) -> list[list[tuple[int, float, float]]]:
    """Return for each code the axes of motion: axis, median speed, share of the prompts.

    Motion counts relative to that of most codes from the same prompt, such as falling, and must
    also be present without this correction. Horizontally, where nothing falls, uncorrected motion
    counts as well if some other code does not move so, since most codes may have one direction.

    Args:
        motion: Motion by code and prompt.
        least: Smallest speed that counts.
    """
    relative = motion - np.median(motion, axis=0)
    absolute = np.median(motion, axis=1)
    found = []
    for code, own in enumerate(absolute):
        directions = []
        for axis in (0, 1):
            differs = axis == 0 and np.abs(absolute[:, axis] - own[axis]).max() >= least
            for values in (relative[code, :, axis], motion[code, :, axis])[: 1 + differs]:
                speed = float(np.median(values))
                along = values * np.sign(speed) >= least / 2
                agreement = along.sum() / max(int((np.abs(values) >= least / 2).sum()), 1)
                fast = abs(speed) >= least and own[axis] * np.sign(speed) >= least / 2
                if fast and agreement >= MIN_AGREEMENT and along.mean() >= MIN_SHARE:
                    directions.append((axis, speed, float(along.mean())))
                    break
        found.append(directions)
    return found


def _stay_shares(effects: ActionEffects, motion: Motion, least: float) -> Float[np.ndarray, " codes"]:
    """Return the share of the prompts without motion.

    It is 0 for codes that resemble neither the prompt nor the other codes.

    Vertical motion that most codes have from the same prompt, such as falling, does not count.
    """
    relative = np.abs(motion - np.median(motion, axis=0))
    own = np.abs(motion)
    still = (own[..., 0] < least) & (np.minimum(own, relative)[..., 1] < least)
    frames = effects.frames.astype(np.int16)
    from_prompt = np.array([np.abs(generated[:, 1:] - generated[:, :1]).mean() for generated in frames])
    from_others = np.array([effect.change for effect in effects.codes])
    similar = [difference <= difference.max() / 4 for difference in (from_prompt, from_others)]
    return still.mean(axis=1) * (similar[0] | similar[1])


def reach(motion: Motion, words: Sequence[tuple[str, ...]]) -> list[float | None]:
    """Return the speed of each code in the direction of its words, in pixels per frame.

    It is the median over prompts, the smallest value if there are several directions, and None
    without a direction.

    Args:
        motion: Motion of the player.
        words: Words of each code.
    """
    speeds: list[float | None] = []
    for own, given in zip(np.median(motion, axis=1), words, strict=True):
        along = [float(own[axis] * sign) for axis, sign in (DIRECTIONS[word] for word in given if word in DIRECTIONS)]
        speeds.append(max(0.0, min(along)) if along else None)
    return speeds


def straightness(motion: Motion, least: float, words: Sequence[tuple[str, ...]]) -> list[float]:
    """Return the share of the prompts from which a code moves only in its direction.

    Motion that most codes have from the same prompt, such as falling, does not count.
    """
    stray = np.minimum(np.abs(motion - np.median(motion, axis=0)), np.abs(motion)) >= least
    shares = []
    for own, given in zip(stray, words, strict=True):
        other = [axis for axis in (0, 1) if axis not in {DIRECTIONS[word][0] for word in given if word in DIRECTIONS}]
        shares.append(float(1 - own[:, other].any(axis=-1).mean()))
    return shares
