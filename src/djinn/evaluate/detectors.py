"""Feature networks for a Frechet distance: TorchScript file, Python function, random weights.

Nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from djinn.errors import UserError

I3D_FRAMES = 10
"""Shortest clip for I3D. Its temporal strides leave no frame of shorter clips."""
_BATCH = 8
"""Clips per forward pass. I3D resizes them to 224x224."""
_CALL = "detector(video, rescale=True, resize=True, return_features=True)"
_INPUT = "float pixels 0 to 255, (clip, channel, time, height, width)"
_USAGE = (
    "--fvd-detector takes the commonly used I3D network as a TorchScript file (i3d_torchscript.pt of StyleGAN-V), "
    "or MODULE:FUNCTION"
)


@dataclass(frozen=True)
class Detector:
    """Network that maps clips to feature vectors."""

    name: str
    """File, `module:function`, or the name of the random network."""
    call: str
    """How the network is called, for the protocol."""
    sha256: str | None
    """Hash of the file or of the weights, None for a function without a source file."""
    function: Callable[[Tensor], Any]
    """From float `(b, 3, t, h, w)` in [0, 255] to `(b, d)`."""
    device: torch.device

    @torch.inference_mode()
    def __call__(self, video: UInt8[np.ndarray, "b t h w 3"]) -> Float[Tensor, "b d"]:
        """Return the features of clips.

        Raises:
            UserError: The network fails on them, or does not return one vector per clip.
        """
        pixels = torch.from_numpy(video).movedim(-1, 1)
        return torch.cat([self._features(part.to(self.device).float()) for part in pixels.split(_BATCH)])

    def _features(self, pixels: Tensor) -> Tensor:
        try:
            features = self.function(pixels)
        except Exception as error:  # user code may raise anything
            frames, remedy = pixels.shape[2], ""
            # the network accepts the call but not the clips
            if frames < I3D_FRAMES and "TorchScript interpreter" in str(error):
                remedy = f"; I3D needs clips of at least {I3D_FRAMES} frames, these have {frames}: raise --horizon"
            what = f"the detector {self.name} fails, called as {self.call}"
            raise UserError(f"{what}: {_reason(error)}{remedy}") from None
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(pixels):
            shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise UserError(
                f"the detector {self.name} returns {shape} for {len(pixels)} clip(s), but ({len(pixels)}, features) is "
                f"needed: {_USAGE}"
            )
        if not features.isfinite().all():
            raise UserError(f"the detector {self.name} returns features that are not finite: use another one")
        return features

    def metadata(self) -> dict[str, Any]:
        """Return the identity of the network and how it is called, for a protocol."""
        return {"detector": self.name, "sha256": self.sha256, "call": self.call, "input": _INPUT}


def load_detector(source: str, device: torch.device) -> Detector:
    """Load the feature network given by the user.

    A TorchScript file is loaded by `torch.jit.load` and called as published FVD code calls it: with
    pixels in [0, 255], which `rescale=True` maps to [-1, 1] and `resize=True` resizes to 224x224.
    TorchScript is code. This is the only place where Djinn executes code from a file, and only from
    a file that the user names. A `module:function` is imported, also from the working directory,
    and called as `function(video)` with the same pixels.

    Args:
        source: Path of a TorchScript file, or `module:function`.
        device: Device of the network.

    Raises:
        UserError: The file or the function does not exist, or cannot be used.
    """
    path = Path(source)
    if path.is_file():
        return _from_file(path, device)
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", source):
        return _from_module(source, device)
    raise UserError(f"there is no detector {source}: {_USAGE}; Djinn does not download it")


def _from_file(path: Path, device: torch.device) -> Detector:
    try:
        with warnings.catch_warnings():
            # the published I3D is a TorchScript file
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(path, map_location=device).eval()
    except (RuntimeError, ValueError, OSError, EOFError):
        raise UserError(f"{path} is not a TorchScript file: {_USAGE}") from None

    def features(video: Tensor) -> Any:
        return module(video, rescale=True, resize=True, return_features=True)

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Detector(str(path), _CALL, digest, features, device)


def _from_module(source: str, device: torch.device) -> Detector:
    module_name, _, name = source.partition(":")
    try:
        with _working_directory_on_path():
            function = getattr(importlib.import_module(module_name), name)
    except Exception as error:  # user code may raise anything
        raise UserError(f"cannot import the detector {source}: {_reason(error)}") from None
    if not callable(function):
        raise UserError(f"the detector {source} is not callable: {_USAGE}")
    file = inspect.getsourcefile(sys.modules[module_name])
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None
    return Detector(source, "function(video)", digest, function, device)


@contextmanager
def _working_directory_on_path() -> Iterator[None]:
    """Allow imports from the working directory, as `python -m` does."""
    sys.path.insert(0, "")
    try:
        yield
    finally:
        sys.path.remove("")


def _reason(error: Exception) -> str:
    """Return an exception as part of a sentence, of a TorchScript trace the line of the error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    return (named or lines or [type(error).__name__])[-1 if named else 0].rstrip(".")


def random_detector(device: torch.device) -> Detector:
    """Return a small 3-D convolutional network with fixed random weights.

    Its distance is not FVD. It ranks clips by the response of random filters to color, edges and
    motion, and is comparable only with distances of the same network (see its sha256).
    """
    network = _RandomNetwork()
    digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in network.parameters())).hexdigest()
    return Detector("random 3-D convolutions, seed 0", "features(video)", digest, network.to(device).eval(), device)


class _RandomNetwork(nn.Module):
    """Three convolutions over time and space. A feature is the mean of one map over both."""

    WIDTHS = (3, 16, 32, 64)

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)  # torch's random numbers may change between versions
        self.layers = nn.ModuleList()
        for in_channels, out_channels in zip(self.WIDTHS, self.WIDTHS[1:], strict=False):
            layer = nn.Conv3d(in_channels, out_channels, 3, stride=(1, 2, 2), padding=1, bias=False)
            weight = rng.standard_normal(layer.weight.shape, dtype=np.float32) * math.sqrt(2 / (27 * in_channels))
            layer.weight.data = torch.from_numpy(weight)
            self.layers.append(layer)

    def forward(self, video: Tensor) -> Tensor:
        x = video / 127.5 - 1
        for layer in self.layers:
            x = layer(x).relu()
        return x.mean((2, 3, 4))
