"""Sizes and settings of the models, as frozen dataclasses.

`WorldConfig` is saved with a world (`djinn.config.yaml`). `TrainConfig` describes how a world is
trained. Named configs are in `djinn.config.presets`.
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
    """Check that all random generators accept a seed.

    Raises:
        UserError: It is negative or has more than 63 bits.
    """
    check(0 <= seed < 2**63, f"seed must lie between 0 and 2**63 - 1, got {seed}")


def check_fps(fps: float) -> None:
    """Check a number of frames per second.

    Raises:
        UserError: It is not a number between 0.01 and 1000.
    """
    check(0.01 <= fps <= 1000, f"fps must lie between 0.01 and 1000 frames per second, got {fps:g}")


@dataclass(frozen=True)
class TransformerConfig:
    """Size of one `STTransformer`."""

    blocks: int = 8
    """Number of blocks of spatial attention, temporal attention and one feed-forward layer (paper
    section 2)."""
    d_model: int = 512
    """Width of the residual stream."""
    heads: int = 8
    """Number of attention heads."""
    head_dim: int = 64
    """Width of an attention head; `heads * head_dim` may differ from `d_model` (paper Table 10)."""
    ffn_mult: float = 4.0
    """Width of the feed-forward layer as a multiple of `d_model`."""
    time_every: int = 1
    """Temporal attention in every n-th block, starting with the first."""

    def __post_init__(self) -> None:
        for name in ("blocks", "d_model", "heads", "head_dim", "time_every"):
            check(getattr(self, name) >= 1, f"transformer {name} must be at least 1, got {getattr(self, name)}")
        check(self.head_dim % 2 == 0, f"transformer head_dim must be even for rotary positions, got {self.head_dim}")
        check(self.ffn_mult > 0, f"transformer ffn_mult must be positive, got {self.ffn_mult}")


@dataclass(frozen=True)
class QuantizerConfig:
    """Size of a codebook and its update rule."""

    kind: Literal["ema", "gradient", "fsq"] = "ema"
    """`ema`: moving averages, initialized with data, with restarts of dead codes. `gradient`: the
    codebook loss of VQ-VAE. `fsq`: finite scalar quantization, a fixed grid."""
    codes: int = 1024
    """Number of codes; with `fsq` the product of `levels`."""
    dim: int = 32
    """Width of a code; with `fsq` the number of `levels`."""
    l2: bool = False
    """Normalize vectors and codes to unit length, which selects codes by cosine similarity (`ema`
    and `gradient`)."""
    standardize: bool = False
    """Standardize each dimension over the batch before the comparison with the codes, so that small
    but informative differences select codes from the first step on (`ema` and `gradient`)."""
    commitment: float = 0.25
    """Weight of the commitment loss (`ema` and `gradient`)."""
    decay: float = 0.99
    """Decay of the moving averages (`ema`) and of the usage statistics."""
    dead_code_threshold: float = 0.1
    """Restart a code whose moving average usage is below this fraction of `1 / codes`; 0 disables
    restarts (`ema` only)."""
    levels: tuple[int, ...] = ()
    """Number of levels of each dimension (`fsq` only)."""

    def __post_init__(self) -> None:
        if self.kind == "fsq":
            self._check_grid()
        else:
            check(not self.levels, f"quantizer levels are for kind 'fsq' only, but kind is '{self.kind}'")
            default = type(self).dead_code_threshold
            check(
                self.kind == "ema" or self.dead_code_threshold in (0, default),
                f"quantizer dead_code_threshold is for kind 'ema' only, but kind is '{self.kind}': "
                f"set dead_code_threshold to {default}",
            )
            check(self.commitment >= 0, f"quantizer commitment must not be negative, got {self.commitment}")
            check(
                0 <= self.dead_code_threshold < 1,
                f"quantizer dead_code_threshold must lie in [0, 1), got {self.dead_code_threshold}",
            )
        check(self.codes >= 2, f"quantizer codes must be at least 2, got {self.codes}")
        check(0 < self.decay < 1, f"quantizer decay must lie between 0 and 1, got {self.decay}")

    def _check_grid(self) -> None:
        check(len(self.levels) > 0, "quantizer kind 'fsq' needs levels, for instance levels: [8, 5, 5, 5]")
        check(min(self.levels) >= 2, f"quantizer levels must each be at least 2, got {self.levels}")
        check(
            self.codes == math.prod(self.levels) and self.dim == len(self.levels),
            f"quantizer levels {self.levels} define {math.prod(self.levels)} codes of dim {len(self.levels)}: "
            f"set codes and dim to these (got {self.codes} and {self.dim})",
        )
        learned = ("l2", "standardize", "commitment", "dead_code_threshold")
        unused = [f for f in dataclasses.fields(self) if f.name in learned and getattr(self, f.name) != f.default]
        check(
            not unused,
            "quantizer kind 'fsq' has a fixed grid without learned codes: set "
            + ", ".join(f"{field.name} to {field.default}" for field in unused),
        )


@dataclass(frozen=True)
class TokenizerConfig:
    """Video tokenizer, a VQ-VAE (paper section 2.1, Tables 7 and 15)."""

    patch: int = 4
    """Side of a square patch in pixels; frames are padded to a multiple of it."""
    encoder: TransformerConfig = TransformerConfig()
    decoder: TransformerConfig = TransformerConfig()
    quantizer: QuantizerConfig = QuantizerConfig()
    kind: Literal["st-vivit", "vit", "c-vivit"] = "st-vivit"
    """Attention of encoder and decoder (paper Table 3). `st-vivit`: space, then time. `vit`: space
    only, each frame independently. `c-vivit`: all tokens of this and earlier frames, at a cost
    quadratic in the number of frames."""

    def __post_init__(self) -> None:
        check(self.patch >= 1, f"tokenizer patch must be at least 1, got {self.patch}")
        for name, size in (("encoder", self.encoder), ("decoder", self.decoder)):
            check(
                self.kind == "st-vivit" or size.time_every == 1,
                f"tokenizer {name} time_every is {size.time_every}, but kind '{self.kind}' has no separate "
                "temporal attention: set time_every to 1",
            )


@dataclass(frozen=True)
class LatentActionConfig:
    """Latent action model (paper section 2.1, Tables 5 and 16)."""

    patch: int = 16
    """Side of a square patch in pixels, independent of the tokenizer's. With input `tokens` it must
    be a multiple of the tokenizer's."""
    encoder: TransformerConfig = TransformerConfig()
    decoder: TransformerConfig = TransformerConfig()
    quantizer: QuantizerConfig = QuantizerConfig(codes=8)
    frame_diff_input: bool = False
    """Concatenate the difference from the previous frame to the encoder's input, so that motion is
    visible from the first layer on."""
    residual: bool = False
    """Predict the change of the last frame instead of the next frame: added before the sigmoid with
    input `pixels`, before the softmax with input `tokens`."""
    warp: bool = False
    """Predict an optical flow by which the last frame is warped before the change is added. Needs
    `residual` and input `pixels`."""
    input: Literal["pixels", "tokens"] = "pixels"
    """Input and target of the model (paper Table 2). `pixels`: frames. `tokens`: the frozen
    tokenizer's tokens, as patches of their codes; the next tokens are predicted by
    cross-entropy."""
    ignored_border: int = 0
    """Width in pixels of the border that the decoder's loss excludes. Content that scrolls into it
    is unpredictable, and codes may encode it instead of the motion."""

    def __post_init__(self) -> None:
        check(self.patch >= 1, f"latent_action patch must be at least 1, got {self.patch}")
        check(self.ignored_border >= 0, f"latent_action ignored_border must be 0 or more, got {self.ignored_border}")
        check(
            self.input == "pixels" or self.ignored_border == 0,
            f"latent_action ignored_border is for input 'pixels' only, but input is '{self.input}': "
            "set ignored_border to 0",
        )
        check(
            not self.warp or (self.residual and self.input == "pixels"),
            "latent_action warp needs residual true and input 'pixels', but got "
            f"{str(self.residual).lower()} and '{self.input}': set warp to false",
        )


