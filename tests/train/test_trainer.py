import dataclasses
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from toy import ToyStage, loaders

from djinn.config import StageConfig, TrainConfig
from djinn.errors import UserError
from djinn.train import checkpointer as checkpoint
from djinn.train import trainer
from djinn.train.checkpointer import load_checkpoint
from djinn.train.ema import WeightAverage
from djinn.train.loggers import Metrics, read_metrics
from djinn.train.optimizer import build_optimizer
from djinn.train.signals import Stopped
from djinn.train.trainer import Trainer

CONFIG = StageConfig(
    steps=12,
    batch=8,
    lr=1e-2,
    min_lr=1e-3,
    warmup=2,
    log_every=3,
    eval_every=5,
    save_every=4,
    ema_decay=0.5,
    weight_decay=0.1,
)


def make(folder: Path, stage: ToyStage | None = None, **changes: object) -> Trainer:
    config = dataclasses.replace(CONFIG, **changes)  # pyrefly: ignore
    return Trainer(stage or ToyStage(noise=0.1), config, TrainConfig(), loaders(config.batch), folder)


def weights(folder: Path) -> dict:
    return load_checkpoint(folder / "toy" / "checkpoint.pt", "toy")


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def test_it_learns_logs_evaluates_and_saves(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    figures = make(tmp_path).run()
    assert figures["val_figure"] == 12
    records = read_metrics(tmp_path)
    logs = [r for r in records if "loss" in r]
    assert [r["step"] for r in logs] == [3, 6, 9, 12]
    assert all(r["stage"] == "toy" and r["one"] == 1 and r["frames_per_second"] > 0 for r in logs)
    assert logs[0]["half"] == pytest.approx(logs[0]["loss"] / 2, rel=1e-5)
    assert logs[-1]["loss"] < logs[0]["loss"]
    assert [r["step"] for r in records if "val_figure" in r] == [5, 10, 12]
    assert records[-1]["peak_memory_mb"] > 0
    assert weights(tmp_path)["step"] == 12
    warnings = [r for r in records if "warning" in r]
    assert len(warnings) == 1 and warnings[0]["step"] == 10
    assert capsys.readouterr().err.count("it went wrong: do this") == 1


def test_a_finished_stage_is_left_alone(tmp_path: Path) -> None:
    make(tmp_path).run()
    before = (tmp_path / "metrics.jsonl").read_text()
    stage = ToyStage(noise=0.1)
    assert make(tmp_path, stage).run() == {}
    assert stage.calls == 0
    assert (tmp_path / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_cleanly_and_the_run_goes_on_to_the_same_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture, number: signal.Signals
) -> None:
    make(tmp_path / "whole").run()
    stage = ToyStage(noise=0.1)

    def interrupt(call: int) -> float:
        if call == 6:
            os.kill(os.getpid(), number)
        return 0.0

    stage.at_step = interrupt
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped:
        make(tmp_path / "cut", stage).run()
    assert stopped.value.code == 128 + number
    assert signal.getsignal(number) is before
    assert "to go on:" in capsys.readouterr().err
    assert weights(tmp_path / "cut")["step"] == 7
    torch.rand(100)  # whatever happens between two runs
    make(tmp_path / "cut").run()
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    losses = [{r["step"]: r["loss"] for r in read_metrics(tmp_path / f) if "loss" in r} for f in ("whole", "cut")]
    assert losses[0][12] == losses[1][12]


def test_a_signal_during_the_last_evaluation_stops_before_what_follows(tmp_path: Path) -> None:
    stage = ToyStage(noise=0.1)
    real = stage.evaluate

    def interrupted(folder: Path, step: int) -> dict[str, float]:
        if step == CONFIG.steps:
            os.kill(os.getpid(), signal.SIGINT)
        return real(folder, step)

    stage.evaluate = interrupted
    with pytest.raises(Stopped):
        make(tmp_path, stage).run()
    assert weights(tmp_path)["step"] == CONFIG.steps
    assert [r["step"] for r in read_metrics(tmp_path) if "val_figure" in r][-1] == CONFIG.steps


def test_a_last_evaluation_that_fails_is_made_up_for(tmp_path: Path) -> None:
    stage = ToyStage(noise=0.1)

    def full(folder: Path, step: int) -> dict[str, float]:
        raise UserError("no space left")

    stage.evaluate = full
    with pytest.raises(UserError, match="no space left"):
        make(tmp_path, stage, eval_every=1000).run()
    assert make(tmp_path, eval_every=1000).run()["val_figure"] == CONFIG.steps


def test_saving_each_moment_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "plain").run()
    monkeypatch.setattr(trainer, "SAVE_SECONDS", -1.0)
    saves = []
    real = checkpoint.save_checkpoint
    monkeypatch.setattr(checkpoint, "save_checkpoint", lambda *a: (saves.append(a), real(*a)))
    job = make(tmp_path / "often")
    monkeypatch.setattr(job, "_save_is_due", lambda: True)
    job.run()
    assert len(saves) == 12
    assert same(weights(tmp_path / "plain"), weights(tmp_path / "often"))


