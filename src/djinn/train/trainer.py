"""The training loop of every stage: steps, logs, evaluations, checkpoints, and a clean stop."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from djinn.atomic import explain_full_disk
from djinn.config import StageConfig, TrainConfig, WorldConfig
from djinn.config.yaml import to_dict
from djinn.data.loader import LoaderBatch
from djinn.errors import UserError
from djinn.models.serialization import is_whole
from djinn.train.checkpointer import Checkpointer, FileCheckpointer
from djinn.train.compatibility import check_same, with_defaults
from djinn.train.ema import WeightAverage
from djinn.train.loggers import MetricsLog
from djinn.train.memory import peak_memory_mb
from djinn.train.metric_window import MetricWindow
from djinn.train.optimizer import build_optimizer
from djinn.train.parallel import parallelize
from djinn.train.precision import autocast, compile_blocks, eager
from djinn.train.progress_bar import ProgressBar
from djinn.train.ranks import Ranks
from djinn.train.schedule import learning_rate, progress
from djinn.train.signals import Stopped, StopSignals, command_line
from djinn.train.stages.stage import Stage, StepBatch

SAVE_INTERVAL = 60.0
"""Maximum age of a checkpoint in seconds, unless saving takes more than a twentieth of it."""
SHOWN_METRICS = ("psnr", "lam_psnr", "lam_ce", "ce")
"""Metrics on the progress bar; `loss` for a stage that has none of them."""


class Trainer:
    """Trains one stage to its limit of steps or minutes, and resumes from its checkpoint.

    On the CPU and with a fixed number of steps, a run that was stopped and resumed reaches the
    weights of an uninterrupted run bit for bit: the order of clips and the random draws are
    functions of seed and step, and the checkpoint holds the rest of the state.

    Args:
        stage: Stage to train, on its device.
        config: Settings of the stage.
        train_config: Config of the run.
        loader_factory: Returns this rank's batches after a given number of global batches.
        folder: Run folder.
        log: Log of the run; by default `metrics.jsonl` alone.
        ranks: Rank of this process.
        checkpointer: By default one file in the run folder.
        depends: Further values that a checkpoint must match, for example the identity of the data
            set.
    """

    def __init__(
        self,
        stage: Stage,
        config: StageConfig,
        train_config: TrainConfig,
        loader_factory: Callable[[int], Iterable[LoaderBatch]],
        folder: Path,
        *,
        log: MetricsLog | None = None,
        ranks: Ranks | None = None,
        checkpointer: Checkpointer | None = None,
        depends: dict[str, str] | None = None,
    ) -> None:
        self.stage, self.config, self.train_config = stage, config, train_config
        self.loader_factory, self.folder = loader_factory, folder
        self.log = log or MetricsLog(folder)
        self.ranks = ranks or Ranks()
        self.checkpointer = checkpointer or FileCheckpointer(folder, stage.name, writes=self.ranks.is_first)
        self.device = next(stage.module.parameters()).device
        self.identity = {
            "world": to_dict(train_config.world),
            stage.name: to_dict(config),
            "seed": train_config.seed,
            "precision": train_config.precision,
            **(depends or {}),
            **stage.identity(),
        }
        self.clips = self.ranks.local_batch_size(config.batch, config.grad_accum_steps)
        self.optimizer = build_optimizer(stage.module, config)
        self.average = WeightAverage(stage.module, config.ema_decay) if config.ema_decay > 0 else None
        self.compiled = compile_blocks(stage.module, self.device, train_config.compile)
        self.parallel = parallelize(stage, self.ranks)
        self.generator = torch.Generator(self.device)
        self.window = MetricWindow(self.device)
        self.step = 0
        self.seconds = 0.0
        self.metrics: dict[str, float] = {}
        """Metrics of the last evaluation in this call of `run`."""
        self.metadata_changed = False
        """Whether settings of the world that no step depends on differ from the checkpoint."""
        self._save_seconds = 0.0
        self._warned = False
        self._shown = (0.0, "")

    @property
    def finished(self) -> bool:
        """Whether the limit of steps or minutes is reached."""
        return progress(self.config, self.step, self.seconds) >= 1

    def run(self) -> dict[str, float]:
        """Train to the end.

        Returns:
            Metrics of the last evaluation; empty if the stage was finished before.

        Raises:
            Stopped: After Ctrl-C or SIGTERM; the state is saved.
            UserError: The loss is not finite, the disk is full, or the checkpoint is of another
                run.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.resume()
        if self.finished:
            if self.metadata_changed:
                self.save(overwrite=True)
            return {}
        self._bar = ProgressBar(self.stage.name, shown=self.ranks.is_first)
        loader = self.loader_factory(self.step)
        self._saved_at = time.monotonic()
        self._began = self._saved_at - self.seconds
        self.window.restart()
        try:
            with StopSignals() as signals:
                self._loop(iter(loader), signals)
        finally:
            self._bar.close()
            getattr(loader, "close", lambda: None)()
        return self.metrics

    def _loop(self, batches: Iterator[LoaderBatch], signals: StopSignals) -> None:
        self.stage.module.train()
        while True:
            received, self.seconds = self.ranks.all_reduce_max(signals.received, time.monotonic() - self._began)
            if self.finished:
                break
            if received:
                self._stop(received)
            self._train_step(next(batches))
            if self.step % self.config.log_every == 0:
                self._log()
            self._show_progress()
            if self.finished:
                continue  # evaluated and saved below, in this order, so that a resumed run repeats a failed evaluation
            if self.step % self.config.eval_every == 0:
                self._evaluate()
            if self.step % self.config.save_every == 0 or self._save_is_due():
                self.save()
        self._log()
        self._evaluate()
        self.save()
        self._write({"seconds": self.seconds, "peak_memory_mb": peak_memory_mb(self.device)})
        received, _ = self.ranks.all_reduce_max(signals.received, self.seconds)
        if received:
            self._stop(received)
        self.ranks.barrier()

    def _train_step(self, batch: LoaderBatch) -> None:
        share = progress(self.config, self.step, self.seconds)
        self.lr = learning_rate(self.config, self.step, share)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        loss, metrics = self.parallel.backward(self._split(batch), self._autocast)
        norm = self._clip_gradients()
        self._step_frames = self.config.batch * batch.video.shape[1]
        self.window.add({"loss": loss, **metrics, "grad_norm": norm}, self._step_frames)
        if self.device.type == "cpu":  # on a GPU this would wait for the step, so it is checked with the logs
            self._check_finite()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.stage.module)
        self.step += 1

    def _split(self, batch: LoaderBatch) -> list[StepBatch]:
        """Move this rank's clips to the device, in one part per pass, with their random draws."""
        # A function of (seed, step): nothing of the generator's state has to be saved.
        self.generator.manual_seed((self.train_config.seed * 1_000_003 + self.step) * 4_099 % 2**63)
        draws = self.stage.draw(self.config.batch, self.generator)
        video = batch.video.to(self.device, non_blocking=True)
        size, first = self.clips // self.config.grad_accum_steps, self.ranks.rank * self.clips
        parts = []
        for start in range(0, self.clips, size):
            own = slice(start, start + size)
            selected = None if draws is None else draws.select(slice(first + start, first + start + size))
            parts.append(StepBatch(batch.indices[own], video[own], selected))
        return parts

    def _autocast(self) -> AbstractContextManager[object]:
        return autocast(self.device, self.train_config.precision)

    def _clip_gradients(self) -> Tensor:
        """Clip the gradients of each group and return the norm of all gradients before clipping."""
        norms = []
        for module in self.stage.clip_groups:
            gradients = [p.grad for p in module.parameters() if p.grad is not None]
            norms.append(torch.nn.utils.get_total_norm(gradients))
            if self.config.grad_clip > 0:
                torch.nn.utils.clip_grads_with_norm_(list(module.parameters()), self.config.grad_clip, norms[-1])
        return torch.stack(norms).norm()

    def _check_finite(self) -> None:
        if self.window.is_finite():
            return
        name, saved, clip = self.stage.name, self.checkpointer.saved_step, self.config.grad_clip
        raise UserError(
            f"the loss or its gradient is not finite at step {self.step} of stage {name}; "
            + ("no checkpoint was saved yet" if saved is None else f"the checkpoint of step {saved} is intact")
            + f": start a new run (another --out) with a lower --{name}.lr (now {self.config.lr:g})"
            + (f" or --{name}.grad-clip (now {clip:g})" if clip > 0 else f" or with --{name}.grad-clip 1")
        )

    def _log(self) -> None:
        if not self.window:
            return
        self._check_finite()
        means = self.ranks.mean(self.window.means()).tolist()  # the only wait for the device
        values = dict(zip(self.window.names(), means, strict=True))
        rate = self.window.frames_per_second()
        self._write({"seconds": self.seconds, "lr": self.lr, "frames_per_second": rate, **values})
        shown = [name for name in SHOWN_METRICS if name in values] or ["loss"]
        self._shown = rate, "  ".join(f"{name.replace('_', ' ')} {values[name]:.4g}" for name in shown)
        self.window.restart()

    def _show_progress(self) -> None:
        rate, metrics = self._shown
        rate = rate or self.window.frames_per_second()
        seconds_per_step = self._step_frames / rate
        left = (self.config.steps - self.step) * seconds_per_step
        if self.config.minutes is not None:
            timed = 60 * self.config.minutes - self.seconds
            left = min(left, max(timed, (self.config.min_steps - self.step) * seconds_per_step))
        self._bar.update(progress(self.config, self.step, self.seconds), self.step, left, rate, metrics)

    def _write(self, values: dict[str, Any]) -> None:
        if self.ranks.is_first:
            self.log.write(self.stage.name, self.step, values)

    def _averaged(self) -> AbstractContextManager[None]:
        return nullcontext() if self.average is None else self.average.applied(self.stage.module)

    def _evaluate(self) -> None:
        """Evaluate on the first rank, without an effect on the random numbers of later steps."""
        if not self.ranks.is_first:
            return
        began = time.monotonic()
        self.stage.module.eval()
        with (
            torch.random.fork_rng([self.device] if self.device.type == "cuda" else []),
            torch.no_grad(),
            eager(self.compiled),
            self._autocast(),
            self._averaged(),
            explain_full_disk(f"images in {self.folder}", "the last checkpoint is intact"),
        ):
            self.metrics = self.stage.evaluate(self.folder, self.step)
        self.stage.module.train()
        seconds = time.monotonic() - began
        self.window.add_idle(seconds)
        self._write({"seconds": self.seconds, **self.metrics, "evaluation_seconds": seconds})
        share = progress(self.config, self.step, self.seconds)
        warning = self.stage.check_collapse(self.metrics, self.step, share)
        if warning and not self._warned:
            self._warned = True
            self._bar.write(f"\n!!! WARNING: {warning}\n")
            self._write({"warning": warning})

    def _save_is_due(self) -> bool:
        return time.monotonic() - self._saved_at > max(SAVE_INTERVAL, 20 * self._save_seconds)

    def save(self, overwrite: bool = False) -> None:
        """Save the checkpoint, then export on the first rank.

        Args:
            overwrite: Whether to replace a checkpoint of the same step.
        """
        self._check_finite()
        self._saved_at = time.monotonic()
        if overwrite or self.checkpointer.saved_step != self.step:
            self.checkpointer.save(self.step, self._state())
            self._export()
        self._save_seconds = time.monotonic() - self._saved_at
        self.window.add_idle(self._save_seconds)

    def _export(self) -> None:
        if not self.ranks.is_first:
            return
        with self._averaged():
            self.stage.module.eval()
            self.stage.export(self.folder, self.step)
            self.stage.module.train()

    def repair_export(self) -> None:
        """Export once more if a file is damaged, or older than the checkpoint after a kill."""
        if not self.ranks.is_first:
            return
        saved = self.checkpointer.saved_time
        files = self.stage.exported_files(self.folder)
        if not all(is_whole(file) and file.stat().st_mtime >= saved for file in files):
            self._export()

    def _state(self) -> dict[str, Any]:
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "config": self.identity,
            "position": self.step,  # one global batch per step
            "seconds": self.seconds,
            "model": self.stage.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.average is None else self.average.state_dict(),
            "random": random,
        }

    def resume(self) -> None:
        """Restore the checkpoint, if there is one.

        Raises:
            UserError: The checkpoint is damaged, or the run was started with another config.
        """
        state = self.checkpointer.load()
        if state is None:
            if self.ranks.is_first:
                self.log.rewind(self.stage.name, -1)
            return
        stored = with_defaults(state["config"], {"world": WorldConfig, self.stage.name: StageConfig})
        check_same(stored, self.identity, self.folder)
        self.metadata_changed = stored["world"] != self.identity["world"]
        self.stage.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["ema"])
        self.step, self.seconds = state["step"], state["seconds"]
        torch.set_rng_state(state["random"]["cpu"])  # of the first rank, whose random draws all ranks use
        if self.device.type == "cuda" and "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)
        if self.ranks.is_first:
            self.log.rewind(self.stage.name, self.step)

    def _stop(self, number: int) -> None:
        self._log()
        self.save()
        self._bar.close()
        if self.ranks.is_first:
            print(
                f"stopped at step {self.step} of stage {self.stage.name}; the state is saved. To resume:\n"
                f"  {command_line()}",
                file=sys.stderr,
                flush=True,
            )
        self.ranks.barrier()
        raise Stopped(number)
