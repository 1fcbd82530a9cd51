"""Training of latent actions and dynamics with a frozen tokenizer (paper section 2.1)."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from djinn.atomic import explain_full_disk
from djinn.config import TrainConfig
from djinn.data.dataset import Clips
from djinn.models import LatentActionModel, VideoTokenizer, World
from djinn.models.action_names import FILE, default_name
from djinn.models.code_usage import code_usage
from djinn.models.masking import TrainingMasks
from djinn.models.psnr import psnr_from_mse
from djinn.models.world_folder import WEIGHTS
from djinn.nn.quantize import Quantized, Quantizer
from djinn.train.code_histogram import CodeHistogram
from djinn.train.collapse_warnings import warn_dynamics
from djinn.train.evaluation import SHOWN_CLIPS, evaluation_clips, to_float
from djinn.train.precision import compile_blocks
from djinn.train.stages.dynamics_evaluation import evaluate_dynamics
from djinn.train.stages.quantizing import QuantizingStage
from djinn.train.stages.registry import StageContext, StageSpec, register
from djinn.train.stages.stage import Metrics, StepBatch
from djinn.train.stages.tokenizer import load_tokenizer
from djinn.train.summary import training_summary
from djinn.train.token_cache import TokenCache, fingerprint, open_cache
from djinn.train.visualize import save_grid

NUM_PROMPTS = 12
"""Held-out frames that a world is exported with as prompts."""


class DynamicsInputs(NamedTuple):
    """Inputs of one pass."""

    clip: Tensor
    """Input of the latent action model: pixels `(B, T, H, W, 3)`, or tokens `(B, T, N)`."""
    tokens: Tensor
    """Tokens `(B, T, N)`."""
    masks: TrainingMasks


class DynamicsStage(QuantizingStage[DynamicsInputs]):
    """Trains the latent action model and the dynamics together, with a frozen tokenizer.

    As in the paper, the latent action model is trained by its own decoder only, and the dynamics by
    cross-entropy on stop-gradient actions. One optimizer step updates both.

    Args:
        config: Config of the run.
        tokenizer: Trained tokenizer, which is frozen here.
        val: Held-out clips of `config.world.context_frames` frames.
        device: Device to train on.
        cache: Tokens of the training clips; None encodes each batch.
        init_world: World whose weights and action names training starts from.
        tokenizer_steps: Steps that the tokenizer was trained for, if they are recorded.
    """

    name = "dynamics"

    def __init__(
        self,
        config: TrainConfig,
        tokenizer: VideoTokenizer,
        val: Clips,
        device: torch.device,
        cache: TokenCache | None = None,
        init_world: World | None = None,
        tokenizer_steps: int | None = None,
    ) -> None:
        self.config = config.world
        self.latent_action = LatentActionModel(config.world)
        self.world = World(config.world, self.latent_action)
        self.world.tokenizer = tokenizer.requires_grad_(False).eval()
        self.latent_action.set_token_codebook(tokenizer)
        self.world.to(device)
        self.module = nn.ModuleDict({"latent_action": self.latent_action, "dynamics": self.world.dynamics})
        self.device = device
        self.val = val
        self.cache = cache
        self.tokenizer_steps = tokenizer_steps
        self.initial_steps: int | None = 0
        self._histogram = CodeHistogram()
        if init_world is not None:
            self._init_from(init_world)

    @classmethod
    def build(cls, context: StageContext) -> DynamicsStage:
        """Build the stage with the run's tokenizer, or from the world of `init_from`."""
        config, start = context.config, context.init_world
        if start is None:
            tokenizer, steps = load_tokenizer(context.run, config, context.device)
        else:
            tokenizer = start.tokenizer.to(context.device).requires_grad_(False).eval()
            steps = None if start.training_summary is None else start.training_summary.tokenizer_steps
        cache = _open_token_cache(context, tokenizer)
        torch.manual_seed(config.seed)
        stage = cls(config, tokenizer, context.val, context.device, cache, start, steps)
        if cache is None:
            compile_blocks(tokenizer, context.device, config.compile)
        return stage

    def _init_from(self, world: World) -> None:
        assert world.latent_action is not None
        self.latent_action.load_state_dict(world.latent_action.state_dict())
        self.world.dynamics.load_state_dict(world.dynamics.state_dict())
        self.world.action_names, self.world.action_keys = world.action_names, world.action_keys
        self.initial_steps = None if world.training_summary is None else world.training_summary.dynamics_steps

    @property
    def clip_groups(self) -> list[nn.Module]:
        """The two models, which share nothing but the optimizer."""
        return [self.latent_action, self.world.dynamics]

    @property
    def quantizer(self) -> Quantizer:
        """Quantizer of the latent actions."""
        return self.latent_action.quantizer

    def identity(self) -> dict[str, str]:
        """Return a hash of the tokenizer's weights."""
        return {"tokenizer weights": fingerprint(self.world.tokenizer)}

    def draw(self, clips: int, generator: torch.Generator) -> TrainingMasks:
        """Draw the masks and the token noise of the dynamics."""
        shape = clips, self.config.context_frames, self.config.tokens_per_frame
        return self.world.dynamics.draw_masks(shape, generator)

    @torch.no_grad()
    def tokens(self, indices: Tensor, video: Tensor) -> Tensor:
        """Return the tokens of clips, from the cache if there is one.

        Args:
            indices: Indices of the clips in the data set.
            video: Pixels in [0, 1].
        """
        if self.cache is None:
            return self.world.tokenizer.encode(video)
        cached = self.cache.tokens(indices, lambda: self.world.tokenizer.encode(video))
        return cached.to(self.device, non_blocking=True)

    def prepare(self, batch: StepBatch) -> DynamicsInputs:
        """Return pixels, tokens and masks."""
        video = to_float(batch.video)
        tokens = self.tokens(batch.indices, video)
        return DynamicsInputs(tokens if self.latent_action.reads_tokens else video, tokens, batch.draws)

    def latents(self, inputs: DynamicsInputs) -> Tensor:
        """Encode the changes between the frames of clips."""
        return self.latent_action.latents(inputs.clip)

    def loss_after_quantizer(self, inputs: DynamicsInputs, quantized: Quantized) -> tuple[Tensor, Metrics]:
        """Return the latent action model's loss plus the cross-entropy of the dynamics."""
        clip = inputs.clip
        prediction = self.latent_action.decode(clip[:, :-1], quantized.vectors)
        error = self.latent_action.prediction_loss(prediction, clip)
        ce, dynamics_metrics = self.world.dynamics.loss(inputs.tokens, quantized.vectors.detach(), inputs.masks)
        metrics = {
            **self._prediction_metrics(prediction, clip, error.detach()),
            "lam_quantizer_loss": quantized.loss.detach(),
            **dynamics_metrics,
        }
        return error + quantized.loss + ce, metrics

    @torch.no_grad()
    def _prediction_metrics(self, prediction: Tensor, clip: Tensor, error: Tensor) -> Metrics:
        if not self.latent_action.reads_tokens:
            return {"lam_psnr": psnr_from_mse(error)}
        return {"lam_ce": error, "lam_accuracy": (prediction.argmax(-1) == clip[:, 1:]).float().mean()}

    @torch.no_grad()
    def code_metrics(self, quantized: Quantized) -> Metrics:
        """Return the usage of the latent actions in the last steps."""
        usage = code_usage(self._histogram.add(quantized.counts))
        return {
            "action_top": usage.top_share,
            "actions_used": usage.num_used,
            "action_bits": usage.entropy_bits,
            "action_bits_share": usage.entropy_bits / math.log2(self.config.num_actions),
        }

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """Measure the effect of the latent actions, and write `images/dynamics-STEP.png`.

        Returns:
            The metrics of `djinn.train.stages.dynamics_evaluation.evaluate_dynamics`.
        """
        self.world.sync_actions()
        metrics, videos = evaluate_dynamics(self.world, evaluation_clips(self.val))
        save_grid(folder, self.name, step, videos[:SHOWN_CLIPS])
        return metrics

    def check_collapse(self, metrics: dict[str, float], step: int, progress: float) -> str | None:
        """Warn if the actions collapse or have no effect; see `djinn.train.collapse_warnings`."""
        return warn_dynamics(
            metrics,
            self.config.num_actions,
            step,
            progress,
            kind=self.config.latent_action.quantizer.kind,
            tokenizer_steps=self.tokenizer_steps,
        )

    def export(self, folder: Path, step: int) -> None:
        """Write `RUN/world`, which can be played while training continues."""
        world = self.world
        world.sync_actions()
        # initial names are for the first export only, since users may have changed them since
        if (folder / "world" / FILE).is_file():
            codes = range(world.num_actions)
            world.action_names, world.action_keys = [default_name(i) for i in codes], [[] for _ in codes]
        world.prompts = list(evaluation_clips(self.val, NUM_PROMPTS)[:, 0].numpy())
        dynamics_steps = None if self.initial_steps is None else self.initial_steps + step
        world.training_summary = training_summary(folder, self.tokenizer_steps, dynamics_steps)
        with explain_full_disk(str(folder / "world"), "the world exported before and the checkpoint are intact"):
            world.save_pretrained(folder / "world")

    def exported_files(self, folder: Path) -> list[Path]:
        """Return the weight files of `RUN/world`."""
        return [folder / "world" / name for name in WEIGHTS]

    def close(self) -> None:
        """Delete the token cache."""
        if self.cache is not None:
            self.cache.remove()


def _open_token_cache(context: StageContext, tokenizer: VideoTokenizer) -> TokenCache | None:
    """Create the token cache on the first rank and open it on all."""
    world, clips, ranks = context.config.world, context.clips, context.ranks
    key = fingerprint(tokenizer, "fp32", context.dataset.identity, clips.frames, clips.stride)
    shape = len(clips), world.context_frames, world.tokens_per_frame

    def open_it(create: bool) -> TokenCache | None:
        return open_cache(
            context.run / "tokens",
            key,
            shape,
            world.tokenizer.quantizer.codes,
            warn=lambda text: print(text, file=sys.stderr),
            create=create,
        )

    cache = open_it(create=True) if ranks.is_first else None
    ranks.barrier()
    cache = cache if ranks.is_first else open_it(create=False)
    ranks.barrier()  # a finished stage deletes the cache at once
    return cache


register(
    StageSpec(
        name="dynamics",
        title="the latent action model and the dynamics",
        build=DynamicsStage.build,
        config=lambda config: config.dynamics,
        requires=("tokenizer",),
    )
)