def test_changed_settings_are_refused_and_steps_may_grow(tmp_path: Path) -> None:
    make(tmp_path).run()
    with pytest.raises(UserError, match=r"toy\.lr: 0.01 -> 0.02"):
        make(tmp_path, lr=2e-2).run()
    make(tmp_path, steps=15, save_every=2).run()
    assert weights(tmp_path)["step"] == 15


def test_a_checkpoint_of_an_older_djinn_is_continued(tmp_path: Path) -> None:
    make(tmp_path, steps=8).run()
    path = tmp_path / "toy" / "checkpoint.pt"
    state = weights(tmp_path)
    del state["config"]["toy"]["decay"], state["config"]["world"]["latent_action"]["input"]
    checkpoint.save_checkpoint(path, state)
    with pytest.raises(UserError, match=r"toy\.decay: 0\.1 -> 0\.2"):
        make(tmp_path, decay=0.2).run()
    make(tmp_path, steps=10).run()
    assert weights(tmp_path)["step"] == 10
    assert weights(tmp_path)["config"]["toy"]["decay"] == 0.1


def test_the_world_stage_keeps_sizes_and_settings_apart(tmp_path: Path) -> None:
    stage = ToyStage(noise=0.1)
    stage.name = "world"
    job = make(tmp_path, stage, steps=4)
    job.run()
    path = checkpoint.checkpoint_path(tmp_path, "world")
    state = load_checkpoint(path, "world")
    assert state["config"]["world"]["context_frames"] == TrainConfig().world.context_frames
    assert state["config"]["dynamics"]["lr"] == CONFIG.lr
    state["config"]["world"] = state["config"].pop("dynamics")  # as it was written once
    checkpoint.save_checkpoint(path, state)
    with pytest.raises(UserError, match=r"dynamics\.lr: 0\.01 -> 0\.02"):
        make(tmp_path, stage, lr=2e-2).run()
    make(tmp_path, stage, steps=6).run()
    assert load_checkpoint(path, "world")["step"] == 6


def test_minutes_end_a_stage_and_pauses_do_not_count(tmp_path: Path) -> None:
    make(tmp_path, steps=1_000_000, minutes=0.01, save_every=1_000_000, eval_every=1_000_000).run()
    saved = weights(tmp_path)
    assert saved["seconds"] >= 0.6 and 0 < saved["step"] < 1_000_000
    assert make(tmp_path, steps=1_000_000, minutes=0.01).run() == {}


def test_a_loss_that_is_not_a_number_stops_with_the_last_checkpoint_intact(tmp_path: Path) -> None:
    stage = ToyStage(noise=0.1)
    stage.at_step = lambda call: float("nan") if call == 6 else 0.0
    with pytest.raises(UserError, match=r"not finite at step 6 .*checkpoint \(step 4\) is intact.*lower --dynamics.lr"):
        make(tmp_path, stage).run()
    saved = weights(tmp_path)
    assert saved["step"] == 4
    assert all(torch.isfinite(w).all() for w in saved["model"].values())


