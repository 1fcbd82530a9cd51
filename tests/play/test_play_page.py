"""The page as people meet it: a real server, a real Chromium, real key events."""

import hashlib
import io
import time
from pathlib import Path

import av
import pytest
from chrome import Tab
from PIL import Image
from playing import huge_png, players, until

PIXELS = """[...document.getElementById('view').getContext('2d').getImageData(0, 0, 32, 32).data].join()"""
TIME = "Number(document.getElementById('view').dataset.time)"
NUMBER = "Number(document.getElementById('view').dataset.number)"
TOASTS = "document.getElementById('toasts').innerText"


def enter(tab: Tab, server: str) -> None:
    tab.open(f"http://{server}/")
    tab.wait(NUMBER)


def pixels(tab: Tab) -> str:
    return hashlib.sha256(tab.js(PIXELS).encode()).hexdigest()


def press(tab: Tab, key: str) -> str:
    """Presses a key that makes one frame, and returns the picture."""
    number = tab.js(NUMBER)
    tab.press(key)
    tab.wait(f"{NUMBER} > {number}")
    return pixels(tab)


def set_seed(tab: Tab, seed: int) -> None:
    number = tab.js(NUMBER)
    tab.js(f"seed = document.getElementById('seed'); seed.value = {seed}; seed.dispatchEvent(new Event('change'))")
    tab.wait(f"{NUMBER} > {number}")


def test_the_page_opens_with_a_first_frame_and_without_a_complaint(server, tab, prompts) -> None:
    enter(tab, server)
    assert tab.js("document.title") == "Djinn · tiny-world"
    assert tab.js("document.querySelectorAll('.action').length") == 6
    assert tab.js("getComputedStyle(document.getElementById('view')).imageRendering") == "pixelated"
    size = tab.js("[document.getElementById('view').clientWidth, document.getElementById('view').clientHeight]")
    assert size[0] == size[1] >= 400 and size[0] % 32 == 0
    assert (
        tab.js("new Set([...document.getElementById('view').getContext('2d').getImageData(0,0,32,32).data]).size") > 3
    )
    tab.wait("[...document.querySelectorAll('#gallery img')].every((image) => image.complete && image.naturalWidth)")
    assert tab.js("document.querySelectorAll('#gallery img').length") == len(prompts)
    assert tab.complaints() == []


@pytest.mark.parametrize("key", ["2", "ArrowRight", "d"])
def test_a_held_key_plays_fifty_frames_and_stops_when_it_is_let_go(server, tab, key) -> None:
    enter(tab, server)
    tab.key("down", key)
    tab.wait(f"{TIME} >= 50", seconds=60)
    assert tab.js("document.querySelector('.action.on').dataset.action") == "1"
    tab.key("up", key)
    time.sleep(0.3)
    stopped = tab.js(TIME)
    time.sleep(0.4)
    assert tab.js(TIME) == stopped
    assert tab.js("document.querySelector('.action.on')") is None
    assert float(tab.wait("parseFloat(document.getElementById('fps').textContent)")) > 0
    assert tab.wait("document.getElementById('latency').textContent").endswith("ms")
    assert tab.complaints() == [] and tab.js(TOASTS) == ""


def test_two_actions_give_different_futures_from_one_prompt_and_one_seed(server, tab) -> None:
    enter(tab, server)
    tab.press("p")
    futures = []
    for key in ("1", "2", "1"):
        set_seed(tab, 7)
        futures.append([pixels(tab), *(press(tab, key) for _ in range(4))])
    assert futures[0] == futures[2]
    assert futures[0][0] == futures[1][0] and futures[0][1:] != futures[1][1:]


def test_undo_goes_back_to_the_same_pixels(server, tab) -> None:
    enter(tab, server)
    tab.press("p")
    seen = [pixels(tab), *(press(tab, key) for key in "123")]
    assert len(set(seen)) > 1
    assert [press(tab, "u") for _ in range(3)] == seen[2::-1]
    assert tab.js("document.getElementById('undo').disabled")
    assert press(tab, "1") == seen[1]
    assert press(tab, "r") == seen[0]


def test_a_pause_plays_one_frame_a_press(server, tab) -> None:
    enter(tab, server)
    tab.press("p")
    tab.key("down", "3")
    tab.wait(f"{TIME} === 1")
    time.sleep(0.4)
    assert tab.js(TIME) == 1
    tab.key("up", "3")
    press(tab, "n")
    assert tab.js("[document.getElementById('view').dataset.time, document.getElementById('view').dataset.action]") == [
        "2",
        "2",
    ]
    tab.press("p")
    tab.key("down", "1")
    tab.wait(f"{TIME} > 8")
    tab.key("up", "1")


def test_the_newest_of_two_held_keys_counts(server, tab) -> None:
    enter(tab, server)
    action = "document.getElementById('view').dataset.action"
    tab.key("down", "1")
    tab.wait(f"{action} === '0'")
    tab.key("down", "ArrowUp")
    tab.wait(f"{action} === '2'")
    tab.key("up", "ArrowUp")
    tab.wait(f"{action} === '0'")
    tab.key("up", "1")


