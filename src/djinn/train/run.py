"""A whole run: its folder, both stages one after the other, and a few words in the end."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TextIO

import torch

from djinn.atomic import room_for
from djinn.config import TrainConfig
from djinn.config.yaml import load_yaml, save_yaml, to_dict
from djinn.data.dataset import Clips, Dataset
from djinn.data.loader import Loader
from djinn.errors import UserError
from djinn.models import VideoTokenizer, World
from djinn.models.world_folder import WEIGHTS
from djinn.train.checkpointer import check_same, checkpoint_path, load_checkpoint
from djinn.train.collapse_warnings import in_words
from djinn.train.loggers import Metrics, open_sinks, read_metrics
from djinn.train.parallel import Ranks, pick_device, process_group
from djinn.train.precision import compile_blocks
from djinn.train.stages import GREEDY_STEPS, TokenizerStage, WorldStage
from djinn.train.token_cache import TokenCache, fingerprint, open_cache
from djinn.train.trainer import Stage, Trainer

StageName = Literal["all", "tokenizer", "world"]
CONFIG, DATASET, LOCK = "config.yaml", "dataset.txt", ".lock"


def train(
    dataset_path: str | Path,
    out: str | Path,
    config: TrainConfig,
    stage: StageName = "all",
    *,
    device: torch.device | str | None = None,
    announce: Callable[[str], None] = lambda stage: None,
) -> dict[str, float]:
    """Trains a world on a data set, into a run folder that can be played from while the world stage goes on.

    Called again with the same arguments it continues where it was stopped, and does nothing where all is done. The
    tokenizer is final as soon as the world stage has a checkpoint.

    Args:
        dataset_path: a data set of `djinn data import`.
        out: the run folder: `config.yaml`, `metrics.jsonl`, `pictures/`, `world/`, and each stage's checkpoint.
        config: sizes and settings; `djinn.config.with_limits` limits a whole run.
        stage: both stages, or one of them.
        device: where to train; this rank's GPU if there is one, by default.
        announce: called with the name of each stage before it begins.

    Returns:
        The figures of the last evaluation of the last stage that was asked for.

    Raises:
        UserError: the data set, the run folder or the config do not fit.
        Stopped: after Ctrl-C or SIGTERM, with everything saved.
    """
    out = Path(out)
    if config.init_from is not None and stage == "tokenizer":
        raise UserError(
            f"the tokenizer of {config.init_from} stays as it is: leave out --stage tokenizer, or --init-from"
        )
    with process_group() as ranks:
        dataset = Dataset.open(dataset_path)
        check_size(dataset, config)
        clips = dataset.clips("train", config.world.context_frames, max(1, config.world.context_frames // 2))
        val = _held_out(dataset, config.world.context_frames, ranks)
        place = pick_device(ranks) if device is None else torch.device(device)
        with _folder(out, dataset, config, ranks):
            sinks = open_sinks(config.loggers, out, to_dict(config)) if ranks.first else []
            metrics = Metrics(out, sinks)
            try:
                start = None if config.init_from is None else _start(config)
                job = TrainingRun(out, dataset, config, clips, val, place, ranks, metrics, start)
                if stage != "world" and start is None:
                    announce("tokenizer")
                    job.train_tokenizer(alone=stage == "tokenizer")
                if stage != "tokenizer":
                    announce("world")
                    job.train_world()
            finally:
                metrics.close()
        if ranks.first:
            print(summary(out))
    return last_figures(out, "tokenizer" if stage == "tokenizer" else "world")


def check_size(dataset: Dataset, config: TrainConfig) -> None:
    """Refuses a data set whose frames are not of the world's size.

    Raises:
        UserError: naming both sizes and the two remedies.
    """
    world = config.world
    if (dataset.height, dataset.width) != (world.height, world.width):
        has, wants = f"{dataset.width}x{dataset.height}", f"{world.width}x{world.height}"
        change = f"pass --world.width {dataset.width} --world.height {dataset.height}, or "
        raise UserError(
            f"the frames of {dataset.path} are {has}, but the world is to be {wants}"
            + ("" if config.init_from is None else f" like {config.init_from}")
            + f": {change if config.init_from is None else ''}import the videos with --size {wants}"
        )


def _held_out(dataset: Dataset, frames: int, ranks: Ranks) -> Clips:
    try:
        return dataset.clips("val", frames, frames)
    except UserError as error:
        if ranks.first:
            print(f"no evaluation clips ({error}): figures are taken on training clips", file=sys.stderr)
        return dataset.clips("train", frames, frames)


def _start(config: TrainConfig) -> World:
    """The world that training starts from.

    Raises:
        UserError: there is none, it has other sizes than the config, or it cannot infer actions.
    """
    assert config.init_from is not None
    world = World.from_pretrained(config.init_from, "cpu")
    # how the new world is played, not how it is built
    free = {"fps": config.world.fps, "sampler": config.world.sampler}
    if dataclasses.replace(world.config, **free) != config.world:
        raise UserError(f"the sizes in the config are not those of the world to start from, {config.init_from}")
    if world.latent_action is None:
        raise UserError(f"{config.init_from} has no latent_action.safetensors, so training cannot start from it")
    return world


@contextmanager
def _folder(out: Path, dataset: Dataset, config: TrainConfig, ranks: Ranks) -> Generator[None]:
    """Prepares the run folder, and keeps other processes from training in it meanwhile."""
    if not ranks.first:
        ranks.wait()
        yield
        return
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if (out.exists() and not out.is_dir()) or (names - {LOCK} and CONFIG not in names):
        raise UserError(f"{out} exists and is not a run folder: pass another --out")
    with room_for(f"the run folder {out}", "nothing was changed"):
        lock = _open_lock(out)
    with lock:
        _lock(lock.fileno(), out)
        if CONFIG in names:
            check_same(to_dict(load_yaml(TrainConfig, out / CONFIG)), to_dict(config), out)
        if DATASET in names:
            text = (out / DATASET).read_text(encoding="utf-8", errors="replace")
            if dataset.identity not in text:
                was = text.splitlines()[0] if text else "another one"
                raise UserError(
                    f"the run in {out} began with another data set ({was}) than {dataset.path}: "
                    "continue it with that, or start a new run with another --out"
                )
        with room_for(str(out / CONFIG), "nothing was changed"):
            save_yaml(config, out / CONFIG)
            if DATASET not in names:
                (out / DATASET).write_text(f"{dataset.path.resolve()}\n{dataset.identity}\n", encoding="utf-8")
        ranks.wait()
        yield


def _open_lock(out: Path) -> TextIO:
    try:
        out.mkdir(parents=True, exist_ok=True)
        return open(out / LOCK, "w", encoding="utf-8")
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise UserError(f"cannot write to {out} ({error.strerror}): pass another --out") from None


def _lock(handle: int, out: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not a Unix: two runs in one folder are not noticed there
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UserError(f"another process is training in {out}: stop it first, or pass another --out") from None


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    out: Path
    dataset: Dataset
    config: TrainConfig
    clips: Clips
    val: Clips
    device: torch.device
    ranks: Ranks
    metrics: Metrics
    start: World | None

    def train_tokenizer(self, alone: bool) -> None:
        """Trains the tokenizer unless a world was already begun over it."""
        begun = checkpoint_path(self.out, "world").exists()
        if begun and not alone:
            return
        torch.manual_seed(self.config.seed)
        stage = TokenizerStage(self.config, self.val, self.device)
        trainer = self._trainer(stage, {})
        if begun:
            trainer.resume()
            if not trainer.finished:
                raise UserError(
                    f"the world stage in {self.out} is already built on its tokenizer, which cannot be trained "
                    "any further: go on with --stage world, or start a new run with another --out"
                )
        trainer.run()

    def train_world(self) -> None:
        """Trains latent actions and dynamics, and exports the world."""
        if self.start is None:
            tokenizer = load_tokenizer(self.out, self.config, self.device)
        else:
            tokenizer = self.start.tokenizer.to(self.device).requires_grad_(False).eval()
        weights = fingerprint(tokenizer)
        cache = self._cache(fingerprint(tokenizer, "fp32", self.dataset.identity, self.clips.frames, self.clips.stride))
        torch.manual_seed(self.config.seed)
        stage = WorldStage(self.config, tokenizer, self.val, self.device, cache)
        if self.start is not None:
            stage.init_from(self.start)
        if cache is None:
            compile_blocks(tokenizer, self.device, self.config.compile)
        trainer = self._trainer(stage, {"tokenizer weights": weights})
        trainer.run()
        if self.ranks.first:
            trainer.export_unless_whole([self.out / "world" / name for name in WEIGHTS])
            if cache is not None:
                cache.remove()

    def _cache(self, key: str) -> TokenCache | None:
        world = self.config.world

        def find(make: bool) -> TokenCache | None:
            return open_cache(
                self.out / "tokens",
                key,
                (len(self.clips), world.context_frames, world.tokens_per_frame),
                world.tokenizer.quantizer.codes,
                say=lambda text: print(text, file=sys.stderr),
                make=make,
            )

        cache = find(make=True) if self.ranks.first else None
        self.ranks.wait()
        cache = cache if self.ranks.first else find(make=False)
        self.ranks.wait()  # where nothing is left to train, the first rank removes it at once
        return cache

    def _trainer(self, stage: Stage, depends: dict[str, str]) -> Trainer:
        config = self.config.tokenizer if stage.name == "tokenizer" else self.config.dynamics
        return Trainer(
            stage,
            config,
            self.config,
            self._loaders(config.batch),
            self.out,
            metrics=self.metrics,
            ranks=self.ranks,
            depends={"data": self.dataset.identity, **depends},
        )

    def _loaders(self, batch: int) -> Callable[[int], Loader]:
        return lambda position: Loader(
            self.clips,
            batch,
            seed=self.config.seed,
            position=position,
            rank=self.ranks.rank,
            ranks=self.ranks.count,
            pin_memory=self.device.type == "cuda",
        )


def load_tokenizer(run: Path, config: TrainConfig, device: torch.device | str = "cpu") -> VideoTokenizer:
    """The tokenizer that a run has trained so far, frozen; its averaged weights where they are kept.

    Raises:
        UserError: there is none yet, or its checkpoint is damaged.
    """
    path = checkpoint_path(run, "tokenizer")
    if not path.exists():
        raise UserError(f"{run} has no tokenizer yet: train it first with --stage tokenizer, or both with --stage all")
    state = load_checkpoint(path, "tokenizer")
    tokenizer = VideoTokenizer(config.world)
    averaged = state["ema"]["average"] if state["ema"] is not None else {}
    try:
        tokenizer.load_state_dict({**state["model"], **averaged})
    except RuntimeError:
        raise UserError(f"{path} holds a tokenizer of other sizes than the config: pass another --out") from None
    return tokenizer.to(device).requires_grad_(False).eval()


def last_figures(run: Path, stage: str) -> dict[str, float]:
    """Figures of the last evaluation of a stage, with its step; empty if there was none."""
    for record in reversed(read_metrics(run)):
        if record["stage"] == stage and "val_clips" in record:
            return {k: v for k, v in record.items() if k != "stage"}
    return {}


def summary(run: Path) -> str:
    """A few lines on what a run has reached, from its last evaluations."""
    lines = []
    tokenizer = last_figures(run, "tokenizer")
    if tokenizer:
        lines.append(
            f"tokenizer: {tokenizer['val_psnr']:.1f} dB PSNR, {tokenizer['val_code_use']:.0%} of the codes occur "
            f"(step {tokenizer['step']}, {tokenizer['val_clips']} evaluation clips)"
        )
    world = last_figures(run, "world")
    if world:
        lines += [
            f"world: next frame {world['val_lam_psnr']:.1f} dB with inferred actions, "
            f"{world['val_lam_random_psnr']:.1f} with random ones, "
            f"{world['val_lam_repeat_psnr']:.1f} by repeating the last frame",
            f"       roll-outs from one frame over {world['val_frames']} frames: {world['val_rollout_psnr']:.1f} dB "
            f"with inferred actions, {world['val_rollout_random_psnr']:.1f} with random ones "
            f"(step {world['step']}, {world['val_clips']} evaluation clips, "
            f"at most {GREEDY_STEPS} greedy MaskGIT steps)",
            f"{in_words(world['val_gain'])}: {world['val_gain']:+.2f} dB over random ones, "
            f"{world['val_actions_used']:.0f} of them in use",
        ]
    return "\n".join(lines)
