"""Stages, budgets and comparisons of recipes/coinrun.py."""

from __future__ import annotations

import argparse
import csv
import importlib
import importlib.util
import itertools
import json
import signal
import time
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
import torch
from tables import cells

from djinn.config import UNLIMITED
from djinn.config.presets import PRESETS
from djinn.errors import UserError
from djinn.train.signals import Stopped

if TYPE_CHECKING:
    from time_limit import TimeLimit


SMALL = ("tokenizer.steps=6", "dynamics.steps=6", "dynamics.batch=4", "world.context_frames=4")


def small(coinrun: ModuleType, out: Path, *options: str) -> argparse.Namespace:
    """Return the options of a run of a few seconds."""
    sets = [text for key in SMALL for text in ("--set", key)]
    return coinrun.read_args(["--smoke", "--horizon", "4", "--out", str(out), *sets, *options])


def weights(run: Path) -> list[bytes]:
    return [(run / "world" / f"{name}.safetensors").read_bytes() for name in ("model", "latent_action")]


def test_preset_budget_and_keys(coinrun, gpu):
    keys = ("--set", "world.dynamics.masking=paper", "--set", "tokenizer.lr=0.001")
    config = coinrun.configure(coinrun.read_args(["--preset", "tiny", "--budget", "20", *keys]))
    assert config.world.dynamics.masking == "paper"
    assert config.tokenizer.lr == 0.001
    assert config.tokenizer.minutes + config.dynamics.minutes == pytest.approx(20)
    assert config.tokenizer.steps == config.dynamics.steps == UNLIMITED
    assert coinrun.configure(coinrun.read_args([])) == PRESETS["coinrun"]
    keys = ("--set", "tokenizer_share=0.25", "--set", "dynamics.steps=7")
    config = coinrun.configure(coinrun.read_args(["--preset", "tiny", "--budget", "20", *keys]))
    assert (config.tokenizer.minutes, config.dynamics.minutes, config.dynamics.steps) == (5, 15, 7)


def test_defaults_depend_on_the_device(coinrun, gpu, monkeypatch):
    args = coinrun.read_args(["--levels", "50"])
    assert (args.device, args.preset, args.mode, args.policy) == ("cuda", "coinrun", "hard", "random")
    assert (args.levels, args.frames, args.horizon) == (50, 1_000_000, 10)
    assert "a large GPU" in args.summary and "50 levels (given)" in args.summary and "mode hard" in args.summary
    assert coinrun.read_args(["--device", "cpu"]).preset == "tiny"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    args = coinrun.read_args(["--mode", "hard"])
    assert (args.device, args.preset, args.mode, args.policy) == ("cpu", "tiny", "hard", "keyboard-jump")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--device", "cuda"), "no GPU"),
        (("--device", "toaster"), "toaster"),
        (("--levels", "10001"), "--levels"),
        (("--horizon", "3"), "--horizon"),
        (("--smoke", "--budget", "5"), "--budget"),
        (("--compare-policies", "random"), "at least two"),
        (("--compare-policies", "random,nobody"), "nobody"),
        (("--compare-policies", "random,mix", "--policy", "mix"), "only one"),
    ],
)
def test_invalid_options_raise(coinrun, no_gpu, options, message):
    with pytest.raises(UserError, match=message):
        coinrun.read_args(options)


def test_smoke_run_accepts_options(coinrun, no_gpu):
    args = coinrun.read_args(["--smoke"])
    assert {key: getattr(args, key) for key in coinrun.SMOKE} == coinrun.SMOKE
    given = ("--preset", "coinrun", "--levels", "30", "--frames", "3000", "--clips", "7", "--workers", "3")
    args = coinrun.read_args(["--smoke", *given])
    assert (args.preset, args.levels, args.frames, args.clips, args.workers) == ("coinrun", 30, 3000, 7, 3)
    assert "3,000 frames (given)" in args.summary and "(smoke)" not in args.summary
    args = coinrun.read_args(["--smoke", "--frames", "3000"])
    assert "20 levels (smoke), 3,000 frames (given)" in args.summary


