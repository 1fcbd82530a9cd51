"""The studies of recipes/study.py and recipes/sampler.py: arms, figures, tables and the page that shows them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from tables import cells

from djinn.config import UNLIMITED
from djinn.config.presets import PRESETS
from djinn.errors import UserError

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


def figures_of(psnr: float, delta: float) -> dict:
    """What an arm's measuring gives, with made-up values."""
    sampler = {"steps": 4, "temperature": 0.0, "choice_temperature": 0.0, "top_k": 0}
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


def results_of(study, seeds=1) -> list[dict]:
    arms = enumerate(study.arms)
    return [
        {"arm": arm.name, "seed": seed, **figures_of(20 + i + 2 * seed, 1.0 + i)}
        for i, arm in arms
        for seed in range(seeds)
    ]


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
    page = (Path(__file__).parents[2] / "docs" / "studies.md").read_text()
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
    from djinn.train.checkpointer import checkpoint_path, save_checkpoint
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
