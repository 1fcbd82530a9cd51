import pytest


@pytest.fixture
def saved(make_world, tmp_path):
    """Save a world with one named action; returns the world and its folder."""
    world = make_world()
    world.action_names[1], world.action_keys[1] = "left", ["ArrowLeft", "a"]
    world.save_pretrained(tmp_path / "world", dtype="fp32")
    return world, tmp_path / "world"
