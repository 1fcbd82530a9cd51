"""A user's mistake ends in one sentence on stderr and exit code 2, and leaves no files."""

import os
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from djinn.cli import main
from djinn.data.video import write_video
from djinn.data.writer import DatasetWriter


def refused(capsys: pytest.CaptureFixture, *args: object) -> str:
    """Run a command in this process and return the sentence that it fails with."""
    with pytest.raises(SystemExit) as exit_info:
        main([str(arg) for arg in args])
    output = capsys.readouterr()
    assert exit_info.value.code == 2
    assert output.out == ""
    *progress, sentence = output.err.splitlines()
    assert all(line == "" or " frames" in line for line in progress)
    assert sentence.startswith("djinn: ")
    return sentence


def djinn(*args: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "djinn", *map(str, args)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("pla x", "unknown command 'pla'; did you mean 'play'? the commands are data import, data info, train"),
        ("data imprt x", "unknown command 'data imprt'; did you mean 'data import'"),
        ("train x --out y --preset tinny", "unknown preset 'tinny'; did you mean 'tiny'"),
        ("plan --preset huge", "unknown preset 'huge'; the presets are"),
        (
            "train x --out y --preset tiny --world.dynamcis.transformer.blocks 4",
            "unknown option '--world.dynamcis.transformer.blocks'; did you mean --world.dynamics.transformer.blocks?",
        ),
        ("train x --out y --preset tiny --tokenizer.lr fast", "--tokenizer.lr: 'fast' is not a number"),
        ("train x --out y --preset tiny --minutes soon", "--minutes: 'soon' is not a number"),
        ("train x --out y --preset tiny --world.dynamics.transformer.blocks 0", "blocks must be at least 1, got 0"),
        ("train x --out y --preset tiny --stage both", "'both'"),
        ("train x --preset tiny", "djinn train needs --out RUN"),
        ("train", "djinn train needs DATASET, --preset NAME, --out RUN"),
        ("sample", "djinn sample needs WORLD, --actions STR, --out PATH"),
        (
            "sample x --action 0 --out z.gif",
            "needs --actions STR and got an unexpected '--action'; did you mean --actions?",
        ),
        ("sample x --actions 0 --out z.gif --seed -1", "seed must lie between 0 and 2**63 - 1, got -1"),
        ("plan tiny", "djinn plan needs --preset NAME and got an unexpected 'tiny'"),
        ("plan --preset", "missing value for --preset"),
        ("train x --out y --preset --minutes 3", "missing value for --preset"),
        ("train x --out y --preset tiny --minutes -1", "--minutes must be a positive number, got -1"),
        ("train x --out y --preset tiny --minutes nan", "--minutes must be a positive number, got nan"),
        ("train x --out y --preset tiny --minutes inf", "--minutes must be a positive number, got inf"),
        ("train x --out y --preset tiny --steps 0", "--steps must be at least 1, got 0"),
        ("train x --out y --preset tiny --dynamics.betas 0.9", "--dynamics.betas takes 2 values"),
        ("train x --out y --preset tiny --dynamics.betas a 0.9", "--dynamics.betas: invalid values 'a', '0.9'"),
        ("eval x y --json a --report a", "--json and --report"),
        ("eval x y --clips 0", "clips must be at least 1, got 0"),
        ("diagnose x y --clips 3", "clips must be at least 16 for a diagnosis, got 3"),
        ("name x y --prompts 1", "prompts must be at least 2, got 1"),
        ("eval x y --examples 3", "djinn: --examples 3 is the number of clips in a report: add --report"),
        ("sample x y --actions 0 --out z.gif", "unexpected argument 'y'"),
        ("sample x --actions 0 --out", "missing value for --out; djinn sample --help"),
        ("bench x --jsno", "unknown option '--jsno'; did you mean --json?"),
        ("bench x --no-train 3", "unexpected argument '3'"),
        ("data import --out y", "needs a SOURCE"),
        ("data import '' --out y", "needs a SOURCE"),
        ("eval coinrun x --device meta", "no device 'meta' on this machine"),
        ("eval coinrun x --split all", "--split cannot be 'all'; it must be one of '"),
        ("sample x --actions 0 --out z.mp4 --fps nan", "fps must lie between 0.01 and 1000"),
        ("sample x --actions 0 --out z.avi", "give a file name that ends in .mp4, .gif, .png"),
        ("sample x --actions 0 --out z.gif --image a --prompt 1", "--image and --prompt"),
        ("data import procgen:coinrun --out y --seed -1", "seed must lie between 0 and 2**63 - 1, got -1"),
        ("data import procgen:coinrun --out y --fps inf", "fps must lie between 0.01 and 1000"),
        ("play x --port many", "--port: 'many' is not an integer"),
        ("data import procgen:coinrun --out y --mode ez", "--mode cannot be 'ez'; it must be one of '"),
    ],
)
def test_mistyped_commands(
    args: str, message: str, capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    error = refused(capsys, *shlex.split(args))
    assert message in error and "None" not in error
    assert list(tmp_path.iterdir()) == []


def test_missing_paths(tmp_path: Path, capsys: pytest.CaptureFixture):
    nowhere = tmp_path / "nowhere"
    assert f"no data set at {nowhere}" in refused(
        capsys, "train", nowhere, "--preset", "tiny", "--out", tmp_path / "run"
    )
    assert f"no world at {nowhere}" in refused(capsys, "play", nowhere, "--no-browser", "--port", 0)
    assert str(nowhere) in refused(capsys, "data", "import", nowhere, "--out", tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert str(empty) in refused(capsys, "data", "import", empty, "--out", tmp_path / "data")
    assert f"{empty} is not a world" in refused(capsys, "bench", empty)
    assert not (tmp_path / "data").exists()


def test_text_file_named_mp4(tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "notes.mp4").write_text("this is not a video\n" * 100)
    assert "notes.mp4" in refused(capsys, "data", "import", tmp_path / "notes.mp4", "--out", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_truncated_mp4(tmp_path: Path):
    frames = np.random.default_rng(0).integers(256, size=(40, 32, 32, 3), dtype=np.uint8)
    write_video(tmp_path / "whole.mp4", frames, 10, exact=True)
    content = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 3])
    result = djinn("data", "import", tmp_path / "cut.mp4", "--out", tmp_path / "data", "--size", "16x16")
    assert "cut.mp4" in result.stderr
    assert "Traceback" not in result.stderr
    if result.returncode == 0:  # the readable part was imported, with a warning
        assert "damaged or cut short" in result.stderr
    else:
        assert result.returncode == 2
        assert not (tmp_path / "data").exists()


def test_corrupt_and_foreign_weights(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    corrupt = tmp_path / "corrupt"
    shutil.copytree(world, corrupt)
    weights = corrupt / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "model.safetensors is not a valid safetensors file" in refused(capsys, "bench", corrupt)
    save_file({"layer.weight": np.zeros(3, np.float32)}, weights)
    assert "model.safetensors lacks the tensor" in refused(capsys, "bench", corrupt)


def test_foreign_checkpoint(tmp_path: Path):
    with DatasetWriter(tmp_path / "data", height=16, width=16, fps=10) as writer:
        frames = np.zeros((40, 16, 16, 3), np.uint8)
        for split in ("train", "val"):
            writer.add_episode(frames, source=split, split=split)
    checkpoint = tmp_path / "run" / "tokenizer" / "checkpoint.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"not a checkpoint")
    args = ("train", tmp_path / "data", "--preset", "tiny", "--out", tmp_path / "run", "--steps", 2)
    result = djinn(*args)
    assert result.returncode == 2
    assert "checkpoint" in result.stderr
    assert "Traceback" not in result.stderr
    assert checkpoint.read_bytes() == b"not a checkpoint"


def test_actions_out_of_range(world: Path, tmp_path: Path, image: Path, capsys: pytest.CaptureFixture):
    out = tmp_path / "video.mp4"
    error = refused(capsys, "sample", world, "--image", image, "--actions", "0,5", "--out", out)
    assert "action 5 is out of range: this world has 5 actions, 0 to 4" in error
    assert not out.exists()


def test_port_in_use(world: Path, capsys: pytest.CaptureFixture):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} is in use" in refused(capsys, "play", world, "--no-browser", "--port", port)


def test_existing_folder_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture):
    existing = tmp_path / "data"
    existing.mkdir()
    (existing / "mine.txt").write_text("precious")
    (tmp_path / "a.mp4").write_text("")
    refused(capsys, "data", "import", tmp_path / "a.mp4", "--out", existing)
    assert (existing / "mine.txt").read_text() == "precious"


