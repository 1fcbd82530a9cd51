"""A world: tokenizer, codebook of latent actions and dynamics model, saved as one folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor, nn

from djinn import images
from djinn.config import WorldConfig
from djinn.config.yaml import load_yaml
from djinn.errors import UserError
from djinn.models.device import select_device
from djinn.models.dynamics import DynamicsModel
from djinn.models.latent_action import LatentActionModel
from djinn.models.serialization import load_world, save_world
from djinn.models.tokenizer import VideoTokenizer
from djinn.models.training_summary import TrainingSummary
from djinn.models.world_folder import LATENT_ACTION_FILE, find_world
from djinn.nn import KVCache


class World(nn.Module):
    """Tokenizer, dynamics model and codebook of latent actions (paper section 2.2).

    The latent action model is optional. It is needed to infer actions from videos, in training and
    evaluation, but not in play.

    Args:
        config: Sizes of the world.
        latent_action: Latent action model, whose codebook the world copies.
    """

    def __init__(self, config: WorldConfig, latent_action: LatentActionModel | None = None) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = VideoTokenizer(config)
        self.dynamics = DynamicsModel(config)
        self.latent_action = latent_action
        sizes = config.latent_action.quantizer
        self.register_buffer("action_vectors", torch.zeros(sizes.codes, sizes.dim))
        self.action_names = [f"action {i}" for i in range(sizes.codes)]
        self.action_keys: list[list[str]] = [[] for _ in range(sizes.codes)]
        self.prompts: list[np.ndarray] = []
        """Images to start from, uint8 `(h, w, 3)`; `prompts/*.png` in the world's folder."""
        self.training_summary: TrainingSummary | None = None
        """Steps and last evaluation of the training; `training.yaml` in the world's folder."""
        if latent_action is not None:
            latent_action.set_token_codebook(self.tokenizer)
            self.sync_actions()

    @classmethod
    def from_pretrained(cls, path_or_name: str | Path, device: str | torch.device | None = None) -> World:
        """Load a world in evaluation mode.

        Args:
            path_or_name: World folder, run folder, or name of a shipped world.
            device: Device of the world; by default CUDA if it is available.

        Returns:
            The world, with its prompts and the names of its actions.

        Raises:
            UserError: There is no world, or a file is invalid; the message names the file and the
                key.
        """
        device = select_device(device)
        folder = find_world(path_or_name)
        config = load_yaml(WorldConfig, folder / "config.yaml")
        has_latent_action = (folder / LATENT_ACTION_FILE).is_file()
        try:
            world = cls(config, LatentActionModel(config) if has_latent_action else None)
        except (RuntimeError, TypeError, MemoryError, OverflowError) as error:  # excessive sizes
            reason = str(error).splitlines()[0][:200] if str(error) else "out of memory"
            raise UserError(f"cannot build a world of the sizes in {folder / 'config.yaml'}: {reason}") from None
        load_world(world, folder)
        return world.to(device).eval()

    def save_pretrained(self, folder: str | Path, dtype: str = "fp16") -> None:
        """Write a world folder; see `djinn.models.serialization` for its files.

        Args:
            folder: Target folder. An older world is replaced only when the new one is complete.
            dtype: Dtype of the weights, `fp16` or `fp32`.

        Raises:
            UserError: A weight is not finite, or the folder cannot be written.
        """
        save_world(self, Path(folder), dtype)

    @property
    def device(self) -> torch.device:
        """Device of the world."""
        return self.action_vectors.device

    @property
    def num_actions(self) -> int:
        """Number of latent actions."""
        return self.config.num_actions

    @torch.no_grad()
    def sync_actions(self) -> None:
        """Copy the codebook of the latent action model, for instance after training steps."""
        assert self.latent_action is not None
        self.action_vectors.copy_(self.latent_action.quantizer.codes())

    def check_actions(self, actions: Int[Tensor, "*s"]) -> None:
        """Check that actions exist in this world.

        Raises:
            UserError: An action is outside `[0, num_actions)`.
        """
        invalid = actions[(actions < 0) | (actions >= self.num_actions)]
        if invalid.numel():
            raise UserError(
                f"action {int(invalid[0])} is out of range: this world has {self.num_actions} latent actions, "
                f"0 to {self.num_actions - 1}"
            )

    def to_float(self, video: UInt8[Tensor, "b t h w 3"]) -> Tensor:
        """Move a video to the world's device and convert it to pixels in [0, 1].

        Raises:
            UserError: Dtype or shape is not that of a video of this world.
        """
        size = (self.config.height, self.config.width, 3)
        if video.dtype != torch.uint8 or video.ndim != 5 or tuple(video.shape[2:]) != size:
            raise UserError(
                f"expected uint8 video of shape (B, T, {size[0]}, {size[1]}, 3), got {video.dtype} of "
                f"{tuple(video.shape)}; World.fit_image crops and resizes an image to the world's size"
            )
        return video.to(self.device, non_blocking=True).float() / 255

    @torch.inference_mode()
    def encode(self, video: UInt8[Tensor, "b t h w 3"]) -> Int[Tensor, "b t n"]:
        """Encode videos as tokens, always in fp32.

        Args:
            video: Frames `(B, T, H, W, 3)`.

        Returns:
            Indices `(B, T, N)` into the tokenizer's codebook.

        Raises:
            UserError: Dtype or shape is not that of a video of this world.
        """
        return self.tokenizer.encode(self.to_float(video))

    @torch.inference_mode()
    def decode(self, tokens: Int[Tensor, "b t n"]) -> UInt8[Tensor, "b t h w 3"]:
        """Decode tokens to videos.

        Args:
            tokens: Tokens `(B, T, N)` of frames that follow each other.

        Returns:
            Frames `(B, T, H, W, 3)`.
        """
        return to_uint8(self.tokenizer.decode(tokens))

    @torch.inference_mode()
    def infer_actions(self, video: UInt8[Tensor, "b t h w 3"]) -> Int[Tensor, "b t-1"]:
        """Infer the latent action between each frame of videos and the next.

        Args:
            video: Frames `(B, T, H, W, 3)`.

        Returns:
            Codes `(B, T - 1)`; code t leads from frame t to frame t+1.

        Raises:
            UserError: The world has no latent action model, or the video has the wrong dtype or
                shape.
        """
        return self._latent_action().infer(self._clip(video))[0]

    @torch.inference_mode()
    def predict_next(
        self, video: UInt8[Tensor, "b t h w 3"], actions: Int[Tensor, "b a"]
    ) -> Float[Tensor, "b a h w 3"]:
        """Predict frames 2..t of videos with the decoder of the latent action model.

        Args:
            video: True frames. Each prediction depends on the true frames before it.
            actions: Action i leads from frame i to frame i+1.

        Returns:
            Pixels in [0, 1]. If the latent action model predicts tokens, the most likely ones are
            decoded.

        Raises:
            UserError: The world has no latent action model.
        """
        clip = self._clip(video)
        prediction = self._latent_action().predict(clip, actions.to(self.device))
        return self._decode_next(clip, prediction.argmax(-1)) if clip.ndim == 3 else prediction

    def _decode_next(self, tokens: Int[Tensor, "b t n"], predicted: Int[Tensor, "b a n"]) -> Float[Tensor, "b a h w 3"]:
        """Decode each predicted frame after the true frames before it."""
        cache, frames = KVCache(tokens.shape[1]), []
        for t in range(predicted.shape[1]):
            self.tokenizer.decode(tokens[:, t : t + 1], cache, t)  # replaces the predicted frame t
            frames.append(self.tokenizer.decode(predicted[:, t : t + 1], cache, t + 1))
        return torch.cat(frames, dim=1)

    def _latent_action(self) -> LatentActionModel:
        if self.latent_action is None:
            raise UserError("this world has no latent_action.safetensors, so it cannot infer actions from video")
        return self.latent_action

    def _clip(self, video: Tensor) -> Tensor:
        """Convert videos to the input of the latent action model, pixels in [0, 1] or tokens."""
        pixels = self.to_float(video)
        return self.tokenizer.encode(pixels) if self._latent_action().reads_tokens else pixels

    def fit_image(self, image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
        """Crop and resize an image to the world's frame size; see `djinn.images.fit_image`."""
        return images.fit_image(image, self.config.height, self.config.width)


def to_uint8(pixels: Tensor) -> Tensor:
    """Convert pixels in [0, 1] to uint8, rounded."""
    return (pixels * 255).round().clamp(0, 255).to(torch.uint8)


def build(config: WorldConfig) -> World:
    """Build a world with all models and random weights; `torch.device("meta")` allocates none."""
    return World(config, LatentActionModel(config))
