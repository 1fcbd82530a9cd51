"""Freed memory is kept, so that the tensors of a training step do not touch new pages in every step."""

import subprocess
import sys

CODE = """
import resource, sys, torch
from djinn.malloc import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def step():
    torch.ones(1 << 24)
def faults(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(2)
print(faults(10))
"""


def page_faults(what: str) -> int:
    return int(subprocess.run([sys.executable, "-c", CODE, what], capture_output=True, check=True, text=True).stdout)


def test_freed_memory_is_kept():
    assert page_faults("keep") < 0.8 * page_faults("leave")
