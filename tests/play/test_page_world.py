"""Information about a world on the page: names, numbers and keys of actions, training, seed."""

import dataclasses

import numpy as np
import pytest
from chrome import Tab
from play_helpers import CONFIG, CountingSession, scripted_world, serving
from test_page import NUMBER, TIME, TOASTS, open_page, press

from djinn.config import SamplerConfig
from djinn.models.training_summary import TrainingSummary

CAPS = "[...document.querySelectorAll('.action')].map((tile) => [...tile.querySelectorAll('kbd')].map((k) => k.textContent))"
TITLES = "[...document.querySelectorAll('.action')].map((tile) => tile.title)"
NAMES = "[...document.querySelectorAll('.action .name')].map((name) => name.textContent)"
BANNER = "document.getElementById('banner').hidden ? '' : document.getElementById('banner-text').textContent"
SEED_DISABLED = "[document.getElementById('seed').disabled, document.getElementById('dice').disabled]"
CLEAR = TrainingSummary(tokenizer_steps=2000, dynamics_steps=13_724, val_gain=2.5, actions_used=6)


def test_actions_are_shown_by_code_and_without_keys_of_their_own(tab) -> None:
    with serving(scripted_world(), make_session=CountingSession) as server:
        open_page(tab, server)
        assert tab.js(NAMES) == [f"action {code}" for code in range(6)]
        assert tab.js(CAPS) == [[str(code)] for code in range(6)]
        assert tab.js(TITLES)[3] == "Action 3. Hold to play (key 3)."
        tab.press("p")
        for key in ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "w", "9"):
            tab.press(key)
        press(tab, "3")
        assert tab.js(TIME) == 1 and tab.js("document.getElementById('view').dataset.action") == "3"


def test_named_actions_keep_their_code(tab) -> None:
    names = ["stay", "right", *(f"action {code}" for code in range(2, 12))]
    keys = [[], ["ArrowRight"], *([] for _ in range(10))]
    with serving(scripted_world(action_names=names, action_keys=keys), make_session=CountingSession) as server:
        open_page(tab, server)
        assert tab.js(CAPS)[:3] == [["0"], ["1", "→"], ["2"]] and tab.js(CAPS)[10:] == [[], []]
        titles = tab.js(TITLES)
        assert titles[1] == "Action 1: right. Hold to play (key 1 or →)."
        assert titles[11] == "Action 11. Hold to play."
        press(tab, "ArrowRight")
        assert tab.js("document.getElementById('view').dataset.action") == "1"


@pytest.mark.parametrize(
    ("summary", "text"),
    [
        (None, "no training summary: the effect of its actions is unknown."),
        (TrainingSummary(tokenizer_steps=7), "was not evaluated in training"),
        (
            TrainingSummary(7, 3, val_gain=0.01),
            "barely trained (tokenizer: 7 steps, dynamics: 3 steps); the latent actions have no effect",
        ),
        (TrainingSummary(2000, 3000, val_gain=0.5), ""),
        (CLEAR, ""),
    ],
)
def test_banner_warns_of_actions_without_effect(tab, summary, text) -> None:
    with serving(scripted_world(training_summary=summary), make_session=CountingSession) as server:
        open_page(tab, server)
        banner = tab.js(BANNER)
        assert text in banner if text else banner == ""
        tab.js("document.getElementById('banner-close').click()")
        assert tab.js(BANNER) == ""


def test_training_of_world_is_shown(tab) -> None:
    with serving(scripted_world(training_summary=CLEAR), make_session=CountingSession) as server:
        open_page(tab, server)
        text = tab.js("document.getElementById('training').textContent")
        assert text.startswith("Training steps: tokenizer 2,000, dynamics 13,724. The latent actions control")


def test_seed_is_disabled_while_sampling_is_deterministic(tab) -> None:
    config = dataclasses.replace(CONFIG, sampler=SamplerConfig(steps=3, temperature=0, choice_temperature=0))
    with serving(scripted_world(config=config), make_session=CountingSession) as server:
        open_page(tab, server)
        assert tab.wait(f"{SEED_DISABLED}.every(Boolean)")
        assert "the seed has no effect" in tab.js("document.getElementById('seed-line').title")
        assert tab.js("document.getElementById('seed-note').hidden") is False
        tab.js("t = document.getElementById('temperature'); t.value = 0.5; t.dispatchEvent(new Event('change'))")
        assert tab.wait(f"!{SEED_DISABLED}.some(Boolean)")
        assert "same seed" in tab.js("document.getElementById('seed-line').title")
        assert tab.js("document.getElementById('seed-note').hidden") is True
        number = tab.js(NUMBER)
        tab.js("document.getElementById('dice').click()")
        tab.wait(f"{NUMBER} > {number}")


def test_page_switches_to_another_world_on_the_same_port(tab: Tab) -> None:
    prompts = [np.full((32, 32, 3), shade, np.uint8) for shade in (10, 200)]
    shade = """(() => { const image = document.querySelector('#gallery img');
      const context = Object.assign(document.createElement('canvas'), { width: 1, height: 1 }).getContext('2d');
      context.drawImage(image, 0, 0, 1, 1); return context.getImageData(0, 0, 1, 1).data[0]; })()"""
    loaded = "document.querySelector('#gallery img')?.complete && document.querySelector('#gallery img').naturalWidth"
    with serving(scripted_world(), make_session=CountingSession, prompts=prompts[:1], name="coinrun") as server:
        open_page(tab, server)
        tab.wait(loaded)
        assert tab.js("document.title") == "coinrun · Djinn" and tab.js(shade) == 10
    tab.wait("document.getElementById('overlay-text').textContent.includes('Reconnecting')")
    world = scripted_world(action_names=["jump", "run"], action_keys=[[], []], training_summary=CLEAR)
    port = int(server.split(":")[1])
    with serving(world, port, make_session=CountingSession, prompts=prompts[1:], name="my-coinrun"):
        tab.wait("document.title === 'my-coinrun · Djinn' && document.getElementById('overlay').hidden")
        assert tab.js("document.querySelector('h1').textContent") == "my-coinrun"
        assert "now plays another world: my-coinrun" in tab.js(TOASTS)
        assert tab.js(NAMES) == ["jump", "run"] and tab.js(BANNER) == ""
        tab.wait(loaded)
        assert tab.js(shade) == 200
        press(tab, "1")
