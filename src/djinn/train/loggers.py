"""Where metrics are logged: `metrics.jsonl` always, and experiment trackers on request."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from djinn.atomic import explain_full_disk, replace_file
from djinn.errors import UserError

METRICS = "metrics.jsonl"


class Logger(Protocol):
    """A destination of metrics besides `metrics.jsonl`."""

    def write(self, stage: str, step: int, values: dict[str, float]) -> None:
        """Log the metrics of one step."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...


class TensorBoardLogger:
    """Event files in `RUN/tensorboard`."""

    def __init__(self, run: Path, config: dict[str, Any]) -> None:
        _import_package("tensorboard")
        self._writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(str(run / "tensorboard"))
        self._writer.add_text("config", f"```\n{json.dumps(config, indent=1)}\n```")

    def write(self, stage: str, step: int, values: dict[str, float]) -> None:
        """Log each value as the scalar `stage/name`."""
        for name, value in values.items():
            self._writer.add_scalar(f"{stage}/{name}", value, step)

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class TrackerLogger:
    """wandb, or trackio, which has the same interface. Resuming continues the tracker's run."""

    def __init__(self, package: str, run: Path, config: dict[str, Any]) -> None:
        self._module = _import_package(package)
        options: dict[str, Any] = {"id": run.name, "dir": str(run)} if package == "wandb" else {}
        self._module.init(project="djinn", name=run.name, config=config, resume="allow", **options)

    def write(self, stage: str, step: int, values: dict[str, float]) -> None:
        """Log all values of a step together, with the step of the stage as `stage/step`."""
        self._module.log({f"{stage}/step": step, **{f"{stage}/{name}": value for name, value in values.items()}})

    def close(self) -> None:
        """Finish the tracker's run."""
        self._module.finish()


def _import_package(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        install = "pip install 'djinn[log]'" + ("" if package == "tensorboard" else f" {package}")
        raise UserError(f"the logger '{package}' needs the extra 'log': {install}") from None


def open_loggers(names: Sequence[str], run: Path, config: dict[str, Any]) -> list[Logger]:
    """Open the loggers of `TrainConfig.loggers`.

    Args:
        names: Any of `tensorboard`, `wandb` and `trackio`.
        run: Run folder.
        config: Whole config as plain data, logged once.

    Raises:
        UserError: A package is missing; the message names the extra.
    """
    return [
        TensorBoardLogger(run, config) if name == "tensorboard" else TrackerLogger(name, run, config) for name in names
    ]


class MetricsLog:
    """Log of a run, `RUN/metrics.jsonl`: one JSON object per line with `stage`, `step` and metrics.

    Args:
        run: Run folder.
        loggers: Further destinations.
    """

    def __init__(self, run: Path, loggers: Sequence[Logger] = ()) -> None:
        self.path = run / METRICS
        self.loggers = list(loggers)

    def write(self, stage: str, step: int, values: dict[str, Any]) -> None:
        """Append one line, and pass its finite numbers to the loggers."""
        line = json.dumps({"stage": stage, "step": step, **{k: _round(v) for k, v in values.items()}})
        with (
            explain_full_disk(str(self.path), "the last checkpoint is intact"),
            open(self.path, "a", encoding="utf-8") as file,
        ):
            file.write(line + "\n")
        numbers = {k: float(v) for k, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}
        for logger in self.loggers:
            logger.write(stage, step, numbers)

    def rewind(self, stage: str, step: int) -> None:
        """Delete the lines of a stage after `step`, from which it resumes, and incomplete lines."""
        if not self.path.is_file():
            return
        kept = [json.dumps(r) for r in read_metrics(self.path.parent) if r["stage"] != stage or r["step"] <= step]
        with (
            explain_full_disk(str(self.path), "the last checkpoint is intact"),
            replace_file(self.path, self.path.with_name(METRICS + ".tmp")) as temporary,
        ):
            temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def close(self) -> None:
        """Close the loggers."""
        for logger in self.loggers:
            logger.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Read all complete lines of a run's `metrics.jsonl`."""
    return list(_read_lines(run / METRICS))


def last_evaluation(run: Path, stage: str) -> dict[str, Any]:
    """Return the metrics of a stage's last evaluation and its step; empty if there is none."""
    for record in reversed(read_metrics(run)):
        if record["stage"] == stage and "val_clips" in record:
            return {k: v for k, v in record.items() if k != "stage"}
    return {}


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict) and "stage" in record and "step" in record:
            yield record


def _round(value: Any) -> Any:
    """Round a float to 7 digits; None if it is not finite."""
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value