UNWRITABLE = ("/proc/x/y.png", "/dev/null", "FOLDER.png", "FILE/below.png", f"{'a' * 300}.png")


@pytest.mark.parametrize("target", UNWRITABLE)
@pytest.mark.parametrize(
    "command",
    [
        "sample WORLD --actions 0 --out TARGET",
        "eval WORLD NO-DATA --json TARGET",
        "diagnose WORLD NO-DATA --json TARGET",
        "data info NO-DATA --contact-sheet TARGET",
    ],
)
def test_unwritable_files_are_refused_before_the_work(
    command: str, target: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    (tmp_path / "FOLDER.png").mkdir()
    (tmp_path / "FILE").write_text("")
    path = target if target.startswith("/") else str(tmp_path / target)
    words = [path if word == "TARGET" else str(world) if word == "WORLD" else word for word in command.split()]
    if target == "/dev/null" and "sample" in command:
        assert "ends in .mp4" in refused(capsys, *words)
    else:
        assert path in refused(capsys, *words)


@pytest.mark.parametrize("target", ["/proc/x/y", "/dev/null", "FILE", "FILE/below", "a" * 300])
@pytest.mark.parametrize(
    "command",
    [
        "eval WORLD NO-DATA --report TARGET",
        "train DATA --preset tiny --out TARGET",
    ],
)
def test_unwritable_folders_are_refused_before_the_work(
    command: str, target: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    (tmp_path / "FILE").write_text("")
    with DatasetWriter(tmp_path / "data", height=16, width=16, fps=10) as writer:
        writer.add_episode(np.zeros((40, 16, 16, 3), np.uint8), source="a", split="train")
    path = target if target.startswith("/") else str(tmp_path / target)
    values = {"TARGET": path, "WORLD": str(world), "DATA": str(tmp_path / "data")}
    assert path in refused(capsys, *[values.get(word, word) for word in command.split()])
