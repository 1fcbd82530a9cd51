"""The recipe behind `make demo`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from djinn.config import TrainConfig

pytest.importorskip("uvicorn", reason="needs the extra 'play'")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Folder of four short videos of the demo."""
    folder = tmp_path / "videos"
    folder.mkdir()
    files = sorted((ROOT / "assets" / "coinrun-videos").glob("*.mp4"), key=lambda path: path.stat().st_size)
    for path in files[:4]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def demo(videos: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A running demo with the shortest training, on a free port."""
    arguments = ["--videos", str(videos), "--folder", str(tmp_path / "demo"), "--minutes", "0.01", "--steps", "2"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "recipes" / "demo.py"), *arguments, "--port", "0", "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    yield process
    process.kill()
    process.communicate()


def children(process: subprocess.Popen[str]) -> list[int]:
    """Return the process ids of the children of a process (Linux)."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def wait_for_line(process: subprocess.Popen[str], text: str) -> str:
    """Read lines of the output up to one that contains `text`."""
    assert process.stdout is not None and process.stderr is not None
    for line in process.stdout:
        if text in line:
            return line
    pytest.fail(f"the output ends without '{text}': {process.stderr.read()}")


def world_name(url: str) -> str:
    with urllib.request.urlopen(f"{url}/api/world", timeout=30) as response:
        return json.load(response)["name"]


@pytest.mark.slow
def test_demo_replaces_shipped_world_by_trained_one_on_the_same_port(demo) -> None:
    url = wait_for_line(demo, "until my-coinrun is trained").split()[-1]
    assert world_name(url) == "coinrun"
    stages = [wait_for_line(demo, f"== {number}/5")[3:6] for number in (2, 3, 4, 5)]
    assert stages == ["2/5", "3/5", "4/5", "5/5"]
    assert url in wait_for_line(demo, "The page plays my-coinrun")
    assert world_name(url) == "my-coinrun"
    demo.send_signal(signal.SIGINT)
    output, errors = demo.communicate(timeout=60)
    assert demo.returncode == 0 and "Stopped." in output and "Traceback" not in errors
    with pytest.raises(urllib.error.URLError):
        world_name(url)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads the processes of Linux")
@pytest.mark.parametrize("stage", ["until my-coinrun is trained", "== 2/5", "== 3/5"])
def test_ctrl_c_ends_demo_and_its_processes(demo, stage) -> None:
    wait_for_line(demo, stage)
    time.sleep(1)
    pids = children(demo)
    demo.send_signal(signal.SIGINT)
    output, errors = demo.communicate(timeout=120)
    assert demo.returncode == 0 and "Stopped." in output and "Traceback" not in errors, errors
    assert pids and not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_training_stages_are_announced(recipe, monkeypatch, tmp_path, capsys) -> None:
    module = recipe("demo")
    monkeypatch.setattr(sys, "argv", ["demo.py", "--train", "--folder", str(tmp_path), "--preset", "tiny"])
    stages = ["tokenizer", "dynamics", "names", "prompts"]

    def train_and_name(dataset: Path, run: Path, config: TrainConfig, **options: Any) -> None:
        assert (dataset, run) == (tmp_path / "data", tmp_path / "my-coinrun")
        assert config.tokenizer.min_steps == config.dynamics.min_steps == 50 and options["minutes"] == 1
        for stage in stages:
            options["announce"](stage)

    monkeypatch.setattr("djinn.pipeline.train_and_name", train_and_name)
    module.main()
    assert [line[:6] for line in capsys.readouterr().out.splitlines()] == ["== 3/5", "== 3/5", "== 4/5", "== 4/5"]
    assert sys.argv[:3] == ["djinn", "train", str(tmp_path / "data")]  # the command that resumes the run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "tni"], "unknown preset 'tni'"),
        (["--minutes", "0"], "minutes must be a positive number, got 0.0"),
        (["--minutes", "-1"], "minutes must be a positive number, got -1.0"),
        (["--steps", "-1"], "min_steps must not be negative"),
    ],
)
def test_invalid_settings_are_refused_before_anything_starts(arguments, message) -> None:
    command = [sys.executable, str(ROOT / "recipes" / "demo.py"), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and message in result.stderr and result.stdout == ""
