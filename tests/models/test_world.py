import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from djinn.errors import UserError
from djinn.models.serialization import MARK
from djinn.models.world import World, build, find_world


@pytest.fixture
def saved(make_world, tmp_path):
    world = make_world()
    world.action_names[1], world.action_keys[1] = "left", ["ArrowLeft", "a"]
    world.save_pretrained(tmp_path / "world", dtype="fp32")
    return world, tmp_path / "world"


def video(batch=2, frames=4):
    return torch.randint(256, (batch, frames, 12, 10, 3), dtype=torch.uint8)


@pytest.mark.parametrize("kind", ["ema", "gradient", "fsq"])
@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_round_trip(make_world, tmp_path, kind, dtype):
    world = make_world(kind=kind)
    world.action_names[2], world.action_keys[2] = "jump", ["ArrowUp"]
    world.save_pretrained(tmp_path / "world", dtype=dtype)
    assert {p.name for p in (tmp_path / "world").iterdir()} == {
        "config.yaml",
        "model.safetensors",
        "actions.yaml",
        "latent_action.safetensors",
    }
    loaded = World.from_pretrained(tmp_path / "world", device="cpu")
    assert not loaded.training
    assert loaded.config == world.config
    assert loaded.action_names == world.action_names
    assert loaded.action_keys == world.action_keys
    precision = {"rtol": 1e-3, "atol": 1e-4} if dtype == "fp16" else {"rtol": 0, "atol": 0}
    state = loaded.state_dict()
    for key, value in world.state_dict().items():
        torch.testing.assert_close(state[key], value, **precision)
    if dtype == "fp32":
        clip = video()
        assert torch.equal(loaded.encode(clip), world.encode(clip))
        assert torch.equal(loaded.infer_actions(clip), world.infer_actions(clip))
        tokens = torch.randint(16, (1, 3, 9))
        assert torch.equal(loaded.decode(tokens), world.decode(tokens))


def test_action_codes_are_those_of_the_latent_action_model(make_world):
    world = make_world()
    assert torch.equal(world.action_vectors, world.latent_action.quantizer.codes())
    assert world.num_actions == 5


def test_a_world_without_its_latent_action_model_plays_but_does_not_infer(saved):
    world, folder = saved
    (folder / "latent_action.safetensors").unlink()
    loaded = World.from_pretrained(folder, device="cpu")
    assert torch.equal(loaded.action_vectors, world.action_vectors)
    with pytest.raises(UserError, match=r"latent_action\.safetensors"):
        loaded.infer_actions(video())


def test_saving_again_replaces_and_leaves_nothing_behind(saved, make_world):
    _, folder = saved
    (folder / "README.md").write_text("about")
    other = make_world(seed=9)
    other.save_pretrained(folder, dtype="fp32")
    assert torch.equal(World.from_pretrained(folder, "cpu").action_vectors, other.action_vectors)
    assert [p.name for p in folder.parent.iterdir()] == ["world"]
    assert (folder / "README.md").read_text() == "about"


