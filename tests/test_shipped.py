"""The world that comes with Djinn, as a newcomer meets it."""

import numpy as np
import torch

from djinn.config.presets import PRESETS
from djinn.evaluate.action_effects import measure_effects
from djinn.models.serialization import SHIPPED
from djinn.models.world import World

MOST_MB = 20


def coinrun() -> World:
    torch.set_num_threads(1)
    return World.from_pretrained("coinrun", "cpu")


def test_it_is_small_and_has_a_card():
    folder = SHIPPED / "coinrun"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < MOST_MB * 1e6
    card = (folder / "README.md").read_text()
    assert all(word in card for word in ("Data:", "Compute:", "Limits.", "Licence.", "delta-4 PSNR"))


def test_training_can_go_on_from_it():
    world = coinrun()
    assert world.latent_action is not None
    assert PRESETS["finetune"].init_from == "coinrun"


def test_keys_move_the_scene_as_they_are_named():
    """The camera follows the player: the scene goes left as he goes right, and down as he jumps."""
    world = coinrun()
    effects = measure_effects(world, np.stack(world.prompts)[:, None], frames=6, progress=False)
    code = {name: world.action_names.index(name) for name in ("right", "left", "up", "stay")}
    keys = {name: world.action_keys[code[name]] for name in code}
    assert keys["right"] == ["ArrowRight"] and keys["left"] == ["ArrowLeft"] and "ArrowUp" in keys["up"]
    dx, dy = effects.shifts[..., 0], effects.shifts[..., 1]

    def moves(shift: np.ndarray) -> bool:
        """From all pictures but one at most as named, and from none against it."""
        return (shift > 0.25).mean() > 0.9 and not (shift < -0.25).any()

    assert moves(-dx[code["right"]]) and moves(dx[code["left"]]) and moves(dy[code["up"]])
    assert (np.abs(dx[code["stay"]]) < 0.25).mean() > 0.75