def test_full_disk_ends_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(state: dict, file: object) -> None:
        if state["step"] > 4:
            raise OSError(28, "No space left on device")
        real(state, file)

    real = checkpoint._write
    monkeypatch.setattr(checkpoint, "_write", full)
    with pytest.raises(UserError, match=r"no space left while saving .* the last checkpoint of step 4 is intact"):
        make(tmp_path).run()
    monkeypatch.undo()
    assert weights(tmp_path)["step"] == 4
    assert not list(tmp_path.rglob("*.tmp"))
    make(tmp_path).run()
    assert weights(tmp_path)["step"] == 12


def test_accumulation_is_one_big_batch(tmp_path: Path) -> None:
    for accumulate in (1, 4):
        make(tmp_path / str(accumulate), ToyStage(), grad_accum_steps=accumulate).run()
    one, four = (weights(tmp_path / f)["model"] for f in ("1", "4"))
    for name in one:
        torch.testing.assert_close(one[name], four[name], rtol=1e-4, atol=1e-5)


def test_averaged_weights_are_evaluated_and_exported_but_not_trained(tmp_path: Path) -> None:
    stage = ToyStage(noise=0.1)
    make(tmp_path, stage).run()
    saved = weights(tmp_path)
    own, average = saved["model"]["0.weight"], saved["ema"]["average"]["0.weight"]
    assert not torch.equal(own, average)
    assert torch.equal(stage.exports[-1], average)
    assert torch.equal(stage.evaluated[-1], average)
    assert torch.equal(stage.module[0].weight, own)


def test_the_average_follows_its_formula() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(module.weight)
    average = WeightAverage(module, 0.3)
    expected = 0.0
    for n in range(5):
        torch.nn.init.constant_(module.weight, float(n + 1))
        average.update(module)
        decay = min(0.3, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * (n + 1)
    assert average.average["weight"].item() == pytest.approx(expected)
    with average.applied(module):
        assert module.weight.item() == pytest.approx(expected)
    assert module.weight.item() == 5


def test_only_matrices_decay() -> None:
    module = torch.nn.ModuleDict(
        {"linear": torch.nn.Linear(2, 2), "norm": torch.nn.LayerNorm(2), "embed": torch.nn.Embedding(3, 2)}
    )
    decayed, plain = build_optimizer(module, CONFIG).param_groups
    assert [p.shape for p in decayed["params"]] == [(2, 2)] and decayed["params"][0] is module["linear"].weight
    assert decayed["weight_decay"] == 0.1 and plain["weight_decay"] == 0
    assert len(plain["params"]) == 4


def test_clipping_bounds_the_gradient(tmp_path: Path) -> None:
    job = make(tmp_path, grad_clip=1e-3)
    for p in job.stage.module.parameters():
        p.grad = torch.ones_like(p)
    norm = job._clip()
    assert norm > 1
    clipped = torch.stack([p.grad.norm() for p in job.stage.module.parameters() if p.grad is not None]).norm()
    assert clipped.item() == pytest.approx(1e-3, rel=1e-2)


def test_metrics_rewind_drops_what_is_repeated_and_half_lines(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    for stage, step in [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 3)]:
        metrics.write(stage, step, {"loss": float("nan")})
    with open(metrics.path, "a") as file:
        file.write('{"stage": "b", "st')
    metrics.rewind("b", 2)
    lines = [json.loads(line) for line in metrics.path.read_text().splitlines()]
    assert [(r["stage"], r["step"]) for r in lines] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert lines[0]["loss"] is None


def test_sinks_get_numbers_and_a_missing_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys
    import types

    from djinn.train.loggers import open_sinks

    seen: list = []
    fake = types.ModuleType("trackio")
    fake.init = lambda **kw: seen.append(("init", kw["project"], kw["name"]))  # type: ignore[attr-defined]
    fake.log = seen.append  # type: ignore[attr-defined]
    fake.finish = lambda: seen.append("finish")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", fake)
    metrics = Metrics(tmp_path, open_sinks(["trackio"], tmp_path, {}))
    metrics.write("world", 3, {"ce": 1.5, "warning": "x"})
    metrics.close()
    assert seen == [("init", "djinn", tmp_path.name), {"world/step": 3, "world/ce": 1.5}, "finish"]
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"needs the extra 'log': pip install 'djinn\[log\]'"):
        open_sinks(["tensorboard"], tmp_path, {})
