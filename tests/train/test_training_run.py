import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_trainer import same
from training_world import SIZE, episode, tiny_config, write_dataset

from djinn.cli import main
from djinn.config import with_limits
from djinn.config.yaml import load_yaml
from djinn.data.writer import DatasetWriter
from djinn.errors import UserError
from djinn.models import World
from djinn.models.action_names import read_actions, save_actions
from djinn.train.checkpointer import checkpoint_path, load_checkpoint
from djinn.train.loggers import read_metrics
from djinn.train.run import last_figures, load_tokenizer, summary, train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("run") / "squares").path


@pytest.fixture(scope="module")
def finished(data: Path) -> Path:
    out = data.parent / "whole"
    torch.set_num_threads(1)
    train(data, out, tiny_config(ema_decay=0.9))
    return out


SCRIPT = """
import os, signal, sys
import torch
from djinn.train import trainer
from djinn.train.run import train
from training_world import tiny_config
torch.set_num_threads(1)
data, out, stage, step = sys.argv[1:]
real = trainer.Trainer._train_step
def step_or_die(self, batch):
    if self.stage.name == stage and self.step == int(step):
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, batch)
trainer.Trainer._train_step = step_or_die
train(data, out, tiny_config(ema_decay=0.9))
"""


@pytest.mark.slow
def test_killed_and_continued_is_uninterrupted_to_the_bit(data: Path, finished: Path) -> None:
    out = data.parent / "killed"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    for stage, step, saved in [("tokenizer", 8, 5), ("world", 9, 5), ("nowhere", 0, 12)]:
        command = [sys.executable, "-c", SCRIPT, str(data), str(out), stage, str(step)]
        done = subprocess.run(command, env=env, capture_output=True, timeout=300)
        assert done.returncode == (0 if stage == "nowhere" else -signal.SIGKILL), done.stderr.decode()
        reached = "world" if stage == "nowhere" else stage
        assert load_checkpoint(checkpoint_path(out, reached), reached)["step"] == saved
    for stage in ("tokenizer", "world"):
        whole, killed = (load_checkpoint(checkpoint_path(run, stage), stage) for run in (finished, out))
        for key in ("step", "position", "model", "optimizer", "ema", "random", "config"):
            assert same(whole[key], killed[key]), (stage, key)
        assert "codebook" in " ".join(whole["model"])
    for file in ("model.safetensors", "latent_action.safetensors"):
        assert (finished / "world" / file).read_bytes() == (out / "world" / file).read_bytes()
    losses = [{(r["stage"], r["step"]): r["loss"] for r in read_metrics(run) if "loss" in r} for run in (finished, out)]
    assert losses[0].keys() == losses[1].keys()
    assert losses[0]["world", 12] == losses[1]["world", 12]
    steps = [(r["stage"], r["step"]) for r in read_metrics(out) if "loss" in r]
    assert len(steps) == len(set(steps))


def test_a_run_folder_holds_all(data: Path, finished: Path) -> None:
    assert load_yaml(type(tiny_config()), finished / "config.yaml") == tiny_config(ema_decay=0.9)
    assert {r["stage"] for r in read_metrics(finished)} == {"tokenizer", "world"}
    assert {p.name for p in (finished / "pictures").iterdir()} >= {"tokenizer-latest.png", "world-latest.png"}
    assert not (finished / "tokens").exists() and not list(finished.rglob("*.tmp"))
    world = World.from_pretrained(finished, device="cpu")
    tokenizer = load_tokenizer(finished, tiny_config(ema_decay=0.9))
    weights = {name for name, _ in tokenizer.named_parameters()}
    for name, value in tokenizer.state_dict().items():
        saved = value.half().float() if name in weights else value  # codebooks and counters are not rounded
        assert torch.equal(world.tokenizer.state_dict()[name], saved), name
    assert last_figures(finished, "world")["step"] == 12
    text = summary(finished)
    assert "dB PSNR" in text and "the latent actions" in text and "over random ones" in text


def test_finished_stages_are_skipped_and_a_lost_export_is_made_again(data: Path, finished: Path) -> None:
    before = read_metrics(finished)
    weights = finished / "world" / "model.safetensors"
    whole = weights.read_bytes()
    weights.unlink()
    assert train(data, finished, tiny_config(ema_decay=0.9))["step"] == 12
    assert read_metrics(finished) == before
    World.from_pretrained(finished, device="cpu")
    for name in ("model", "latent_action"):
        cut = finished / "world" / f"{name}.safetensors"
        cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
        train(data, finished, tiny_config(ema_decay=0.9))
        World.from_pretrained(finished, device="cpu")
    assert weights.read_bytes() == whole


