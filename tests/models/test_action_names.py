import hashlib

import pytest
import yaml

from djinn.errors import UserError
from djinn.models.action_names import (
    DATA_DIR_VARIABLE,
    ActionName,
    actions_file,
    default_name,
    proposed,
    read_actions,
    read_folder_actions,
    save_actions,
    user_data_dir,
)
from djinn.models.world import World
from djinn.models.world_folder import SHIPPED
from djinn.play.naming import rename

COINRUN = SHIPPED / "coinrun"


@pytest.fixture
def user_file(tmp_path, monkeypatch):
    """Redirect the user's data folder; returns the file with the user's names for `coinrun`."""
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path / "data"))
    return tmp_path / "data" / "worlds" / "coinrun" / "actions.yaml"


def package_checksums():
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in SHIPPED.rglob("*") if path.is_file()}


def test_actions_round_trip_through_a_world_folder(tmp_path):
    actions = [proposed(0, "ø: [left]", ["ArrowLeft", " "], "yes, no"), ActionName(1, "on"), ActionName(2, "1", ("a",))]
    assert save_actions(tmp_path, actions) == tmp_path / "actions.yaml" == actions_file(tmp_path)
    assert read_actions(tmp_path, 3) == read_folder_actions(tmp_path, 3) == actions
    assert [action.is_custom for action in actions] == [False, True, True]
    assert [path.name for path in tmp_path.iterdir()] == ["actions.yaml"]


def test_actions_without_a_file_have_default_names(tmp_path):
    assert [action.name for action in read_actions(tmp_path, 2)] == ["action 0", "action 1"]
    assert not any(action.is_custom for action in read_actions(tmp_path, 2))


def test_renaming_an_action_of_a_shipped_world_leaves_the_package_unchanged(user_file):
    before = package_checksums()
    world = World.from_pretrained("coinrun", "cpu")
    assert rename(world, COINRUN, 3, "dash") is None
    assert package_checksums() == before
    assert list(yaml.safe_load(user_file.read_text())["actions"]) == [3]


def test_names_of_the_user_override_the_package_at_load(user_file):
    names = World.from_pretrained("coinrun", "cpu").action_names
    actions = read_actions(COINRUN, len(names))
    assert save_actions(COINRUN, [*actions[:3], actions[3].renamed("dash"), *actions[4:]]) == user_file
    loaded = World.from_pretrained("coinrun", "cpu")
    assert loaded.action_names == [*names[:3], "dash", *names[4:]]
    renamed = read_actions(COINRUN, len(names))[3]
    assert renamed.is_custom and renamed.keys == actions[3].keys and renamed.proposal == actions[3].proposal
    assert read_folder_actions(COINRUN, len(names)) == actions


def test_restoring_the_names_of_the_package_removes_the_file_of_the_user(user_file):
    actions = read_actions(COINRUN, 8)
    save_actions(COINRUN, [*actions[:7], actions[7].renamed(default_name(7))])
    assert read_actions(COINRUN, 8)[7].name == "action 7"
    save_actions(COINRUN, actions)
    assert not user_file.exists()
    assert read_actions(COINRUN, 8) == actions


def test_copy_of_a_shipped_world_has_its_own_names(user_file, tmp_path):
    world = World.from_pretrained("coinrun", "cpu")
    world.save_pretrained(tmp_path / "coinrun")
    assert rename(world, tmp_path / "coinrun", 0, "wait") is None
    assert read_actions(tmp_path / "coinrun", 8)[0].name == "wait"
    assert not user_file.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("actions: {8: {name: a}}", "names action 8, but the world has 8: delete the file"),
        ("actions: [{name: a}]", "is invalid"),
        ("actions: {left: {name: a}}", "is invalid"),
        ("{", "is not valid YAML"),
    ],
)
def test_invalid_file_of_the_user_is_refused_by_name(user_file, text, message):
    user_file.parent.mkdir(parents=True)
    user_file.write_text(text)
    with pytest.raises(UserError, match=rf"data/worlds/coinrun/actions\.yaml {message}"):
        read_actions(COINRUN, 8)


def test_unwritable_data_folder_is_reported_with_the_reason(user_file):
    user_file.parent.parent.parent.write_text("a file in place of the folder")
    with pytest.raises(UserError, match=r"cannot write .*actions\.yaml \(not a directory\)"):
        save_actions(COINRUN, [action.renamed("x") for action in read_actions(COINRUN, 8)])


def test_data_folder_without_the_variable_is_the_platform_default(monkeypatch):
    monkeypatch.delenv(DATA_DIR_VARIABLE, raising=False)
    assert user_data_dir().name == "djinn"
