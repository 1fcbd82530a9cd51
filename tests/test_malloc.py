"""Reuse of freed memory by the C library."""

import subprocess
import sys

CODE = """
import resource, sys, torch
from djinn.malloc import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def step():
    torch.ones(1 << 24)
def page_faults(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
page_faults(2)
print(page_faults(10))
"""


def page_faults(setting: str) -> int:
    command = [sys.executable, "-c", CODE, setting]
    return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def test_steps_cause_fewer_page_faults_when_freed_memory_is_kept():
    assert page_faults("keep") < 0.8 * page_faults("default")