@pytest.mark.parametrize("text", ["world", "world.depth=3", "nothing.at.all=1", "tokenizer.lr=fast"])
def test_unknown_config_keys_raise(coinrun, text):
    with pytest.raises(UserError):
        coinrun.configure(coinrun.read_args(["--set", text]))


@pytest.mark.slow
def test_separate_stages_equal_one_run(coinrun, drawn_game, tmp_path):
    pytest.importorskip("matplotlib")
    metrics = coinrun.run(small(coinrun, tmp_path / "whole"))
    not_ready = {"data": "dynamics", "tokenizer": "evaluate"}  # a stage that cannot run yet
    for stage in coinrun.STAGES:
        last = coinrun.run(small(coinrun, tmp_path / "parts", "--stage", stage))
        assert (last is None) == (stage != "evaluate")
        if stage in not_ready:
            with pytest.raises(UserError, match="--stage"):
                coinrun.run(small(coinrun, tmp_path / "parts", "--stage", not_ready[stage]))
    whole, parts = tmp_path / "whole" / "smoke", tmp_path / "parts" / "smoke"
    files = [{str(path.relative_to(root)) for path in root.rglob("*")} for root in (whole, parts)]
    assert files[0] == files[1]
    assert {"report/report.html", "results.csv", "results.json", "rollouts.png", "trained_on.json"} <= files[0]
    assert weights(whole / "run") == weights(parts / "run")
    for key in set(metrics) - {"recipe", "protocol"}:
        assert last[key] == metrics[key], key
    with (parts / "results.csv").open() as file:
        row = next(iter(csv.DictReader(file)))
    assert (row["policy"], row["budget"], row["horizon"]) == ("keyboard-jump", "6 + 6 steps", "4")
    assert float(row["rollout_psnr"]) == pytest.approx(metrics["rollout_psnr"], abs=0.01)
    assert json.loads((parts / "results.json").read_text()) == last
    with pytest.raises(UserError, match="recorded with other settings"):
        coinrun.run(small(coinrun, tmp_path / "parts", "--mode", "hard"))


def test_interrupted_calls_give_the_same_world(coinrun, recipe, drawn_game, monkeypatch, tmp_path, capsys):
    from djinn.train.trainer import Trainer

    def call(minutes: float | None, stage: str, out: str = "cut") -> TimeLimit:
        with recipe("time_limit").TimeLimit(minutes) as limit:
            calls.append(limit)
            coinrun.run(small(coinrun, tmp_path / out, "--stage", stage))
        return limit

    def step(self: Trainer, batch: object) -> None:
        train_step(self, batch)
        while self.step == 3 and calls[-1].minutes and not calls[-1].expired:
            time.sleep(0.01)

    calls: list[TimeLimit] = []
    train_step = Trainer._train_step
    monkeypatch.setattr(Trainer, "_train_step", step)
    for stage in ("data", "tokenizer", "dynamics"):
        call(None, stage, "straight")
    call(None, "data")
    for stage in ("tokenizer", "dynamics"):
        assert call(0.04, stage).expired
        assert "the same command resumes" in capsys.readouterr().out
        config = coinrun.configure(small(coinrun, tmp_path))
        assert not recipe("coinrun_results").is_trained(tmp_path / "cut" / "smoke" / "run", stage, config)
        call(None, stage)
    assert weights(tmp_path / "cut" / "smoke" / "run") == weights(tmp_path / "straight" / "smoke" / "run")


def test_part_longer_than_a_call_raises(recipe):
    time_limit = recipe("time_limit")
    with pytest.raises(UserError, match="fewer --frames"), time_limit.TimeLimit(0.02) as call:  # noqa: SIM117
        with call.uninterruptible("recording", "pass fewer --frames"):
            time.sleep(30)
    with time_limit.TimeLimit(0.02) as call:
        time.sleep(0.3)
        with call.uninterruptible("recording", "pass fewer --frames"):
            time.sleep(30)
    assert call.expired
    with pytest.raises(Stopped), time_limit.TimeLimit():  # SIGTERM from outside
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(UserError, match="--call-minutes"):
        time_limit.TimeLimit(0)


