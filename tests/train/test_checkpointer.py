import errno
from pathlib import Path

import pytest
import torch

from djinn.errors import UserError
from djinn.train import checkpointer
from djinn.train.checkpointer import Checkpointer, FileCheckpointer, load_checkpoint, save_checkpoint


def state(step: int) -> dict:
    return {"stage": "toy", "step": step, "model": {"w": torch.full((50_000,), float(step))}}


def test_file_checkpointer_loads_the_last_complete_checkpoint(tmp_path: Path) -> None:
    saving: Checkpointer = FileCheckpointer(tmp_path, "toy")
    assert not saving.exists() and saving.load() is None and saving.saved_step is None and saving.saved_time == 0
    for step in (1, 2):
        saving.save(step, {"model": state(step)["model"]})
        assert saving.saved_step == step
    assert [p.relative_to(tmp_path) for p in tmp_path.rglob("*.*")] == [Path("toy/checkpoint.pt")]
    loading = FileCheckpointer(tmp_path, "toy")
    loaded = loading.load()
    assert loaded is not None and loaded["step"] == loading.saved_step == 2
    assert torch.equal(loaded["model"]["w"], state(2)["model"]["w"])
    assert loading.saved_time == (tmp_path / "toy" / "checkpoint.pt").stat().st_mtime


def test_only_the_first_rank_writes(tmp_path: Path) -> None:
    other = FileCheckpointer(tmp_path, "toy", writes=False)
    other.save(3, {"model": {}})
    assert other.saved_step == 3 and not other.exists()


class FullDisk:
    """A file on a disk with 20 kB of free space."""

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
def test_full_disk_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, state(1))
    monkeypatch.setattr(checkpointer, "open", lambda path, mode: FullDisk(Path(path).open(mode)), raising=False)  # noqa: SIM115
    with pytest.raises(
        UserError, match=r"no space left while saving .*checkpoint\.pt; the checkpoint of step 1 is intact"
    ):
        save_checkpoint(path, state(2), last_step=1)
    assert load_checkpoint(path, "toy")["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_device_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointer, "open", lambda path, mode: Path("/dev/full").open(mode), raising=False)  # noqa: SIM115
    with pytest.raises(UserError, match="no space left while saving"):
        save_checkpoint(tmp_path / "checkpoint.pt", state(2))


def test_kill_before_the_rename_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, state(1))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpointer.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, state(2), last_step=1)
    assert load_checkpoint(path, "toy")["step"] == 1


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(UserError, match="no checkpoint at"):
        load_checkpoint(path, "toy")
    save_checkpoint(path, state(1))
    complete = path.read_bytes()
    for content in (b"", b"hello", b"\x80\x02.", complete[: len(complete) // 2]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="damaged"):
            load_checkpoint(path, "toy")
    torch.save({"weights": torch.ones(3)}, path)
    with pytest.raises(UserError, match="not a checkpoint of this version of Djinn"):
        load_checkpoint(path, "toy")
    torch.save(Path, path)  # unpickling would run code
    with pytest.raises(UserError, match="damaged or not a checkpoint"):
        load_checkpoint(path, "toy")
    save_checkpoint(path, state(1))
    with pytest.raises(UserError, match="of stage 'toy', not of 'dynamics'"):
        load_checkpoint(path, "dynamics")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path, value: float) -> None:
    path = tmp_path / "toy" / "checkpoint.pt"
    damaged = {"format": checkpointer.FORMAT, **state(3)}
    damaged["model"]["w"][7] = value
    save_checkpoint(path, damaged)
    with pytest.raises(UserError, match=r"checkpoint\.pt: tensor 'w' has 1 of 50000 values .*: move it away"):
        load_checkpoint(path, "toy")
