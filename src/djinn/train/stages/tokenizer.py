"""Training of the video tokenizer (paper section 2.1)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from djinn.config import TrainConfig
from djinn.data.dataset import Clips
from djinn.errors import UserError
from djinn.models import VideoTokenizer
from djinn.models.code_usage import code_usage
from djinn.models.psnr import frame_psnr, psnr_from_mse
from djinn.nn.quantize import Quantized, Quantizer
from djinn.train.checkpointer import checkpoint_path, load_checkpoint
from djinn.train.code_histogram import CodeHistogram
from djinn.train.collapse_warnings import warn_tokenizer
from djinn.train.evaluation import EVALUATION_BATCH, SHOWN_CLIPS, evaluation_clips, to_float
from djinn.train.progress_bar import evaluation_bar
from djinn.train.stages.quantizing import QuantizingStage
from djinn.train.stages.registry import StageContext, StageSpec, register
from djinn.train.stages.stage import Metrics, StepBatch
from djinn.train.visualize import save_grid


class TokenizerStage(QuantizingStage[Tensor]):
    """Trains the video tokenizer: mean squared error of pixels in [0, 1] plus the quantizer's loss.

    Args:
        config: Config of the run.
        val: Held-out clips of `config.world.context_frames` frames.
        device: Device to train on.
    """

    name = "tokenizer"

    def __init__(self, config: TrainConfig, val: Clips, device: torch.device) -> None:
        self.config = config.world
        self.tokenizer = VideoTokenizer(config.world).to(device)
        self.module = self.tokenizer
        self.device = device
        self.val = val
        self.codes = config.world.tokenizer.quantizer.codes
        self._histogram = CodeHistogram()

    @classmethod
    def build(cls, context: StageContext) -> TokenizerStage:
        """Build the stage with new weights."""
        torch.manual_seed(context.config.seed)
        return cls(context.config, context.val, context.device)

    @property
    def quantizer(self) -> Quantizer:
        """Quantizer of the tokenizer."""
        return self.tokenizer.quantizer

    def prepare(self, batch: StepBatch) -> Tensor:
        """Return the pixels of the clips."""
        return to_float(batch.video)

    def latents(self, inputs: Tensor) -> Tensor:
        """Encode clips."""
        return self.tokenizer.latents(inputs)

    def loss_after_quantizer(self, inputs: Tensor, quantized: Quantized) -> tuple[Tensor, Metrics]:
        """Return reconstruction plus quantizer loss."""
        reconstruction = self.tokenizer.reconstruct(quantized.vectors)
        mse = F.mse_loss(reconstruction.float(), inputs)
        return mse + quantized.loss, {"psnr": psnr_from_mse(mse.detach()), "quantizer_loss": quantized.loss.detach()}

    @torch.no_grad()
    def code_metrics(self, quantized: Quantized) -> Metrics:
        """Return the usage of the codes in the last steps."""
        usage = code_usage(self._histogram.add(quantized.counts))
        return {"code_usage": usage.num_used / self.codes, "perplexity": torch.exp2(usage.entropy_bits)}

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """Measure reconstruction and code usage, and write `images/tokenizer-STEP.png`.

        Returns:
            `val_psnr` (dB, mean over frames), `val_code_usage` (share of the codes that occur),
            `val_perplexity`, `val_clips`.
        """
        clips = evaluation_clips(self.val)
        frame_psnrs, examples = [], []
        counts = torch.zeros(self.codes, device=self.device)
        with evaluation_bar("evaluating the tokenizer", len(clips), "clips") as bar:
            for part in clips.split(EVALUATION_BATCH):
                video = to_float(part.to(self.device))
                with torch.autocast(self.device.type, enabled=False):  # the tokens of `encode`
                    quantized = self.tokenizer.quantizer(self.tokenizer.latents(video))
                pixels = self.tokenizer.reconstruct(quantized.vectors).float().clamp(0, 1)
                frame_psnrs.append(frame_psnr(pixels, video))
                counts += quantized.counts
                if not examples:
                    images = (pixels[:SHOWN_CLIPS] * 255).round().to(torch.uint8).cpu().numpy()
                    examples = [
                        {"real": real, "reconstructed": reconstructed}
                        for real, reconstructed in zip(part[:SHOWN_CLIPS].numpy(), images, strict=True)
                    ]
                bar.update(len(part))
        save_grid(folder, self.name, step, examples)
        return {
            "val_psnr": torch.cat(frame_psnrs).mean().item(),
            "val_code_usage": (counts > 0).float().mean().item(),
            "val_perplexity": torch.exp2(code_usage(counts).entropy_bits).item(),
            "val_clips": len(clips),
        }

    def check_collapse(self, metrics: dict[str, float], step: int, progress: float) -> str | None:
        """Warn if hardly any code is used; see `djinn.train.collapse_warnings`."""
        return warn_tokenizer(metrics, self.codes, step, progress, self.config.tokenizer.quantizer.kind)


register(
    StageSpec(
        name="tokenizer",
        title="the tokenizer",
        build=TokenizerStage.build,
        config=lambda config: config.tokenizer,
        skipped_with_init_from=True,
    )
)


class TrainedTokenizer(NamedTuple):
    """Tokenizer of a run's checkpoint."""

    tokenizer: VideoTokenizer
    steps: int
    """Optimizer steps that it was trained for."""


def load_tokenizer(run: Path, config: TrainConfig, device: torch.device | str = "cpu") -> TrainedTokenizer:
    """Load the tokenizer of a run's last checkpoint, frozen; its averaged weights if there are any.

    The state of torch's random number generator does not change.

    Raises:
        UserError: There is no checkpoint yet, or it is damaged.
    """
    path = checkpoint_path(run, "tokenizer")
    if not path.exists():
        raise UserError(f"{run} has no tokenizer yet: train it first with --stage tokenizer, or both with --stage all")
    state = load_checkpoint(path, "tokenizer")
    with torch.random.fork_rng(devices=[]):
        tokenizer = VideoTokenizer(config.world)
    averaged = state["ema"]["average"] if state["ema"] is not None else {}
    try:
        tokenizer.load_state_dict({**state["model"], **averaged})
    except RuntimeError:
        raise UserError(f"{path} holds a tokenizer of other sizes than the config: pass another --out") from None
    return TrainedTokenizer(tokenizer.to(device).requires_grad_(False).eval(), state["step"])
