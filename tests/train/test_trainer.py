import dataclasses
import os
import signal
from pathlib import Path

import pytest
import torch
from toy import ToyStage, loaders

from djinn.config import StageConfig, TrainConfig
from djinn.errors import UserError
from djinn.train import checkpointer, trainer
from djinn.train.checkpointer import checkpoint_path, load_checkpoint, save_checkpoint
from djinn.train.loggers import read_metrics
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


def make_trainer(folder: Path, stage: ToyStage | None = None, **changes: object) -> Trainer:
    config = dataclasses.replace(CONFIG, **changes)  # pyrefly: ignore
    return Trainer(stage or ToyStage(noise=0.1), config, TrainConfig(), loaders(config.batch), folder)


def checkpoint(folder: Path) -> dict:
    return load_checkpoint(checkpoint_path(folder, "toy"), "toy")


def same(a: object, b: object) -> bool:
    """Return whether two states are equal bit for bit, apart from times."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def test_run_trains_logs_evaluates_and_saves(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    metrics = make_trainer(tmp_path).run()
    assert metrics["val_metric"] == 12
    records = read_metrics(tmp_path)
    logs = [r for r in records if "loss" in r]
    assert [r["step"] for r in logs] == [3, 6, 9, 12]
    assert all(r["stage"] == "toy" and r["one"] == 1 and r["frames_per_second"] > 0 for r in logs)
    assert logs[0]["half"] == pytest.approx(logs[0]["loss"] / 2, rel=1e-5)
    assert logs[-1]["loss"] < logs[0]["loss"]
    assert [r["step"] for r in records if "val_metric" in r] == [5, 10, 12]
    assert records[-1]["peak_memory_mb"] > 0
    assert checkpoint(tmp_path)["step"] == 12
    warnings = [r for r in records if "warning" in r]
    assert len(warnings) == 1 and warnings[0]["step"] == 10
    assert capsys.readouterr().err.count("a toy warning") == 1


def test_finished_stage_is_not_trained(tmp_path: Path) -> None:
    make_trainer(tmp_path).run()
    before = (tmp_path / "metrics.jsonl").read_text()
    stage = ToyStage(noise=0.1)
    assert make_trainer(tmp_path, stage).run() == {}
    assert stage.calls == 0
    assert (tmp_path / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_run_resumes_to_the_same_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture, number: signal.Signals
) -> None:
    make_trainer(tmp_path / "uninterrupted").run()
    stage = ToyStage(noise=0.1)

    def interrupt(call: int) -> float:
        if call == 6:
            os.kill(os.getpid(), number)
        return 0.0

    stage.added_loss = interrupt
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped:
        make_trainer(tmp_path / "stopped", stage).run()
    assert stopped.value.code == 128 + number
    assert signal.getsignal(number) is before
    assert "the state is saved. To resume:" in capsys.readouterr().err
    assert checkpoint(tmp_path / "stopped")["step"] == 7
    torch.rand(100)  # the random state between two runs has no effect
    make_trainer(tmp_path / "stopped").run()
    assert same(checkpoint(tmp_path / "uninterrupted"), checkpoint(tmp_path / "stopped"))
    folders = (tmp_path / "uninterrupted", tmp_path / "stopped")
    losses = [{r["step"]: r["loss"] for r in read_metrics(folder) if "loss" in r} for folder in folders]
    assert losses[0][12] == losses[1][12]


def test_signal_during_the_last_evaluation_stops_after_saving(tmp_path: Path) -> None:
    stage = ToyStage(noise=0.1)
    evaluate = stage.evaluate

    def interrupted(folder: Path, step: int) -> dict[str, float]:
        if step == CONFIG.steps:
            os.kill(os.getpid(), signal.SIGINT)
        return evaluate(folder, step)

    stage.evaluate = interrupted
    with pytest.raises(Stopped):
        make_trainer(tmp_path, stage).run()
    assert checkpoint(tmp_path)["step"] == CONFIG.steps
    assert [r["step"] for r in read_metrics(tmp_path) if "val_metric" in r][-1] == CONFIG.steps


def test_failed_last_evaluation_is_repeated_on_resume(tmp_path: Path) -> None:
    stage = ToyStage(noise=0.1)

    def fail(folder: Path, step: int) -> dict[str, float]:
        raise UserError("no space left")

    stage.evaluate = fail
    with pytest.raises(UserError, match="no space left"):
        make_trainer(tmp_path, stage, eval_every=1000).run()
    assert make_trainer(tmp_path, eval_every=1000).run()["val_metric"] == CONFIG.steps


def test_saving_has_no_effect_on_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_trainer(tmp_path / "reference").run()
    monkeypatch.setattr(trainer, "SAVE_INTERVAL", -1.0)
    saved_steps = []
    save = checkpointer.save_checkpoint
    monkeypatch.setattr(checkpointer, "save_checkpoint", lambda *a: (saved_steps.append(a[1]["step"]), save(*a)))
    often = make_trainer(tmp_path / "often")
    monkeypatch.setattr(often, "_save_is_due", lambda: True)
    often.run()
    assert saved_steps == list(range(1, 13))
    assert same(checkpoint(tmp_path / "reference"), checkpoint(tmp_path / "often"))


def test_changed_settings_are_refused_and_steps_may_grow(tmp_path: Path) -> None:
    make_trainer(tmp_path).run()
    with pytest.raises(UserError, match=r"toy\.lr: 0.01 -> 0.02"):
        make_trainer(tmp_path, lr=2e-2).run()
    make_trainer(tmp_path, steps=15, save_every=2).run()
    assert checkpoint(tmp_path)["step"] == 15


def test_checkpoint_without_newer_settings_is_resumed(tmp_path: Path) -> None:
    make_trainer(tmp_path, steps=8).run()
    state = checkpoint(tmp_path)
    del state["config"]["toy"]["decay"], state["config"]["world"]["latent_action"]["input"]
    save_checkpoint(checkpoint_path(tmp_path, "toy"), state)
    with pytest.raises(UserError, match=r"toy\.decay: 0\.1 -> 0\.2"):
        make_trainer(tmp_path, decay=0.2).run()
    make_trainer(tmp_path, steps=10).run()
    assert checkpoint(tmp_path)["step"] == 10
    assert checkpoint(tmp_path)["config"]["toy"]["decay"] == 0.1


def test_checkpoint_holds_sizes_and_stage_settings_separately(tmp_path: Path) -> None:
    make_trainer(tmp_path, steps=4).run()
    config = checkpoint(tmp_path)["config"]
    assert config["world"]["context_frames"] == TrainConfig().world.context_frames
    assert config["toy"]["lr"] == CONFIG.lr


def test_minutes_end_a_stage_and_pauses_do_not_count(tmp_path: Path) -> None:
    make_trainer(tmp_path, steps=1_000_000, minutes=0.01, save_every=1_000_000, eval_every=1_000_000).run()
    saved = checkpoint(tmp_path)
    assert saved["seconds"] >= 0.6 and 0 < saved["step"] < 1_000_000
    assert make_trainer(tmp_path, steps=1_000_000, minutes=0.01).run() == {}


def test_loss_that_is_not_finite_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    stage = ToyStage(noise=0.1)
    stage.added_loss = lambda call: float("nan") if call == 6 else 0.0
    with pytest.raises(UserError, match=r"not finite at step 6 .*checkpoint of step 4 is intact.*lower --toy.lr"):
        make_trainer(tmp_path, stage).run()
    saved = checkpoint(tmp_path)
    assert saved["step"] == 4
    assert all(torch.isfinite(w).all() for w in saved["model"].values())


def test_full_disk_is_reported_and_the_run_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(state: dict, file: object) -> None:
        if state["step"] > 4:
            raise OSError(28, "No space left on device")
        write(state, file)

    write = checkpointer._write
    monkeypatch.setattr(checkpointer, "_write", full)
    with pytest.raises(UserError, match=r"no space left while saving .* the checkpoint of step 4 is intact"):
        make_trainer(tmp_path).run()
    monkeypatch.undo()
    assert checkpoint(tmp_path)["step"] == 4
    assert not list(tmp_path.rglob("*.tmp"))
    make_trainer(tmp_path).run()
    assert checkpoint(tmp_path)["step"] == 12


@pytest.mark.parametrize("passes", [2, 4])
def test_accumulated_passes_train_the_weights_of_one_batch(tmp_path: Path, passes: int) -> None:
    for count in (1, passes):
        make_trainer(tmp_path / str(count), ToyStage(noise=0.1), grad_accum_steps=count).run()
    one, accumulated = (checkpoint(tmp_path / str(count))["model"] for count in (1, passes))
    for name in one:
        torch.testing.assert_close(one[name], accumulated[name], rtol=1e-4, atol=1e-5)


def test_averaged_weights_are_evaluated_and_exported_but_not_trained(tmp_path: Path) -> None:
    stage = ToyStage(noise=0.1)
    make_trainer(tmp_path, stage).run()
    saved = checkpoint(tmp_path)
    own, average = saved["model"]["0.weight"], saved["ema"]["average"]["0.weight"]
    assert not torch.equal(own, average)
    assert torch.equal(stage.exports[-1], average)
    assert torch.equal(stage.evaluated[-1], average)
    assert torch.equal(stage.module[0].weight, own)


def test_clipping_bounds_the_gradient_norm(tmp_path: Path) -> None:
    clipping = make_trainer(tmp_path, grad_clip=1e-3)
    for p in clipping.stage.module.parameters():
        p.grad = torch.ones_like(p)
    norm = clipping._clip_gradients()
    assert norm > 1
    clipped = torch.stack([p.grad.norm() for p in clipping.stage.module.parameters() if p.grad is not None]).norm()
    assert clipped.item() == pytest.approx(1e-3, rel=1e-2)
