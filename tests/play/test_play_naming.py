"""Renaming of actions: server, world folder and page."""

import json
import os
import time
from pathlib import Path

import pytest
from chrome import Tab
from play_helpers import request, serving, start
from test_page import NUMBER, TIME, TOASTS, open_page

import djinn
from djinn.errors import UserError
from djinn.models.action_names import read_actions
from djinn.models.world import World
from djinn.models.world_folder import find_world
from djinn.play.naming import MAX_NAME_LENGTH, parse_name, rename

NAMES = "[...document.querySelectorAll('.action .name')].map((name) => name.value ?? name.textContent)"
ACTION = "document.getElementById('view').dataset.action"


@pytest.fixture
def folder(world: World, tmp_path: Path) -> Path:
    """World folder with names and keys as `djinn name` writes them."""
    own = World(world.config, world.latent_action)
    own.load_state_dict(world.state_dict())
    own.action_names[:3] = ["right", "up", "right + up"]
    own.action_keys[:4] = [["ArrowRight"], ["ArrowUp"], ["ArrowRight+ArrowUp"], ["Space"]]
    own.save_pretrained(tmp_path / "named", dtype="fp32")
    return tmp_path / "named"


@pytest.fixture
def named(folder: Path):
    """Address of a server of this world."""
    with serving(World.from_pretrained(folder, "cpu"), folder=folder, fps=30) as server:
        yield server


def post(server: str, code: int, name: object, **headers: str) -> tuple[int, dict]:
    status, _, body = request(server, f"/api/actions/{code}", json.dumps({"name": name}).encode(), **headers)
    return status, json.loads(body)


# ---- server


