import shutil

import pytest
import torch
from PIL import Image

from djinn.errors import UserError
from djinn.models.world import World
from djinn.models.world_folder import MARK, find_world


def test_saving_replaces_an_older_world_and_leaves_no_temporary_folder(saved, make_world):
    _, folder = saved
    (folder / "README.md").write_text("about")
    other = make_world(seed=9)
    other.save_pretrained(folder, dtype="fp32")
    assert torch.equal(World.from_pretrained(folder, "cpu").action_vectors, other.action_vectors)
    assert [p.name for p in folder.parent.iterdir()] == ["world"]
    assert (folder / "README.md").read_text() == "about"


def test_interrupted_save_is_recovered_by_find_world_and_by_the_next_save(saved, make_world, monkeypatch):
    world, folder = saved
    (folder / "README.md").write_text("about")
    old, new = folder.with_name("world.old"), folder.with_name("world.new")
    rename = type(folder).rename

    def interrupted(path, target):
        if path == new:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(type(folder), "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_world(seed=9).save_pretrained(folder)
    assert {p.name for p in folder.parent.iterdir()} == {"world.old", "world.new"}
    assert find_world(folder) == find_world(folder.parent) == old
    assert World.from_pretrained(folder, "cpu").action_names == world.action_names

    with monkeypatch.context() as patch:
        patch.setattr("djinn.models.serialization.save_file", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make_world(seed=9).save_pretrained(folder)
    assert not (folder / MARK).exists()  # recovered, not replaced

    other = make_world(seed=9)
    other.save_pretrained(folder, dtype="fp32")
    assert [p.name for p in folder.parent.iterdir()] == ["world"]
    loaded = World.from_pretrained(folder, "cpu")
    assert torch.equal(loaded.action_vectors, other.action_vectors)
    assert (loaded.action_names, loaded.action_keys) == (world.action_names, world.action_keys)
    assert (folder / "README.md").read_text() == "about"


def test_all_files_have_the_same_permissions(saved):
    _, folder = saved
    assert len({path.stat().st_mode for path in folder.iterdir() if path.is_file()}) == 1


def test_user_files_survive_saving_and_saved_prompts_are_replaced(saved, make_world):
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


@pytest.mark.parametrize("name", ["world.new", "world.old"])
def test_user_entry_under_a_temporary_name_is_not_replaced(saved, make_world, name):
    world, folder = saved
    other = folder.with_name(name)
    refused = rf"{name} is in the way of saving .*world, .*: move or delete it"
    for exists in (True, False):
        other.mkdir()
        (other / "thesis.txt").write_text("mine")
        with pytest.raises(UserError, match=refused):
            make_world(seed=9).save_pretrained(folder)
        assert (other / "thesis.txt").read_text() == "mine"
        shutil.rmtree(other)
        world.save_pretrained(other, dtype="fp32")  # a complete world without the mark is the user's copy
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
        other.mkdir()  # empty: a save was interrupted before its first file
        if exists:
            assert torch.equal(World.from_pretrained(folder, "cpu").action_vectors, world.action_vectors)
            make_world(seed=9).save_pretrained(folder)
            assert [p.name for p in folder.parent.iterdir()] == ["world"]
            shutil.rmtree(folder)


def test_interrupted_removal_of_the_old_world_does_not_block_the_next_save(saved, make_world, monkeypatch):
    _, folder = saved
    (folder / "prompts").mkdir()
    unlink = type(folder).unlink

    def interrupted(path, missing_ok=False):
        if path.parent.name == "world.old" and path.name == "model.safetensors":
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(type(folder), "unlink", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_world(seed=9).save_pretrained(folder)
    assert {p.name for p in folder.parent.iterdir()} == {"world", "world.old"}
    make_world(seed=8).save_pretrained(folder)
    assert [p.name for p in folder.parent.iterdir()] == ["world"]
    assert not list(folder.glob(".*"))


def test_failed_save_keeps_the_old_world(saved, make_world, monkeypatch):
    world, folder = saved

    def disk_full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("djinn.models.serialization.save_file", disk_full)
    with pytest.raises(UserError, match=r"no space left to save world .*world: free some space"):
        make_world(seed=9).save_pretrained(folder)
    assert torch.equal(World.from_pretrained(folder, "cpu").action_vectors, world.action_vectors)
    assert [p.name for p in folder.parent.iterdir()] == ["world"]


@pytest.mark.parametrize("interruption", ["mark", "first rename", "second rename"])
def test_complete_world_never_keeps_the_mark(saved, make_world, monkeypatch, interruption):
    _, folder = saved
    write, rename = type(folder).write_text, type(folder).rename

    def interrupted_write(path, *args, **kwargs):
        write(path, *args, **kwargs)
        if interruption == "mark" and path == folder / MARK:
            raise KeyboardInterrupt

    def interrupted_rename(path, target):
        if interruption == "second rename" or path != folder:
            rename(path, target)
        if path == folder.with_name("world.new") or interruption == "first rename":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(folder), "write_text", interrupted_write)
        patch.setattr(type(folder), "rename", interrupted_rename)
        with pytest.raises(KeyboardInterrupt):
            make_world(seed=9).save_pretrained(folder)
    assert (folder / "model.safetensors").is_file() and not (folder / MARK).exists()
    make_world(seed=9).save_pretrained(folder)
    assert [p.name for p in folder.parent.iterdir()] == ["world"]


def test_folder_that_is_not_a_world_is_not_replaced(make_world, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty and not a world"):
        make_world().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a file, not a world"):
        make_world().save_pretrained(tmp_path / "thesis.txt")
    run = tmp_path / "run"
    run.mkdir()
    for file in ("config.yaml", "dataset.txt"):
        (run / file).write_text("")
    with pytest.raises(UserError, match=r"run is a run folder, not a world: give another folder, for instance .*world"):
        make_world().save_pretrained(run)
    assert len(list(run.iterdir())) == 2
    (run / "dataset.txt").rename(run / "thesis.tex")  # config.yaml alone does not make a world
    with pytest.raises(UserError, match="not empty and not a world"):
        make_world().save_pretrained(run)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_world_is_found_by_its_folder_and_by_its_run_folder(saved, monkeypatch):
    _, folder = saved
    for cwd, name in ((folder, "."), (folder / "..", "."), (folder, "..")):
        monkeypatch.chdir(cwd)
        assert find_world(name).resolve() == folder
    assert find_world(folder) == folder
    assert find_world(str(folder.parent)) == folder
    shutil.copytree(folder, folder.parent.with_name(folder.parent.name + ".old"))
    assert find_world(str(folder.parent)) == folder  # an unrelated copy of the run folder


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (None, r"nowhere; shipped worlds: coinrun"),
        ("notes.txt", r"is not a world or run folder: it contains no model\.safetensors; shipped worlds: coinrun"),
        ("config.yaml", "contains no finished world: train its dynamics stage first"),
        ("dataset.json", "is a data set, not a world: train a world on it first"),
    ],
)
def test_missing_world_is_reported_with_the_reason(tmp_path, file, message):
    folder = tmp_path / "nowhere"
    if file is not None:
        folder.mkdir()
        (folder / file).write_text("")
    with pytest.raises(UserError, match=message):
        find_world(folder)


def test_unreadable_folder_is_reported_with_the_reason(tmp_path, monkeypatch):
    def denied(path, **_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "exists", denied)
    with pytest.raises(UserError, match=r"no permission to read .*private: change the permissions"):
        find_world(tmp_path / "private")
