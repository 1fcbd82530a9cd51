"""`benchmarks/targets.py` without the measurements."""

import importlib.util
import sys
from pathlib import Path

import pytest

from djinn.benchmark import play, run, training

FILE = Path(__file__).parent.parent / "benchmarks" / "targets.py"


def test_each_row_is_printed_when_its_measurement_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, make_world
) -> None:
    spec = importlib.util.spec_from_file_location("targets", FILE)
    assert spec is not None and spec.loader is not None
    targets = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(targets)
    printed: list[str] = []

    def replace(module, name: str, result: dict) -> None:
        """Replace a measurement by its result, and keep what was printed before it."""

        def measure(*args: object) -> dict:
            printed.append(capsys.readouterr().out)
            return result

        monkeypatch.setattr(module, name, measure)

    world = make_world()
    monkeypatch.setattr(sys, "argv", ["targets.py"])
    monkeypatch.setattr(run, "load", lambda name, device: (world, None))
    replace(play, "play", {"play_fps": {"p50": 12.5}})
    replace(training, "benchmark_training", {"train_fps": 30.0})
    memory = {"500": 300.0, "2000": 304.56}
    replace(play, "play_long", {"late_over_early": 1.2, "peak_memory_mb": memory})
    targets.main()
    rows = [*printed, capsys.readouterr().out]
    assert "cores, load" in rows[0]
    assert rows[1].split() == ["ok", "play,", "frames/s", "(median)", "12.5", "at", "least", "10"]
    assert rows[2].splitlines() == [
        "MISS  frame 2,000 / frame 20                   1.2   at most 1.05",
        "ok    memory, frame 500 to 2,000, MB           4.6   at most 10",
    ]
    assert rows[3].startswith("MISS  training the dynamics") and "30.0   at least 45" in rows[3]