def test_name_is_saved_to_world_folder(named, folder, join) -> None:
    status, result = post(named, 4, "  прыжок ", Origin=f"http://{named}")
    assert status == 200 and result["warning"] is None
    assert result["actions"][4] == {"index": 4, "name": "прыжок", "keys": []}
    saved = read_actions(folder, 6)
    assert saved[4].name == "прыжок" and saved[4].is_custom and saved[0].keys == ("ArrowRight",)
    assert join(named).text("welcome")["world"]["actions"] == result["actions"]
    assert post(named, 4, "")[1]["actions"][4]["name"] == "action 4"
    assert not read_actions(folder, 6)[4].is_custom


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "must be"),
        (b"[]", "must be"),
        (b'{"name": 3}', "must be"),
        (b'{"name": "a", "keys": []}', "must be"),
        (b'{"name": "a\\nb"}', "cannot be displayed"),
        (b'{"name": "\\ud800"}', "cannot be displayed"),
        (json.dumps({"name": "x" * (MAX_NAME_LENGTH + 1)}).encode(), "limit is 32"),
        (b'{"name": "left, jump"}', "must not contain a comma or consist of digits"),
        (b'{"name": " 3 "}', "must not contain a comma or consist of digits"),
        (b"[" * 900, "must be"),
    ],
)
def test_invalid_name_raises_user_error(body: bytes, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        parse_name(body)


def test_name_from_another_origin_is_refused(named, folder) -> None:
    before = (folder / "actions.yaml").read_bytes()
    assert post(named, 0, "x", Origin="http://evil.example")[0] == 403
    assert post(named, 6, "x")[0] == 404
    assert post(named, 0, "x" * 40)[0] == 422
    assert post(named, 0, "x" * 2000)[0] == 413
    assert request(named, "/api/actions/0")[0] == 405
    assert (folder / "actions.yaml").read_bytes() == before


def test_unwritable_folder_gives_warning_and_name_lasts_until_stop(folder, monkeypatch) -> None:
    world = World.from_pretrained(folder, "cpu")

    def refuse(*_: object) -> None:
        raise UserError("cannot write actions.yaml: permission denied")

    monkeypatch.setattr("djinn.play.naming.save_actions", refuse)
    warning = rename(world, folder, 0, "go")
    assert (
        warning is not None
        and "cannot write actions.yaml: permission denied." in warning
        and "until the server" in warning
    )
    assert world.action_names[0] == "go" and "has no folder" in str(rename(world, None, 1, "x"))
    (folder / "actions.yaml").write_text("{")
    assert "is not valid YAML" in str(rename(world, folder, 0, "go"))


def test_server_process_saves_names_to_world_folder(folder) -> None:
    process = start(folder, 0)
    assert process.stdout is not None
    try:
        server = process.stdout.readline().split("http://")[1].split()[0]
        assert post(server, 3, "dash")[0] == 200
        assert read_actions(folder, 6)[3].name == "dash"
        assert not [name for name in os.listdir(folder) if name.endswith(".tmp")]
    finally:
        process.terminate()
        process.wait(20)


def test_name_for_shipped_world_is_saved_to_user_data_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DJINN_DATA_DIR", str(tmp_path / "user"))
    package = Path(djinn.__file__).parent
    folder = find_world("coinrun")
    assert folder.is_relative_to(package)
    before = {path: path.stat().st_mtime_ns for path in package.rglob("*") if "__pycache__" not in path.parts}
    with serving(World.from_pretrained(folder, "cpu"), folder=folder) as server:
        status, result = post(server, 0, "wait here")
    assert status == 200 and result["warning"] is None
    after = {path: path.stat().st_mtime_ns for path in package.rglob("*") if "__pycache__" not in path.parts}
    assert after == before
    assert (tmp_path / "user" / "worlds" / "coinrun" / "actions.yaml").is_file()
    assert World.from_pretrained("coinrun", "cpu").action_names[0] == "wait here"
    monkeypatch.setenv("DJINN_DATA_DIR", str(tmp_path / "other"))
    assert World.from_pretrained("coinrun", "cpu").action_names[0] == "stay"


# ---- page


def type_into(tab: Tab, text: str) -> None:
    tab.js("document.activeElement.select()")
    tab.call("Input.insertText", text=text)


def test_action_is_renamed_on_page(named, folder, browser, tab) -> None:
    open_page(tab, named)
    assert tab.js(NAMES) == ["right", "up", "right + up", "action 3", "action 4", "action 5"]
    tab.press("e")
    tab.wait("document.activeElement.matches('input.name')")
    type_into(tab, "run 1 e")
    tab.press("1")  # types into the input, plays nothing
    tab.press("Enter")
    tab.wait("document.querySelectorAll('button.action').length === 6")
    tab.wait(f"{NAMES}[0] === 'run 1 e'")
    assert read_actions(folder, 6)[0].name == "run 1 e" and read_actions(folder, 6)[0].keys == ("ArrowRight",)
    assert tab.js(TIME) == 0 and tab.js("document.activeElement === document.body")
    other = browser.tab()
    open_page(other, named)
    assert other.js(NAMES)[0] == "run 1 e"
    assert other.js("document.querySelector('#idle').options[1].text") == "play run 1 e"
    other.close()
    assert tab.errors() == [] and tab.js(TOASTS) == ""


def test_escape_cancels_and_invalid_name_is_reported(named, folder, tab) -> None:
    open_page(tab, named)
    tab.js("document.getElementById('rename').click()")
    type_into(tab, "nonsense")
    tab.press("Escape")
    tab.wait("document.querySelectorAll('button.action').length === 6")
    time.sleep(0.2)
    assert tab.js(NAMES)[0] == "right" and read_actions(folder, 6)[0].name == "right"
    tab.press("e")
    assert tab.js("document.activeElement.maxLength") == MAX_NAME_LENGTH
    tab.js("document.activeElement.value = 'a\\u0007b'; document.activeElement.dispatchEvent(new Event('change'))")
    tab.wait(f"{TOASTS}.includes('cannot be displayed')")
    tab.press("e")  # types into the input
    tab.js("document.getElementById('rename').click()")
    tab.wait("document.querySelectorAll('button.action').length === 6")


def test_keys_listed_by_world_play_their_actions(named, tab) -> None:
    open_page(tab, named)
    tab.key("down", "ArrowRight")
    tab.wait(f"{ACTION} === '0'")
    tab.key("down", "ArrowUp")
    tab.wait(f"{ACTION} === '2'")  # both keys held
    assert tab.js("document.querySelector('.action.on').dataset.action") == "2"
    tab.key("down", "4")
    tab.wait(f"{ACTION} === '4'")  # the newest key
    tab.key("up", "4")
    tab.wait(f"{ACTION} === '2'")
    tab.key("up", "ArrowRight")
    tab.wait(f"{ACTION} === '1'")
    tab.key("up", "ArrowUp")
    number = tab.js(NUMBER)
    for kind in ("rawKeyDown", "keyUp"):
        tab.call("Input.dispatchKeyEvent", type=kind, key=" ", code="Space", windowsVirtualKeyCode=32)
    tab.wait(f"{NUMBER} > {number} && {ACTION} === '3'")
    caps = tab.js("[...document.querySelectorAll('.action')].map((tile) => tile.querySelector('.caps').innerText)")
    assert [text.split() for text in caps[:4]] == [["0", "→"], ["1", "↑"], ["2", "→↑"], ["3", "␣"]]
    assert tab.errors() == []
