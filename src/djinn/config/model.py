"""Every size and setting of Djinn as frozen dataclasses; `djinn.config.yaml` writes and reads them.

Sizes live in `WorldConfig` and are saved with a world; how it is trained lives in `TrainConfig`. Named sets of both are in
`djinn.config.presets`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from djinn.errors import UserError


def check(condition: bool, message: str) -> None:
    """Raise `UserError(message)` unless `condition` holds."""
    if not condition:
        raise UserError(message)


def check_seed(seed: int) -> None:
    """Refuses a seed that some generator would not take.

    Raises:
        UserError: it is negative or has more than 63 bits.
    """
    check(0 <= seed < 2**63, f"seed must lie between 0 and 2**63 - 1, got {seed}")


def check_fps(fps: float) -> None:
    """Refuses a speed that no video has.

    Raises:
        UserError: it is no number, or not between 0.01 and 1,000.
    """
    check(0.01 <= fps <= 1000, f"fps must lie between 0.01 and 1000 frames a second, got {fps:g}")


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
            check(getattr(self, name) >= 1, f"transformer {name} must be at least 1, got {getattr(self, name)}")
        check(self.head_dim % 2 == 0, f"transformer head_dim must be even for rotary positions, got {self.head_dim}")
        check(self.ffn_mult > 0, f"transformer ffn_mult must be positive, got {self.ffn_mult}")


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
    dead_code_threshold: float = 0.1
    """Restart a code whose moving share of use falls below this fraction of `1 / codes`; 0 never restarts (`ema` only)."""
    levels: tuple[int, ...] = ()
    """Levels of each dimension (`fsq` only)."""

    def __post_init__(self) -> None:
        if self.kind == "fsq":
            check(len(self.levels) > 0, "quantizer kind 'fsq' needs levels, for instance levels: [8, 5, 5, 5]")
            check(min(self.levels) >= 2, f"quantizer levels must each be at least 2, got {self.levels}")
            check(
                self.codes == math.prod(self.levels) and self.dim == len(self.levels),
                f"quantizer levels {self.levels} make {math.prod(self.levels)} codes of dim {len(self.levels)}: "
                f"set codes and dim to that (got {self.codes} and {self.dim})",
            )
            learned = ("l2", "standardize", "commitment", "dead_code_threshold")
            idle = [f for f in dataclasses.fields(self) if f.name in learned and getattr(self, f.name) != f.default]
            check(
                not idle,
                "quantizer kind 'fsq' has a grid that does not learn: set "
                + ", ".join(f"{field.name} to {field.default}" for field in idle),
            )
        else:
            check(not self.levels, f"quantizer levels are for kind 'fsq' only, but kind is '{self.kind}'")
            usual = type(self).dead_code_threshold
            check(
                self.kind == "ema" or self.dead_code_threshold in (0, usual),
                f"quantizer dead_code_threshold is for kind 'ema' only, but kind is '{self.kind}': set dead_code_threshold to {usual}",
            )
            check(self.commitment >= 0, f"quantizer commitment must not be negative, got {self.commitment}")
            check(
                0 <= self.dead_code_threshold < 1,
                f"quantizer dead_code_threshold must lie in [0, 1), got {self.dead_code_threshold}",
            )
        check(self.codes >= 2, f"quantizer codes must be at least 2, got {self.codes}")
        check(0 < self.decay < 1, f"quantizer decay must lie between 0 and 1, got {self.decay}")


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
        check(self.patch >= 1, f"tokenizer patch must be at least 1, got {self.patch}")
        for name, size in (("encoder", self.encoder), ("decoder", self.decoder)):
            check(
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
    frame_diff_input: bool = False
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
    ignored_border: int = 0
    """Width in pixels of the frame's edge that the decoder need not predict. What scrolls in there is new, and a code that
    tells of it lowers the error as much as one that tells which way the picture moves."""

    def __post_init__(self) -> None:
        check(self.patch >= 1, f"latent_action patch must be at least 1, got {self.patch}")
        check(self.ignored_border >= 0, f"latent_action ignored_border must be 0 or more, got {self.ignored_border}")
        check(
            self.input == "pixels" or self.ignored_border == 0,
            f"latent_action ignored_border is for input 'pixels' only, but input is '{self.input}': set ignored_border to 0",
        )
        check(
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
    token_noise: float = 0.1
    """All but `paper`: tokens of the past are replaced by random codes at a rate U(0, token_noise) per sample."""

    def __post_init__(self) -> None:
        check(0 <= self.token_noise < 1, f"dynamics token_noise must lie in [0, 1), got {self.token_noise}")
        usual = type(self).token_noise
        check(
            self.masking != "paper" or self.token_noise in (0, usual),
            f"dynamics masking 'paper' corrupts no tokens: set token_noise to {usual}, or masking to clean_past or per_frame",
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
    choice_temperature: float = 1.0
    """Scale of the Gumbel noise on the confidence ranking, annealed to zero over the steps."""

    def __post_init__(self) -> None:
        check(self.steps >= 1, f"sampler steps must be at least 1, got {self.steps}")
        check(self.temperature >= 0, f"sampler temperature must not be negative, got {self.temperature}")
        check(self.top_k >= 0, f"sampler top_k must not be negative, got {self.top_k}")
        check(
            self.choice_temperature >= 0,
            f"sampler choice_temperature must not be negative, got {self.choice_temperature}",
        )

    @property
    def is_deterministic(self) -> bool:
        """Whether sampling draws no random numbers, so that the seed has no effect."""
        greedy = self.temperature == 0 or self.top_k == 1
        return greedy and (self.choice_temperature == 0 or self.steps == 1)


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
    context_frames: int = 16
    """Frames of memory: the clip length in training and the window in play."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    latent_action: LatentActionConfig = LatentActionConfig()
    dynamics: DynamicsConfig = DynamicsConfig()
    sampler: SamplerConfig = SamplerConfig()

    def __post_init__(self) -> None:
        check(self.height >= 1 and self.width >= 1, f"frame size must be positive, got {self.height}x{self.width}")
        check_fps(self.fps)
        check(self.context_frames >= 2, f"context_frames must be at least 2, got {self.context_frames}")
        own, tokens = self.latent_action.patch, self.tokenizer.patch
        check(
            self.latent_action.input == "pixels" or own % tokens == 0,
            f"latent_action input 'tokens' needs a patch that is a multiple of the tokenizer's, {tokens}, but got {own}: "
            f"set latent_action patch to {tokens} or a multiple of it",
        )
        ignored_border, side = self.latent_action.ignored_border, min(self.height, self.width)
        check(
            2 * ignored_border < side,
            f"latent_action ignored_border {ignored_border} leaves nothing of frames of {self.width}x{self.height}: set it below {-(-side // 2)}",
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
