"""A third stage is added by registering it, without changes to trainer, run or checkpoints."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from training_world import tiny_config, write_dataset

from djinn.errors import UserError
from djinn.models import World
from djinn.train.checkpointer import checkpoint_path, load_checkpoint
from djinn.train.loggers import read_metrics
from djinn.train.run import train
from djinn.train.stages import STAGES, Stage, StageContext, StageSpec, select_stages
from djinn.train.stages.registry import dependents


class BrightnessStage(Stage):
    """Predicts the mean color of the next frame, over the world that the run has exported."""

    name = "brightness"

    def __init__(self, world: World) -> None:
        self.world = world
        self.module = nn.Linear(3, 3)
        self.closed = False

    @classmethod
    def build(cls, context: StageContext) -> "BrightnessStage":
        torch.manual_seed(context.config.seed)
        return cls(World.from_pretrained(context.run, context.device))

    def loss(self, batch):
        colors = batch.video.float().mean(dim=(2, 3)) / 255
        loss = (self.module(colors[:, :-1]) - colors[:, 1:]).square().mean()
        return loss, {"error": loss.detach()}

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        return {"val_clips": 1.0, "val_bias": float(self.module.bias.mean())}

    def export(self, folder: Path, step: int) -> None:
        save_file(self.module.state_dict(), folder / "brightness.safetensors")

    def exported_files(self, folder: Path) -> list[Path]:
        return [folder / "brightness.safetensors"]

    def identity(self) -> dict[str, str]:
        return {"actions": str(self.world.num_actions)}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set; the third stage is registered, before the stages that it requires."""
    spec = StageSpec("brightness", "mean colors", BrightnessStage.build, lambda c: c.dynamics, requires=("dynamics",))
    registered = dict(STAGES)
    STAGES.clear()
    monkeypatch.setitem(STAGES, "brightness", spec)
    STAGES.update(registered)
    yield write_dataset(tmp_path / "squares", train=2, val=1).path
    STAGES.clear()
    STAGES.update(registered)


def test_stages_are_ordered_by_their_requirements(data: Path) -> None:
    config = tiny_config()
    assert [spec.name for spec in select_stages("all", config)] == ["tokenizer", "dynamics", "brightness"]
    assert [spec.name for spec in select_stages("dynamics", config)] == ["dynamics"]
    assert [spec.name for spec in dependents("tokenizer")] == ["dynamics", "brightness"]
    fine_tuned = dataclasses.replace(config, init_from="coinrun")
    assert [spec.name for spec in select_stages("all", fine_tuned)] == ["dynamics", "brightness"]
    with pytest.raises(UserError, match="there is no stage 'world': use all, brightness, tokenizer, dynamics"):
        select_stages("world", config)


def test_third_stage_is_trained_saved_logged_and_resumed(data: Path, tmp_path: Path) -> None:
    out, announced = tmp_path / "run", []
    assert "val_bias" in train(data, out, tiny_config(steps=3), announce=announced.append)
    assert announced == ["tokenizer", "dynamics", "brightness"]
    assert list(dict.fromkeys(r["stage"] for r in read_metrics(out))) == announced
    saved = load_checkpoint(checkpoint_path(out, "brightness"), "brightness")
    assert saved["step"] == 3 and saved["config"]["actions"] == "4"
    exported = load_file(out / "brightness.safetensors")
    assert torch.equal(exported["weight"], saved["model"]["weight"])

    (out / "brightness.safetensors").unlink()
    train(data, out, tiny_config(steps=3), "brightness")  # finished: only the export is repaired
    assert torch.equal(load_file(out / "brightness.safetensors")["weight"], exported["weight"])

    train(data, out, tiny_config(steps=5), "brightness")
    assert load_checkpoint(checkpoint_path(out, "brightness"), "brightness")["step"] == 5
    with pytest.raises(UserError, match=r"the brightness stage in .* is already trained on the dynamics"):
        train(data, out, tiny_config(steps=5), "dynamics")
