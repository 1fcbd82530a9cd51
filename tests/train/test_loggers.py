import json
import sys
import types
from pathlib import Path

import pytest

from djinn.errors import UserError
from djinn.train.loggers import MetricsLog, last_evaluation, open_loggers


def test_rewind_deletes_later_and_incomplete_lines(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    for stage, step in [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 3)]:
        log.write(stage, step, {"loss": float("nan")})
    with open(log.path, "a") as file:
        file.write('{"stage": "b", "st')
    log.rewind("b", 2)
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [(r["stage"], r["step"]) for r in lines] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert lines[0]["loss"] is None


def test_last_evaluation_of_a_stage(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    assert last_evaluation(tmp_path, "a") == {}
    for stage, step, values in [("a", 1, {"val_clips": 2}), ("a", 5, {"val_clips": 3}), ("b", 6, {"val_clips": 4})]:
        log.write(stage, step, values)
    log.write("a", 7, {"loss": 1.0})
    assert last_evaluation(tmp_path, "a") == {"step": 5, "val_clips": 3}


def test_loggers_receive_numbers_and_a_missing_package_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list = []
    fake = types.ModuleType("trackio")
    fake.init = lambda **kw: calls.append(("init", kw["project"], kw["name"]))  # type: ignore[attr-defined]
    fake.log = calls.append  # type: ignore[attr-defined]
    fake.finish = lambda: calls.append("finish")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", fake)
    log = MetricsLog(tmp_path, open_loggers(["trackio"], tmp_path, {}))
    log.write("dynamics", 3, {"ce": 1.5, "warning": "x"})
    log.close()
    assert calls == [("init", "djinn", tmp_path.name), {"dynamics/step": 3, "dynamics/ce": 1.5}, "finish"]
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"logger 'tensorboard' needs the extra 'log': pip install 'djinn\[log\]'$"):
        open_loggers(["tensorboard"], tmp_path, {})