def test_a_run_is_not_continued_with_other_settings_or_data(data: Path, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.lr: 0.003 -> 0.1.*another --out"):
        train(data, finished, tiny_config(ema_decay=0.9, lr=0.1))
    other = write_dataset(tmp_path / "other", train=5).path
    with pytest.raises(UserError, match=r"another data set .*squares"):
        train(other, finished, tiny_config(ema_decay=0.9))
    said = (finished / "dataset.txt").read_bytes()
    (finished / "dataset.txt").write_bytes(b"\xff\xfe\x00damaged")
    with pytest.raises(UserError, match="began with another data set"):
        train(data, finished, tiny_config(ema_decay=0.9))
    (finished / "dataset.txt").write_bytes(said)
    with pytest.raises(UserError, match="already built on its tokenizer"):
        train(data, finished, with_limits(tiny_config(ema_decay=0.9), "tokenizer", steps=20), "tokenizer")


def test_what_does_not_fit_is_refused_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    config = tiny_config()
    with pytest.raises(UserError, match="no data set at"):
        train(tmp_path / "nowhere", tmp_path / "run", config)
    large = dataclasses.replace(config, world=dataclasses.replace(config.world, width=32))
    with pytest.raises(UserError, match=r"are 16x16, but the world is to be 32x16: pass --world.width 16"):
        train(data, tmp_path / "run", large)
    long = dataclasses.replace(config, world=dataclasses.replace(config.world, context_frames=100))
    with pytest.raises(UserError, match="has 100 frames"):
        train(data, tmp_path / "run", long)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="is not a run folder"):
        train(data, data, config)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is not a run folder"):
        train(data, tmp_path / "file", config)
    assert (tmp_path / "file").read_text() == "mine"


