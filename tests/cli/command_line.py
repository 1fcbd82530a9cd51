"""Runs of the command line in a process of its own."""

import os
import subprocess
import sys


def djinn(*args: object, code: int | None = None, **settings) -> subprocess.CompletedProcess[str]:
    """Run `djinn` and check its exit code."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    command = [sys.executable, "-m", "djinn", *map(str, args)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, **settings)
    assert code is None or result.returncode == code, result.stderr
    return result


def refusal(*args: object) -> str:
    """Run `djinn` with a mistake and return the one sentence that it prints."""
    result = djinn(*args, code=2)
    assert result.stdout == ""
    *others, line = result.stderr.strip().splitlines()
    assert line.startswith("djinn: ")
    assert all("%|" in other or "/s]" in other for other in others if other.strip())  # progress bars
    return line
