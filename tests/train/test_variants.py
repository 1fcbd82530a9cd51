"""`djinn train` with the model variants of Tables 2 and 3: train, kill, resume and play."""

from pathlib import Path

import numpy as np
import pytest
import torch
from training_world import SIZE, episode, write_dataset

from djinn.cli.train import parse_train
from djinn.config import TrainConfig
from djinn.config.yaml import load_yaml
from djinn.data.dataset import Dataset
from djinn.data.loader import LoaderBatch
from djinn.generate import Session
from djinn.models import World
from djinn.train import run
from djinn.train.checkpointer import checkpoint_path, load_checkpoint
from djinn.train.loggers import last_evaluation, read_metrics
from djinn.train.resolve import resolve_config
from djinn.train.summary import summarize
from djinn.train.trainer import Trainer

SMALL = (
    "--preset tiny --steps 4 --world.context_frames 4 --world.tokenizer.patch 4 --world.tokenizer.quantizer.codes 64 "
    "--tokenizer.log-every 2 --dynamics.log-every 2 --dynamics.save-every 2"
)
VARIANTS = {
    "vit": ("--world.tokenizer.kind", "vit"),
    "c-vivit": ("--world.tokenizer.kind", "c-vivit"),
    "tokens": ("--world.latent-action.input", "tokens", "--world.latent-action.no-warp"),
}


class Killed(Exception):
    """Stands for a kill."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("variants") / "squares").path


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_variant_is_trained_resumed_and_played(
    variant: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"

    def train(out: Path) -> None:
        options, config, given = parse_train([str(data), "--out", str(out), *SMALL.split(), *VARIANTS[variant]])
        run.train(data, out, resolve_config(config, Dataset.open(data), given=given, steps=options.steps))

    def step_or_kill(trainer: Trainer, batch: LoaderBatch) -> None:
        if trainer.stage.name == "dynamics" and trainer.step == 3:
            raise Killed
        step(trainer, batch)

    train(uninterrupted)
    step = Trainer._train_step
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", step_or_kill)
        with pytest.raises(Killed):
            train(killed)
    assert load_checkpoint(checkpoint_path(killed, "dynamics"), "dynamics")["step"] == 2
    train(killed)
    states = [load_checkpoint(checkpoint_path(out, "dynamics"), "dynamics")["model"] for out in (uninterrupted, killed)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())

    config = load_yaml(TrainConfig, uninterrupted / "config.yaml").world
    assert variant in (config.tokenizer.kind, config.latent_action.input)
    logged = {name for record in read_metrics(uninterrupted) if record["stage"] == "dynamics" for name in record}
    assert ({"lam_ce", "lam_accuracy"} <= logged) == ("lam_psnr" not in logged) == (variant == "tokens")
    assert last_evaluation(uninterrupted, "dynamics")["val_lam_psnr"] > 0
    assert "with inferred actions" in summarize(uninterrupted)

    world = World.from_pretrained(uninterrupted, "cpu")
    video = torch.from_numpy(np.stack([episode(90 + i, 4) for i in range(2)]))
    assert world.infer_actions(video).shape == (2, 3)
    session = Session(world, video[:, :2])
    frames = [session.step([i, 5]) for i in range(6)]
    assert all(frame.shape == (2, SIZE, SIZE, 3) for frame in frames)
