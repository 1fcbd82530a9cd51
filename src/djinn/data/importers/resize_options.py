"""Options that the importers of files share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

from djinn.config import check_fps
from djinn.data.importers.importer import parse_size
from djinn.data.video import Fit


@dataclass(frozen=True, kw_only=True)
class ResizeOptions:
    """Size and rate of the frames of a data set."""

    size: Annotated[str, arg(metavar="WxH")] = "64x64"
    """Width and height of the frames."""
    fps: float = 10.0
    """Frames per second."""
    fit: Fit = "crop"
    """Fitting to another aspect ratio: crop cuts off the borders, stretch distorts."""

    def __post_init__(self) -> None:
        parse_size(self.size)
        check_fps(self.fps)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of a frame in pixels."""
        return parse_size(self.size)
