"""Every size and setting of Djinn as frozen dataclasses; `djinn.strict_yaml` writes and reads them.

Sizes live in `WorldConfig` and are saved with a world; how it is trained lives in `TrainConfig`. Named sets of both are in
`djinn.presets`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from djinn.errors import UserError


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


def check_seed(seed: int) -> None:
    """Refuses a seed that some generator would not take.

    Raises:
        UserError: it is negative or has more than 63 bits.
    """
    _check(0 <= seed < 2**63, f"seed must lie between 0 and 2**63 - 1, got {seed}")


def check_fps(fps: float) -> None:
    """Refuses a speed that no video has.

    Raises:
        UserError: it is no number, or not between 0.01 and 1,000.
    """
    _check(0.01 <= fps <= 1000, f"fps must lie between 0.01 and 1000 frames a second, got {fps:g}")


@dataclass(frozen=True)
class TransformerConfig:
    """Size of one `STTransformer`."""

    blocks: int = 8
    """Number of blocks; each is spatial attention, temporal attention and one feed-forward layer (paper section 2)."""
    d_model: int = 512
    """Width of the residual stream."""
    heads: int = 8
    """Attention heads."""
    head_dim: int = 64
    """Width of one head; `heads * head_dim` need not be `d_model` (paper Table 10)."""
    ffn_mult: float = 4.0
    """Feed-forward width as a multiple of `d_model`."""
    time_every: int = 1
    """Attend over time in every n-th block, counted from the first."""

    def __post_init__(self) -> None:
        for name in ("blocks", "d_model", "heads", "head_dim", "time_every"):
            _check(getattr(self, name) >= 1, f"transformer {name} must be at least 1, got {getattr(self, name)}")
        _check(self.head_dim % 2 == 0, f"transformer head_dim must be even for rotary positions, got {self.head_dim}")
        _check(self.ffn_mult > 0, f"transformer ffn_mult must be positive, got {self.ffn_mult}")


@dataclass(frozen=True)
class QuantizerConfig:
    """A codebook and how it learns."""

    kind: Literal["ema", "gradient", "fsq"] = "ema"
    """`ema`: moving averages with data initialisation and restarts; `gradient`: VQ-VAE's codebook loss; `fsq`: fixed grid."""
    codes: int = 1024
    """Number of codes (for `fsq` the product of `levels`)."""
    dim: int = 32
    """Width of a code (for `fsq` the number of `levels`)."""
    l2: bool = False
    """Normalise vectors and codes to unit length, so that the nearest code is the one with the largest cosine (`ema` and
    `gradient`)."""
    standardize: bool = False
    """Shift and scale each dimension to zero mean and unit spread over the batch before the codes are compared, so that small
    but telling differences choose between the codes from the first step on (`ema` and `gradient`)."""
    commitment: float = 0.25
    """Weight of the commitment loss (`ema` and `gradient`)."""
    decay: float = 0.99
    """Decay of the moving averages (`ema`) and of the use statistics."""
    restart_below: float = 0.1
    """Restart a code whose moving share of use falls below this fraction of `1 / codes`; 0 never restarts (`ema` only)."""
    levels: tuple[int, ...] = ()
    """Levels of each dimension (`fsq` only)."""

    def __post_init__(self) -> None:
        if self.kind == "fsq":
            _check(len(self.levels) > 0, "quantizer kind 'fsq' needs levels, for instance levels: [8, 5, 5, 5]")
            _check(min(self.levels) >= 2, f"quantizer levels must each be at least 2, got {self.levels}")
            _check(
                self.codes == math.prod(self.levels) and self.dim == len(self.levels),
                f"quantizer levels {self.levels} make {math.prod(self.levels)} codes of dim {len(self.levels)}: "
                f"set codes and dim to that (got {self.codes} and {self.dim})",
            )
            learned = ("l2", "standardize", "commitment", "restart_below")
            idle = [f for f in dataclasses.fields(self) if f.name in learned and getattr(self, f.name) != f.default]
            _check(
                not idle,
                "quantizer kind 'fsq' has a grid that does not learn: set "
                + ", ".join(f"{field.name} to {field.default}" for field in idle),
            )
        else:
            _check(not self.levels, f"quantizer levels are for kind 'fsq' only, but kind is '{self.kind}'")
            usual = type(self).restart_below
            _check(
                self.kind == "ema" or self.restart_below in (0, usual),
                f"quantizer restart_below is for kind 'ema' only, but kind is '{self.kind}': set restart_below to {usual}",
            )
            _check(self.commitment >= 0, f"quantizer commitment must not be negative, got {self.commitment}")
            _check(0 <= self.restart_below < 1, f"quantizer restart_below must lie in [0, 1), got {self.restart_below}")
        _check(self.codes >= 2, f"quantizer codes must be at least 2, got {self.codes}")
        _check(0 < self.decay < 1, f"quantizer decay must lie between 0 and 1, got {self.decay}")