@dataclass(frozen=True)
class DynamicsConfig:
    """MaskGIT dynamics model (paper section 2.1, Tables 10, 12 and 17)."""

    transformer: TransformerConfig = TransformerConfig(blocks=12)
    action: Literal["add", "prepend"] = "add"
    """How action t-1 conditions frame t: added to its tokens (paper) or prepended as a token."""
    masking: Literal["paper", "per_frame", "clean_past"] = "clean_past"
    """`paper`: all frames but the first are masked at one rate U(0.5, 1) per sample. `per_frame`:
    frames before a random cut are clean, later ones have a rate each. `clean_past`: each frame has
    its own rate and attends to unmasked earlier frames as in play, at twice the computation."""
    token_noise: float = 0.1
    """Replace tokens of past frames by random codes at a rate U(0, token_noise) per sample. Not
    with masking `paper`."""

    def __post_init__(self) -> None:
        check(0 <= self.token_noise < 1, f"dynamics token_noise must lie in [0, 1), got {self.token_noise}")
        default = type(self).token_noise
        check(
            self.masking != "paper" or self.token_noise in (0, default),
            f"dynamics masking 'paper' adds no token noise: set token_noise to {default}, "
            "or masking to clean_past or per_frame",
        )


@dataclass(frozen=True)
class SamplerConfig:
    """MaskGIT sampling of one frame's tokens (paper section 3: 25 steps, temperature 2)."""

    steps: int = 8
    """MaskGIT steps per frame."""
    temperature: float = 1.0
    """Softmax temperature of the tokens; 0 selects the most likely token."""
    top_k: int = 0
    """Sample among the k most likely tokens; 0 samples among all."""
    choice_temperature: float = 1.0
    """Scale of the Gumbel noise on the confidences that decide which tokens are kept, annealed to
    zero over the steps."""

    def __post_init__(self) -> None:
        check(self.steps >= 1, f"sampler steps must be at least 1, got {self.steps}")
        check(self.temperature >= 0, f"sampler temperature must be a number of 0 or more, got {self.temperature}")
        check(self.top_k >= 0, f"sampler top_k must not be negative, got {self.top_k}")
        check(
            self.choice_temperature >= 0,
            f"sampler choice_temperature must be a number of 0 or more, got {self.choice_temperature}",
        )

    @property
    def is_deterministic(self) -> bool:
        """Whether sampling draws no random numbers, so that the seed has no effect."""
        greedy = self.temperature == 0 or self.top_k == 1
        return greedy and (self.choice_temperature == 0 or self.steps == 1)


