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
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from djinn.config import UNLIMITED
from djinn.data.dataset import Dataset
from djinn.data.importers.policies import ACTION_NAMES
from djinn.data.importers.procgen import split_levels
from djinn.data.writer import DatasetWriter
from djinn.errors import UserError
from djinn.presets import PRESETS
from djinn.train.signals import Stopped

if TYPE_CHECKING:
    from time_limit import TimeLimit

RECIPES = Path(__file__).parent.parent / "recipes"


@pytest.fixture
def recipe(monkeypatch):
    """Imports a file of `recipes/` as Python does when it is started."""
    monkeypatch.syspath_prepend(str(RECIPES))
    return importlib.import_module


@pytest.fixture
def coinrun(recipe) -> ModuleType:
    return recipe("coinrun")


@pytest.fixture
def gpu(monkeypatch) -> None:
    """A GPU is found."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "a large GPU")


@pytest.fixture
def no_gpu(monkeypatch) -> None:
    """None is found, whatever is there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def drawn_game(monkeypatch, no_gpu) -> None:
    """In place of CoinRun a square that is pushed about, on a ground of another grey for each policy."""

    def record(out, levels, frames, game, *, fps=10, workers=1):
        chosen = list(levels)[: max(12, frames // 80)]
        about = {"game": "squares", "mode": game.mode, "policy": game.policy, "action_names": list(ACTION_NAMES)}
        with DatasetWriter(out, height=64, width=64, fps=fps, about=about) as writer:
            for level, split in zip(chosen, split_levels(chosen), strict=True):
                random = np.random.default_rng([level, len(game.policy)])
                moves, x = random.integers(2, size=23), 24
                video = np.full((24, 64, 64, 3), 16 * len(game.policy), np.uint8)
                for t in range(24):
                    video[t, 24:40, x : x + 16] = (250, 220, 40)
                    x = int(np.clip(x + 8 * (2 * moves[t] - 1), 0, 48)) if t < 23 else x
                actions = np.where(moves, ACTION_NAMES.index("right"), ACTION_NAMES.index("left"))
                writer.add_episode(video, source=f"level-{level}", split=split, actions=actions)
        return Dataset.open(out)

    monkeypatch.setattr("djinn.data.importers.procgen.record", record)


SMALL = ("tokenizer.steps=6", "dynamics.steps=6", "dynamics.batch=4", "world.frames=4")


def small(coinrun: ModuleType, out: Path, *options: str) -> argparse.Namespace:
    """The options of a run of a few seconds."""
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


def test_what_is_not_said_follows_the_device(coinrun, gpu, monkeypatch):
    args = coinrun.read_args(["--levels", "50"])
    assert (args.device, args.preset, args.mode, args.policy) == ("cuda", "coinrun", "hard", "random")
    assert (args.levels, args.frames, args.horizon) == (50, 1_000_000, 10)
    assert "a large GPU" in args.why and "50 levels (given)" in args.why and "mode hard" in args.why
    assert coinrun.read_args(["--device", "cpu"]).preset == "tiny"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    args = coinrun.read_args(["--mode", "hard"])
    assert (args.device, args.preset, args.mode, args.policy) == ("cpu", "tiny", "hard", "keys")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--device", "cuda"), "no GPU"),
        (("--device", "toaster"), "toaster"),
        (("--levels", "10001"), "--levels"),
        (("--horizon", "3"), "--horizon"),
        (("--smoke", "--budget", "5"), "--budget"),
        (("--compare-policies", "random"), "two different"),
        (("--compare-policies", "random,nobody"), "nobody"),
        (("--compare-policies", "random,mix", "--policy", "mix"), "leave one out"),
    ],
)
def test_wrong_options_are_refused(coinrun, no_gpu, options, message):
    with pytest.raises(UserError, match=message):
        coinrun.read_args(options)


def test_a_smoke_run_takes_what_is_given(coinrun, no_gpu):
    args = coinrun.read_args(["--smoke"])
    assert {key: getattr(args, key) for key in coinrun.SMOKE} == coinrun.SMOKE
    given = ("--preset", "coinrun", "--levels", "30", "--frames", "3000", "--clips", "7", "--workers", "3")
    args = coinrun.read_args(["--smoke", *given])
    assert (args.preset, args.levels, args.frames, args.clips, args.workers) == ("coinrun", 30, 3000, 7, 3)
    assert "3,000 frames (given)" in args.why and "(smoke)" not in args.why
    args = coinrun.read_args(["--smoke", "--frames", "3000"])
    assert "20 levels (smoke), 3,000 frames (given)" in args.why


