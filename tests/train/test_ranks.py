import pytest
import torch

from djinn.errors import UserError
from djinn.train.ranks import Ranks, choose_device, find_ranks, process_group


@pytest.mark.parametrize(
    ("requested", "local_rank", "num_gpus", "expected"),
    [
        (None, 0, 0, "cpu"),
        (None, 3, 8, "cuda:3"),
        ("cpu", 3, 8, "cpu"),
        ("cuda", 0, 1, "cuda:0"),
        ("cuda", 3, 8, "cuda:3"),
        ("cuda", 3, 2, "cuda:1"),
        ("cuda:5", 3, 8, "cuda:5"),
        (torch.device("cuda"), 1, 2, "cuda:1"),
        (torch.device("cuda", 0), 1, 2, "cuda:0"),
    ],
)
def test_cuda_without_index_is_the_gpu_of_the_local_rank(requested, local_rank, num_gpus, expected) -> None:
    assert choose_device(requested, local_rank, num_gpus) == torch.device(expected)


@pytest.mark.parametrize(
    ("requested", "num_gpus", "message"),
    [
        ("gpu", 1, "no device is called 'gpu': use cpu, cuda or cuda:INDEX"),
        ("cuda", 0, "'cuda' was requested, but PyTorch finds no GPU: use cpu"),
        ("cuda:2", 2, "'cuda:2' was requested, but there are 2 GPUs, 0 to 1"),
    ],
)
def test_missing_devices_are_refused(requested: str, num_gpus: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_device(requested, 0, num_gpus)


def test_ranks_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert find_ranks() == Ranks(0, 1, 0)
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert find_ranks() == Ranks(5, 8, 1)
    assert not find_ranks().is_first


def test_incomplete_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    message = "MASTER_ADDR and MASTER_PORT are not set: start the processes with torchrun"
    with pytest.raises(UserError, match=message), process_group():
        pass
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UserError, match="WORLD_SIZE must be an integer of 0 or more, got 'two'"):
        find_ranks()


def test_batch_must_divide_evenly() -> None:
    assert Ranks(0, 2).local_batch_size(8, 2) == 4
    with pytest.raises(UserError, match="make batch a multiple of 6"):
        Ranks(0, 3).local_batch_size(8, 2)