def test_limit_that_expires_at_exit_is_ignored(recipe):
    before = signal.getsignal(signal.SIGTERM)
    with recipe("time_limit").TimeLimit(1) as call:
        cancel = call._timer.cancel

        def late() -> None:
            call._expire()
            cancel()

        call._timer.cancel = late
    assert call.expired and not call._timer.is_alive()
    assert signal.getsignal(signal.SIGTERM) == before


def test_damaged_checkpoint_is_not_finished(recipe, tmp_path):
    from djinn.train.checkpointer import checkpoint_path, save_checkpoint

    is_trained, config, path = (
        recipe("coinrun_results").is_trained,
        PRESETS["tiny"],
        checkpoint_path(tmp_path, "dynamics"),
    )
    assert not is_trained(tmp_path, "dynamics", config)
    state = {"stage": "dynamics", "step": config.dynamics.steps, "seconds": 1.0, "model": {"weight": torch.zeros(1000)}}
    save_checkpoint(path, state)
    assert is_trained(tmp_path, "dynamics", config)
    save_checkpoint(path, {**state, "step": 1})
    assert not is_trained(tmp_path, "dynamics", config)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged"):
        is_trained(tmp_path, "dynamics", config)


@pytest.mark.slow
def test_policy_comparison(coinrun, drawn_game, monkeypatch, tmp_path):
    options = ("--compare-policies", "random,mix", "--no-report")
    results = coinrun.run(small(coinrun, tmp_path, *options))
    out = tmp_path / "smoke"
    assert [(r["trained_on"], r["tested_on"]) for r in results] == list(itertools.product(("random", "mix"), repeat=2))
    assert len({r["protocol"]["dataset_identity"] for r in results}) == 2
    for policy in ("random", "mix"):
        own = json.loads((out / policy / "results.json").read_text())
        found = next(r for r in results if r["trained_on"] == r["tested_on"] == policy)
        assert own["rollout_psnr"] == found["rollout_psnr"] and own["recipe"]["policy"] == policy
    rows = cells((out / "compare.md").read_text())
    assert rows[0]["mix"].startswith(f"{results[1]['rollout_psnr']:.2f} / {results[1]['delta_psnr']['4']:.2f} (")
    assert len((out / "results.csv").read_text().splitlines()) == 3
    monkeypatch.setattr(coinrun, "evaluate_world", lambda *_: pytest.fail("evaluated twice"))
    assert coinrun.run(small(coinrun, tmp_path, *options)) == results
    with pytest.raises(UserError, match="clips 4, now 5"):
        args = small(coinrun, tmp_path, *options)
        args.clips = 5
        coinrun.run(args)


def test_results_file_with_other_columns_is_kept(recipe, tmp_path):
    results = recipe("coinrun_results")
    row = dict.fromkeys(results.COLUMNS, "1")
    for _ in range(2):
        results.append_row(tmp_path / "results.csv", row)
    assert (tmp_path / "results.csv").read_text().count("\n") == 3
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="other columns"):
        results.append_row(tmp_path / "other.csv", row)
    assert (tmp_path / "other.csv").read_text() == "a,b\n1,2\n"


@pytest.mark.slow
def test_smoke(coinrun, no_gpu, tmp_path):
    pytest.importorskip("cffi")
    if importlib.util.find_spec("procgen") is None:
        pytest.skip("the game is not installed")
    args = ("--smoke", "--no-report", "--out", str(tmp_path))
    metrics = coinrun.run(coinrun.read_args(args))
    assert json.loads((tmp_path / "smoke" / "results.json").read_text()) == metrics
    assert {"tokenizer_psnr", "rollout_psnr", "delta_psnr", "code_table"} <= set(metrics)
    repeated = coinrun.run(coinrun.read_args(args))  # trained already: only evaluated
    assert repeated["rollout_psnr"] == metrics["rollout_psnr"]
    assert len((tmp_path / "smoke" / "results.csv").read_text().splitlines()) == 3