@pytest.mark.parametrize("text", ["world", "world.depth=3", "nothing.at.all=1", "tokenizer.lr=fast"])
def test_wrong_keys_are_refused(coinrun, text):
    with pytest.raises(UserError):
        coinrun.configure(coinrun.read_args(["--set", text]))


@pytest.mark.slow
def test_stages_apart_leave_what_all_at_once_leaves(coinrun, drawn_game, tmp_path):
    pytest.importorskip("matplotlib")
    figures = coinrun.run(small(coinrun, tmp_path / "whole"))
    lacking = {"data": "world", "tokenizer": "evaluate"}  # what cannot be done yet after a stage
    for stage in coinrun.STAGES:
        last = coinrun.run(small(coinrun, tmp_path / "parts", "--stage", stage))
        assert (last is None) == (stage != "evaluate")
        if stage in lacking:
            with pytest.raises(UserError, match="--stage"):
                coinrun.run(small(coinrun, tmp_path / "parts", "--stage", lacking[stage]))
    whole, parts = tmp_path / "whole" / "smoke", tmp_path / "parts" / "smoke"
    files = [{str(path.relative_to(root)) for path in root.rglob("*")} for root in (whole, parts)]
    assert files[0] == files[1]
    assert {"report/report.html", "results.csv", "results.json", "rollouts.png", "trained_on.json"} <= files[0]
    assert weights(whole / "run") == weights(parts / "run")
    for key in set(figures) - {"recipe", "protocol"}:
        assert last[key] == figures[key], key
    with (parts / "results.csv").open() as file:
        row = next(iter(csv.DictReader(file)))
    assert (row["policy"], row["budget"], row["horizon"]) == ("keys", "6 + 6 steps", "4")
    assert float(row["rollout_psnr"]) == pytest.approx(figures["rollout_psnr"], abs=0.01)
    assert json.loads((parts / "results.json").read_text()) == last
    with pytest.raises(UserError, match="recorded with other settings"):
        coinrun.run(small(coinrun, tmp_path / "parts", "--mode", "hard"))


def test_calls_that_are_cut_short_come_to_the_same_world(coinrun, recipe, drawn_game, monkeypatch, tmp_path, capsys):
    from djinn.train.trainer import Trainer

    def call(minutes: float | None, stage: str, out: str = "cut") -> TimeLimit:
        with recipe("time_limit").TimeLimit(minutes) as limit:
            calls.append(limit)
            coinrun.run(small(coinrun, tmp_path / out, "--stage", stage))
        return limit

    def step(self: Trainer, batch: object) -> None:
        train_step(self, batch)
        while self.step == 3 and calls[-1].minutes and not calls[-1].over:
            time.sleep(0.01)

    calls: list[TimeLimit] = []
    train_step = Trainer._train_step
    monkeypatch.setattr(Trainer, "_train_step", step)
    for stage in ("data", "tokenizer", "world"):
        call(None, stage, "straight")
    call(None, "data")
    for stage in ("tokenizer", "world"):
        assert call(0.04, stage).over
        assert "run the same command again" in capsys.readouterr().out
        config = coinrun.configure(small(coinrun, tmp_path))
        assert not recipe("coinrun_results").is_trained(tmp_path / "cut" / "smoke" / "run", stage, config)
        call(None, stage)
    assert weights(tmp_path / "cut" / "smoke" / "run") == weights(tmp_path / "straight" / "smoke" / "run")


def test_a_part_that_no_call_can_hold_is_an_error(recipe):
    time_limit = recipe("time_limit")
    with pytest.raises(UserError, match="fewer --frames"), time_limit.TimeLimit(0.02) as call:  # noqa: SIM117
        with call.whole("recording", "pass fewer --frames"):
            time.sleep(30)
    with time_limit.TimeLimit(0.02) as call:
        time.sleep(0.3)
        with call.whole("recording", "pass fewer --frames"):
            time.sleep(30)
    assert call.over
    with pytest.raises(Stopped), time_limit.TimeLimit():  # a SIGTERM from outside is none of its own
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(UserError, match="--call-minutes"):
        time_limit.TimeLimit(0)


