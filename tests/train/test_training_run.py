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
from djinn.train.loggers import last_evaluation, read_metrics
from djinn.train.run import train
from djinn.train.stages.tokenizer import load_tokenizer
from djinn.train.summary import summarize


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("run") / "squares").path


@pytest.fixture(scope="module")
def finished(data: Path) -> Path:
    out = data.parent / "uninterrupted"
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
train_step = trainer.Trainer._train_step
def step_or_kill(self, batch):
    if self.stage.name == stage and self.step == int(step):
        os.kill(os.getpid(), signal.SIGKILL)
    train_step(self, batch)
trainer.Trainer._train_step = step_or_kill
train(data, out, tiny_config(ema_decay=0.9))
"""


@pytest.mark.slow
def test_killed_and_resumed_run_equals_an_uninterrupted_one(data: Path, finished: Path) -> None:
    out = data.parent / "killed"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    for stage, step, saved in [("tokenizer", 8, 5), ("dynamics", 9, 5), ("none", 0, 12)]:
        command = [sys.executable, "-c", SCRIPT, str(data), str(out), stage, str(step)]
        done = subprocess.run(command, env=env, capture_output=True, timeout=300)
        assert done.returncode == (0 if stage == "none" else -signal.SIGKILL), done.stderr.decode()
        reached = "dynamics" if stage == "none" else stage
        assert load_checkpoint(checkpoint_path(out, reached), reached)["step"] == saved
    for stage in ("tokenizer", "dynamics"):
        uninterrupted, killed = (load_checkpoint(checkpoint_path(run, stage), stage) for run in (finished, out))
        for key in ("step", "position", "model", "optimizer", "ema", "random", "config"):
            assert same(uninterrupted[key], killed[key]), (stage, key)
        assert "codebook" in " ".join(uninterrupted["model"])
    for file in ("model.safetensors", "latent_action.safetensors"):
        assert (finished / "world" / file).read_bytes() == (out / "world" / file).read_bytes()
    losses = [{(r["stage"], r["step"]): r["loss"] for r in read_metrics(run) if "loss" in r} for run in (finished, out)]
    assert losses[0].keys() == losses[1].keys()
    assert losses[0]["dynamics", 12] == losses[1]["dynamics", 12]
    steps = [(r["stage"], r["step"]) for r in read_metrics(out) if "loss" in r]
    assert len(steps) == len(set(steps))


def test_run_folder_holds_config_metrics_images_and_world(data: Path, finished: Path) -> None:
    assert load_yaml(type(tiny_config()), finished / "config.yaml") == tiny_config(ema_decay=0.9)
    assert {r["stage"] for r in read_metrics(finished)} == {"tokenizer", "dynamics"}
    assert {p.name for p in (finished / "images").iterdir()} >= {"tokenizer-latest.png", "dynamics-latest.png"}
    assert not (finished / "tokens").exists() and not list(finished.rglob("*.tmp"))
    world = World.from_pretrained(finished, device="cpu")
    tokenizer, steps = load_tokenizer(finished, tiny_config(ema_decay=0.9))
    assert steps == 12
    weights = {name for name, _ in tokenizer.named_parameters()}
    for name, value in tokenizer.state_dict().items():
        saved = value.half().float() if name in weights else value  # codebooks and counters stay in fp32
        assert torch.equal(world.tokenizer.state_dict()[name], saved), name
    assert last_evaluation(finished, "dynamics")["step"] == 12
    text = summarize(finished)
    assert "dB PSNR" in text and "the latent actions" in text and "over random ones" in text
    assert "the world is barely trained (tokenizer: 12 steps, dynamics: 12 steps)" in text


def test_world_is_exported_with_its_training_summary(finished: Path) -> None:
    summary, metrics = World.from_pretrained(finished, "cpu").training_summary, last_evaluation(finished, "dynamics")
    assert summary is not None
    assert (summary.tokenizer_steps, summary.dynamics_steps) == (12, 12)
    for name in ("val_gain", "val_gain4", "val_rollout_psnr", "val_clips"):
        assert getattr(summary, name) == pytest.approx(metrics[name]), name
    assert summary.actions_used == metrics["val_actions_used"]


def test_finished_stages_are_skipped_and_a_damaged_export_is_repaired(data: Path, finished: Path) -> None:
    before = read_metrics(finished)
    weights = finished / "world" / "model.safetensors"
    complete = weights.read_bytes()
    weights.unlink()
    assert train(data, finished, tiny_config(ema_decay=0.9))["step"] == 12
    assert read_metrics(finished) == before
    World.from_pretrained(finished, device="cpu")
    for name in ("model", "latent_action"):
        cut = finished / "world" / f"{name}.safetensors"
        cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
        train(data, finished, tiny_config(ema_decay=0.9))
        World.from_pretrained(finished, device="cpu")
    assert weights.read_bytes() == complete


def test_other_settings_or_data_are_refused(data: Path, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.lr: 0.003 -> 0.1.*another --out"):
        train(data, finished, tiny_config(ema_decay=0.9, lr=0.1))
    other = write_dataset(tmp_path / "other", train=5).path
    with pytest.raises(UserError, match=r"another data set .*squares"):
        train(other, finished, tiny_config(ema_decay=0.9))
    text = (finished / "dataset.txt").read_bytes()
    (finished / "dataset.txt").write_bytes(b"\xff\xfe\x00damaged")
    with pytest.raises(UserError, match="was started with another data set"):
        train(data, finished, tiny_config(ema_decay=0.9))
    (finished / "dataset.txt").write_bytes(text)
    with pytest.raises(UserError, match=r"the dynamics stage in .* is already trained on the tokenizer"):
        train(data, finished, with_limits(tiny_config(ema_decay=0.9), "tokenizer", steps=20), "tokenizer")


def test_mismatches_are_refused_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    config = tiny_config()
    with pytest.raises(UserError, match="no data set at"):
        train(tmp_path / "nowhere", tmp_path / "run", config)
    large = dataclasses.replace(config, world=dataclasses.replace(config.world, width=32))
    with pytest.raises(UserError, match=r"are 16x16, but the world has 32x16: pass --world.width 16"):
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


def test_dynamics_need_a_tokenizer(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer yet: train it first with --stage tokenizer"):
        train(data, tmp_path / "run", tiny_config(), "dynamics")


def test_stages_can_be_trained_one_by_one(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = tiny_config(steps=3)
    assert train(data, out, config, "tokenizer")["val_psnr"] > 0
    assert not (out / "world").exists()
    assert "val_gain" in train(data, out, config, "dynamics")
    damaged = checkpoint_path(out, "dynamics")
    damaged.write_bytes(damaged.read_bytes()[:500])
    with pytest.raises(UserError, match="damaged"):
        train(data, out, config)


def test_without_held_out_episodes_training_clips_are_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = write_dataset(tmp_path / "data", train=2, val=0).path
    train(data, tmp_path / "run", tiny_config(steps=2), "tokenizer")
    assert "training clips are used for evaluation" in capsys.readouterr().err


def test_second_process_in_a_run_folder_is_refused(data: Path, tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "run").mkdir()
    with open(tmp_path / "run" / ".lock", "w") as lock:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is training in"):
            train(data, tmp_path / "run", tiny_config())


def test_minutes_are_divided_between_the_stages() -> None:
    config = with_limits(tiny_config(), minutes=10)
    assert config.tokenizer.minutes == pytest.approx(3) and config.dynamics.minutes == pytest.approx(7)
    alone = with_limits(tiny_config(), "dynamics", minutes=10, steps=7)
    assert alone.dynamics.minutes == 10 and alone.dynamics.steps == 7 and alone.tokenizer == tiny_config().tokenizer


def test_init_from_starts_with_weights_and_names_of_a_world(data: Path, finished: Path, tmp_path: Path) -> None:
    start = tmp_path / "start"
    world = World.from_pretrained(finished, "cpu")
    world.action_names = [f"do {i}" for i in range(world.num_actions)]
    world.save_pretrained(start, "fp32")
    config = dataclasses.replace(tiny_config(), init_from=str(start))
    no_change = {"lr": 1e-12, "min_lr": 0.0}
    config = dataclasses.replace(
        config,
        tokenizer=dataclasses.replace(config.tokenizer, **no_change),
        dynamics=dataclasses.replace(config.dynamics, **no_change),
    )
    train(data, tmp_path / "run", config)
    resumed = World.from_pretrained(tmp_path / "run", "cpu")
    assert resumed.action_names == world.action_names
    before, after = dict(world.named_parameters()), dict(resumed.named_parameters())
    for name, weights in before.items():
        torch.testing.assert_close(after[name], weights, atol=1e-3, rtol=1e-2, msg=name)  # exported in fp16
    fresh = World.from_pretrained(finished, "cpu")
    assert fresh.action_names != world.action_names


def test_renamed_actions_survive_the_next_export(data: Path, finished: Path, tmp_path: Path) -> None:
    start, out = tmp_path / "start", tmp_path / "run"
    world = World.from_pretrained(finished, "cpu")
    world.action_names = [f"do {i}" for i in range(world.num_actions)]
    world.save_pretrained(start, "fp32")
    config = dataclasses.replace(tiny_config(steps=2), init_from=str(start))
    train(data, out, config)
    actions = read_actions(out / "world", world.num_actions)
    save_actions(out / "world", [actions[0].renamed("jump"), *actions[1:]])
    train(data, out, dataclasses.replace(config, dynamics=dataclasses.replace(config.dynamics, steps=3)))
    assert load_checkpoint(checkpoint_path(out, "dynamics"), "dynamics")["step"] == 3
    assert World.from_pretrained(out, "cpu").action_names == ["jump", *world.action_names[1:]]


def test_fine_tuned_world_has_the_frame_rate_of_the_new_videos(
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
        printed = capsys.readouterr().out
        assert f"keep the names of {finished}; to rename them by their effect: djinn name {out}" in printed


def test_resumed_run_may_change_its_frame_rate(data: Path, finished: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(tiny_config(steps=2), init_from=str(finished))
    train(data, tmp_path / "run", config)
    faster = dataclasses.replace(config.world, fps=2 * config.world.fps)
    longer = dataclasses.replace(config.dynamics, steps=3)
    train(data, tmp_path / "run", dataclasses.replace(config, world=faster, dynamics=longer))
    assert World.from_pretrained(tmp_path / "run", "cpu").config.fps == faster.fps


def test_finished_run_takes_over_changed_play_settings(data: Path, finished: Path, tmp_path: Path) -> None:
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
    train(data, out, config)  # no change, so nothing is written
    assert (out / "world" / "config.yaml").stat().st_mtime_ns == before
    assert load_checkpoint(checkpoint_path(out, "dynamics"), "dynamics")["step"] == 12


def test_init_from_world_of_other_sizes_is_refused(data: Path, finished: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(tiny_config(), init_from=str(finished))
    config = dataclasses.replace(
        config, world=dataclasses.replace(config.world, context_frames=config.world.context_frames + 1)
    )
    with pytest.raises(UserError, match="sizes"):
        train(data, tmp_path / "run", config)
    with pytest.raises(UserError, match="no world at nowhere"):
        train(data, tmp_path / "other", dataclasses.replace(config, init_from="nowhere"))
    assert not (tmp_path / "run").exists() and not (tmp_path / "other").exists()


def test_init_from_keeps_the_tokenizer(
    data: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = World.from_pretrained(finished, "cpu")
    config = dataclasses.replace(tiny_config(), init_from=str(finished))
    train(data, tmp_path / "run", config)
    assert {record["stage"] for record in read_metrics(tmp_path / "run")} == {"dynamics"}
    arguments = [
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
            main([*arguments, f"--{option}", value])
        assert f"--{option} has no effect with --init-from" in capsys.readouterr().err
    resumed = World.from_pretrained(tmp_path / "run", "cpu")
    for name, value in start.tokenizer.state_dict().items():
        assert torch.equal(resumed.tokenizer.state_dict()[name], value), name
    with pytest.raises(UserError, match=r"the tokenizer of .* is not trained"):
        train(data, tmp_path / "other", config, stage="tokenizer")


@pytest.mark.parametrize("stage", ["tokenizer", "dynamics"])
def test_divergence_is_reported(data: Path, tmp_path: Path, stage: str) -> None:
    """A learning rate that is far too high ends in one sentence, not in a crash of a kernel."""
    config = tiny_config()
    diverging = dataclasses.replace(getattr(config, stage), lr=1e9, min_lr=0.0, warmup=0)
    with pytest.raises(UserError, match=f"not finite at step .* of stage {stage}.*lower --{stage}.lr"):
        train(data, tmp_path / "run", dataclasses.replace(config, **{stage: diverging}))
