"""One loop for every stage: steps, logs, evaluations, checkpoints, and a clean end whenever one is asked for."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from djinn.atomic import room_for
from djinn.config import StageConfig, TrainConfig, WorldConfig
from djinn.config.yaml import to_dict
from djinn.data.loader import LoaderBatch
from djinn.errors import UserError
from djinn.models.serialization import is_whole
from djinn.train import checkpointer as checkpoint
from djinn.train.ema import WeightAverage
from djinn.train.loggers import Metrics, Progress
from djinn.train.optimizer import build_optimizer
from djinn.train.parallel import Ranks, data_parallel
from djinn.train.precision import autocast, compile_blocks, eager
from djinn.train.schedule import learning_rate, progress
from djinn.train.signals import Stopped, StopSignals, command_line

SAVE_SECONDS = 60.0
"""A checkpoint is never older than this, unless writing one takes longer than a twentieth of it."""


class Stage(Protocol):
    """What is trained: the trainer knows nothing else of it."""

    name: str

    @property
    def module(self) -> nn.Module:
        """All that is trained and saved."""
        ...

    @property
    def parts(self) -> list[nn.Module]:
        """Parts of `module` that learn apart: the gradient norm is clipped in each by itself."""
        ...

    def loss(self, batch: LoaderBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor | float]]:
        """The loss of one pass and figures to log."""
        ...

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """Figures on held-out clips; puts pictures into the run folder."""
        ...

    def diagnose(self, figures: dict[str, float], step: int, share: float) -> str | None:
        """A warning with its remedy where the figures of an evaluation tell that something went wrong."""
        ...

    def export(self, folder: Path) -> None:
        """Writes what a person uses, after each checkpoint, into the run folder."""
        ...


class _Loss(nn.Module):
    """A stage's loss as a module, which is what data-parallel training wraps."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.module = stage.module
        self._loss = stage.loss

    def forward(self, batch: LoaderBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor | float]]:
        return self._loss(batch, generator)