def test_a_time_that_is_over_while_a_call_ends_is_no_matter(recipe):
    before = signal.getsignal(signal.SIGTERM)
    with recipe("time_limit").TimeLimit(1) as call:
        cancel = call._timer.cancel

        def late() -> None:
            call._expire()
            cancel()

        call._timer.cancel = late
    assert call.over and not call._timer.is_alive()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_damaged_checkpoint_is_not_trained_to_its_end(recipe, tmp_path):
    from djinn.train.checkpoint import checkpoint_path, save_checkpoint

    is_trained, config, path = recipe("coinrun_results").is_trained, PRESETS["tiny"], checkpoint_path(tmp_path, "world")
    assert not is_trained(tmp_path, "world", config)
    state = {"stage": "world", "step": config.dynamics.steps, "seconds": 1.0, "model": {"weight": torch.zeros(1000)}}
    save_checkpoint(path, state)
    assert is_trained(tmp_path, "world", config)
    save_checkpoint(path, {**state, "step": 1})
    assert not is_trained(tmp_path, "world", config)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged"):
        is_trained(tmp_path, "world", config)


@pytest.mark.slow
def test_policies_are_compared(coinrun, drawn_game, monkeypatch, tmp_path):
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
    monkeypatch.setattr(coinrun, "measure", lambda *_: pytest.fail("it is measured already"))
    assert coinrun.run(small(coinrun, tmp_path, *options)) == results
    with pytest.raises(UserError, match="clips 4, now 5"):
        args = small(coinrun, tmp_path, *options)
        args.clips = 5
        coinrun.run(args)


def test_a_table_with_other_columns_is_left_alone(recipe, tmp_path):
    results = recipe("coinrun_results")
    row = dict.fromkeys(results.COLUMNS, "1")
    for _ in range(2):
        results.append_row(tmp_path / "results.csv", row)
    assert (tmp_path / "results.csv").read_text().count("\n") == 3
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="other columns"):
        results.append_row(tmp_path / "other.csv", row)
    assert (tmp_path / "other.csv").read_text() == "a,b\n1,2\n"


def test_a_card_says_what_the_world_was_trained_on(recipe):
    line = recipe("ship_world").compute_line
    minutes = {"tokenizer": 8.04, "world": 20.4}
    told = {"protocol": {"device": "cuda"}, "recipe": {"trained_on": {"tokenizer": ["GPU A"], "world": ["GPU A"]}}}
    assert (
        line(told, minutes)
        == "GPU A, 8.0 minutes for the tokenizer and 20 minutes for the latent actions and the dynamics"
    )
    assert line({"protocol": {"device": "cpu"}}, {}, "two CPU cores") == "two CPU cores"
    with pytest.raises(UserError, match="--compute"):
        line({"protocol": {"device": "cpu"}}, minutes)


def test_a_card_needs_all_that_it_tells(recipe):
    check = recipe("ship_world").check
    figures = {"code_table": {}, "delta_psnr": {"4": 1.0}}
    about = {"game": "procgen", "mode": "easy", "policy": "keys", "levels_played": 5, "levels": [0, 5]}
    data = SimpleNamespace(path="data", about=about)
    check(figures, data, data)
    for wrong, message in (({"code_table": None}, "true actions"), ({"delta_psnr": {"1": 1.0}}, "--horizon 4")):
        with pytest.raises(UserError, match=message):
            check(figures | wrong, data, data)
    bare = SimpleNamespace(path="bare", about={"game": "procgen"})
    with pytest.raises(UserError, match="bare does not tell its mode, policy, levels_played"):
        check(figures, bare, data)
    with pytest.raises(UserError, match="bare does not tell its levels"):
        check(figures, data, bare)


@pytest.mark.slow
def test_smoke(coinrun, no_gpu, tmp_path):
    pytest.importorskip("cffi")
    if importlib.util.find_spec("procgen") is None:
        pytest.skip("the game is not installed")
    args = ("--smoke", "--no-report", "--out", str(tmp_path))
    figures = coinrun.run(coinrun.read_args(args))
    assert json.loads((tmp_path / "smoke" / "results.json").read_text()) == figures
    assert {"tokenizer_psnr", "rollout_psnr", "delta_psnr", "code_table"} <= set(figures)
    again = coinrun.run(coinrun.read_args(args))  # all is done: only measured once more
    assert again["rollout_psnr"] == figures["rollout_psnr"]
    assert len((tmp_path / "smoke" / "results.csv").read_text().splitlines()) == 3


# ------------------------------------------------------------------------------------------------------------ studies

STUDIES = ("table2_lam_input", "table3_tokenizers", "action_conditioning", "mask_rates", "codes", "lam_decoder")


