"""The page in Chromium, with key events, against a server process."""

import hashlib
import io
import time
from pathlib import Path

import av
import pytest
from chrome import Tab
from PIL import Image
from play_helpers import huge_png, player_count, wait_until

PIXELS = """[...document.getElementById('view').getContext('2d').getImageData(0, 0, 32, 32).data].join()"""
TIME = "Number(document.getElementById('view').dataset.time)"
NUMBER = "Number(document.getElementById('view').dataset.number)"
TOASTS = "document.getElementById('toasts').innerText"


def open_page(tab: Tab, server: str) -> None:
    tab.open(f"http://{server}/")
    tab.wait(NUMBER)


def pixels(tab: Tab) -> str:
    return hashlib.sha256(tab.js(PIXELS).encode()).hexdigest()


def press(tab: Tab, key: str) -> str:
    """Press a key that leads to one frame, and return a hash of the frame."""
    number = tab.js(NUMBER)
    tab.press(key)
    tab.wait(f"{NUMBER} > {number}")
    return pixels(tab)


def set_seed(tab: Tab, seed: int) -> None:
    number = tab.js(NUMBER)
    tab.js(f"seed = document.getElementById('seed'); seed.value = {seed}; seed.dispatchEvent(new Event('change'))")
    tab.wait(f"{NUMBER} > {number}")


def test_page_opens_with_first_frame_and_without_errors(server, tab, prompts) -> None:
    open_page(tab, server)
    assert tab.js("document.title") == "tiny-world · Djinn"
    assert tab.js("document.querySelectorAll('.action').length") == 6
    assert tab.js("getComputedStyle(document.getElementById('view')).imageRendering") == "pixelated"
    size = tab.js("[document.getElementById('view').clientWidth, document.getElementById('view').clientHeight]")
    assert size[0] == size[1] >= 400 and size[0] % 32 == 0
    assert (
        tab.js("new Set([...document.getElementById('view').getContext('2d').getImageData(0,0,32,32).data]).size") > 3
    )
    tab.wait("[...document.querySelectorAll('#gallery img')].every((image) => image.complete && image.naturalWidth)")
    assert tab.js("document.querySelectorAll('#gallery img').length") == len(prompts)
    assert tab.errors() == []


@pytest.mark.parametrize("key", ["1", "ArrowRight", "d"])
def test_held_key_plays_until_release(server, tab, key) -> None:
    open_page(tab, server)
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
    assert tab.errors() == [] and tab.js(TOASTS) == ""


def test_frames_depend_on_action_and_are_reproducible(server, tab) -> None:
    open_page(tab, server)
    tab.press("p")
    futures = []
    for key in ("0", "1", "0"):
        set_seed(tab, 7)
        futures.append([pixels(tab), *(press(tab, key) for _ in range(4))])
    assert futures[0] == futures[2]
    assert futures[0][0] == futures[1][0] and futures[0][1:] != futures[1][1:]


def test_undo_restores_same_pixels(server, tab) -> None:
    open_page(tab, server)
    tab.press("p")
    seen = [pixels(tab), *(press(tab, key) for key in "012")]
    assert len(set(seen)) > 1
    assert [press(tab, "u") for _ in range(3)] == seen[2::-1]
    assert tab.js("document.getElementById('undo').disabled")
    assert press(tab, "0") == seen[1]
    assert press(tab, "r") == seen[0]


def test_paused_game_plays_one_frame_per_press(server, tab) -> None:
    open_page(tab, server)
    tab.press("p")
    tab.key("down", "2")
    tab.wait(f"{TIME} === 1")
    time.sleep(0.4)
    assert tab.js(TIME) == 1
    tab.key("up", "2")
    press(tab, "n")
    assert tab.js("[document.getElementById('view').dataset.time, document.getElementById('view').dataset.action]") == [
        "2",
        "2",
    ]
    tab.press("p")
    tab.key("down", "0")
    tab.wait(f"{TIME} > 8")
    tab.key("up", "0")