@dataclass(frozen=True)
class TokenizerConfig:
    """The video tokenizer, an ST-ViViT VQ-VAE (paper section 2.1, Tables 7 and 15) or one of its rivals of Table 3."""

    patch: int = 4
    """Side of a square patch in pixels; frames are padded to a multiple of it."""
    encoder: TransformerConfig = TransformerConfig()
    decoder: TransformerConfig = TransformerConfig()
    quantizer: QuantizerConfig = QuantizerConfig()
    kind: Literal["st-vivit", "vit", "c-vivit"] = "st-vivit"
    """What a block of encoder and decoder attends over (paper Table 3). `st-vivit`: space, then time; `vit`: space alone, so
    that each frame is coded by itself; `c-vivit`: all positions of this frame and of those before it at once, whose cost
    grows with the square of the number of frames."""

    def __post_init__(self) -> None:
        _check(self.patch >= 1, f"tokenizer patch must be at least 1, got {self.patch}")
        for name, size in (("encoder", self.encoder), ("decoder", self.decoder)):
            _check(
                self.kind == "st-vivit" or size.time_every == 1,
                f"tokenizer {name} time_every is {size.time_every}, but kind '{self.kind}' has no attention over time of "
                "its own to leave out: set time_every to 1",
            )


@dataclass(frozen=True)
class LatentActionConfig:
    """The latent action model (paper section 2.1, Tables 5 and 16)."""

    patch: int = 16
    """Side of a square patch in pixels, apart from the tokenizer's; with input `tokens` a multiple of the tokenizer's."""
    encoder: TransformerConfig = TransformerConfig()
    decoder: TransformerConfig = TransformerConfig()
    quantizer: QuantizerConfig = QuantizerConfig(codes=8)
    motion: bool = False
    """The encoder's patches hold the change since the frame before beside the frame itself, so that what moved is there to be
    read from the first layer on."""
    residual: bool = False
    """The decoder predicts the change from the last frame instead of the whole next frame (before the sigmoid; with input
    `tokens` before the softmax, from even odds that a token stays)."""
    warp: bool = False
    """The decoder also says from where in the last frame each pixel comes, so that a picture that scrolls is moved rather than
    painted anew; with `residual`, which then changes the moved frame, and input `pixels` only."""
    input: Literal["pixels", "tokens"] = "pixels"
    """What the model reads and predicts (paper Table 2): the frames, or the frozen tokenizer's tokens of them, each patch
    then being the codes of all tokens in it, and the next frame's tokens predicted by cross-entropy."""
    rim: int = 0
    """Width in pixels of the frame's edge that the decoder need not predict. What scrolls in there is new, and a code that
    tells of it lowers the error as much as one that tells which way the picture moves."""

    def __post_init__(self) -> None:
        _check(self.patch >= 1, f"latent_action patch must be at least 1, got {self.patch}")
        _check(self.rim >= 0, f"latent_action rim must be 0 or more, got {self.rim}")
        _check(
            self.input == "pixels" or self.rim == 0,
            f"latent_action rim is for input 'pixels' only, but input is '{self.input}': set rim to 0",
        )
        _check(
            not self.warp or (self.residual and self.input == "pixels"),
            "latent_action warp moves the last frame's pixels before they are changed: it needs residual true and input "
            f"'pixels', but got {str(self.residual).lower()} and '{self.input}': set warp to false",
        )


