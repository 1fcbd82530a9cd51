"""What to change in a world that `djinn diagnose` finds fault with."""

from __future__ import annotations

import numpy as np

from djinn.models.world import World

SAME_BOOK = 0.01
"""Share of a code's length by which the two copies of the action codebook may differ: fp16 leaves less."""

_ALWAYS = True


def remedies_for(verdict: str, failed: set[str], world: World) -> list[str]:
    """What to change, most promising first; options are those of `djinn train`.

    Args:
        verdict: as `djinn.diagnose.verdict.verdict_of` gives it.
        failed: checks that did not pass.
        world: the world, whose sizes decide what is worth trying.
    """
    return [text for applies, text in _table(failed, world).get(verdict, []) if applies]


def _table(failed: set[str], world: World) -> dict[str, list[tuple[bool, str]]]:
    """For each verdict what can be done, and whether it applies."""
    sizes, actions, dynamics = world.config.tokenizer, world.config.latent_action, world.config.dynamics
    many_codes, grid = sizes.quantizer.codes >= 1024, sizes.quantizer.kind == "fsq"
    fewer_actions = (
        world.num_actions > 2,
        "fewer latent actions: "
        + (
            "fewer --world.latent-action.quantizer.levels, with codes their product and dim their number"
            if actions.quantizer.kind == "fsq"
            else f"--world.latent-action.quantizer.codes {max(2, world.num_actions // 2)}"
        ),
    )
    restarts = actions.quantizer.kind == "ema"
    longer = "train longer: a new run with a higher --minutes or --steps"
    moving = "check that things move in the videos from one frame to the next: import them with a lower --fps"
    motion = (not actions.frame_diff_input, "show the encoder what moved: --world.latent-action.frame-diff-input")
    prepend = (dynamics.action == "add", "the other way of conditioning: --world.dynamics.action prepend")
    anew = (_ALWAYS, "after that train the dynamics stage in a new run")
    return {
        "tokenizer too coarse": [
            (
                "tokenizer_perplexity" in failed and not grid,
                "wake the tokenizer's dead codes: a new run with --world.tokenizer.quantizer.kind ema and "
                "--world.tokenizer.quantizer.dead-code-threshold 0.3, or a lower --tokenizer.lr",
            ),
            ("tokenizer_perplexity" in failed and grid, "a lower --tokenizer.lr"),
            (
                not many_codes,
                "more codes: --world.tokenizer.quantizer."
                + ("levels 8 5 5 5, with codes 1000 and dim 4" if grid else "codes 1024"),
            ),
            (
                many_codes and sizes.patch > 2,
                f"more tokens for a frame: --world.tokenizer.patch {max(2, sizes.patch // 2)}",
            ),
            (_ALWAYS, "train the tokenizer longer: a higher --tokenizer-share or --tokenizer.minutes"),
            anew,
        ],
        "codes collapsed": [
            (
                restarts,
                "a new run with a higher --world.latent-action.quantizer.dead-code-threshold (for instance 0.3) or a lower "
                "--world.latent-action.quantizer.commitment (for instance 0.01)",
            ),
            (
                actions.quantizer.kind == "gradient",
                "a codebook whose dead codes start again: a new run with --world.latent-action.quantizer.kind ema",
            ),
            (
                actions.quantizer.kind != "fsq" and not actions.quantizer.standardize,
                "let small differences choose between the codes: --world.latent-action.quantizer.standardize",
            ),
            (_ALWAYS, "a lower --dynamics.lr"),
            fewer_actions,
            (_ALWAYS, moving),
        ],
        "actions describe pictures, not motion": [
            motion,
            (not actions.residual, "let the decoder predict the change alone: --world.latent-action.residual"),
            (
                actions.residual and actions.input == "pixels" and not actions.warp,
                "let the decoder move the last frame's pixels: --world.latent-action.warp",
            ),
            (
                _ALWAYS,
                "cut menus, scene changes and other games out of the videos: a code that names the scene explains those",
            ),
            fewer_actions,
        ],
        "actions ignored": [
            ("dynamics_response" in failed and prepend[0], prepend[1]),
            ("decoder_response" in failed and motion[0], motion[1]),
            (_ALWAYS, longer),
            (_ALWAYS, moving),
            (
                _ALWAYS,
                "where the training code is your own: check that each clip gets its own actions; a model that is given those "
                "of other clips learns to ignore them",
            ),
        ],
        "actions shifted in time": [
            (
                _ALWAYS,
                "action i must be the one that moves frame i to frame i+1, and frame t is predicted with action t-1: where "
                "actions are padded to the number of frames, pad them at the front",
            ),
            anew,
        ],
        "actions mismatched": [
            (
                _stale(world),
                "the world's action codes are not those of its latent action model: call World.sync_actions and save it again",
            ),
            (_ALWAYS, "use model.safetensors and latent_action.safetensors of one and the same run"),
            (
                _ALWAYS,
                "where the code is your own: check that each clip is trained and measured with its own actions; a batch that "
                "is shuffled after its actions were inferred mixes them up",
            ),
            (_ALWAYS, "train the dynamics stage in a new run"),
        ],
        "weak control": [
            (_ALWAYS, longer),
            (
                _ALWAYS,
                "more video of this one game, in which much happens: more levels or more time, and for a recorded game "
                "another --policy",
            ),
            ("codes_in_use" in failed and fewer_actions[0], fewer_actions[1]),
            prepend,
        ],
        "drift": [
            (
                dynamics.masking != "clean_past",
                "train on the past that play has: --world.dynamics.masking clean_past",
            ),
            (
                dynamics.masking != "paper",  # which corrupts nothing
                "make the past in training as imperfect as in play: --world.dynamics.token_noise "
                f"{min(0.5, max(0.2, 2 * dynamics.token_noise)):g}",
            ),
            (
                _ALWAYS,
                "play with more or fewer MaskGIT steps and another temperature: sliders in the page, --steps and "
                "--temperature of djinn sample and djinn eval",
            ),
            (_ALWAYS, longer),
            (_ALWAYS, f"a longer memory: --world.context_frames {2 * world.config.context_frames}"),
        ],
    }


def _stale(world: World) -> bool:
    """Whether the codes that the dynamics receives are not those that the latent action model chooses."""
    if world.latent_action is None:
        return False
    given, chosen = (
        x.detach().float().cpu().numpy() for x in (world.action_vectors, world.latent_action.quantizer.codes())
    )
    apart = np.linalg.norm(given - chosen, axis=-1)
    return bool((apart > SAME_BOOK * np.linalg.norm(chosen, axis=-1).mean()).any())
