"""Fixtures: a server process with a small untrained world, Chromium, a websocket client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from djinn.models.world import World, build

if TYPE_CHECKING:  # these modules skip the tests without the extra `play`; a conftest must not
    from chrome import Browser, Tab
    from play_helpers import Client


@pytest.fixture(scope="session")
def world() -> World:
    """An untrained world whose frames depend on the actions."""
    from play_helpers import CONFIG

    torch.manual_seed(0)
    world = build(CONFIG).eval()
    with torch.no_grad():
        world.action_vectors.normal_(0, 8)
        for weight in world.dynamics.parameters():
            weight.mul_(2)
    world.action_keys = [["left"], ["right"], ["up"], ["down"], [], []]
    return world


@pytest.fixture(scope="session")
def prompts() -> list[np.ndarray]:
    """Two prompts."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (4, 4, 3), np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(2)]


@pytest.fixture(scope="session")
def world_folder(world: World, prompts: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the world, with its prompts."""
    folder = tmp_path_factory.mktemp("worlds") / "tiny-world"
    world.save_pretrained(folder, dtype="fp32")
    (folder / "prompts").mkdir()
    for i, prompt in enumerate(prompts):
        Image.fromarray(prompt).save(folder / "prompts" / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def server(world_folder: Path) -> Iterator[str]:
    """Address of a running server process, `127.0.0.1:PORT`."""
    from play_helpers import start

    process = start(world_folder, 0)
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline()
    if "http://" not in line:
        process.kill()
        pytest.fail(f"the server did not start: {line} {process.stderr.read()}")
    yield line.split("http://")[1].split()[0]
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    import chrome

    if chrome.PATH is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with chrome.chromium() as running:
        yield running


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    """An empty tab."""
    tab = browser.tab()
    tab.size(1280, 800)
    yield tab
    tab.close()


@pytest.fixture
def join() -> Iterator[Callable[..., Client]]:
    """Function that connects a client to a server and receives its first frame."""
    from play_helpers import Client

    clients: list[Client] = []

    def enter(server: str, **settings: Any) -> Client:
        client = Client(server, **settings)
        clients.append(client)
        client.frame()
        return client

    yield enter
    for client in clients:
        client.socket.close()
