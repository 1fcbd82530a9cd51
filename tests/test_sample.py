"""`djinn sample`: videos from an image and a list of actions."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from djinn import cli
from djinn.errors import UserError
from djinn.models.training_summary import TrainingSummary
from djinn.models.world import World


@pytest.fixture(scope="module")
def world(make_world, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with 5 actions, two of them named, and two prompt images."""
    folder = tmp_path_factory.mktemp("worlds") / "small"
    world = make_world()
    world.action_names[:2] = ["stay", "right"]
    noise = np.random.default_rng(0)
    world.prompts = [noise.integers(256, size=(12, 10, 3), dtype=np.uint8) for _ in range(2)]
    world.save_pretrained(folder)
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "start.png"
    Image.fromarray(np.random.default_rng(1).integers(256, size=(30, 40, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def sample(tmp_path: Path):
    """Runs `djinn sample` with `--out video.png` and returns the content of the file."""

    def run(world: Path, *args: object, out: str = "video.png") -> bytes:
        cli.run(["sample", str(world), "--out", str(tmp_path / out), *map(str, args)])
        return (tmp_path / out).read_bytes()

    return run


@pytest.mark.parametrize(("kind", "frames"), [("mp4", 6), ("gif", 6), ("png", 1)])
def test_video_has_the_prompt_and_one_frame_per_action(world, image, sample, tmp_path, kind, frames, capsys):
    sample(world, "--image", image, "--actions", "0,right*2,1,4", "--steps", 2, out=f"video.{kind}")
    out = tmp_path / f"video.{kind}"
    assert f"wrote 6 frames to {out}" in capsys.readouterr().out
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == frames


def test_names_and_codes_stand_for_the_same_actions(world, image, sample):
    by_name = sample(world, "--image", image, "--actions", "RIGHT*3,stay")
    assert by_name == sample(world, "--image", image, "--actions", "1,1,1,0")
    assert by_name != sample(world, "--image", image, "--actions", "1,1,1,2")


def test_world_s_own_prompts_are_used_without_an_image(world, sample, tmp_path):
    first = sample(world, "--actions", "1*2")
    assert first == sample(world, "--actions", "1*2", "--prompt", 0)
    second = sample(world, "--actions", "1*2", "--prompt", 1)
    assert first != second
    Image.fromarray(World.from_pretrained(world, "cpu").prompts[1]).save(tmp_path / "second.png")
    assert second == sample(world, "--actions", "1*2", "--image", tmp_path / "second.png")


def test_missing_prompts_are_refused(world, sample, make_world, tmp_path):
    for number in (-1, 2):
        with pytest.raises(UserError, match=f"prompt {number} is out of range: this world has 2, numbered from 0"):
            sample(world, "--actions", "0", "--prompt", number)
    make_world().save_pretrained(tmp_path / "bare")
    with pytest.raises(UserError, match="no prompt images: give an image to start from with --image"):
        sample(tmp_path / "bare", "--actions", "0")


def test_output_may_not_overwrite_the_start_image(world, sample, image):
    before = image.read_bytes()
    with pytest.raises(UserError, match="is the image to start from"):
        sample(world, "--image", image, "--actions", "0", out=image.name)
    assert image.read_bytes() == before


def test_same_seed_same_video(world, sample):
    one = sample(world, "--actions", "1*8", "--seed", 1)
    assert one == sample(world, "--actions", "1*8", "--seed", 1)
    assert one != sample(world, "--actions", "1*8", "--seed", 2)


def test_seed_without_effect_is_reported(make_world, sample, world, tmp_path, capsys):
    sample(world, "--actions", "1", "--seed", 5)
    assert "has no effect" not in capsys.readouterr().err
    greedy = make_world()
    settings = {"temperature": 0.0, "choice_temperature": 0.0}
    object.__setattr__(greedy.config, "sampler", type(greedy.config.sampler)(**settings))
    greedy.prompts = [np.zeros((12, 10, 3), np.uint8)]
    greedy.save_pretrained(tmp_path / "greedy")
    sample(tmp_path / "greedy", "--actions", "1", "--seed", 5)
    assert "--seed 5 has no effect" in capsys.readouterr().err
    for options in ((), ("--seed", 5, "--temperature", 1)):
        sample(tmp_path / "greedy", "--actions", "1", *options)
        assert "has no effect" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("steps", "gain", "note"),
    [
        (7, 5.0, "note: the world is barely trained (tokenizer: 7 steps, dynamics: 7 steps); "),
        (9_000, 0.01, "note: the latent actions have no effect yet (inferred actions gain +0.01 dB"),
        (9_000, 5.0, ""),
    ],
)
def test_worlds_without_control_are_reported(make_world, sample, tmp_path, capsys, steps, gain, note):
    world = make_world()
    world.prompts = [np.zeros((12, 10, 3), np.uint8)]
    world.training_summary = TrainingSummary(tokenizer_steps=steps, dynamics_steps=steps, val_gain=gain)
    world.save_pretrained(tmp_path / "world")
    sample(tmp_path / "world", "--actions", "1")
    errors = capsys.readouterr().err
    assert note in errors and ("note" in errors) == bool(note)


def test_unreadable_images_are_refused(world, sample, tmp_path):
    Image.new("1", (10_000, 10_000)).save(tmp_path / "huge.png")
    (tmp_path / "text.png").write_text("hello")
    messages = {
        "huge.png": "100 megapixels",
        "text.png": "not a readable image",
        "none.png": "there is no PNG",
    }
    for name, message in messages.items():
        with pytest.raises(UserError, match=message):
            sample(world, "--image", tmp_path / name, "--actions", "0")
