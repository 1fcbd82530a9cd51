"""Accumulated passes and ranks give the losses, gradients and codebooks of one large batch."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from global_batch import CASES, Step, first_steps
from training_world import write_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("global_batch") / "squares").path


def assert_same_steps(expected: list[Step], actual: list[Step]) -> None:
    """Compare losses, gradients and quantizer buffers of each step, relative to their size."""
    for number, (a, b) in enumerate(zip(expected, actual, strict=True)):
        assert b.loss == pytest.approx(a.loss, rel=1e-5), f"loss of step {number}"
        for kind, old, new in (("gradient", a.gradients, b.gradients), ("buffer", a.buffers, b.buffers)):
            assert old.keys() == new.keys()
            floor = 1e-2 * torch.stack([value.norm() for value in old.values()]).norm()  # some gradients are zero
            for name, value in old.items():
                error = (new[name] - value).norm() / value.norm().clamp_min(floor)
                assert error < 1e-5, f"{kind} {name} of step {number}: relative difference {error:.1e}"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("passes", [2, 4])
def test_accumulated_passes_equal_one_batch(case: str, passes: int, data: Path) -> None:
    assert_same_steps(first_steps(case, data), first_steps(case, data, passes=passes))


@pytest.fixture(scope="module")
def two_ranks(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[tuple[str, int], list[Step]]]:
    """Results of both ranks of a distributed run, by case and number of passes."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    out = tmp_path_factory.mktemp("ranks")
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "global_batch", str(data), str(out)],
            env={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()[-3000:]
    return [torch.load(out / f"rank{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("passes", [1, 2])
def test_two_ranks_equal_one_batch(case: str, passes: int, data: Path, two_ranks) -> None:
    first, second = (results[case, passes] for results in two_ranks)
    for step, other in zip(first, second, strict=True):
        step.loss = (step.loss + other.loss) / 2
        for name, value in step.gradients.items():
            assert torch.equal(value, other.gradients[name]), name
    assert_same_steps(first_steps(case, data), first)