def test_a_finger_holds_a_button(server, tab) -> None:
    tab.size(390, 844, phone=True)
    enter(tab, server)
    assert tab.js("document.documentElement.scrollWidth") == 390
    x, y = tab.js(
        "b = document.querySelectorAll('.action')[4].getBoundingClientRect(); [b.x + b.width / 2, b.y + b.height / 2]"
    )
    tab.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    tab.wait(f"{TIME} > 5 && document.getElementById('view').dataset.action === '4'")
    tab.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    time.sleep(0.3)
    stopped = tab.js(TIME)
    time.sleep(0.3)
    assert tab.js(TIME) == stopped and tab.complaints() == []


def test_a_picture_of_ones_own_becomes_the_start(server, tab, tmp_path: Path) -> None:
    enter(tab, server)
    before = pixels(tab)
    Image.effect_mandelbrot((300, 200), (-2, -1, 1, 1), 60).save(tmp_path / "own.png")
    tab.choose_file("#file", tmp_path / "own.png")
    tab.wait(f"document.querySelectorAll('#gallery img').length === 3 && {NUMBER} > 1")
    after = pixels(tab)
    assert after != before and tab.js(TIME) == 0
    number = tab.js(NUMBER)
    tab.js("document.querySelector('#gallery button').click()")
    tab.wait(f"{NUMBER} > {number}")
    assert pixels(tab) == before
    assert tab.complaints() == []


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("huge.png", huge_png(10_000), "100 megapixels"),
        ("notes.txt", b"only words", "not a readable image"),
        ("large.jpg", b"\0" * 9_000_000, "at most 8 MB"),
    ],
)
def test_a_bad_picture_gets_a_sentence_and_the_game_goes_on(server, tab, tmp_path: Path, name, data, sentence) -> None:
    enter(tab, server)
    (tmp_path / name).write_bytes(data)
    tab.choose_file("#file", tmp_path / name)
    tab.wait(f"{TOASTS}.includes({sentence!r})")
    tab.key("down", "1")
    tab.wait(f"{TIME} > 5")
    tab.key("up", "1")


def test_a_picture_can_be_dropped(server, tab) -> None:
    enter(tab, server)
    drop = """(async () => {
      const canvas = Object.assign(document.createElement('canvas'), { width: 50, height: 50 });
      canvas.getContext('2d').fillRect(9, 9, 20, 20);
      const blob = await new Promise((done) => canvas.toBlob(done, 'image/webp'));
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([blob], 'dropped.webp', { type: 'image/webp' }));
      const seen = [];
      for (const type of ['dragover', 'drop']) {
        document.body.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
        seen.push(document.getElementById('drop').hidden);
      }
      return seen;
    })()"""
    assert tab.js(drop) == [False, True]
    tab.wait(f"document.querySelectorAll('#gallery img').length === 3 && {NUMBER} > 1")


def test_a_recording_is_saved_as_a_film(server, tab, tmp_path: Path) -> None:
    enter(tab, server)
    tab.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    tab.press("c")
    tab.wait("document.getElementById('record').getAttribute('aria-pressed') === 'true'")
    tab.press("p")
    for key in "12345":
        press(tab, key)
    tab.press("c")
    tab.wait("document.getElementById('film-text').textContent === 'Recorded: 6 frames.'")
    for kind in ("mp4", "gif"):
        tab.js(f"document.getElementById('save-{kind}').click()")
        path = tmp_path / f"djinn-tiny-world.{kind}"
        until(path.exists)
        with av.open(io.BytesIO(path.read_bytes())) as container:
            assert sum(1 for _ in container.decode(video=0)) == 6
    assert tab.complaints() == []


def test_sliders_change_how_the_world_dreams(server, tab) -> None:
    enter(tab, server)
    for name, value, words in (("steps", 1, "1"), ("temperature", 0, "0.00"), ("pace", 61, "no limit")):
        tab.js(f"s = document.getElementById('{name}'); s.value = {value}; s.dispatchEvent(new Event('change'))")
        tab.wait(f"document.getElementById('{name}-out').textContent === {words!r}")
    tab.js("i = document.getElementById('idle'); i.value = '3'; i.dispatchEvent(new Event('change'))")
    tab.wait(f"{TIME} > 20 && document.getElementById('view').dataset.action === '3'")
    assert tab.complaints() == []


def test_help_opens_and_keys_rest_meanwhile(server, tab) -> None:
    enter(tab, server)
    tab.press("h")
    tab.wait("document.getElementById('help').open")
    tab.press("1")
    tab.key("down", "Escape")
    tab.key("up", "Escape")
    tab.wait("!document.getElementById('help').open")
    assert tab.js(TIME) == 0


def test_two_tabs_are_two_players_and_a_closed_one_is_gone(server, browser, tab) -> None:
    until(lambda: players(server) == 0)
    enter(tab, server)
    other = browser.tab()
    enter(other, server)
    assert players(server) == 2
    other.key("down", "1")
    other.wait(f"{TIME} > 5")
    assert tab.js(TIME) == 0
    other.close()
    until(lambda: players(server) == 1)


def test_a_page_that_lost_its_server_says_so_and_comes_back(server, tab) -> None:
    tab.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source="const W = WebSocket; window.WebSocket = class extends W {"
        "constructor(...a) { super(...a); window.socket = this; } }",
    )
    enter(tab, server)
    tab.js("window.socket.close()")
    tab.wait("document.getElementById('curtain-text').textContent.includes('connection')")
    tab.wait("document.getElementById('curtain').hidden && window.socket.readyState === 1")
    press(tab, "1")
