"""`djinn bench`."""

import json

import pytest

from djinn import cli


def test_json_output(make_world, tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    make_world().save_pretrained(tmp_path / "world")
    monkeypatch.setattr("djinn.benchmark.training.MIN_SECONDS", 0.0)
    monkeypatch.setattr("djinn.benchmark.training.MIN_STEPS", 1)
    monkeypatch.setattr("djinn.benchmark.play.LONG", 60)
    monkeypatch.setattr("djinn.benchmark.play.COMPARED", 5)
    cli.run(["bench", str(tmp_path / "world"), "--json", "--frames", "4", "--long", "--device", "cpu"])
    metrics = json.loads(capsys.readouterr().out)
    assert set(metrics["play_fps"]) == {"p50", "p95"}
    assert metrics["play_fps"]["p50"] >= metrics["play_fps"]["p95"] > 0
    assert set(metrics["ms"]) == {"encode", "dynamics", "decode"}
    assert metrics["train_fps"] == metrics["train"]["dynamics"]["fps"] > 0
    assert metrics["peak_memory_mb"] > 0
    assert metrics["machine"]["torch"]
    assert metrics["train"]["dynamics_stage"]["gflops_per_frame"] > metrics["train"]["dynamics"]["gflops_per_frame"] > 0
    assert metrics["long"]["late_over_early"] > 0
