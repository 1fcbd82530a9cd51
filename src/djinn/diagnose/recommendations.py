"""Changes to try on a world in which `djinn diagnose` finds a fault."""

from __future__ import annotations

import numpy as np

from djinn.models.world import World

SAME_CODEBOOK = 0.01
"""Largest difference between the two copies of the action codebook, as a share of the norm of a
code.
"""

LONGER = "train longer: a new run with a higher --minutes or --steps"
_ALWAYS = True


def recommendations_for(fault: str, failed: set[str], world: World) -> list[str]:
    """Return the changes to try, most promising first. Options are those of `djinn train`.

    Args:
        fault: A key of `djinn.diagnose.verdict.FAULTS`, or another verdict, for which there are
            none.
        failed: Names of the checks that did not pass.
        world: The world, whose sizes determine what applies.
    """
    return [text for applies, text in _candidates(failed, world).get(fault, []) if applies]


def _candidates(failed: set[str], world: World) -> dict[str, list[tuple[bool, str]]]:
    """Return for each fault the possible changes, and whether each applies."""
    sizes, actions, dynamics = world.config.tokenizer, world.config.latent_action, world.config.dynamics
    many_codes, fsq = sizes.quantizer.codes >= 1024, sizes.quantizer.kind == "fsq"
    fewer_actions = (
        world.num_actions > 2,
        "use fewer latent actions: "
        + (
            "fewer --world.latent-action.quantizer.levels, with codes their product and dim their number"
            if actions.quantizer.kind == "fsq"
            else f"--world.latent-action.quantizer.codes {max(2, world.num_actions // 2)}"
        ),
    )
    motion_in_videos = "check that consecutive frames of the videos differ: import them with a lower --fps"
    frame_difference = (
        not actions.frame_diff_input,
        "give the encoder the frame differences: --world.latent-action.frame-diff-input",
    )
    prepend = (dynamics.action == "add", "condition on the action as a token: --world.dynamics.action prepend")
    retrain = (_ALWAYS, "then train the dynamics stage in a new run")
    return {
        "tokenizer too coarse": [
            (
                "tokenizer_perplexity" in failed and not fsq,
                "restart the tokenizer's dead codes: a new run with --world.tokenizer.quantizer.kind ema and "
                "--world.tokenizer.quantizer.dead-code-threshold 0.3, or a lower --tokenizer.lr",
            ),
            ("tokenizer_perplexity" in failed and fsq, "use a lower --tokenizer.lr"),
            (
                not many_codes,
                "use more codes: --world.tokenizer.quantizer."
                + ("levels 8 5 5 5, with codes 1000 and dim 4" if fsq else "codes 1024"),
            ),
            (
                many_codes and sizes.patch > 2,
                f"use more tokens per frame: --world.tokenizer.patch {max(2, sizes.patch // 2)}",
            ),
            (_ALWAYS, "train the tokenizer longer: a higher --tokenizer-share or --tokenizer.minutes"),
            retrain,
        ],
        "codes collapsed": [
            (
                actions.quantizer.kind == "ema",
                "start a new run with a higher --world.latent-action.quantizer.dead-code-threshold (for example 0.3) or "
                "a lower --world.latent-action.quantizer.commitment (for example 0.01)",
            ),
            (
                actions.quantizer.kind == "gradient",
                "use a codebook that restarts dead codes: a new run with --world.latent-action.quantizer.kind ema",
            ),
            (
                actions.quantizer.kind != "fsq" and not actions.quantizer.standardize,
                "normalize the vectors before quantization, so that small differences select the code: "
                "--world.latent-action.quantizer.standardize",
            ),
            (_ALWAYS, "use a lower --dynamics.lr"),
            fewer_actions,
            (_ALWAYS, motion_in_videos),
        ],
        "actions encode the scene, not motion": [
            frame_difference,
            (not actions.residual, "let the decoder predict only the change: --world.latent-action.residual"),
            (
                actions.residual and actions.input == "pixels" and not actions.warp,
                "let the decoder warp the previous frame: --world.latent-action.warp",
            ),
            (
                _ALWAYS,
                "remove menus, scene changes and other games from the videos: codes that identify the scene explain them",
            ),
            fewer_actions,
        ],
        "actions ignored": [
            ("dynamics_response" in failed and prepend[0], prepend[1]),
            ("decoder_response" in failed and frame_difference[0], frame_difference[1]),
            (_ALWAYS, LONGER),
            (_ALWAYS, motion_in_videos),
            (
                _ALWAYS,
                "if the training code is your own: check that each clip is paired with its own actions; a model trained "
                "with those of other clips learns to ignore them",
            ),
        ],
        "actions shifted in time": [
            (
                _ALWAYS,
                "action i must lead from frame i to frame i+1, and frame t is predicted with action t-1: if actions are "
                "padded to the number of frames, pad them at the front",
            ),
            retrain,
        ],
        "actions mismatched": [
            (
                _is_stale(world),
                "the action codes of the world differ from those of its latent action model: call World.sync_actions and "
                "save the world",
            ),
            (_ALWAYS, "use model.safetensors and latent_action.safetensors of the same run"),
            (
                _ALWAYS,
                "if the code is your own: check that each clip is trained and measured with its own actions; shuffling a "
                "batch after inferring its actions mixes them up",
            ),
            (_ALWAYS, "train the dynamics stage in a new run"),
        ],
        "weak control": [
            (_ALWAYS, LONGER),
            (
                _ALWAYS,
                "use more video of this game with more activity: more levels or more time, and for a recorded game "
                "another --policy",
            ),
            ("codes_in_use" in failed and fewer_actions[0], fewer_actions[1]),
            prepend,
        ],
        "drift": [
            (
                dynamics.masking != "clean_past",
                "train with the same unmasked past as in play: --world.dynamics.masking clean_past",
            ),
            (
                dynamics.masking != "paper",  # which adds no token noise
                "make the past in training as imperfect as in play: --world.dynamics.token-noise "
                f"{min(0.5, max(0.2, 2 * dynamics.token_noise)):g}",
            ),
            (
                _ALWAYS,
                "play with more or fewer MaskGIT steps and another temperature: sliders in the page, --steps and "
                "--temperature of djinn sample and djinn eval",
            ),
            (_ALWAYS, LONGER),
            (_ALWAYS, f"use a longer context: --world.context-frames {2 * world.config.context_frames}"),
        ],
    }


def _is_stale(world: World) -> bool:
    """Return whether the codes of the dynamics differ from those of the latent action model."""
    if world.latent_action is None:
        return False
    given, chosen = (
        x.detach().float().cpu().numpy() for x in (world.action_vectors, world.latent_action.quantizer.codes())
    )
    distances = np.linalg.norm(given - chosen, axis=-1)
    return bool((distances > SAME_CODEBOOK * np.linalg.norm(chosen, axis=-1).mean()).any())