class Trainer:
    """Trains one stage until its steps or minutes are over, and continues where an earlier call was stopped.

    On the CPU, with a fixed number of steps, stopping anywhere and continuing gives the same weights to the bit: the
    order of clips and the stage's random numbers are functions of (seed, step), and all else that a step depends on is
    in the checkpoint.

    Args:
        stage: what to train, already on its device.
        config: how.
        train_config: the whole run's config: seed, precision, compilation, and all that a checkpoint must agree with.
        loader_factory: given how many global batches were consumed, gives the batches that follow for this rank, each
            with this rank's share of `config.batch` clips.
        folder: the run folder.
        metrics: the run's log; by default `metrics.jsonl` alone.
        ranks: this process among all.
        depends: what else a checkpoint must agree with, for instance the identity of the data set.
    """

    def __init__(
        self,
        stage: Stage,
        config: StageConfig,
        train_config: TrainConfig,
        loader_factory: Callable[[int], Iterable[LoaderBatch]],
        folder: Path,
        *,
        metrics: Metrics | None = None,
        ranks: Ranks | None = None,
        depends: dict[str, str] | None = None,
    ) -> None:
        self.stage, self.config, self.train_config = stage, config, train_config
        self.loader_factory, self.folder = loader_factory, folder
        self.metrics = metrics or Metrics(folder)
        self.ranks = ranks or Ranks()
        self.path = checkpoint.checkpoint_path(folder, stage.name)
        self.device = next(stage.module.parameters()).device
        self._key = "dynamics" if stage.name == "world" else stage.name  # the stage's place in the config
        self.identity = {
            "world": to_dict(train_config.world),
            self._key: to_dict(config),
            "seed": train_config.seed,
            "precision": train_config.precision,
            **(depends or {}),
        }
        self.clips = self.ranks.share(config.batch, config.grad_accum_steps)
        self.optimizer = build_optimizer(stage.module, config)
        self.average = WeightAverage(stage.module, config.ema_decay) if config.ema_decay > 0 else None
        self.compiled = compile_blocks(stage.module, self.device, train_config.compile)
        self.model = data_parallel(_Loss(stage), self.ranks)
        self.generator = torch.Generator(self.device)
        self.step = 0
        self.seconds = 0.0
        self.figures: dict[str, float] = {}
        self._saved_step: int | None = None
        self.metadata_changed = False
        self._save_cost = 0.0
        self._warned = False
        self._shown = (0.0, "")
        self._restart_window()

    @property
    def finished(self) -> bool:
        """Whether the steps or the minutes are over."""
        return progress(self.config, self.step, self.seconds) >= 1

    def run(self) -> dict[str, float]:
        """Trains to the end.

        Returns:
            The figures of the last evaluation; empty if there was nothing left to do.

        Raises:
            Stopped: after Ctrl-C or SIGTERM; the state is saved.
            UserError: the loss is not finite, the disk is full, or a checkpoint is not of this run.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.resume()
        if self.finished:
            if self.metadata_changed:
                self.save(again=True)  # the frames a second or the sampler of the world, which no step depends on
            return {}
        self._bar = Progress(self.stage.name, shown=self.ranks.first)
        loader = self.loader_factory(self.step)
        self._saved_at = time.monotonic()
        self._began = self._saved_at - self.seconds
        try:
            with StopSignals() as signals:
                self._loop(iter(loader), signals)
        finally:
            self._bar.close()
            getattr(loader, "close", lambda: None)()
        return self.figures

    def _loop(self, batches: Iterator[LoaderBatch], signals: StopSignals) -> None:
        self.stage.module.train()
        while True:
            received, self.seconds = self.ranks.agree(signals.received, time.monotonic() - self._began)
            if self.finished:
                break
            if received:
                self._stop(received)
            self._train_step(next(batches))
            if self.step % self.config.log_every == 0:
                self._log()
            self._show_progress()
            if self.finished:
                continue  # evaluated below and saved after that, so that an evaluation that fails is made up for
            if self.step % self.config.eval_every == 0:
                self._evaluate()
            if self.step % self.config.save_every == 0 or self._save_is_due():
                self.save()
        self._log()
        self._evaluate()
        self.save()
        self._write({"seconds": self.seconds, "peak_memory_mb": peak_memory_mb(self.device)})
        received, _ = self.ranks.agree(signals.received, self.seconds)
        if received:
            self._stop(received)
        self.ranks.wait()

    def _train_step(self, batch: LoaderBatch) -> None:
        share = progress(self.config, self.step, self.seconds)
        self.lr = learning_rate(self.config, self.step, share)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        # One state of the generator per (seed, step, rank): nothing of it is left to carry over a restart.
        number = (self.train_config.seed * 1_000_003 + self.step) * 4_099 + self.ranks.rank
        self.generator.manual_seed(number % 2**63)
        video = batch.video.to(self.device, non_blocking=True)
        size = self.clips // self.config.grad_accum_steps
        for start in range(0, self.clips, size):
            part = LoaderBatch(batch.indices[start : start + size], video[start : start + size])
            last = start + size >= self.clips
            with nullcontext() if last or self.ranks.count == 1 else self.model.no_sync():  # pyrefly: ignore
                with autocast(self.device, self.train_config.precision):
                    loss, logs = self.model(part, self.generator)
                (loss / self.config.grad_accum_steps).backward()
            self._accumulate({"loss": loss.detach(), **logs})
        norm = self._clip()
        self._accumulate({"grad_norm": norm})
        self._sound = self._sound & torch.isfinite(loss.detach() + norm)
        if self.device.type == "cpu":  # elsewhere the question would wait for the device: asked when logging
            self._check_sound()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.stage.module)
        self.step += 1
        self._step_frames = self.config.batch * video.shape[1]
        self._window_frames += self._step_frames

    def _clip(self) -> Tensor:
        norms = []
        for part in self.stage.parts:
            gradients = [p.grad for p in part.parameters() if p.grad is not None]
            norms.append(torch.nn.utils.get_total_norm(gradients))
            if self.config.grad_clip > 0:
                torch.nn.utils.clip_grads_with_norm_(list(part.parameters()), self.config.grad_clip, norms[-1])
        return torch.stack(norms).norm()

    def _accumulate(self, values: dict[str, Any]) -> None:
        """Adds figures up on the device; a mean over passes is taken when they are logged."""
        for name, value in values.items():
            value = torch.as_tensor(value, dtype=torch.float32, device=self.device)
            before = self._sums.get(name)
            self._sums[name] = torch.stack([value, torch.ones_like(value)]) + (0 if before is None else before)

    def _restart_window(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._sound = torch.ones((), dtype=torch.bool, device=self.device)
        self._window_frames = 0
        self._window_began = time.monotonic()
        self._window_idle = 0.0

    def _check_sound(self) -> None:
        if bool(self._sound):
            return
        saved = self._saved_step
        key = "tokenizer" if self.stage.name == "tokenizer" else "dynamics"
        raise UserError(
            f"the loss or its gradient is not finite at step {self.step} of stage {self.stage.name}; "
            + ("nothing was saved yet" if saved is None else f"the last good checkpoint (step {saved}) is intact")
            + f": start a new run (another --out) with a lower --{key}.lr (now {self.config.lr:g})"
            + (
                f" or --{key}.grad-clip (now {self.config.grad_clip:g})"
                if self.config.grad_clip > 0
                else f" or with --{key}.grad-clip 1"
            )
        )

    def _log(self) -> None:
        if not self._sums:
            return
        self._check_sound()
        names = list(self._sums)
        means = self.ranks.mean(torch.stack([pair[0] / pair[1] for pair in self._sums.values()]))
        values = dict(zip(names, means.tolist(), strict=True))  # the one wait for the device
        busy = max(time.monotonic() - self._window_began - self._window_idle, 1e-9)
        rate = self._window_frames / busy
        self._write({"seconds": self.seconds, "lr": self.lr, "frames_per_second": rate, **values})
        shown = [n for n in ("psnr", "lam_psnr", "lam_ce", "ce") if n in values] or ["loss"]
        self._shown = rate, "  ".join(f"{n.replace('_', ' ')} {values[n]:.4g}" for n in shown)
        self._restart_window()

    def _show_progress(self) -> None:
        rate, figures = self._shown
        if not rate:
            rate = self._window_frames / max(time.monotonic() - self._window_began - self._window_idle, 1e-9)
        left = (self.config.steps - self.step) * self._step_frames / rate
        if self.config.minutes is not None:
            left = min(left, 60 * self.config.minutes - self.seconds)
        self._bar.update(progress(self.config, self.step, self.seconds), self.step, left, rate, figures)

    def _write(self, values: dict[str, Any]) -> None:
        if self.ranks.first:
            self.metrics.write(self.stage.name, self.step, values)

    def _averaged(self) -> Any:
        return nullcontext() if self.average is None else self.average.applied(self.stage.module)

    def _evaluate(self) -> None:
        """Evaluates on the first rank; it draws no number from, and leaves nothing to, the training that follows."""
        if not self.ranks.first:
            return
        began = time.monotonic()
        devices = [self.device] if self.device.type == "cuda" else []
        self.stage.module.eval()
        with (
            torch.random.fork_rng(devices),
            torch.no_grad(),
            eager(self.compiled),
            autocast(self.device, self.train_config.precision),
            self._averaged(),
            room_for(f"pictures in {self.folder}", "the last checkpoint is intact"),
        ):
            self.figures = self.stage.evaluate(self.folder, self.step)
        self.stage.module.train()
        took = time.monotonic() - began
        self._window_idle += took
        self._write({"seconds": self.seconds, **self.figures, "evaluation_seconds": took})
        warning = self.stage.diagnose(self.figures, self.step, progress(self.config, self.step, self.seconds))
        if warning and not self._warned:
            self._warned = True
            self._bar.say(f"\n!!! WARNING: {warning}\n")
            self._write({"warning": warning})

    def _save_is_due(self) -> bool:
        return time.monotonic() - self._saved_at > max(SAVE_SECONDS, 20 * self._save_cost)

    def save(self, again: bool = False) -> None:
        """Writes the checkpoint, and what the stage exports, on the first rank.

        Args:
            again: also where that of this step is there already.
        """
        self._check_sound()
        began = time.monotonic()
        self._saved_at = began
        if self.ranks.first and (again or self._saved_step != self.step):
            checkpoint.save_checkpoint(self.path, self._state(), self._saved_step)
            self._saved_step = self.step
            self._export()
        self._save_cost = time.monotonic() - began
        self._window_idle += self._save_cost

    def _export(self) -> None:
        with self._averaged():
            self.stage.module.eval()
            self.stage.export(self.folder)
            self.stage.module.train()

    def export_unless_whole(self, products: Sequence[Path]) -> None:
        """Exports again where a kill came between the last checkpoint and its export, or a file was damaged since.

        Args:
            products: safetensors files that the export writes.
        """
        saved = self.path.stat().st_mtime
        if not all(is_whole(file) and file.stat().st_mtime >= saved for file in products):
            self._export()

    def _state(self) -> dict[str, Any]:
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "stage": self.stage.name,
            "config": self.identity,
            "step": self.step,
            "position": self.step,  # one global batch per step
            "seconds": self.seconds,
            "model": self.stage.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.average is None else self.average.state_dict(),
            "random": random,
        }

    def resume(self) -> None:
        """Takes up the checkpoint, if there is one.

        Raises:
            UserError: it is damaged, or the run began with another config.
        """
        if not self.path.exists():
            if self.ranks.first:
                self.metrics.rewind(self.stage.name, -1)
            return
        state = checkpoint.load_checkpoint(self.path, self.stage.name)
        stored = self._stored_identity(state["config"])
        checkpoint.check_same(stored, self.identity, self.folder)
        self.metadata_changed = stored["world"] != self.identity["world"]
        self.stage.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["ema"])
        self.step, self.seconds, self._saved_step = state["step"], state["seconds"], state["step"]
        if self.ranks.first:
            torch.set_rng_state(state["random"]["cpu"])
            if self.device.type == "cuda" and "cuda" in state["random"]:
                torch.cuda.set_rng_state(state["random"]["cuda"], self.device)
            self.metrics.rewind(self.stage.name, self.step)
        else:  # only the first rank's state was kept
            torch.manual_seed(self.train_config.seed + self.step * 4_099 + self.ranks.rank)

    def _stored_identity(self, stored: dict[str, Any]) -> dict[str, Any]:
        """The identity in a checkpoint, with what Djinn did not know or keep when it was written."""
        if self._key not in stored:  # the stage's settings once stood where the sizes belong, which were not kept
            stored = {**stored, self._key: stored["world"], "world": self.identity["world"]}
        return checkpoint.with_defaults(stored, {"world": WorldConfig, self._key: StageConfig})

    def _stop(self, number: int) -> None:
        self._log()
        self.save()
        self._bar.close()
        if self.ranks.first:
            where = f"step {self.step} of stage {self.stage.name}"
            print(f"stopped at {where}, all saved; to go on:\n  {command_line()}", file=sys.stderr, flush=True)
        self.ranks.wait()
        raise Stopped(number)


def peak_memory_mb(device: torch.device) -> float:
    """Most memory used so far: of the GPU on CUDA, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
