"""Networks whose features a Frechet distance compares: a TorchScript file, a function of the user's, or a random one.

Nothing is ever downloaded.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
import re
import sys
import warnings
from collections.abc import Callable
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
"""Frames that a clip needs for I3D; with fewer none is left after its strides in time."""
_AT_ONCE = 8
"""Clips that go through a network together: I3D enlarges them to 224x224."""
_CALL = "detector(video, rescale=True, resize=True, return_features=True)"
_INPUT = "float pixels 0 to 255, (clip, channel, time, height, width)"
_WANTED = (
    "--fvd-detector takes the I3D network that the field uses, a TorchScript file (i3d_torchscript.pt of StyleGAN-V), "
    "or MODULE:FUNCTION"
)


@dataclass(frozen=True)
class Detector:
    """A network that turns clips into feature vectors."""

    name: str
    """File, `module:callable`, or the name of the random network."""
    call: str
    """How it is called, for the protocol."""
    sha256: str | None
    """Of its file or weights; None for a function without a source file."""
    function: Callable[[Tensor], Any]
    """From float `(b, 3, t, h, w)` in 0 to 255 to `(b, d)`."""
    device: torch.device

    @torch.inference_mode()
    def __call__(self, video: UInt8[np.ndarray, "b t h w 3"]) -> Float[Tensor, "b d"]:
        """Features of clips.

        Raises:
            UserError: the network fails on them, or gives something else than one vector a clip.
        """
        pixels = torch.from_numpy(video).movedim(-1, 1)
        return torch.cat([self._features(part.to(self.device).float()) for part in pixels.split(_AT_ONCE)])

    def _features(self, pixels: Tensor) -> Tensor:
        try:
            features = self.function(pixels)
        except Exception as error:  # whatever a stranger's network raises
            frames, remedy = pixels.shape[2], ""
            if frames < I3D_FRAMES and "TorchScript interpreter" in str(error):  # it took the call, but not the clips
                remedy = f"; I3D needs clips of {I3D_FRAMES} frames or more and these have {frames}: raise --horizon"
            what = f"the detector {self.name} fails, called as {self.call}"
            raise UserError(f"{what}: {_reason(error)}{remedy}") from None
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(pixels):
            shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise UserError(
                f"the detector {self.name} gives {shape} for {len(pixels)} clip(s) where ({len(pixels)}, features) is "
                f"needed: {_WANTED}"
            )
        if not features.isfinite().all():
            raise UserError(f"the detector {self.name} gives features that are not finite: use another one")
        return features

    def about(self) -> dict[str, Any]:
        """What it is and how it is called, for a protocol."""
        return {"detector": self.name, "sha256": self.sha256, "call": self.call, "input": _INPUT}


def load_detector(source: str, device: torch.device) -> Detector:
    """The network that a user names.

    A TorchScript file is loaded by `torch.jit.load` and called as the field calls its I3D: with pixels of 0 to 255, which
    `rescale=True` brings to -1 to 1 inside and `resize=True` to 224x224. TorchScript is code: this is the one place where
    Djinn runs something out of a file, and only one that the user names here. A `module:callable` is imported (from the
    working directory too) and called as `callable(video)` with the same pixels.

    Args:
        source: path of a TorchScript file, or `module:callable`.
        device: where to compute.

    Raises:
        UserError: there is no such file or function, or it is none that can be used.
    """
    path = Path(source)
    if path.is_file():
        return _from_file(path, device)
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", source):
        return _from_module(source, device)
    raise UserError(f"there is no detector {source}: {_WANTED}; Djinn downloads none")


def _from_file(path: Path, device: torch.device) -> Detector:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is what the field's file is made of
            module = torch.jit.load(path, map_location=device).eval()
    except (RuntimeError, ValueError, OSError, EOFError):
        raise UserError(f"{path} is not a TorchScript file: {_WANTED}") from None

    def features(video: Tensor) -> Any:
        return module(video, rescale=True, resize=True, return_features=True)

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Detector(str(path), _CALL, digest, features, device)


def _from_module(source: str, device: torch.device) -> Detector:
    module_name, _, name = source.partition(":")
    try:
        with _working_directory_first():
            function = getattr(importlib.import_module(module_name), name)
    except Exception as error:  # whatever a stranger's module raises
        raise UserError(f"cannot import the detector {source}: {_reason(error)}") from None
    if not callable(function):
        raise UserError(f"the detector {source} is not callable: {_WANTED}")
    file = inspect.getsourcefile(sys.modules[module_name])
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None
    return Detector(source, "callable(video)", digest, function, device)


@contextmanager
def _working_directory_first() -> Any:
    """Lets modules be imported from the working directory, as `python -m` does."""
    sys.path.insert(0, "")
    try:
        yield
    finally:
        sys.path.remove("")


def _reason(error: Exception) -> str:
    """An exception as a piece of a sentence; of TorchScript's long traces the line that names the error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    return (named or lines or [type(error).__name__])[-1 if named else 0].rstrip(".")


def random_detector(device: torch.device) -> Detector:
    """A small 3-D convolutional network with random weights, always the same: for a distance that needs no file.

    Its distance is not FVD and never goes by that name. It ranks clips by what random filters see of colours, edges and
    motion, and compares only with figures of the same network (see its sha256).
    """
    network = _RandomNetwork()
    digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in network.parameters())).hexdigest()
    return Detector("random 3-D convolutions, seed 0", "features(video)", digest, network.to(device).eval(), device)


class _RandomNetwork(nn.Module):
    """Three convolutions over time and space; a feature is the mean of one map over both."""

    WIDTHS = (3, 16, 32, 64)

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)  # torch's own draws may change from one version to the next
        self.layers = nn.ModuleList()
        for below, above in zip(self.WIDTHS, self.WIDTHS[1:], strict=False):
            layer = nn.Conv3d(below, above, 3, stride=(1, 2, 2), padding=1, bias=False)
            weight = rng.standard_normal(layer.weight.shape, dtype=np.float32) * math.sqrt(2 / (27 * below))
            layer.weight.data = torch.from_numpy(weight)
            self.layers.append(layer)

    def forward(self, video: Tensor) -> Tensor:
        x = video / 127.5 - 1
        for layer in self.layers:
            x = layer(x).relu()
        return x.mean((2, 3, 4))
