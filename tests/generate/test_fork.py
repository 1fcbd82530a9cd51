"""Sessions in forked processes, as Gymnasium's `AsyncVectorEnv` starts them on Linux.

OpenMP's thread pool does not survive a fork: without `djinn.nn.fork` a step in the child waits for
its threads forever. The shipped world is large enough for torch to use several threads.
"""

import multiprocessing
import subprocess
import sys

import pytest
import torch

from djinn.errors import UserError
from djinn.nn.fork import check_device

pytestmark = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs os.fork")

SCRIPT = """
import multiprocessing, sys
import numpy as np, torch
from djinn import World
from djinn.config import SamplerConfig

engine, case = sys.argv[1:]
torch.set_num_threads(2)
world = World.from_pretrained("coinrun", "cpu")

def make_session():
    from djinn import Session
    from djinn.backends.select import select_backend
    backend, sampler = select_backend(world, engine), SamplerConfig(steps=2, temperature=0.0, choice_temperature=0.0)
    return Session(world, world.prompts[0], backend=backend, sampler=sampler)

def child(queue, session):
    session = session or make_session()
    queue.put([session.step(action) for action in (1, 2)] + [session.undo(1), session.step(2)])
    queue.put(torch.get_num_threads())

if case == "session of the parent":
    session = make_session()
    session.step(0)
    session.undo()
elif case == "session of the child":
    session = None
    make_session().step(0)
else:  # the parent has not imported Session
    session = None
    world.encode(torch.from_numpy(world.prompts[0])[None, None])
context = multiprocessing.get_context("fork")
queue = context.Queue()
processes = [context.Process(target=child, args=(queue, session), daemon=True) for _ in range(2)]
for process in processes:
    process.start()
results = [queue.get(timeout=60) for _ in range(4)]
for process in processes:
    process.join(60)
    assert process.exitcode == 0, process.exitcode
assert [x for x in results if isinstance(x, int)] == [1, 1]
assert torch.get_num_threads() == 2
torch.set_num_threads(1)  # as in the child, so that all bits are equal
session = session or make_session()
expected = [session.step(action) for action in (1, 2)]
expected += [expected[0], expected[1]]
for frames in results:
    assert isinstance(frames, int) or np.array_equal(frames, expected)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "case"),
    [
        ("torch", "session of the parent"),
        ("torch", "session of the child"),
        ("torch", "only the world"),
        ("onnx", "session of the parent"),
        ("onnx", "session of the child"),
    ],
)
def test_sessions_run_in_forked_processes(engine, case):
    if engine != "torch":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnx")
    result = subprocess.run([sys.executable, "-c", SCRIPT, engine, case], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2_000:]


def test_cuda_after_fork_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    check_device(torch.device("cpu"))
    with pytest.raises(UserError, match=r"AsyncVectorEnv\(\.\.\., context='spawn'\)"):
        check_device(torch.device("cuda"))