def figures_of(psnr: float, delta: float) -> dict:
    """What an arm's measuring gives, with made-up values."""
    sampler = {"steps": 4, "temperature": 0.0, "noise": 0.0, "top_k": 0}
    return {
        "tokenizer_psnr": 28.0,
        "tokenizer_ssim": 0.9,
        "rollout_psnr": psnr,
        "rollout_ssim": 0.75,
        "rollout": {"inferred": {"psnr": [psnr + 1, psnr, psnr - 1, psnr - 2]}},
        "delta_psnr": {"4": delta},
        "delta_psnr_interval": {"4": [delta - 0.5, delta + 0.5]},
        "code_use": {"used": 5},
        "code_table": None,
        "effects": None,
        "fvd": None,
        "random_frechet": 1.25,
        "steps": 1234,
        "tokenizer_parameters_m": 1.5,
        "tokenizer_memory_mb": 321.0,
        "machine": {"gpu": None, "cpu": "a processor", "threads": 2},
        "protocol": {
            "clips": 256,
            "split": "test",
            "dataset": "/data/coinrun",
            "dataset_identity": "0123abcd",
            "prompt_frames": 1,
            "horizon": 4,
            "sampler": sampler,
            "device": "cpu",
        },
    }


def results_of(study, seeds=1) -> list[dict]:
    arms = enumerate(study.arms)
    return [
        {"arm": arm.name, "seed": seed, **figures_of(20 + i + 2 * seed, 1.0 + i)}
        for i, arm in arms
        for seed in range(seeds)
    ]


