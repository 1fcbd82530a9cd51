"""The two stages of training: the video tokenizer, then latent actions and dynamics together (paper section 2.1)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from djinn.atomic import room_for
from djinn.config import TrainConfig
from djinn.data.dataset import Clips
from djinn.data.loader import LoaderBatch
from djinn.generate import rollout
from djinn.models import LatentActionModel, VideoTokenizer, World
from djinn.models.action_names import FILE, default_name
from djinn.models.code_usage import code_usage
from djinn.models.latent_action import inside_border
from djinn.models.psnr import frame_psnr, psnr_from_mse
from djinn.train.collapse_warnings import diagnose_tokenizer, diagnose_world
from djinn.train.metrics import Histogram, most_bits
from djinn.train.token_cache import TokenCache
from djinn.train.visualize import save_grid

EVALUATION_CLIPS = 16
SHOWN_CLIPS = 4
AT_ONCE = 8
"""Clips that go through a model together in an evaluation."""
PROMPTS = 12
"""Held-out frames that a world is exported with, to start playing from."""
GREEDY_STEPS = 4
"""MaskGIT steps of the roll-outs in an evaluation; each takes the most likely tokens."""


def to_float(video: Tensor) -> Tensor:
    """Bytes to pixels in [0, 1]."""
    return video.float().mul_(1 / 255)


def evaluation_clips(clips: Clips, count: int = EVALUATION_CLIPS) -> Tensor:
    """The clips that are evaluated: always the same, evenly spread; uint8 `(b, t, h, w, 3)`."""
    indices = np.linspace(0, len(clips) - 1, min(count, len(clips))).round().astype(np.int64)
    return torch.from_numpy(clips.batch(indices))


class TokenizerStage:
    """Trains the video tokenizer: mean squared error of pixels in [0, 1] plus the quantizer's loss.

    Args:
        config: the run's config.
        val: held-out clips, `config.world.context_frames` long.
        device: where to train.
    """

    name = "tokenizer"

    def __init__(self, config: TrainConfig, val: Clips, device: torch.device) -> None:
        self.config = config.world
        self.module = VideoTokenizer(config.world).to(device)
        self.device = device
        self.val = val
        self.codes = config.world.tokenizer.quantizer.codes
        self.kind = config.world.tokenizer.quantizer.kind
        self._use = Histogram()

    @property
    def parts(self) -> list[nn.Module]:
        """The tokenizer learns as one."""
        return [self.module]

    def loss(self, batch: LoaderBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Reconstruction and quantizer loss of clips; `generator` is not used, nothing here is random."""
        video = to_float(batch.video)
        out = self.module(video)
        mse = F.mse_loss(out.reconstruction.float(), video)
        with torch.no_grad():
            use = code_usage(self._use.add(out.counts))
            logs = {
                "psnr": psnr_from_mse(mse.detach()),
                "quantizer_loss": out.loss.detach(),
                "code_use": use.num_used / self.codes,
                "perplexity": torch.exp2(use.entropy_bits),
            }
        return mse + out.loss, logs

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """PSNR and code use on held-out clips, and `pictures/tokenizer-STEP.png`: real above reconstructed.

        Figures: `val_psnr` (mean over frames), `val_code_use` (share of all codes that occur at all), `val_perplexity`,
        `val_clips`.
        """
        clips = evaluation_clips(self.val)
        ratios, shown = [], []
        counts = torch.zeros(self.codes, device=self.device)
        for part in clips.split(AT_ONCE):
            video = to_float(part.to(self.device))
            out = self.module(video)
            pixels = out.reconstruction.float().clamp(0, 1)
            ratios.append(frame_psnr(pixels, video))
            counts += out.counts
            if not shown:
                made = (pixels[:SHOWN_CLIPS] * 255).round().to(torch.uint8).cpu().numpy()
                shown = [
                    {"real": real, "reconstructed": fake}
                    for real, fake in zip(part[:SHOWN_CLIPS].numpy(), made, strict=True)
                ]
        save_grid(folder, self.name, step, shown)
        return {
            "val_psnr": torch.cat(ratios).mean().item(),
            "val_code_use": (counts > 0).float().mean().item(),
            "val_perplexity": torch.exp2(code_usage(counts).entropy_bits).item(),
            "val_clips": len(clips),
        }

    def diagnose(self, figures: dict[str, float], step: int, share: float) -> str | None:
        """See `djinn.train.collapse_warnings`."""
        return diagnose_tokenizer(figures, self.codes, step, share, self.kind)

    def export(self, folder: Path) -> None:
        """A tokenizer alone is nothing to play; its checkpoint is what the next stage takes."""


