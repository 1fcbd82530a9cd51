import errno
from pathlib import Path

import pytest
import torch
from training_world import tiny_config

from djinn.config import StageConfig, TrainConfig, WorldConfig
from djinn.config.yaml import to_dict
from djinn.errors import UserError
from djinn.train import checkpointer as checkpoint
from djinn.train.checkpointer import check_same, differences, load_checkpoint, save_checkpoint, with_defaults


def state(step: int) -> dict:
    return {"stage": "toy", "step": step, "model": {"w": torch.full((50_000,), float(step))}}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "toy" / "checkpoint.pt"
    save_checkpoint(path, state(1))
    save_checkpoint(path, state(2), last_step=1)
    loaded = load_checkpoint(path, "toy")
    assert loaded["step"] == 2
    assert torch.equal(loaded["model"]["w"], state(2)["model"]["w"])
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.pt"]


class FullDisk:
    """A file on a disk that has room for 20 kB."""

    def __init__(self, file) -> None:
        self.file, self.left = file, 20_000

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.file.close()

    def write(self, data) -> int:
        self.left -= len(data)
        if self.left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()

    def fileno(self) -> int:
        return self.file.fileno()


@pytest.mark.unchecked
def test_full_disk_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, state(1))
    monkeypatch.setattr(checkpoint, "open", lambda path, mode: FullDisk(Path(path).open(mode)), raising=False)  # noqa: SIM115
    with pytest.raises(
        UserError, match=r"no space left while saving .*checkpoint\.pt; the last checkpoint of step 1 is"
    ):
        save_checkpoint(path, state(2), last_step=1)
    assert load_checkpoint(path, "toy")["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_really_full_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "open", lambda path, mode: Path("/dev/full").open(mode), raising=False)  # noqa: SIM115
    with pytest.raises(UserError, match="no space left while saving"):
        save_checkpoint(tmp_path / "checkpoint.pt", state(2))


def test_a_kill_before_the_rename_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, state(1))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, state(2), last_step=1)
    assert load_checkpoint(path, "toy")["step"] == 1


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(UserError, match="no checkpoint at"):
        load_checkpoint(path, "toy")
    save_checkpoint(path, state(1))
    whole = path.read_bytes()
    for content in (b"", b"hello", b"\x80\x02.", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="damaged"):
            load_checkpoint(path, "toy")
    torch.save({"weights": torch.ones(3)}, path)
    with pytest.raises(UserError, match="not a checkpoint of this version of Djinn"):
        load_checkpoint(path, "toy")
    torch.save(Path, path)  # would need code to be unpickled
    with pytest.raises(UserError, match="damaged or no checkpoint"):
        load_checkpoint(path, "toy")
    save_checkpoint(path, state(1))
    with pytest.raises(UserError, match="of stage 'toy', not of 'world'"):
        load_checkpoint(path, "world")


def test_only_what_changes_a_step_must_agree(tmp_path: Path) -> None:
    old = to_dict(tiny_config())
    new = to_dict(tiny_config(steps=500, minutes=3.0, log_every=7, eval_every=8, save_every=9))
    new["loggers"], new["compile"] = ["wandb"], "off"
    check_same(old, new, tmp_path)
    assert differences(old, to_dict(tiny_config(lr=1.0))) == ["tokenizer.lr: 0.003 -> 1.0", "dynamics.lr: 0.003 -> 1.0"]
    with pytest.raises(UserError, match=r"world\.context_frames: 4 -> 16.*--out"):
        check_same(old, to_dict(TrainConfig()), tmp_path)


def test_fields_that_came_later_count_as_their_defaults(tmp_path: Path) -> None:
    new = to_dict(tiny_config())
    old = to_dict(tiny_config())
    for sizes in ("tokenizer", "latent_action"):
        del old["world"][sizes]["quantizer"]["standardize"]
    del old["world"]["latent_action"]["input"], old["tokenizer"]["ema_decay"]
    kinds: dict[str, type] = {"world": WorldConfig, "tokenizer": StageConfig}
    check_same(with_defaults(old, kinds), new, tmp_path)
    new["world"]["latent_action"]["input"] = "tokens"
    with pytest.raises(UserError, match=r"world\.latent_action\.input: pixels -> tokens"):
        check_same(with_defaults(old, kinds), new, tmp_path)
    old["world"]["from_the_future"] = 1
    with pytest.raises(UserError, match=r"world\.from_the_future: 1 -> None"):
        check_same(with_defaults(old, kinds), new, tmp_path)