def cells(table: str) -> list[dict[str, str]]:
    """Rows of a Markdown table by the heads of its columns."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    ]
    return [dict(zip(lines[0], row, strict=True)) for row in lines[2:]]


@pytest.mark.parametrize("name", STUDIES)
def test_arms_are_configs_that_differ_in_what_is_studied(recipe, name):
    study = recipe("study")
    module = recipe(name)
    for size in study.SIZES:
        base = study.changed(PRESETS["tiny"], study.SIZES[size])
        configs = [study.changed(base, arm.changes) for arm in module.STUDY.arms]
        assert len({str(config) for config in configs}) == len(configs)
        if module.STUDY.one_tokenizer:
            assert all(config.world.tokenizer == base.world.tokenizer for config in configs)
    assert module.STUDY.name == name


def test_tokenizers_have_as_many_parameters(recipe):
    from djinn.models import VideoTokenizer

    study, table = recipe("study"), recipe("table3_tokenizers")
    for size in study.SIZES:
        base = study.changed(PRESETS["tiny"], study.SIZES[size])
        with torch.device("meta"):
            rivals = [VideoTokenizer(study.changed(base, arm.changes).world) for arm in table.STUDY.arms]
        counts = [sum(p.numel() for p in rival.parameters()) for rival in rivals]
        assert max(counts) < 1.01 * min(counts)


def test_memory_of_a_tokenizer(recipe):
    from djinn.plan import count_parameters

    measured = recipe("tokenizer_memory").measure(PRESETS["tiny"], torch.device("cpu"))
    assert measured["tokenizer_parameters_m"] * 1e6 == count_parameters(PRESETS["tiny"].world)["tokenizer"]
    assert measured["tokenizer_memory_mb"] > 0


def test_table_has_our_figures_and_the_papers(recipe):
    study = recipe("table2_lam_input").STUDY
    rows = cells(study.table(results_of(study)))
    assert [row["arm"] for row in rows] == ["tokens", "pixels"]
    assert rows[1]["roll-out PSNR, dB"] == "21.00"
    assert rows[1]["Δ4PSNR, dB"] == "2.00 (1.50 to 2.50)"
    assert rows[1]["steps"] == "1,234"
    assert rows[0]["paper: FVD, Robotics"] == "257.8"
    assert rows[1]["paper: Δ4PSNR, Platformers"] == "1.91"
    assert "FVD" not in rows[0]  # no detector was given
    assert rows[0]["Fréchet, random network"] == "1.250"


def test_several_seeds_give_means_and_ranges(recipe):
    study = recipe("mask_rates").STUDY
    row = cells(study.table(results_of(study, seeds=3)))[0]
    assert row["roll-out PSNR, dB"] == "22.00 (20.00 to 24.00)"
    assert row["Δ4PSNR, dB"] == "1.00 (1.00 to 1.00)"


def test_a_figure_that_should_be_there_is_missed(recipe):
    study = recipe("mask_rates").STUDY
    results = results_of(study)
    del results[0]["rollout_psnr"]
    with pytest.raises(KeyError):
        study.table(results)


@pytest.mark.parametrize("name", STUDIES)
def test_table_and_figure_are_written_and_published(recipe, monkeypatch, tmp_path, name):
    pytest.importorskip("matplotlib")
    study, module = recipe("study"), recipe(name)
    monkeypatch.setattr(study.Study, "run", lambda self, args: results_of(self, args.seeds))
    page = tmp_path / "page.md"
    page.write_text(f"before\n<!-- begin {name} -->\nold\n<!-- end {name} -->\nafter\n")
    study.main(module.STUDY, module.__doc__, ["--out", str(tmp_path), "--seeds", "2", "--publish", str(page)])
    table = (tmp_path / "table.md").read_text()
    assert [row["arm"] for row in cells(table)] == [arm.name for arm in module.STUDY.arms]
    assert "a processor" in table and "256 clips" in table and "4 minutes" in table
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.width > picture.height > 100
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert (tmp_path / "page" / f"{name}.png").is_file() and f"(page/{name}.png)" in text


def test_the_page_of_studies_has_a_place_for_each(recipe):
    page = (RECIPES.parent / "docs" / "studies.md").read_text()
    for name in (*STUDIES, "sampler"):
        assert page.count(f"<!-- begin {name} -->") == page.count(f"<!-- end {name} -->") == 1
        assert f"recipes/{name}.py" in page


def test_a_page_without_a_place_is_refused(recipe, tmp_path):
    report = recipe("study_report")
    page = tmp_path / "page.md"
    page.write_text("nothing here")
    with pytest.raises(UserError, match="begin codes"):
        report.publish(page, "codes", "text", tmp_path / "figure.png")
    assert page.read_text() == "nothing here"


def test_options_of_a_study(recipe):
    study, table = recipe("study"), recipe("table2_lam_input").STUDY

    def read(*args):
        return study.read_args(table, "", args)

    assert read().out == Path("runs/table2_lam_input")
    assert table.minutes(read()) == study.CPU_MINUTES
    assert table.minutes(read("--minutes", "7")) == 7
    minutes = table.minutes(read("--size", "gpu"))
    assert (0.3 + 2 * 0.7) * minutes == pytest.approx(study.GPU_MINUTES)  # one tokenizer, two second stages
    smoke = read("--smoke", "--out", "x")
    assert smoke.out == Path("x/smoke") and smoke.clips < read().clips
    for wrong in (("--minutes", "0"), ("--seeds", "0"), ("--horizon", "3"), ("--clips", "0")):
        with pytest.raises(UserError, match=wrong[0]):
            read(*wrong)


def test_arms_have_equal_budgets_and_nothing_but_training_in_them(recipe):
    study, table = recipe("study"), recipe("mask_rates").STUDY
    data = SimpleNamespace(height=90, width=160, fps=5.0)
    config = study.configure(study.read_args(table, "", []), 4.0, 3, data)
    assert config.tokenizer.minutes + config.dynamics.minutes == pytest.approx(4)
    assert config.tokenizer.steps == config.dynamics.steps == config.dynamics.eval_every == UNLIMITED
    assert (config.world.height, config.world.width, config.world.fps, config.seed) == (90, 160, 5.0, 3)


def test_what_is_done_is_not_done_again(recipe, monkeypatch, tmp_path):
    study, table = recipe("study"), recipe("codes").STUDY
    data = SimpleNamespace(identity="data", path=tmp_path, height=64, width=64, fps=10.0)
    done = []

    def measure(self, run, args, test):
        if len(done) == 2:
            raise KeyboardInterrupt  # the first call is stopped in the third arm
        done.append(run)
        return figures_of(20.0, 1.0)

    monkeypatch.setattr(study, "open_data", lambda args: (data, data))
    monkeypatch.setattr(
        study.Study, "_train", lambda self, arm, config, args, data: args.out / arm.name / str(config.seed)
    )
    monkeypatch.setattr(study.Study, "_measure", measure)
    args = study.read_args(table, "", ["--out", str(tmp_path)])
    with pytest.raises(KeyboardInterrupt):
        table.run(args)
    assert len(json.loads((tmp_path / "results.json").read_text())["results"]) == 2
    done.clear()
    results = table.run(args)
    assert done == [tmp_path / "8 codes" / "0"]
    assert [r["arm"] for r in results] == [arm.name for arm in table.arms]
    assert json.loads((tmp_path / "results.json").read_text())["results"] == results
    with pytest.raises(UserError, match=r"minutes 4\.0, now 5\.0"):
        table.run(study.read_args(table, "", ["--out", str(tmp_path), "--minutes", "5"]))


def test_damaged_results_are_said_to_be(recipe, tmp_path):
    study = recipe("study")
    (tmp_path / "results.json").write_text('{"asked": {')
    with pytest.raises(UserError, match="damaged"):
        study.read_results(tmp_path / "results.json", {})


def test_a_lent_tokenizer_is_the_one_that_was_trained(recipe, tmp_path):
    from djinn.models import VideoTokenizer
    from djinn.train.checkpoint import checkpoint_path, save_checkpoint
    from djinn.train.run import load_tokenizer

    study = recipe("study")
    config = PRESETS["tiny"]
    tokenizer = VideoTokenizer(config.world)
    state = {"stage": "tokenizer", "step": 1, "model": tokenizer.state_dict(), "ema": None}
    save_checkpoint(checkpoint_path(tmp_path / "source", "tokenizer"), state)
    own = study.changed(config, {"world.dynamics.action": "prepend"})
    for _ in range(2):  # the second time it is there already
        study.lend_tokenizer(tmp_path / "source", tmp_path / "arm", own)
    lent = load_tokenizer(tmp_path / "arm", own)
    assert all(torch.equal(value, lent.state_dict()[key]) for key, value in tokenizer.state_dict().items())


def test_a_detector_is_tried_before_training(recipe, tmp_path):
    study = recipe("study")
    args = study.read_args(recipe("codes").STUDY, "", ["--fvd-detector", str(tmp_path / "i3d.pt")])
    with pytest.raises(UserError, match="no detector"):
        study.try_detector(args.fvd_detector, args, SimpleNamespace(height=64, width=64))


def test_unknown_keys_of_an_arm_are_refused(recipe):
    with pytest.raises(UserError, match=r"world\.dynamics\.depth"):
        recipe("study").changed(PRESETS["tiny"], {"world.dynamics.depth": 3})


def test_data_that_cannot_be_measured_on(recipe, tmp_path):
    study, data = recipe("study"), recipe("study_data")
    table = recipe("codes").STUDY
    with pytest.raises(UserError, match="--data"):
        data.open_data(study.read_args(table, "", ["--test", str(tmp_path)]))
    with pytest.raises(UserError, match="no data set"):
        data.open_data(study.read_args(table, "", ["--data", str(tmp_path / "none")]))


def test_sampler_tables_and_figures(recipe, tmp_path):
    pytest.importorskip("matplotlib")
    sampler = recipe("sampler")
    results = [
        {**figures_of(20 + n - t, 1.0), "steps": n, "temperature": t, "frames_per_second": 60 / n}
        for n in (4, 1)
        for t in (1.0, 0.0)
    ]
    rows = cells(sampler.page(results))
    assert [row["steps"] for row in rows] == ["1", "4"]
    assert rows[1]["roll-out PSNR at 1"] == "23.00" and rows[1]["roll-out PSNR at 0"] == "24.00"
    assert rows[1]["frames/s"] == "15.0"
    sampler.figure(results, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.width > picture.height


def test_options_of_the_sampler(recipe):
    sampler = recipe("sampler")
    assert sampler.read(["world", "data", "--steps", "1", "25"]).steps == [1, 25]
    with pytest.raises(UserError, match="WORLD DATASET"):
        sampler.read([])
    with pytest.raises(UserError, match="--horizon"):
        sampler.read(["world", "data", "--horizon", "2"])


@pytest.mark.slow
def test_smoke_of_a_study(recipe, tmp_path):
    pytest.importorskip("matplotlib")
    study, module = recipe("study"), recipe("action_conditioning")
    study.main(module.STUDY, "", ["--smoke", "--out", str(tmp_path)])
    results = json.loads((tmp_path / "smoke" / "results.json").read_text())["results"]
    assert [r["arm"] for r in results] == ["add", "prepend"]
    assert results[0]["tokenizer_psnr"] == results[1]["tokenizer_psnr"]  # one tokenizer
    assert len(cells((tmp_path / "smoke" / "table.md").read_text())) == 2
    assert (tmp_path / "smoke" / "figure.png").stat().st_size > 1_000
