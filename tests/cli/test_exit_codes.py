"""Exit code and last line of the program for every way in which a command can end."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from djinn import cli
from djinn.cli import main
from djinn.errors import UserError


def make_plan_fail(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(args: list[str]) -> None:
        raise error

    monkeypatch.setattr(cli, "command_module", lambda command: SimpleNamespace(main=fail))


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.bin"), 2, "no space left on the disk while writing x.bin"),
        (PermissionError(errno.EACCES, "Permission denied", "x.bin"), 2, "no permission to use x.bin"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "d/" + "a" * 300), 2, f"the file name {'a' * 40}... is too"),
        (MemoryError("Unable to allocate 40 GiB"), 2, "not enough memory: use smaller frames"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to"), 2, "not enough GPU memory: use smaller frames"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "not enough memory"),
        (KeyboardInterrupt(), 130, ""),
        (UserError("do this instead"), 2, "djinn: do this instead"),
    ],
)
def test_errors_of_the_user_and_the_machine(error, code, message, monkeypatch, capsys):
    make_plan_fail(monkeypatch, error)
    with pytest.raises(SystemExit) as exit_info:
        main(["plan"])
    output = capsys.readouterr().err
    assert exit_info.value.code == code
    assert message in output
    assert "Traceback" not in output


@pytest.mark.parametrize("error", [RuntimeError("bug"), OSError(errno.EIO, "Input/output error")])
def test_bugs_keep_their_traceback(error, monkeypatch):
    make_plan_fail(monkeypatch, error)
    with pytest.raises(type(error)):
        main(["plan"])


def test_allocation_errors_of_torch_and_numpy_are_recognized():
    for allocate in (lambda: torch.empty(1 << 62, dtype=torch.uint8), lambda: np.empty(1 << 62, np.uint8)):
        with pytest.raises((MemoryError, RuntimeError)) as failure:
            allocate()
        assert cli._explain_memory_error(failure.value) is not None


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("python -m djinn train --help | head -c 1", 0),
        ("python -m djinn --version >&-", 0),
        ("python -m djinn --help >&-", 0),
        ("python -m djinn nonsense 2>&-", 2),
        ("python -m djinn nonsense >&- 2>&-", 2),
    ],
)
def test_closed_output_is_not_an_error(command: str, code: int):
    command = command.replace("python", sys.executable)
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert result.returncode == code
    assert result.stderr == ""


def test_characters_that_the_terminal_lacks_are_escaped():
    code = "from djinn.cli import main; import djinn.cli; djinn.cli.HELP = 'Δ {commands}'; main(['--help'])"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert result.returncode == 0
    assert result.stdout.startswith("\\u0394 ")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk_behind_stdout():
    command = f"{sys.executable} -m djinn --help >/dev/full"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert result.stderr.startswith("djinn: no space left") and result.stderr.count("\n") == 1


def test_play_serves_until_ctrl_c(world: Path):
    command = [sys.executable, "-m", "djinn", "play", str(world), "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert "http://127.0.0.1:" in server.stdout.readline()
            time.sleep(0.5)
            server.send_signal(signal.SIGINT)
            _, errors = server.communicate(timeout=60)
        finally:
            server.kill()
    assert server.returncode in (0, 130)
    assert "Traceback" not in errors