def test_the_world_stage_needs_a_tokenizer(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer yet: train it first with --stage tokenizer"):
        train(data, tmp_path / "run", tiny_config(), "world")


def test_one_stage_after_the_other(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = tiny_config(steps=3)
    assert train(data, out, config, "tokenizer")["val_psnr"] > 0
    assert not (out / "world").exists()
    assert "val_gain" in train(data, out, config, "world")
    corrupt = checkpoint_path(out, "world")
    corrupt.write_bytes(corrupt.read_bytes()[:500])
    with pytest.raises(UserError, match="damaged"):
        train(data, out, config)


def test_a_data_set_without_held_out_episodes_is_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = write_dataset(tmp_path / "data", train=2, val=0).path
    train(data, tmp_path / "run", tiny_config(steps=2), "tokenizer")
    assert "figures are taken on training clips" in capsys.readouterr().err


def test_two_processes_do_not_train_in_one_folder(data: Path, tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "run").mkdir()
    with open(tmp_path / "run" / ".lock", "w") as lock:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is training in"):
            train(data, tmp_path / "run", tiny_config())


def test_minutes_are_shared_by_the_stages() -> None:
    config = with_limits(tiny_config(), minutes=10)
    assert config.tokenizer.minutes == pytest.approx(3) and config.dynamics.minutes == pytest.approx(7)
    alone = with_limits(tiny_config(), "world", minutes=10, steps=7)
    assert alone.dynamics.minutes == 10 and alone.dynamics.steps == 7 and alone.tokenizer == tiny_config().tokenizer


def test_training_goes_on_from_a_world(data: Path, finished: Path, tmp_path: Path) -> None:
    start = tmp_path / "start"
    world = World.from_pretrained(finished, "cpu")
    world.action_names = [f"do {i}" for i in range(world.num_actions)]
    world.save_pretrained(start, "fp32")
    config = dataclasses.replace(tiny_config(), init_from=str(start))
    still = {"lr": 1e-12, "min_lr": 0.0}
    config = dataclasses.replace(
        config,
        tokenizer=dataclasses.replace(config.tokenizer, **still),
        dynamics=dataclasses.replace(config.dynamics, **still),
    )
    train(data, tmp_path / "run", config)
    gone_on = World.from_pretrained(tmp_path / "run", "cpu")
    assert gone_on.action_names == world.action_names
    before, after = dict(world.named_parameters()), dict(gone_on.named_parameters())
    for name, weights in before.items():
        torch.testing.assert_close(after[name], weights, atol=1e-3, rtol=1e-2, msg=name)  # fp16 in the run folder
    fresh = World.from_pretrained(finished, "cpu")
    assert fresh.action_names != world.action_names


def test_names_that_a_run_was_given_outlive_its_next_export(data: Path, finished: Path, tmp_path: Path) -> None:
    start, out = tmp_path / "start", tmp_path / "run"
    world = World.from_pretrained(finished, "cpu")
    world.action_names = [f"do {i}" for i in range(world.num_actions)]
    world.save_pretrained(start, "fp32")
    config = dataclasses.replace(tiny_config(steps=2), init_from=str(start))
    train(data, out, config)
    actions = read_actions(out / "world", world.num_actions)
    save_actions(out / "world", [actions[0].renamed("jump"), *actions[1:]])
    train(data, out, dataclasses.replace(config, dynamics=dataclasses.replace(config.dynamics, steps=3)))
    assert load_checkpoint(checkpoint_path(out, "world"), "world")["step"] == 3
    assert World.from_pretrained(out, "cpu").action_names == ["jump", *world.action_names[1:]]


def test_a_world_that_goes_on_is_played_at_the_speed_of_its_new_videos(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = World.from_pretrained(finished, "cpu").config.fps
    with DatasetWriter(tmp_path / "data", height=SIZE, width=SIZE, fps=start / 2) as writer:
        for number, split in enumerate(("train", "train", "val")):
            writer.add_episode(episode(number), source=f"episode-{number}", split=split)
    arguments = ["train", str(tmp_path / "data"), "--preset", "finetune", "--init-from", str(finished), "--steps", "2"]
    for more, fps in (([], start / 2), (["--world.fps", "7"], 7)):
        out = tmp_path / f"run-{fps}"
        main([*arguments, "--dynamics.batch", "4", "--out", str(out), *more])
        assert World.from_pretrained(out, "cpu").config.fps == fps
        said = capsys.readouterr().out
        assert f"have the names of {finished}; where they no longer hold: djinn name {out} {tmp_path / 'data'}" in said


def test_a_run_goes_on_at_another_speed(data: Path, finished: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(tiny_config(steps=2), init_from=str(finished))
    train(data, tmp_path / "run", config)
    faster = dataclasses.replace(config.world, fps=2 * config.world.fps)
    longer = dataclasses.replace(config.dynamics, steps=3)
    train(data, tmp_path / "run", dataclasses.replace(config, world=faster, dynamics=longer))
    assert World.from_pretrained(tmp_path / "run", "cpu").config.fps == faster.fps


def test_a_finished_run_takes_other_settings_for_play(data: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    config = tiny_config(ema_decay=0.9)
    sampler = dataclasses.replace(config.world.sampler, steps=7)
    config = dataclasses.replace(config, world=dataclasses.replace(config.world, fps=33, sampler=sampler))
    for _ in range(2):
        train(data, out, config)
        world = World.from_pretrained(out, "cpu")
        assert (world.config.fps, world.config.sampler.steps) == (33, 7)
        before = (out / "world" / "config.yaml").stat().st_mtime_ns
    train(data, out, config)  # nothing has changed, so nothing is written
    assert (out / "world" / "config.yaml").stat().st_mtime_ns == before
    assert load_checkpoint(checkpoint_path(out, "world"), "world")["step"] == 12


def test_training_from_a_world_of_other_sizes_is_refused(data: Path, finished: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(tiny_config(), init_from=str(finished))
    config = dataclasses.replace(
        config, world=dataclasses.replace(config.world, context_frames=config.world.context_frames + 1)
    )
    with pytest.raises(UserError, match="sizes"):
        train(data, tmp_path / "run", config)
    with pytest.raises(UserError, match="no world at nowhere"):
        train(data, tmp_path / "other", dataclasses.replace(config, init_from="nowhere"))


def test_the_tokenizer_of_a_world_to_start_from_stays(
    data: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = World.from_pretrained(finished, "cpu")
    config = dataclasses.replace(tiny_config(), init_from=str(finished))
    train(data, tmp_path / "run", config)
    assert {record["stage"] for record in read_metrics(tmp_path / "run")} == {"world"}
    again = [
        "train",
        str(data),
        "--preset",
        "finetune",
        "--init-from",
        str(finished),
        "--out",
        str(tmp_path / "other"),
    ]
    for option, value in (("tokenizer.lr", "1"), ("tokenizer-share", "0.9")):
        with pytest.raises(SystemExit):
            main([*again, f"--{option}", value])
        assert f"--{option} does nothing with --init-from" in capsys.readouterr().err
    gone_on = World.from_pretrained(tmp_path / "run", "cpu")
    for name, value in start.tokenizer.state_dict().items():
        assert torch.equal(gone_on.tokenizer.state_dict()[name], value), name
    with pytest.raises(UserError, match="stays as it is"):
        train(data, tmp_path / "other", config, stage="tokenizer")
