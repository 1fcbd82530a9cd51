"""Run folder: its config, its data set, and a lock against a second process."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from djinn.atomic import explain_full_disk
from djinn.config import TrainConfig
from djinn.config.yaml import load_yaml, save_yaml, to_dict
from djinn.data.dataset import Dataset
from djinn.errors import UserError
from djinn.train.compatibility import check_same
from djinn.train.ranks import Ranks

CONFIG, DATASET, LOCK = "config.yaml", "dataset.txt", ".lock"


@contextmanager
def open_run_folder(out: Path, dataset: Dataset, config: TrainConfig, ranks: Ranks) -> Generator[None]:
    """Create or check a run folder on the first rank, and lock it inside the block.

    Args:
        out: Run folder.
        dataset: Data set to train on.
        config: Config of the run.
        ranks: Rank of this process; the others wait for the first.

    Raises:
        UserError: The folder is not a run folder or cannot be written, another process trains in
            it, or its run was started with another config or data set.
    """
    if not ranks.is_first:
        ranks.barrier()
        yield
        return
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if (out.exists() and not out.is_dir()) or (names - {LOCK} and CONFIG not in names):
        raise UserError(f"{out} exists and is not a run folder: pass another --out")
    with explain_full_disk(f"the run folder {out}", "nothing was changed"):
        lock = _open_lock(out)
    with lock:
        _lock(lock.fileno(), out)
        if CONFIG in names:
            check_same(to_dict(load_yaml(TrainConfig, out / CONFIG)), to_dict(config), out)
        if DATASET in names:
            _check_dataset(out, dataset)
        with explain_full_disk(str(out / CONFIG), "nothing was changed"):
            save_yaml(config, out / CONFIG)
            if DATASET not in names:
                (out / DATASET).write_text(f"{dataset.path.resolve()}\n{dataset.identity}\n", encoding="utf-8")
        ranks.barrier()
        yield


def _check_dataset(out: Path, dataset: Dataset) -> None:
    text = (out / DATASET).read_text(encoding="utf-8", errors="replace")
    if dataset.identity not in text:
        first = text.splitlines()[0] if text else "an unknown one"
        raise UserError(
            f"the run in {out} was started with another data set ({first}) than {dataset.path}: "
            "continue it with that one, or start a new run with another --out"
        )


def _open_lock(out: Path) -> TextIO:
    try:
        out.mkdir(parents=True, exist_ok=True)
        return open(out / LOCK, "w", encoding="utf-8")
    except (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError) as error:
        raise UserError(f"cannot write to {out} ({error.strerror}): pass another --out") from None


def _lock(handle: int, out: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not on Windows, where a second process is not detected
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UserError(f"another process is training in {out}: stop it first, or pass another --out") from None