def adjust(sampler: SamplerConfig, steps: int | None, temperature: float | None) -> SamplerConfig:
    """Return a sampler with other steps or another temperature; None keeps the sampler's own."""
    if steps is not None:
        sampler = dataclasses.replace(sampler, steps=steps)
    if temperature is not None:
        sampler = dataclasses.replace(sampler, temperature=temperature)
    return sampler


@dataclass(frozen=True)
class WorldConfig:
    """Sizes of a world and of its models."""

    height: int = 64
    """Height of a frame in pixels."""
    width: int = 64
    """Width of a frame in pixels."""
    fps: float = 10.0
    """Frames per second in play, equal to that of the training videos."""
    context_frames: int = 16
    """Frames of context: the clip length in training and the attention window in play."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    latent_action: LatentActionConfig = LatentActionConfig()
    dynamics: DynamicsConfig = DynamicsConfig()
    sampler: SamplerConfig = SamplerConfig()

    def __post_init__(self) -> None:
        check(self.height >= 1 and self.width >= 1, f"frame size must be positive, got {self.height}x{self.width}")
        check_fps(self.fps)
        check(self.context_frames >= 2, f"context_frames must be at least 2, got {self.context_frames}")
        patch, tokenizer_patch = self.latent_action.patch, self.tokenizer.patch
        check(
            self.latent_action.input == "pixels" or patch % tokenizer_patch == 0,
            f"latent_action input 'tokens' needs a patch that is a multiple of the tokenizer's, {tokenizer_patch}, "
            f"but got {patch}: set latent_action patch to {tokenizer_patch} or a multiple of it",
        )
        border, side = self.latent_action.ignored_border, min(self.height, self.width)
        check(
            2 * border < side,
            f"latent_action ignored_border {border} covers all of frames of {self.width}x{self.height}: "
            f"set it below {-(-side // 2)}",
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