@dataclass(frozen=True)
class DynamicsConfig:
    """The MaskGIT dynamics model (paper section 2.1, Tables 10, 12 and 17)."""

    transformer: TransformerConfig = TransformerConfig(blocks=12)
    action: Literal["add", "prepend"] = "add"
    """How action t-1 enters frame t: added to its tokens (the paper) or prepended to them as one more token."""
    masking: Literal["paper", "per_frame", "clean_past"] = "clean_past"
    """`paper`: every frame but the first masked at one rate U(0.5, 1) per sample. `per_frame`: frames before a random cut
    are clean, those after it have a rate each. `clean_past`: every frame has a rate of its own and sees the finished frames
    before it, exactly as in play, for twice the computation."""
    corrupt: float = 0.1
    """All but `paper`: tokens of the past are replaced by random codes at a rate U(0, corrupt) per sample."""

    def __post_init__(self) -> None:
        _check(0 <= self.corrupt < 1, f"dynamics corrupt must lie in [0, 1), got {self.corrupt}")
        usual = type(self).corrupt
        _check(
            self.masking != "paper" or self.corrupt in (0, usual),
            f"dynamics masking 'paper' corrupts no tokens: set corrupt to {usual}, or masking to clean_past or per_frame",
        )


@dataclass(frozen=True)
class SamplerConfig:
    """How one frame's tokens are filled in (paper section 3: 25 steps, temperature 2)."""

    steps: int = 8
    """MaskGIT steps a frame."""
    temperature: float = 1.0
    """Temperature of the token draw; 0 takes the most likely token."""
    top_k: int = 0
    """Draw among the k most likely tokens only; 0 draws among all."""
    noise: float = 1.0
    """Scale of the Gumbel noise on the confidence ranking, annealed to zero over the steps."""

    def __post_init__(self) -> None:
        _check(self.steps >= 1, f"sampler steps must be at least 1, got {self.steps}")
        _check(self.temperature >= 0, f"sampler temperature must not be negative, got {self.temperature}")
        _check(self.top_k >= 0, f"sampler top_k must not be negative, got {self.top_k}")
        _check(self.noise >= 0, f"sampler noise must not be negative, got {self.noise}")


def adjust(sampler: SamplerConfig, steps: int | None, temperature: float | None) -> SamplerConfig:
    """A sampler with other steps or another temperature, where given."""
    if steps is not None:
        sampler = dataclasses.replace(sampler, steps=steps)
    if temperature is not None:
        sampler = dataclasses.replace(sampler, temperature=temperature)
    return sampler


