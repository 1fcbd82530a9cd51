"""Studies of recipes/study.py and recipes/sampler.py: arms, metrics, tables, plots and the page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from tables import cells

from djinn.config import UNLIMITED
from djinn.config.presets import PRESETS
from djinn.config.yaml import save_yaml
from djinn.errors import UserError

RECIPES = Path(__file__).parents[2] / "recipes"
STUDIES = (
    "table2_lam_input",
    "table3_tokenizers",
    "action_conditioning",
    "mask_rates",
    "codes",
    "lam_decoder",
    "quality",
    "window",
)


def fake_metrics(psnr: float, delta: float) -> dict:
    """Return the metrics of an arm with made-up values."""
    sampler = {"steps": 4, "temperature": 0.0, "choice_temperature": 0.0, "top_k": 0}
    return {
        "tokenizer_psnr": 28.0,
        "tokenizer_ssim": 0.9,
        "rollout_psnr": psnr,
        "rollout_ssim": 0.75,
        "rollout": {"inferred": {"psnr": [psnr + 1, psnr, psnr - 1, psnr - 2]}},
        "delta_psnr": {"4": delta},
        "delta_psnr_interval": {"4": [delta - 0.5, delta + 0.5]},
        "action_usage": {"num_used": 5},
        "code_table": None,
        "action_effects": None,
        "fvd": None,
        "random_frechet": 1.25,
        "steps": 1234,
        "tokenizer_parameters_m": 1.5,
        "tokenizer_memory_mb": 321.0,
        "long_psnr": {"10": 18.5, "25": 14.4, "50": None},
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


def fake_results(study, seeds=1) -> list[dict]:
    arms = enumerate(study.arms)
    return [
        {"arm": arm.name, "seed": seed, **fake_metrics(20 + i + 2 * seed, 1.0 + i)}
        for i, arm in arms
        for seed in range(seeds)
    ]


@pytest.mark.parametrize("name", STUDIES)
def test_arms_differ_in_the_studied_keys(recipe, name):
    study = recipe("study")
    module = recipe(name)
    for size in study.SIZES:
        base = study.with_changes(PRESETS["tiny"], study.SIZES[size])
        configs = [study.with_changes(base, arm.changes) for arm in module.STUDY.arms]
        assert len({str(config) for config in configs}) == len(configs)
        if module.STUDY.shared_tokenizer:
            assert all(config.world.tokenizer == base.world.tokenizer for config in configs)
    assert module.STUDY.name == name


def test_tokenizers_have_equal_parameter_counts(recipe):
    from djinn.models import VideoTokenizer

    study, table = recipe("study"), recipe("table3_tokenizers")
    for size in study.SIZES:
        base = study.with_changes(PRESETS["tiny"], study.SIZES[size])
        with torch.device("meta"):
            tokenizers = [VideoTokenizer(study.with_changes(base, arm.changes).world) for arm in table.STUDY.arms]
        counts = [sum(p.numel() for p in tokenizer.parameters()) for tokenizer in tokenizers]
        assert max(counts) < 1.01 * min(counts)


def test_tokenizer_memory(tmp_path):
    """The recipe measures the growth of its own process, so it runs in a fresh one."""
    from djinn.plan import count_parameters

    save_yaml(PRESETS["tiny"], tmp_path / "config.yaml")
    command = [sys.executable, str(RECIPES / "tokenizer_memory.py"), str(tmp_path / "config.yaml"), "--device", "cpu"]
    measured = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert measured["tokenizer_parameters_m"] * 1e6 == count_parameters(PRESETS["tiny"].world)["tokenizer"]
    assert measured["tokenizer_memory_mb"] > 0


def test_table_has_measured_and_paper_values(recipe):
    study = recipe("table2_lam_input").STUDY
    rows = cells(study.table(fake_results(study)))
    assert [row["arm"] for row in rows] == ["tokens", "pixels"]
    assert rows[1]["roll-out PSNR, dB"] == "21.00"
    assert rows[1]["Δ4PSNR, dB"] == "2.00 (1.50 to 2.50)"
    assert rows[1]["steps"] == "1,234"
    assert rows[0]["paper: FVD, Robotics"] == "257.8"
    assert rows[1]["paper: Δ4PSNR, Platformers"] == "1.91"
    assert "FVD" not in rows[0]  # without a detector
    assert rows[0]["Fréchet, random network"] == "1.250"


def test_several_seeds_give_means_and_ranges(recipe):
    study = recipe("mask_rates").STUDY
    row = cells(study.table(fake_results(study, seeds=3)))[0]
    assert row["roll-out PSNR, dB"] == "22.00 (20.00 to 24.00)"
    assert row["Δ4PSNR, dB"] == "1.00 (1.00 to 1.00)"


def test_missing_metric_raises(recipe):
    study = recipe("mask_rates").STUDY
    results = fake_results(study)
    del results[0]["rollout_psnr"]
    with pytest.raises(KeyError):
        study.table(results)


@pytest.mark.parametrize("name", STUDIES)
def test_table_and_plot_are_written_and_published(recipe, monkeypatch, tmp_path, name):
    pytest.importorskip("matplotlib")
    study, module = recipe("study"), recipe(name)
    monkeypatch.setattr(study.Study, "run", lambda self, args: fake_results(self, args.seeds))
    page = tmp_path / "page.md"
    page.write_text(f"before\n<!-- begin {name} -->\nold\n<!-- end {name} -->\nafter\n")
    study.main(module.STUDY, module.__doc__, ["--out", str(tmp_path), "--seeds", "2", "--publish", str(page)])
    table = (tmp_path / "table.md").read_text()
    assert [row["arm"] for row in cells(table)] == [arm.name for arm in module.STUDY.arms]
    assert "a processor" in table and "256 clips" in table and "4 minutes" in table
    with Image.open(tmp_path / "figure.png") as image:
        assert image.width > image.height > 100
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert (tmp_path / "page" / f"{name}.png").is_file() and f"(page/{name}.png)" in text


def test_page_has_markers_for_each_study(recipe):
    page = (Path(__file__).parents[2] / "docs" / "studies.md").read_text()
    for name in (*STUDIES, "sampler"):
        assert page.count(f"<!-- begin {name} -->") == page.count(f"<!-- end {name} -->") == 1
        assert f"recipes/{name}.py" in page


def test_page_without_markers_raises(recipe, tmp_path):
    report = recipe("study_report")
    page = tmp_path / "page.md"
    page.write_text("nothing here")
    with pytest.raises(UserError, match="begin codes"):
        report.publish(page, "codes", "text", tmp_path / "figure.png")
    assert page.read_text() == "nothing here"


def test_study_options(recipe):
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
    for options in (("--minutes", "0"), ("--seeds", "0"), ("--horizon", "3"), ("--clips", "0")):
        with pytest.raises(UserError, match=options[0]):
            read(*options)


def test_arms_have_equal_training_budgets_without_evaluation(recipe):
    study, table = recipe("study"), recipe("mask_rates").STUDY
    data = SimpleNamespace(height=90, width=160, fps=5.0)
    config = study.base_config(study.read_args(table, "", []), 4.0, 3, data)
    assert config.tokenizer.minutes + config.dynamics.minutes == pytest.approx(4)
    assert config.tokenizer.steps == config.dynamics.steps == config.dynamics.eval_every == UNLIMITED
    assert (config.world.height, config.world.width, config.world.fps, config.seed) == (90, 160, 5.0, 3)


def test_finished_arms_are_skipped(recipe, monkeypatch, tmp_path):
    study, table = recipe("study"), recipe("codes").STUDY
    data = SimpleNamespace(identity="data", path=tmp_path, height=64, width=64, fps=10.0)
    evaluated = []

    def evaluate(self, run, args, test):
        if len(evaluated) == 2:
            raise KeyboardInterrupt  # stops the first call in the third arm
        evaluated.append(run)
        return fake_metrics(20.0, 1.0)

    monkeypatch.setattr(study, "open_data", lambda args: (data, data))
    monkeypatch.setattr(
        study.Study, "_train", lambda self, arm, config, args, data: args.out / arm.name / str(config.seed)
    )
    monkeypatch.setattr(study.Study, "_evaluate", evaluate)
    args = study.read_args(table, "", ["--out", str(tmp_path)])
    with pytest.raises(KeyboardInterrupt):
        table.run(args)
    assert len(json.loads((tmp_path / "results.json").read_text())["results"]) == 2
    evaluated.clear()
    results = table.run(args)
    assert evaluated == [tmp_path / "8 codes" / "0"]
    assert [r["arm"] for r in results] == [arm.name for arm in table.arms]
    assert json.loads((tmp_path / "results.json").read_text())["results"] == results
    with pytest.raises(UserError, match=r"minutes 4\.0, now 5\.0"):
        table.run(study.read_args(table, "", ["--out", str(tmp_path), "--minutes", "5"]))


def test_damaged_results_raise(recipe, tmp_path):
    study = recipe("study")
    (tmp_path / "results.json").write_text('{"settings": {')
    with pytest.raises(UserError, match="damaged"):
        study.read_results(tmp_path / "results.json", {})


def test_copied_tokenizer_equals_the_trained_one(recipe, tmp_path):
    from djinn.models import VideoTokenizer
    from djinn.train.checkpointer import checkpoint_path, save_checkpoint
    from djinn.train.stages.tokenizer import load_tokenizer

    study = recipe("study")
    config = PRESETS["tiny"]
    tokenizer = VideoTokenizer(config.world)
    state = {"stage": "tokenizer", "step": 1, "model": tokenizer.state_dict(), "ema": None}
    save_checkpoint(checkpoint_path(tmp_path / "source", "tokenizer"), state)
    config = study.with_changes(config, {"world.dynamics.action": "prepend"})
    for _ in range(2):  # the second call finds the copy
        study.copy_tokenizer(tmp_path / "source", tmp_path / "arm", config)
    copy = load_tokenizer(tmp_path / "arm", config).tokenizer
    assert all(torch.equal(value, copy.state_dict()[key]) for key, value in tokenizer.state_dict().items())


def test_detector_is_checked_before_training(recipe, tmp_path):
    study = recipe("study")
    args = study.read_args(recipe("codes").STUDY, "", ["--fvd-detector", str(tmp_path / "i3d.pt")])
    with pytest.raises(UserError, match="no detector"):
        study.check_detector(args.fvd_detector, args, SimpleNamespace(height=64, width=64))


def test_unknown_arm_keys_raise(recipe):
    with pytest.raises(UserError, match=r"world\.dynamics\.depth"):
        recipe("study").with_changes(PRESETS["tiny"], {"world.dynamics.depth": 3})


def test_data_without_test_split_raises(recipe, tmp_path):
    study, data = recipe("study"), recipe("study_data")
    table = recipe("codes").STUDY
    with pytest.raises(UserError, match="--data"):
        data.open_data(study.read_args(table, "", ["--test", str(tmp_path)]))
    with pytest.raises(UserError, match="no data set"):
        data.open_data(study.read_args(table, "", ["--data", str(tmp_path / "none")]))


@pytest.mark.slow
def test_smoke_of_a_study(recipe, tmp_path):
    pytest.importorskip("matplotlib")
    study, module = recipe("study"), recipe("action_conditioning")
    study.main(module.STUDY, "", ["--smoke", "--out", str(tmp_path)])
    results = json.loads((tmp_path / "smoke" / "results.json").read_text())["results"]
    assert [r["arm"] for r in results] == ["add", "prepend"]
    assert results[0]["tokenizer_psnr"] == results[1]["tokenizer_psnr"]  # shared tokenizer
    assert len(cells((tmp_path / "smoke" / "table.md").read_text())) == 2
    assert (tmp_path / "smoke" / "figure.png").stat().st_size > 1_000


def test_sampler_table_and_plot(recipe, tmp_path):
    pytest.importorskip("matplotlib")
    sampler = recipe("sampler")
    results = [
        {**fake_metrics(20 + n - t, 1.0), "steps": n, "temperature": t, "frames_per_second": 60 / n}
        for n in (4, 1)
        for t in (1.0, 0.0)
    ]
    rows = cells(sampler.page(results))
    assert [row["steps"] for row in rows] == ["1", "4"]
    assert rows[1]["roll-out PSNR at 1"] == "23.00" and rows[1]["roll-out PSNR at 0"] == "24.00"
    assert rows[1]["frames/s"] == "15.0"
    sampler.plot(results, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        assert image.width > image.height


def test_sampler_options(recipe):
    sampler = recipe("sampler")
    assert sampler.read(["world", "data", "--steps", "1", "25"]).steps == [1, 25]
    with pytest.raises(UserError, match="WORLD DATASET"):
        sampler.read([])
    with pytest.raises(UserError, match="--horizon"):
        sampler.read(["world", "data", "--horizon", "2"])