class WorldStage:
    """Trains the latent action model and the dynamics together, over a frozen tokenizer.

    As in the paper, the latent action model learns by its own decoder alone, of pixels or of tokens, and the dynamics by
    cross-entropy alone: no gradient passes between them. One optimizer step serves both.

    Args:
        config: the run's config.
        tokenizer: the trained tokenizer; it is frozen here.
        val: held-out clips, `config.world.context_frames` long.
        device: where to train.
        cache: tokens of the training clips; by default each batch is encoded.
    """

    name = "world"

    def __init__(
        self,
        config: TrainConfig,
        tokenizer: VideoTokenizer,
        val: Clips,
        device: torch.device,
        cache: TokenCache | None = None,
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
        self._use = Histogram()

    def init_from(self, world: World) -> None:
        """Takes over the weights of a trained world, and the names of its actions."""
        assert world.latent_action is not None
        self.latent_action.load_state_dict(world.latent_action.state_dict())
        self.world.dynamics.load_state_dict(world.dynamics.state_dict())
        self.world.action_names, self.world.action_keys = world.action_names, world.action_keys

    @property
    def parts(self) -> list[nn.Module]:
        """Two models that only share an optimizer."""
        return [self.latent_action, self.world.dynamics]

    @torch.no_grad()
    def tokens(self, batch: LoaderBatch, video: Tensor) -> Tensor:
        """Tokens of a batch, from the cache where there is one."""
        if self.cache is None:
            return self.world.tokenizer.encode(video)
        found = self.cache.tokens(batch.indices, lambda: self.world.tokenizer.encode(video))
        return found.to(self.device, non_blocking=True)

    def loss(self, batch: LoaderBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor | float]]:
        """The latent action model's loss plus the cross-entropy of the dynamics; `generator` draws the masks."""
        video = to_float(batch.video)
        tokens = self.tokens(batch, video)
        clip = tokens if self.latent_action.reads_tokens else video
        out = self.latent_action(clip)
        error = self.latent_action.error(out.prediction, clip)
        masks = self.world.dynamics.draw_masks(tokens.shape, generator)
        ce, logs = self.world.dynamics.loss(tokens, out.vectors.detach(), masks)
        with torch.no_grad():
            use = code_usage(self._use.add(out.counts))
            logs = {
                **self._lam_logs(out.prediction, clip, error.detach()),
                "lam_quantizer_loss": out.loss.detach(),
                **logs,
                "action_top": use.top_share,
                "actions_used": use.num_used,
                "action_bits": use.entropy_bits,
                "action_bits_share": use.entropy_bits / most_bits(self.config.num_actions),
            }
        return error + out.loss + ce, logs

    def _lam_logs(self, prediction: Tensor, clip: Tensor, error: Tensor) -> dict[str, Tensor | float]:
        if not self.latent_action.reads_tokens:
            return {"lam_psnr": psnr_from_mse(error)}
        return {"lam_ce": error, "lam_accuracy": (prediction.argmax(-1) == clip[:, 1:]).float().mean()}

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """Whether latent actions act, on held-out clips, and `pictures/world-STEP.png`: real, inferred, random actions.

        Figures, all in dB of PSNR as a mean over frames unless said otherwise:

        - `val_lam_psnr`, `val_lam_random_psnr`, `val_lam_gain`: the latent action model's own next-frame prediction
          with inferred and with uniformly random actions, and their difference; `val_lam_repeat_psnr`: the last frame
          again. All without its ignored_border. Of one that predicts tokens the most likely ones are decoded.
        - `val_rollout_psnr`, `val_rollout_random_psnr`, `val_gain`: roll-outs from one frame over the rest of the clip
          with `GREEDY_STEPS`, and `val_gain4`: the gain at frame 4 (the paper's delta-t PSNR with t = 4), or at the
          last one of shorter clips.
        - `val_action_top`, `val_actions_used`, `val_action_bits`: use of the actions inferred on all clips.
        """
        world = self.world
        world.sync_actions()
        clips = evaluation_clips(self.val)
        draw = torch.Generator().manual_seed(0)
        random = torch.randint(world.num_actions, (len(clips), clips.shape[1] - 1), generator=draw)
        parts = [self._evaluate_part(*part) for part in zip(clips.split(AT_ONCE), random.split(AT_ONCE), strict=True)]
        ratios = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        inferred = ratios.pop("inferred")
        seen, unseen = ratios.pop("video"), ratios.pop("random_video")
        save_grid(
            folder,
            self.name,
            step,
            [
                {"real": clips[i].numpy(), "inferred": seen[i].numpy(), "random": unseen[i].numpy()}
                for i in range(min(SHOWN_CLIPS, len(clips)))
            ],
        )
        use = code_usage(torch.bincount(inferred.flatten(), minlength=world.num_actions))
        means = {f"val_{key}": value.mean().item() for key, value in ratios.items()}
        gains = (ratios["rollout_psnr"] - ratios["rollout_random_psnr"]).mean(0)
        return {
            **means,
            "val_lam_gain": means["val_lam_psnr"] - means["val_lam_random_psnr"],
            "val_gain": gains.mean().item(),
            "val_gain4": gains[min(4, len(gains)) - 1].item(),
            "val_action_top": use.top_share.item(),
            "val_actions_used": use.num_used.item(),
            "val_action_bits": use.entropy_bits.item(),
            "val_clips": len(clips),
            "val_frames": len(gains),
        }

    def _evaluate_part(self, clips: Tensor, random: Tensor) -> dict[str, Tensor]:
        world = self.world
        sampler = dataclasses.replace(
            self.config.sampler,
            steps=min(GREEDY_STEPS, self.config.sampler.steps),
            temperature=0.0,
            choice_temperature=0.0,
        )
        inferred = world.infer_actions(clips).cpu()
        past, future = clips[:, :-1], clips[:, 1:]
        made = rollout(world, clips[:, :1], inferred, sampler=sampler)
        made_random = rollout(world, clips[:, :1], random, sampler=sampler)

        def lam_psnr(predicted: Tensor) -> Tensor:
            inside = inside_border(self.config.latent_action.ignored_border)
            return frame_psnr(predicted.cpu()[inside], future[inside])

        figures = {
            "lam_psnr": lam_psnr(world.predict_next(clips, inferred)),
            "lam_random_psnr": lam_psnr(world.predict_next(clips, random)),
            "lam_repeat_psnr": lam_psnr(past),
            "rollout_psnr": frame_psnr(made[:, 1:], clips[:, 1:]),
            "rollout_random_psnr": frame_psnr(made_random[:, 1:], clips[:, 1:]),
        }
        return {
            **{key: value.cpu() for key, value in figures.items()},
            "inferred": inferred,
            "video": made,
            "random_video": made_random,
        }

    def diagnose(self, figures: dict[str, float], step: int, share: float) -> str | None:
        """See `djinn.train.collapse_warnings`."""
        kind = self.config.latent_action.quantizer.kind
        return diagnose_world(figures, self.config.num_actions, step, share, kind)

    def export(self, folder: Path) -> None:
        """Writes `RUN/world`, which can be played while training goes on, with held-out frames to start from."""
        self.world.sync_actions()
        # names from the start are for the first export: people may have changed them
        if (folder / "world" / FILE).is_file():
            codes = range(self.world.num_actions)
            self.world.action_names, self.world.action_keys = [default_name(i) for i in codes], [[] for _ in codes]
        self.world.prompts = list(evaluation_clips(self.val, PROMPTS)[:, 0].numpy())
        with room_for(str(folder / "world"), "the world that was there before and the checkpoint are intact"):
            self.world.save_pretrained(folder / "world")