def test_saving_over_a_world_that_was_recovered_leaves_nothing_behind(saved, make_world, monkeypatch):
    world, folder = saved
    (folder / "README.md").write_text("about")
    old, fresh = folder.with_name("world.old"), folder.with_name("world.new")
    rename = type(folder).rename

    def killed(path, target):
        if path == fresh:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(type(folder), "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            make_world(seed=9).save_pretrained(folder)
    assert {p.name for p in folder.parent.iterdir()} == {"world.old", "world.new"}
    assert find_world(folder) == find_world(folder.parent) == old
    assert World.from_pretrained(folder, "cpu").action_names == world.action_names

    with monkeypatch.context() as patch:
        patch.setattr("djinn.models.serialization.save_file", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make_world(seed=9).save_pretrained(folder)
    assert not (folder / MARK).exists()  # it was recovered, though not replaced

    other = make_world(seed=9)
    other.save_pretrained(folder, dtype="fp32")
    assert [p.name for p in folder.parent.iterdir()] == ["world"]
    again = World.from_pretrained(folder, "cpu")
    assert torch.equal(again.action_vectors, other.action_vectors)
    assert (again.action_names, again.action_keys) == (world.action_names, world.action_keys)
    assert (folder / "README.md").read_text() == "about"


def test_who_may_read_the_card_may_read_the_weights(saved):
    _, folder = saved
    assert len({path.stat().st_mode for path in folder.iterdir() if path.is_file()}) == 1


def test_what_people_put_into_a_world_stays(saved, make_world):
    """Notes, a card, a folder of their own and pictures to start from; our own pictures are made anew."""
    _, folder = saved
    (folder / "notes.txt").write_text("mine")
    (folder / "README.md").write_text("a card")
    (folder / "plots" / "deep").mkdir(parents=True)
    (folder / "plots" / "deep" / "a.csv").write_text("1")
    (folder / "prompts").mkdir(exist_ok=True)
    for name in ("castle.png", "77.png"):
        Image.new("RGB", (10, 12)).save(folder / "prompts" / name)
    make_world(seed=9).save_pretrained(folder)
    assert (folder / "notes.txt").read_text() == "mine" and (folder / "README.md").read_text() == "a card"
    assert (folder / "plots" / "deep" / "a.csv").read_text() == "1"
    assert [p.name for p in (folder / "prompts").iterdir()] == ["castle.png"]
    assert len(World.from_pretrained(folder, "cpu").prompts) == 1


@pytest.mark.parametrize("size", [10**21, 10**12])
def test_absurd_sizes_end_in_a_sentence(saved, size):
    _, folder = saved
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["dynamics"]["transformer"]["d_model"] = size
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"no world can be built with the sizes in .*config\.yaml"):
        World.from_pretrained(folder, "cpu")


def test_loading_and_saving_multiplies_no_pictures(saved):
    world, folder = saved
    world.prompts = [np.full((world.config.height, world.config.width, 3), i, np.uint8) for i in range(101)]
    world.save_pretrained(folder)
    Image.new("RGB", (10, 12), "red").save(folder / "prompts" / "cat.png")
    names = sorted(p.name for p in (folder / "prompts").iterdir())
    for _ in range(3):
        World.from_pretrained(folder, "cpu").save_pretrained(folder)
        assert sorted(p.name for p in (folder / "prompts").iterdir()) == names
    assert len(World.from_pretrained(folder, "cpu").prompts) == 102


@pytest.mark.parametrize("name", ["world.new", "world.old"])
def test_saving_spares_what_is_not_of_its_making(saved, make_world, name):
    world, folder = saved
    other = folder.with_name(name)
    refused = rf"{name} is in the way of saving .*world: .*; move it"
    for exists in (True, False):
        other.mkdir()
        (other / "thesis.txt").write_text("mine")
        with pytest.raises(UserError, match=refused):
            make_world(seed=9).save_pretrained(folder)
        assert (other / "thesis.txt").read_text() == "mine"
        shutil.rmtree(other)
        world.save_pretrained(other, dtype="fp32")  # a copy that somebody keeps is a whole world
        with pytest.raises(UserError, match=refused):
            make_world(seed=9).save_pretrained(folder)
        assert torch.equal(World.from_pretrained(other, "cpu").action_vectors, world.action_vectors)
        shutil.rmtree(other)
        other.write_text("mine")
        with pytest.raises(UserError, match=refused):
            make_world(seed=9).save_pretrained(folder)
        other.unlink()
        (folder.parent / "elsewhere").mkdir()
        (folder.parent / "elsewhere" / MARK).write_text("")
        other.symlink_to("elsewhere")
        with pytest.raises(UserError, match=refused):
            make_world(seed=9).save_pretrained(folder)
        assert (other / MARK).exists()
        other.unlink()
        shutil.rmtree(folder.parent / "elsewhere")
        other.mkdir()  # empty: a save was killed before its first file
        if exists:
            assert torch.equal(World.from_pretrained(folder, "cpu").action_vectors, world.action_vectors)
            make_world(seed=9).save_pretrained(folder)
            assert [p.name for p in folder.parent.iterdir()] == ["world"]
            shutil.rmtree(folder)


def test_a_save_that_was_killed_while_it_removed_the_old_world_is_no_obstacle(saved, make_world, monkeypatch):
    _, folder = saved
    (folder / "prompts").mkdir()
    unlink = type(folder).unlink

    def killed(path, missing_ok=False):
        if path.parent.name == "world.old" and path.name == "model.safetensors":
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(type(folder), "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            make_world(seed=9).save_pretrained(folder)
    assert {p.name for p in folder.parent.iterdir()} == {"world", "world.old"}
    make_world(seed=8).save_pretrained(folder)
    assert [p.name for p in folder.parent.iterdir()] == ["world"]
    assert not list(folder.glob(".*"))


def test_a_failed_save_keeps_the_old_world(saved, make_world, monkeypatch):
    world, folder = saved

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("djinn.models.serialization.save_file", full)
    with pytest.raises((OSError, UserError)):
        make_world(seed=9).save_pretrained(folder)
    assert torch.equal(World.from_pretrained(folder, "cpu").action_vectors, world.action_vectors)
    assert [p.name for p in folder.parent.iterdir()] == ["world"]


@pytest.mark.parametrize("at", ["mark", "first", "second"])
def test_a_finished_world_never_keeps_the_mark(saved, make_world, monkeypatch, at):
    _, folder = saved
    write, rename = type(folder).write_text, type(folder).rename

    def interrupted_write(path, *args, **kwargs):
        write(path, *args, **kwargs)
        if at == "mark" and path == folder / MARK:
            raise KeyboardInterrupt

    def interrupted_rename(path, target):
        if at == "second" or path != folder:
            rename(path, target)
        if path == folder.with_name("world.new") or at == "first":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(folder), "write_text", interrupted_write)
        patch.setattr(type(folder), "rename", interrupted_rename)
        with pytest.raises(KeyboardInterrupt):
            make_world(seed=9).save_pretrained(folder)
    assert (folder / "model.safetensors").is_file() and not (folder / MARK).exists()
    make_world(seed=9).save_pretrained(folder)
    assert [p.name for p in folder.parent.iterdir()] == ["world"]


def test_saving_refuses_a_folder_of_something_else(make_world, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty and no world"):
        make_world().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a file and no world"):
        make_world().save_pretrained(tmp_path / "thesis.txt")
    run = tmp_path / "run"
    run.mkdir()
    for file in ("config.yaml", "dataset.txt"):
        (run / file).write_text("")
    with pytest.raises(UserError, match=r"run is a run folder and no world: give another folder, for instance .*world"):
        make_world().save_pretrained(run)
    assert len(list(run.iterdir())) == 2
    (run / "dataset.txt").rename(run / "thesis.tex")  # config.yaml is a common name
    with pytest.raises(UserError, match="not empty and no world"):
        make_world().save_pretrained(run)
    with pytest.raises(UserError, match="fp16"):
        make_world().save_pretrained(tmp_path / "w", dtype="int4")
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("file", ["model.safetensors", "latent_action.safetensors"])
def test_strict_loading_names_the_key(saved, file):
    _, folder = saved
    tensors = load_file(folder / file)
    key = next(k for k in tensors if k.endswith("to_code.weight"))

    def load(changed, message):
        save_file(changed, folder / file)
        with pytest.raises(UserError, match=message):
            World.from_pretrained(folder, "cpu")

    load({k: v for k, v in tensors.items() if k != key}, f"{file}.*lacks.*{key}")
    load({**tensors, "stranger": torch.zeros(1)}, f"{file}.*unknown.*stranger")
    load({**tensors, key: torch.zeros(3, 5)}, rf"{key}.*\(3, 5\)")


def test_corrupt_and_foreign_files(saved, tmp_path):
    _, folder = saved
    good = (folder / "model.safetensors").read_bytes()
    for bad in (b"", b"not safetensors at all", good[: len(good) // 2]):
        (folder / "model.safetensors").write_bytes(bad)
        with pytest.raises(UserError, match=r"model\.safetensors"):
            World.from_pretrained(folder, "cpu")
    (folder / "model.safetensors").write_bytes(good)

    config = (folder / "config.yaml").read_text()
    for bad in ("{", "- 1", "height: tall", "hight: 64", "context_frames: 1"):
        (folder / "config.yaml").write_text(bad)
        with pytest.raises(UserError, match=r"config\.yaml"):
            World.from_pretrained(folder, "cpu")
    (folder / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"config\.yaml"):
        World.from_pretrained(folder, "cpu")
    (folder / "config.yaml").write_text(config)

    actions = yaml.safe_load((folder / "actions.yaml").read_text())
    first, *others = actions["actions"]
    wrong = [{**first, "keys": "ArrowUp"}, {**first, "keys": None}, {**first, "name": None}, {**first, "keys": [[]]}]
    texts = [yaml.safe_dump({"actions": entries}) for entries in (others, *([entry, *others] for entry in wrong))]
    for bad in ("actions: 3", "[", "nothing: here", *texts):
        (folder / "actions.yaml").write_text(bad)
        with pytest.raises(UserError, match=r"actions\.yaml"):
            World.from_pretrained(folder, "cpu")


def test_finding_a_world(saved, tmp_path, monkeypatch):
    _, folder = saved
    for here, name in ((folder, "."), (folder / "..", "."), (folder, "..")):
        monkeypatch.chdir(here)
        assert find_world(name).resolve() == folder
    assert find_world(folder) == folder
    assert find_world(str(folder.parent)) == folder  # a run folder
    shutil.copytree(folder, folder.parent.with_name(folder.parent.name + ".old"))
    assert find_world(str(folder.parent)) == folder  # whatever the user calls his copies
    with pytest.raises(UserError, match=r"no world at .*nowhere"):
        find_world(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no model\.safetensors"):
        find_world(tmp_path / "empty")
    (tmp_path / "empty" / "config.yaml").write_text("")
    with pytest.raises(UserError, match="no finished world yet"):
        find_world(tmp_path / "empty")


@pytest.mark.unchecked
def test_video_shape_is_checked(make_world):
    world = make_world()
    for wrong in (video()[..., :9, :], video()[0], video().float()):
        with pytest.raises(UserError, match=r"\(B, T, 12, 10, 3\)"):
            world.encode(wrong)
    assert world.encode(video()).shape == (2, 4, 9)
    assert world.infer_actions(video()).shape == (2, 3)
    decoded = world.decode(world.encode(video()))
    assert decoded.shape == (2, 4, 12, 10, 3)
    assert decoded.dtype == torch.uint8


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "LA", "I;16", "1", "CMYK"])
def test_fit_image_takes_any_picture(make_world, mode):
    world = make_world()
    for size in ((10, 12), (300, 40), (3, 200), (1, 1)):
        fitted = world.fit_image(Image.new(mode, size))
        assert fitted.shape == (12, 10, 3)
        assert fitted.dtype == np.uint8


def test_a_colour_that_stands_for_nothing_becomes_white(make_world):
    image = Image.new("RGB", (24, 24), "magenta")
    image.info["transparency"] = (255, 0, 255)
    assert (make_world().fit_image(image) == 255).all()


def test_fit_image_crops_the_centre_and_keeps_exact_frames(make_world):
    world = make_world()
    frame = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
    assert np.array_equal(world.fit_image(Image.fromarray(frame)), frame)
    large = np.full((24, 60, 3), 50, np.uint8)
    large[:, 20:40] = 200  # the centre of the world's aspect
    assert (world.fit_image(Image.fromarray(large)) == 200).all()
    assert (world.fit_image(Image.new("RGBA", (20, 24), (9, 9, 9, 0))) == 255).all()


def test_fit_image_keeps_the_light_and_turns_what_was_held_upright(make_world):
    world = make_world()
    grey = Image.fromarray(np.full((12, 10), 128 * 257, np.uint16))
    assert (world.fit_image(grey) == 128).all()
    lying = Image.new("RGB", (12, 10))
    lying.paste((255, 255, 255), (0, 0, 6, 10))
    lying.getexif()[0x0112] = 6  # the camera was turned: what is left here was above
    fitted = world.fit_image(lying)
    assert (fitted[:6] == 255).all() and (fitted[6:] == 0).all()


def test_the_meta_device_costs_nothing(make_config):
    with torch.device("meta"):
        world = build(make_config())
    assert all(p.is_meta for p in world.parameters())


def test_prompts_come_with_a_world_and_a_bad_one_is_named(make_world, tmp_path):
    world = make_world()
    size = (world.config.height, world.config.width, 3)
    world.prompts = [np.full(size, 10 * i, np.uint8) for i in range(3)]
    world.save_pretrained(tmp_path / "world")
    again = World.from_pretrained(tmp_path / "world", "cpu")
    assert all((a == b).all() for a, b in zip(again.prompts, world.prompts, strict=True))
    (tmp_path / "world" / "prompts" / "bad.png").write_text("no picture")
    with pytest.raises(UserError, match=r"bad\.png is not a readable picture"):
        World.from_pretrained(tmp_path / "world", "cpu")
