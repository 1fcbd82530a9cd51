"""Names that players give to actions: the server, the folder, and the page."""

import json
import os
import time
from pathlib import Path

import pytest
from chrome import Tab
from playing import ask, serving, start
from test_play_page import NUMBER, TIME, TOASTS, enter

from djinn.errors import UserError
from djinn.models.action_names import read_actions
from djinn.models.world import World
from djinn.play.naming import LONGEST_NAME, read_name, rename

NAMES = "[...document.querySelectorAll('.action .name')].map((name) => name.value ?? name.textContent)"
ACTION = "document.getElementById('view').dataset.action"


@pytest.fixture
def folder(world: World, tmp_path: Path) -> Path:
    """A folder of its own with a world whose keys are as `djinn name` writes them."""
    own = World(world.config, world.latent_action)
    own.load_state_dict(world.state_dict())
    own.action_names[:3] = ["right", "up", "right + up"]
    own.action_keys[:4] = [["ArrowRight"], ["ArrowUp"], ["ArrowRight+ArrowUp"], ["Space"]]
    own.save_pretrained(tmp_path / "named", dtype="fp32")
    return tmp_path / "named"


@pytest.fixture
def named(folder: Path):
    """Address of a server that plays it."""
    with serving(World.from_pretrained(folder, "cpu"), folder=folder, fps=30) as server:
        yield server


def post(server: str, code: int, name: object, **headers: str) -> tuple[int, dict]:
    status, _, body = ask(server, f"/api/actions/{code}", json.dumps({"name": name}).encode(), **headers)
    return status, json.loads(body)


# ------------------------------------------------------------------------------------------------------------- server


def test_a_name_is_written_into_the_folder(named, folder, join) -> None:
    status, told = post(named, 4, "  прыжок ", Origin=f"http://{named}")
    assert status == 200 and told["warning"] is None
    assert told["actions"][4] == {"index": 4, "name": "прыжок", "keys": []}
    kept = read_actions(folder, 6)
    assert kept[4].name == "прыжок" and kept[4].own and kept[0].keys == ("ArrowRight",)
    assert join(named).text("welcome")["world"]["actions"] == told["actions"]
    assert post(named, 4, "")[1]["actions"][4]["name"] == "action 4"
    assert not read_actions(folder, 6)[4].own


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "given as"),
        (b"[]", "given as"),
        (b'{"name": 3}', "given as"),
        (b'{"name": "a", "keys": []}', "given as"),
        (b'{"name": "a\\nb"}', "cannot be shown"),
        (b'{"name": "\\ud800"}', "cannot be shown"),
        (json.dumps({"name": "x" * (LONGEST_NAME + 1)}).encode(), "at most 32"),
        (b"[" * 900, "given as"),
    ],
)
def test_a_bad_name_gets_a_sentence(body: bytes, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_name(body)


def test_names_from_elsewhere_are_refused(named, folder) -> None:
    before = (folder / "actions.yaml").read_bytes()
    assert post(named, 0, "x", Origin="http://evil.example")[0] == 403
    assert post(named, 6, "x")[0] == 404
    assert post(named, 0, "x" * 40)[0] == 422
    assert post(named, 0, "x" * 2000)[0] == 413
    assert ask(named, "/api/actions/0")[0] == 405
    assert (folder / "actions.yaml").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_said_and_the_name_lasts_meanwhile(folder, monkeypatch) -> None:
    world = World.from_pretrained(folder, "cpu")

    def refuse(*_: object) -> None:
        raise UserError("cannot write actions.yaml: permission denied")

    monkeypatch.setattr("djinn.play.naming.save_actions", refuse)
    warning = rename(world, folder, 0, "go")
    assert warning is not None and "cannot write actions.yaml: permission denied." in warning and "until the server" in warning
    assert world.action_names[0] == "go" and "in no folder" in str(rename(world, None, 1, "x"))
    (folder / "actions.yaml").write_text("{")
    assert "is not valid YAML" in str(rename(world, folder, 0, "go"))


def test_a_served_folder_gets_the_names(folder) -> None:
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


# --------------------------------------------------------------------------------------------------------------- page


def type_into(tab: Tab, text: str) -> None:
    tab.js("document.activeElement.select()")
    tab.call("Input.insertText", text=text)


def test_an_action_is_renamed_in_the_page(named, folder, browser, tab) -> None:
    enter(tab, named)
    assert tab.js(NAMES) == ["right", "up", "right + up", "action 4", "action 5", "action 6"]
    tab.press("e")
    tab.wait("document.activeElement.matches('input.name')")
    type_into(tab, "run 1 e")
    tab.press("1")  # goes to the field and not to the game
    tab.press("Enter")
    tab.wait("document.querySelectorAll('button.action').length === 6")
    tab.wait(f"{NAMES}[0] === 'run 1 e'")
    assert read_actions(folder, 6)[0].name == "run 1 e" and read_actions(folder, 6)[0].keys == ("ArrowRight",)
    assert tab.js(TIME) == 0 and tab.js("document.activeElement === document.body")
    other = browser.tab()
    enter(other, named)
    assert other.js(NAMES)[0] == "run 1 e"
    assert other.js("document.querySelector('#idle').options[1].text") == "play run 1 e"
    other.close()
    assert tab.complaints() == [] and tab.js(TOASTS) == ""


def test_escape_changes_nothing_and_a_bad_name_is_told(named, folder, tab) -> None:
    enter(tab, named)
    tab.js("document.getElementById('rename').click()")
    type_into(tab, "nonsense")
    tab.press("Escape")
    tab.wait("document.querySelectorAll('button.action').length === 6")
    time.sleep(0.2)
    assert tab.js(NAMES)[0] == "right" and read_actions(folder, 6)[0].name == "right"
    tab.press("e")
    assert tab.js("document.activeElement.maxLength") == LONGEST_NAME
    tab.js("document.activeElement.value = 'a\\u0007b'; document.activeElement.dispatchEvent(new Event('change'))")
    tab.wait(f"{TOASTS}.includes('cannot be shown')")
    tab.press("e")  # into the field
    tab.js("document.getElementById('rename').click()")
    tab.wait("document.querySelectorAll('button.action').length === 6")


def test_arrows_and_space_play_what_the_world_says(named, tab) -> None:
    enter(tab, named)
    tab.key("down", "ArrowRight")
    tab.wait(f"{ACTION} === '0'")
    tab.key("down", "ArrowUp")
    tab.wait(f"{ACTION} === '2'")  # both at once
    assert tab.js("document.querySelector('.action.on').dataset.action") == "2"
    tab.key("down", "5")
    tab.wait(f"{ACTION} === '4'")  # the newest counts
    tab.key("up", "5")
    tab.wait(f"{ACTION} === '2'")
    tab.key("up", "ArrowRight")
    tab.wait(f"{ACTION} === '1'")
    tab.key("up", "ArrowUp")
    number = tab.js(NUMBER)
    for kind in ("rawKeyDown", "keyUp"):
        tab.call("Input.dispatchKeyEvent", type=kind, key=" ", code="Space", windowsVirtualKeyCode=32)
    tab.wait(f"{NUMBER} > {number} && {ACTION} === '3'")
    caps = tab.js("[...document.querySelectorAll('.action')].map((tile) => tile.querySelector('.caps').innerText)")
    assert [text.split() for text in caps[:4]] == [["1", "→"], ["2", "↑"], ["3", "→↑"], ["4", "␣"]]
    assert tab.complaints() == []
