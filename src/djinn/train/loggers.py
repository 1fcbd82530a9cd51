"""Where figures go while training: `metrics.jsonl` always, the terminal, and services that a person asks for."""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from djinn.atomic import room_for
from djinn.errors import UserError

METRICS = "metrics.jsonl"


class Sink(Protocol):
    """A place for metrics besides `metrics.jsonl`."""

    def write(self, stage: str, step: int, values: dict[str, float]) -> None:
        """Takes the figures of one moment."""
        ...

    def close(self) -> None:
        """Finishes what is under way."""
        ...


class TensorBoard:
    """Writes event files into `RUN/tensorboard`."""

    def __init__(self, run: Path, config: dict[str, Any]) -> None:
        _import_extra("tensorboard", "tensorboard")
        self._writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(str(run / "tensorboard"))
        self._writer.add_text("config", f"```\n{json.dumps(config, indent=1)}\n```")

    def write(self, stage: str, step: int, values: dict[str, float]) -> None:
        """One scalar `stage/name` each."""
        for name, value in values.items():
            self._writer.add_scalar(f"{stage}/{name}", value, step)

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


class Tracker:
    """wandb, or trackio, which speaks as wandb does; the run there has the run folder's name and goes on with it."""

    def __init__(self, package: str, run: Path, config: dict[str, Any]) -> None:
        self._module = _import_extra(package, package)
        settings: dict[str, Any] = {"id": run.name, "dir": str(run)} if package == "wandb" else {}
        self._module.init(project="djinn", name=run.name, config=config, resume="allow", **settings)

    def write(self, stage: str, step: int, values: dict[str, float]) -> None:
        """All values of a step at once, with the step of the stage among them."""
        self._module.log({f"{stage}/step": step, **{f"{stage}/{name}": value for name, value in values.items()}})

    def close(self) -> None:
        """Finishes the run there."""
        self._module.finish()


def _import_extra(package: str, sink: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        install = "pip install 'djinn[log]'" if sink == "tensorboard" else f"pip install 'djinn[log]' {sink}"
        raise UserError(f"the sink '{sink}' needs the extra 'log': {install}") from None


def open_sinks(names: Sequence[str], run: Path, config: dict[str, Any]) -> list[Sink]:
    """Opens the sinks of `TrainConfig.loggers`.

    Args:
        names: `tensorboard`, `wandb`, `trackio`.
        run: the run folder.
        config: the whole config as plain data, shown there.

    Raises:
        UserError: a package is missing; the message names the extra.
    """
    return [TensorBoard(run, config) if name == "tensorboard" else Tracker(name, run, config) for name in names]


class Metrics:
    """The log of a run: one JSON object a line in `RUN/metrics.jsonl`, of all stages, and the same to the sinks.

    Args:
        run: the run folder.
        sinks: where else figures go.
    """

    def __init__(self, run: Path, sinks: Sequence[Sink] = ()) -> None:
        self.path = run / METRICS
        self.sinks = list(sinks)

    def write(self, stage: str, step: int, values: dict[str, Any]) -> None:
        """Appends one line; numbers go to the sinks as well."""
        line = json.dumps({"stage": stage, "step": step, **{k: _plain(v) for k, v in values.items()}})
        with room_for(str(self.path), "the last checkpoint is intact"), open(self.path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
        numbers = {k: float(v) for k, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}
        for sink in self.sinks:
            sink.write(stage, step, numbers)

    def rewind(self, stage: str, step: int) -> None:
        """Drops the lines of `stage` after `step` and what a kill left half written, as the run goes back there."""
        if not self.path.is_file():
            return
        kept = [json.dumps(r) for r in read_metrics(self.path.parent) if r["stage"] != stage or r["step"] <= step]
        temporary = self.path.with_name(METRICS + ".tmp")
        with room_for(str(self.path), "the last checkpoint is intact"):
            temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
            os.replace(temporary, self.path)

    def close(self) -> None:
        """Closes the sinks."""
        for sink in self.sinks:
            sink.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """All whole lines of a run's `metrics.jsonl`, in the order they were written."""
    return list(_lines(run / METRICS))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict) and "stage" in record and "step" in record:
            yield record


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


class Progress:
    """The line that moves: share done, figures, frames per second and time left.

    On a terminal it is a bar; elsewhere a plain line now and then, so that log files stay readable.

    Args:
        title: what is under way.
        shown: False is silent.
        every: seconds between plain lines.
    """

    def __init__(self, title: str, shown: bool = True, every: float = 20.0) -> None:
        self.title = title
        self._every = every
        self._next = 0.0
        self._plain = shown and not sys.stderr.isatty()
        form = "{desc} {percentage:3.0f}%|{bar:24}|{postfix}"
        self._bar = tqdm(total=1.0, desc=title, bar_format=form, disable=not shown or self._plain, leave=True)

    def update(self, share: float, step: int, left: float, frames_per_second: float, figures: str) -> None:
        """Shows how far it is.

        Args:
            share: share done, in [0, 1].
            step: steps done.
            left: seconds left, as far as known.
            frames_per_second: rate of training.
            figures: a few figures in words.
        """
        text = f"step {step}  {figures}  {frames_per_second:,.0f} frames/s  {_clock(left)} left"
        if self._bar.disable and not self._plain:
            return
        if time.monotonic() < self._next and share < 1:
            return
        self._next = time.monotonic() + (self._every if self._plain else 0.25)
        if self._plain:
            print(f"{self.title} {share:4.0%}  {text}", file=sys.stderr, flush=True)
        else:
            self._bar.n = share
            self._bar.set_postfix_str(text)

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.refresh()
        self._bar.close()


def _clock(seconds: float) -> str:
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
