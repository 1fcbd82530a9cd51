import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from test_trainer import checkpoint, make_trainer
from toy import ToyStage

from djinn.train.loggers import read_metrics

SCRIPT = """
import sys
from pathlib import Path
import dataclasses, torch
from djinn.config import TrainConfig
from djinn.train.ranks import process_group
from djinn.train.trainer import Trainer
from toy import ToyStage, loaders
from test_trainer import CONFIG
torch.set_num_threads(1)
with process_group() as ranks:
    config = dataclasses.replace(CONFIG, grad_accum_steps=2)
    Trainer(ToyStage(0.1), config, TrainConfig(), loaders(config.batch, ranks), Path(sys.argv[1]), ranks=ranks).run()
"""


@pytest.mark.slow
def test_two_ranks_train_the_weights_of_one_process(tmp_path: Path) -> None:
    make_trainer(tmp_path / "one", ToyStage(0.1), grad_accum_steps=2).run()
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
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "two")]
    processes = [
        subprocess.Popen(command, env={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    losses = [[r["loss"] for r in read_metrics(tmp_path / f) if "loss" in r] for f in ("one", "two")]
    assert len(losses[1]) == 4  # only the first rank writes
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    one, two = (checkpoint(tmp_path / f) for f in ("one", "two"))
    for name, value in one["model"].items():
        assert (value - two["model"][name]).abs().max() < 1e-5
