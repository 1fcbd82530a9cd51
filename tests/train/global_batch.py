"""First optimizer steps of both stages, with any number of passes and ranks per batch."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from training_world import FRAMES, tiny_config

from djinn.config import TrainConfig
from djinn.data.dataset import Dataset
from djinn.data.loader import Loader
from djinn.models import VideoTokenizer
from djinn.train.ranks import Ranks, process_group
from djinn.train.stages import DynamicsStage, Stage, TokenizerStage
from djinn.train.trainer import Trainer

BATCH, STEPS, LEARNING_RATE = 8, 3, 0.1
CPU = torch.device("cpu")
STANDARDIZED = {"standardize": True, "l2": True, "dead_code_threshold": 0.9, "decay": 0.5}
"""The settings of the preset `tiny`, with restarts in every step."""
CASES: dict[str, dict] = {
    "tokenizer": {},
    "tokenizer-restarts": {"quantizer": {"dead_code_threshold": 0.9, "decay": 0.5}},
    "tokenizer-standardize": {"quantizer": STANDARDIZED},
    "tokenizer-gradient": {"quantizer": {"kind": "gradient"}},
    "dynamics": {},
    "dynamics-standardize": {"quantizer": STANDARDIZED},
    "dynamics-tokens": {"quantizer": STANDARDIZED, "latent_action": {"input": "tokens"}},
    "dynamics-paper": {"dynamics": {"masking": "paper"}},
    "dynamics-per-frame": {"dynamics": {"masking": "per_frame"}},
}
"""Stage, and changes of the tiny config."""


@dataclass
class Step:
    """Result of one optimizer step."""

    loss: float
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]


def case_config(case: str, passes: int) -> TrainConfig:
    config = tiny_config(batch=BATCH, grad_accum_steps=passes, lr=1e-3, warmup=0)
    changes, name = CASES[case], case.partition("-")[0]
    world = config.world
    part = "tokenizer" if name == "tokenizer" else "latent_action"
    sizes = getattr(world, part)
    sizes = dataclasses.replace(sizes, **changes.get("latent_action", {}))
    sizes = dataclasses.replace(sizes, quantizer=dataclasses.replace(sizes.quantizer, **changes.get("quantizer", {})))
    dynamics = dataclasses.replace(world.dynamics, **changes.get("dynamics", {}))
    return dataclasses.replace(config, world=dataclasses.replace(world, **{part: sizes}, dynamics=dynamics))


def build_stage(case: str, config: TrainConfig, dataset: Dataset) -> Stage:
    val = dataset.clips("val", FRAMES, FRAMES)
    torch.manual_seed(0)
    if case.startswith("tokenizer"):
        return TokenizerStage(config, val, CPU)
    tokenizer = VideoTokenizer(config.world)
    clips = torch.from_numpy(dataset.clips("train", FRAMES, 2).batch(torch.arange(16).numpy()))
    with torch.no_grad():  # codes in the range of the latents, so that several are used
        codes = tokenizer.latents(clips.float() / 255).flatten(0, 2)[:: 16 * FRAMES // 2]
        tokenizer.quantizer.codebook.copy_(codes[: config.world.tokenizer.quantizer.codes])
    torch.manual_seed(0)
    return DynamicsStage(config, tokenizer, val, CPU)


def first_steps(case: str, data: Path, passes: int = 1, ranks: Ranks | None = None) -> list[Step]:
    """Train for a few steps and return loss, gradients and buffers of each."""
    torch.set_num_threads(1)
    ranks = ranks or Ranks()
    dataset, config = Dataset.open(data), case_config(case, passes)
    stage = build_stage(case, config, dataset)
    trainer = Trainer(stage, getattr(config, stage.name), config, lambda position: (), data.parent / "run", ranks=ranks)
    loader = Loader(dataset.clips("train", FRAMES, 2), BATCH, rank=ranks.rank, ranks=ranks.count, prefetch=False)
    stage.module.train()
    steps = []
    for _ in range(STEPS):
        loss, _ = trainer.parallel.backward(trainer._split(next(loader)), trainer._autocast)
        gradients = {key: p.grad.clone() for key, p in stage.module.named_parameters() if p.grad is not None}
        with torch.no_grad():  # not AdamW, which would enlarge rounding errors of small gradients
            for p in stage.module.parameters():
                p.sub_(LEARNING_RATE * p.grad)
                p.grad = None
        trainer.step += 1
        steps.append(Step(loss.item(), gradients, {k: b.clone().float() for k, b in stage.module.named_buffers()}))
    return steps


if __name__ == "__main__":
    import global_batch  # results are pickled under this importable name

    with process_group() as found:
        data, out = (Path(argument) for argument in sys.argv[1:])
        results = {
            (case, passes): global_batch.first_steps(case, data, passes, found) for case in CASES for passes in (1, 2)
        }
        torch.save(results, out / f"rank{found.rank}.pt")
