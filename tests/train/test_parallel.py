import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from test_trainer import make, weights
from toy import ToyStage

from djinn.errors import UserError
from djinn.train.loggers import read_metrics
from djinn.train.parallel import Ranks

SCRIPT = """
import sys
from pathlib import Path
import dataclasses, torch
from djinn.config import TrainConfig
from djinn.train.parallel import process_group
from djinn.train.trainer import Trainer
from toy import ToyStage, loaders
from test_trainer import CONFIG
torch.set_num_threads(1)
with process_group() as ranks:
    config = dataclasses.replace(CONFIG, grad_accum_steps=2)
    Trainer(ToyStage(), config, TrainConfig(), loaders(config.batch, ranks), Path(sys.argv[1]), ranks=ranks).run()
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    make(tmp_path / "one", ToyStage(), grad_accum_steps=2).run()
    env = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "two")]
    both = [
        subprocess.Popen(command, env={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    losses = [[r["loss"] for r in read_metrics(tmp_path / f) if "loss" in r] for f in ("one", "two")]
    assert len(losses[1]) == 4  # the first rank alone writes
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    one, two = (weights(tmp_path / f) for f in ("one", "two"))
    for name, value in one["model"].items():
        assert (value - two["model"][name]).abs().max() < 1e-5


def test_a_batch_that_does_not_split_is_refused() -> None:
    assert Ranks(0, 2).share(8, 2) == 4
    with pytest.raises(UserError, match="make batch a multiple of 6"):
        Ranks(0, 3).share(8, 2)