@dataclass(frozen=True)
class WorldConfig:
    """A world's sizes: all that is needed to build its models."""

    height: int = 64
    width: int = 64
    fps: float = 10.0
    """Frames a second at which the world is played: those of the videos that it learned from."""
    frames: int = 16
    """Frames of memory: the clip length in training and the window in play."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    latent_action: LatentActionConfig = LatentActionConfig()
    dynamics: DynamicsConfig = DynamicsConfig()
    sampler: SamplerConfig = SamplerConfig()

    def __post_init__(self) -> None:
        _check(self.height >= 1 and self.width >= 1, f"frame size must be positive, got {self.height}x{self.width}")
        check_fps(self.fps)
        _check(self.frames >= 2, f"frames must be at least 2, got {self.frames}")
        own, tokens = self.latent_action.patch, self.tokenizer.patch
        _check(
            self.latent_action.input == "pixels" or own % tokens == 0,
            f"latent_action input 'tokens' needs a patch that is a multiple of the tokenizer's, {tokens}, but got {own}: "
            f"set latent_action patch to {tokens} or a multiple of it",
        )
        rim, side = self.latent_action.rim, min(self.height, self.width)
        _check(
            2 * rim < side,
            f"latent_action rim {rim} leaves nothing of frames of {self.width}x{self.height}: set it below {-(-side // 2)}",
        )

    @property
    def tokenizer_grid(self) -> tuple[int, int]:
        """Rows and columns of tokens in a frame, padding included."""
        p = self.tokenizer.patch
        return -(-self.height // p), -(-self.width // p)

    @property
    def tokens_per_frame(self) -> int:
        """Number of tokens in a frame."""
        rows, columns = self.tokenizer_grid
        return rows * columns

    @property
    def num_actions(self) -> int:
        """Number of latent actions."""
        return self.latent_action.quantizer.codes


@dataclass(frozen=True)
class StageConfig:
    """How one stage is trained."""

    steps: int = 200_000
    """Optimizer steps; the stage ends at `steps` or after `minutes`, whichever comes first."""
    minutes: float | None = None
    """Training minutes, pauses not counted; the learning rate then follows the share of time that has passed."""
    batch: int = 36
    """Clips per optimizer step, over all ranks and accumulated passes."""
    accumulate: int = 1
    """Forward and backward passes per optimizer step."""
    lr: float = 3e-4
    min_lr: float = 3e-5
    warmup: int = 5_000
    """Steps of linear warm-up."""
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    """After the warm-up: cosine to `min_lr`; constant, then linear to `min_lr` over the last `decay`; or constant."""
    decay: float = 0.1
    """Last share of training in which `wsd` decays."""
    betas: tuple[float, float] = (0.9, 0.9)
    weight_decay: float = 1e-4
    clip: float = 1.0
    """Largest gradient norm; 0 does not clip."""
    ema: float = 0.0
    """Decay of the moving average of the weights that is evaluated and saved; 0 keeps none."""
    log_every: int = 20
    eval_every: int = 1_000
    save_every: int = 1_000

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "log_every", "eval_every", "save_every"):
            _check(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        _check(
            self.batch % self.accumulate == 0, f"batch {self.batch} must be a multiple of accumulate {self.accumulate}"
        )
        _check(self.minutes is None or self.minutes > 0, f"minutes must be positive, got {self.minutes}")
        _check(self.lr > 0 and 0 <= self.min_lr <= self.lr, f"need 0 <= min_lr <= lr, got {self.min_lr} and {self.lr}")
        for name in ("warmup", "weight_decay", "clip"):
            _check(getattr(self, name) >= 0, f"{name} must not be negative, got {getattr(self, name)}")
        _check(0 <= self.decay <= 1, f"decay must lie in [0, 1], got {self.decay}")
        _check(all(0 <= beta < 1 for beta in self.betas), f"betas must lie in [0, 1), got {self.betas}")
        _check(0 <= self.ema < 1, f"ema must lie in [0, 1), got {self.ema}")


@dataclass(frozen=True)
class TrainConfig:
    """A whole run: the world's sizes and how each stage is trained."""

    world: WorldConfig = WorldConfig()
    tokenizer: StageConfig = StageConfig(lr=3e-4, min_lr=3e-4, warmup=10_000, batch=48, steps=300_000)
    dynamics: StageConfig = StageConfig(lr=3e-5, min_lr=3e-6)
    """The `world` stage: latent action model and dynamics together."""
    start_from: str | None = None
    """A world to go on from: its folder, a run folder, or the name of a shipped world. Its sizes count, not the preset's,
    but for `fps`, and its tokenizer stays as it is, so that tokens keep their meaning: only the world stage is trained."""
    tokenizer_share: float = 0.3
    """Share of `--minutes` that the tokenizer gets when both stages run."""
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 autocast on CUDA, fp32 elsewhere. On a CPU with bf16 matrix units (AMX) `bf16` is faster for wide models."""
    compile: Literal["auto", "on", "off"] = "auto"
    """`torch.compile` per block; `auto`: on CUDA only."""
    sinks: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Where metrics go besides `metrics.jsonl`."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        _check(0 < self.tokenizer_share < 1, f"tokenizer_share must lie between 0 and 1, got {self.tokenizer_share}")


UNLIMITED = 1_000_000_000
"""Optimizer steps of a stage whose only limit is time."""


def with_limits(
    config: TrainConfig,
    stage: Literal["all", "tokenizer", "world"] = "all",
    *,
    minutes: float | None = None,
    steps: int | None = None,
) -> TrainConfig:
    """The config with a limit on a whole run, in place of the steps that it has.

    Args:
        config: what to change.
        stage: what is to be trained; a stage that is not stays as it is.
        minutes: training minutes in all, shared by `tokenizer_share` where both stages are trained.
        steps: optimizer steps of each stage that is trained; with `minutes` alone there is no limit on them.

    Raises:
        UserError: a limit is not positive.
    """

    def limit(part: StageConfig, share: float) -> StageConfig:
        if minutes is not None:
            part = dataclasses.replace(part, minutes=minutes * share, steps=UNLIMITED)
        return part if steps is None else dataclasses.replace(part, steps=steps)

    share = config.tokenizer_share if stage == "all" else 0.0
    if stage != "world":
        config = dataclasses.replace(config, tokenizer=limit(config.tokenizer, share or 1.0))
    if stage != "tokenizer":
        config = dataclasses.replace(config, dynamics=limit(config.dynamics, 1.0 - share))
    return config
