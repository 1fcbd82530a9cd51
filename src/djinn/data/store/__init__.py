"""Storage of frames and ground-truth actions behind the protocol `FrameStore`."""

from djinn.data.store.frame_store import DatasetIndex, EpisodeInfo, FrameStore
from djinn.data.store.open_store import open_store

__all__ = ["DatasetIndex", "EpisodeInfo", "FrameStore", "open_store"]
