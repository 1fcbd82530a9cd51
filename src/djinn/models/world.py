"""A world: tokenizer, action codebook and dynamics as one, saved and loaded as one folder with nothing executable in it."""

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
    """All that playing needs: tokenizer, dynamics and the codebook of latent actions (paper section 2.2).

    The rest of the latent action model is dropped for playing; it is kept here only where actions are to be inferred from
    videos, as in training and measuring.

    Args:
        config: its sizes.
        latent_action: the latent action model, where there is one; its codebook then is the world's.
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
        """Pictures to start playing from, uint8 `(h, w, 3)`; `prompts/*.png` in the world's folder."""
        self.training_summary: TrainingSummary | None = None
        """How the world was trained, from `training.yaml` in its folder."""
        if latent_action is not None:
            latent_action.set_token_codebook(self.tokenizer)
            self.sync_actions()

    @classmethod
    def from_pretrained(cls, path_or_name: str | Path, device: str | torch.device | None = None) -> World:
        """Loads a world, ready to play.

        Args:
            path_or_name: a world folder, a run folder, or the name of a shipped world.
            device: where to put it; CUDA where there is one, by default.

        Raises:
            UserError: there is no world, or its files do not belong together; the message names the file and the key.
        """
        device = select_device(device)
        folder = find_world(path_or_name)
        config = load_yaml(WorldConfig, folder / "config.yaml")
        has_latent_action = (folder / LATENT_ACTION_FILE).is_file()
        try:
            world = cls(config, LatentActionModel(config) if has_latent_action else None)
        except (RuntimeError, TypeError, MemoryError, OverflowError) as error:  # sizes beyond what torch can allocate
            reason = str(error).splitlines()[0][:200] if str(error) else "out of memory"
            raise UserError(f"cannot build a world of the sizes in {folder / 'config.yaml'}: {reason}") from None
        load_world(world, folder)
        return world.to(device).eval()

    def save_pretrained(self, folder: str | Path, dtype: str = "fp16") -> None:
        """Writes the world folder: `config.yaml`, `model.safetensors`, `actions.yaml`, and the latent action model beside.

        Args:
            folder: where; an older world there is replaced only when the new one is complete.
            dtype: `fp16` or `fp32`.
        """
        save_world(self, Path(folder), dtype)

    @property
    def device(self) -> torch.device:
        """Where the world computes."""
        return self.action_vectors.device

    @property
    def num_actions(self) -> int:
        """Number of latent actions."""
        return self.config.num_actions

    @torch.no_grad()
    def sync_actions(self) -> None:
        """Takes the action codebook over from the latent action model, for instance after it has learned."""
        assert self.latent_action is not None
        self.action_vectors.copy_(self.latent_action.quantizer.codes())

    def check_actions(self, actions: Int[Tensor, "*s"]) -> None:
        """Refuses actions that the world does not have.

        Raises:
            UserError: an action is outside `[0, num_actions)`.
        """
        wrong = actions[(actions < 0) | (actions >= self.num_actions)]
        if wrong.numel():
            raise UserError(
                f"action {int(wrong[0])} is out of range: this world has {self.num_actions} latent actions, "
                f"0 to {self.num_actions - 1}"
            )

    def to_float(self, video: UInt8[Tensor, "b t h w 3"]) -> Tensor:
        """Brings a video to the world's device as floats in [0, 1].

        Raises:
            UserError: the frames do not have the world's size.
        """
        size = (self.config.height, self.config.width, 3)
        if video.dtype != torch.uint8 or video.ndim != 5 or tuple(video.shape[2:]) != size:
            raise UserError(
                f"expected uint8 video of shape (B, T, {size[0]}, {size[1]}, 3), got {video.dtype} of "
                f"{tuple(video.shape)}; World.fit_image crops and resizes a picture to the world's size"
            )
        return video.to(self.device, non_blocking=True).float() / 255

    @torch.inference_mode()
    def encode(self, video: UInt8[Tensor, "b t h w 3"]) -> Int[Tensor, "b t n"]:
        """Tokens of videos."""
        return self.tokenizer.encode(self.to_float(video))

    @torch.inference_mode()
    def decode(self, tokens: Int[Tensor, "b t n"]) -> UInt8[Tensor, "b t h w 3"]:
        """Videos of tokens."""
        return to_uint8(self.tokenizer.decode(tokens))

    @torch.inference_mode()
    def infer_actions(self, video: UInt8[Tensor, "b t h w 3"]) -> Int[Tensor, "b t-1"]:
        """The latent action between each frame of videos and the next.

        Raises:
            UserError: the world was saved without its latent action model.
        """
        return self._latent_action().infer(self._clip(video))[0]

    @torch.inference_mode()
    def predict_next(
        self, video: UInt8[Tensor, "b t h w 3"], actions: Int[Tensor, "b a"]
    ) -> Float[Tensor, "b a h w 3"]:
        """Frames 2..t of videos as the latent action model's own decoder predicts them, each from the real ones before it.

        Args:
            video: real frames.
            actions: action i moves frame i to frame i+1.

        Returns:
            Pixels in [0, 1]; of a model that predicts tokens, its most likely ones decoded after the real ones.

        Raises:
            UserError: the world was saved without its latent action model.
        """
        clip = self._clip(video)
        prediction = self._latent_action().predict(clip, actions.to(self.device))
        return self._decode_next(clip, prediction.argmax(-1)) if clip.ndim == 3 else prediction

    def _decode_next(self, tokens: Int[Tensor, "b t n"], guesses: Int[Tensor, "b a n"]) -> Float[Tensor, "b a h w 3"]:
        cache, frames = KVCache(tokens.shape[1]), []
        for t in range(guesses.shape[1]):
            self.tokenizer.decode(tokens[:, t : t + 1], cache, t)  # takes the place of the guess before
            frames.append(self.tokenizer.decode(guesses[:, t : t + 1], cache, t + 1))
        return torch.cat(frames, dim=1)

    def _latent_action(self) -> LatentActionModel:
        if self.latent_action is None:
            raise UserError("this world has no latent_action.safetensors, so it cannot infer actions from video")
        return self.latent_action

    def _clip(self, video: Tensor) -> Tensor:
        """Videos as the latent action model reads them: pixels in [0, 1], or tokens if it was made for these."""
        pixels = self.to_float(video)
        return self.tokenizer.encode(pixels) if self._latent_action().reads_tokens else pixels

    def fit_image(self, image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
        """Crop and resize an image to the world's frame size; see `djinn.images.fit_image`."""
        return images.fit_image(image, self.config.height, self.config.width)


def to_uint8(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1] as bytes, rounded."""
    return (pixels * 255).round().clamp(0, 255).to(torch.uint8)


def build(config: WorldConfig) -> World:
    """A world with all of its models and random weights; under `torch.device("meta")` it costs no memory."""
    return World(config, LatentActionModel(config))