def test_newest_held_key_determines_action(server, tab) -> None:
    open_page(tab, server)
    action = "document.getElementById('view').dataset.action"
    tab.key("down", "0")
    tab.wait(f"{action} === '0'")
    tab.key("down", "ArrowUp")
    tab.wait(f"{action} === '2'")
    tab.key("up", "ArrowUp")
    tab.wait(f"{action} === '0'")
    tab.key("up", "0")


def test_touch_holds_button(server, tab) -> None:
    tab.size(390, 844, phone=True)
    open_page(tab, server)
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
    assert tab.js(TIME) == stopped and tab.errors() == []


def test_game_starts_from_uploaded_image(server, tab, tmp_path: Path) -> None:
    open_page(tab, server)
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
    assert tab.errors() == []


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("huge.png", huge_png(10_000), "100 megapixels"),
        ("notes.txt", b"plain text", "not a readable image"),
        ("large.jpg", b"\0" * 9_000_000, "limit is 8 MB"),
    ],
)
def test_invalid_image_is_reported_and_game_continues(server, tab, tmp_path: Path, name, data, sentence) -> None:
    open_page(tab, server)
    (tmp_path / name).write_bytes(data)
    tab.choose_file("#file", tmp_path / name)
    tab.wait(f"{TOASTS}.includes({sentence!r})")
    tab.key("down", "0")
    tab.wait(f"{TIME} > 5")
    tab.key("up", "0")


def test_image_can_be_dropped(server, tab) -> None:
    open_page(tab, server)
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


def test_recording_is_saved_as_video(server, tab, tmp_path: Path) -> None:
    open_page(tab, server)
    tab.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    tab.press("c")
    tab.wait("document.getElementById('record').getAttribute('aria-pressed') === 'true'")
    tab.press("p")
    for key in "01234":
        press(tab, key)
    tab.press("c")
    tab.wait("document.getElementById('recording-text').textContent === 'Recorded: 6 frames.'")
    for kind in ("mp4", "gif"):
        tab.js(f"document.getElementById('save-{kind}').click()")
        path = tmp_path / f"djinn-tiny-world.{kind}"
        wait_until(path.exists)
        with av.open(io.BytesIO(path.read_bytes())) as container:
            assert sum(1 for _ in container.decode(video=0)) == 6
    assert tab.errors() == []


def test_sliders_and_idle_action_are_applied(server, tab) -> None:
    open_page(tab, server)
    for name, value, words in (("steps", 1, "1"), ("temperature", 0, "0.00"), ("frame-rate", 61, "no limit")):
        tab.js(f"s = document.getElementById('{name}'); s.value = {value}; s.dispatchEvent(new Event('change'))")
        tab.wait(f"document.getElementById('{name}-out').textContent === {words!r}")
    tab.js("i = document.getElementById('idle'); i.value = '3'; i.dispatchEvent(new Event('change'))")
    tab.wait(f"{TIME} > 20 && document.getElementById('view').dataset.action === '3'")
    assert tab.errors() == []


def test_open_help_disables_keys(server, tab) -> None:
    open_page(tab, server)
    tab.press("h")
    tab.wait("document.getElementById('help').open")
    tab.press("0")
    tab.key("down", "Escape")
    tab.key("up", "Escape")
    tab.wait("!document.getElementById('help').open")
    assert tab.js(TIME) == 0


def test_tabs_are_separate_players(server, browser, tab) -> None:
    wait_until(lambda: player_count(server) == 0)
    open_page(tab, server)
    other = browser.tab()
    open_page(other, server)
    assert player_count(server) == 2
    other.key("down", "0")
    other.wait(f"{TIME} > 5")
    assert tab.js(TIME) == 0
    other.close()
    wait_until(lambda: player_count(server) == 1)


def test_page_reconnects_after_connection_loss(server, tab) -> None:
    tab.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source="const W = WebSocket; window.WebSocket = class extends W {"
        "constructor(...a) { super(...a); window.socket = this; } }",
    )
    open_page(tab, server)
    tab.js("window.socket.close()")
    tab.wait("document.getElementById('overlay-text').textContent.includes('Connection lost')")
    tab.wait("document.getElementById('overlay').hidden && window.socket.readyState === 1")
    press(tab, "0")
