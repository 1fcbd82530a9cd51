import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from djinn.config import UNLIMITED
from djinn.errors import UserError
from djinn.presets import PRESETS

RECIPES = Path(__file__).parent.parent / "recipes"


@pytest.fixture
def coinrun(monkeypatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("recipe_coinrun", RECIPES / "coinrun.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arguments(coinrun, monkeypatch, *args):
    monkeypatch.setattr(sys, "argv", ["coinrun.py", *args])
    return coinrun.read_args()


def test_preset_budget_and_keys(coinrun, monkeypatch):
    keys = ("--set", "world.dynamics.masking=paper", "--set", "tokenizer.lr=0.001")
    config = coinrun.configure(arguments(coinrun, monkeypatch, "--preset", "tiny", "--budget", "20", *keys))
    assert config.world.dynamics.masking == "paper"
    assert config.tokenizer.lr == 0.001
    assert config.tokenizer.minutes + config.dynamics.minutes == pytest.approx(20)
    assert config.tokenizer.steps == config.dynamics.steps == UNLIMITED
    assert coinrun.configure(arguments(coinrun, monkeypatch)) == PRESETS["coinrun"]


@pytest.mark.parametrize("text", ["world", "world.depth=3", "nothing.at.all=1", "tokenizer.lr=fast"])
def test_wrong_keys_are_refused(coinrun, monkeypatch, text):
    with pytest.raises(UserError):
        coinrun.configure(arguments(coinrun, monkeypatch, "--set", text))


@pytest.mark.slow
def test_smoke(coinrun, monkeypatch, tmp_path):
    pytest.importorskip("cffi")
    if importlib.util.find_spec("procgen") is None:
        pytest.skip("the game is not installed")
    args = ("--smoke", "--out", str(tmp_path))
    figures = coinrun.run(arguments(coinrun, monkeypatch, *args))
    assert json.loads((tmp_path / "smoke" / "results.json").read_text()) == figures
    assert {"tokenizer_psnr", "rollout_psnr", "delta_psnr", "code_table"} <= set(figures)
    again = coinrun.run(arguments(coinrun, monkeypatch, *args))  # all is done: only measured once more
    assert again["rollout_psnr"] == figures["rollout_psnr"]
    with pytest.raises(UserError, match="recorded with other settings"):
        coinrun.run(arguments(coinrun, monkeypatch, *args, "--mode", "easy"))
