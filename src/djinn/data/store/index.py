"""The index of a data set on disk, `dataset.json`: reading, validation, writing.

A data set is a folder::

    dataset.json          frame size, fps, shards, episodes, and how the data set was created
    frames-00000.npy      uint8 (F, H, W, 3), about 512 MB each
    actions-00000.npy     int16 (F,), only where the ground-truth actions are known

An episode is an unbroken run of frames within one shard. Action t moves frame t to frame t + 1; the
last frame of an episode has action -1.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from djinn.atomic import read_error
from djinn.data.splits import SPLITS
from djinn.errors import UserError

FORMAT = "djinn-dataset"
VERSION = 1
INDEX_FILE = "dataset.json"
METADATA_KEY = "about"
"""Key of the metadata in `dataset.json`. Data sets of earlier versions have it, so it is kept."""


@dataclass(frozen=True)
class EpisodeRecord:
    """Entry of the index for one episode."""

    shard: int
    """Number of the shard."""
    start: int
    """First frame, from 0 within the shard."""
    length: int
    """Number of frames."""
    split: str
    source: str
    """Origin of the frames, such as a file name or a level."""


@dataclass(frozen=True)
class ShardRecord:
    """Entry of the index for one shard."""

    file: str
    """Name of the `.npy` file with the frames."""
    frames: int
    """Number of frames."""
    crc32: str | None = None
    """Checksum of the frames, 8 hexadecimal digits."""
    actions: str | None = None
    """Name of the `.npy` file with the ground-truth actions."""


@dataclass(frozen=True)
class IndexFile:
    """Content of `dataset.json`."""

    height: int
    width: int
    fps: float
    metadata: dict[str, Any]
    shards: tuple[ShardRecord, ...]
    episodes: tuple[EpisodeRecord, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of the file."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "height": self.height,
            "width": self.width,
            "fps": self.fps,
            METADATA_KEY: self.metadata,
            "shards": [{k: v for k, v in dataclasses.asdict(s).items() if v is not None} for s in self.shards],
            "episodes": [dataclasses.asdict(episode) for episode in self.episodes],
        }


def read_index(folder: Path) -> dict[str, Any]:
    """Read and validate `dataset.json`.

    Returns:
        The JSON object, for `parse_index` and for checksums.

    Raises:
        UserError: `folder` is not a data set, cannot be read, or its index is damaged.
    """
    file = folder / INDEX_FILE
    try:
        if not folder.exists():
            raise UserError(f"no data set at {folder}: create one with `djinn data import SOURCE --out {folder}`")
        text = file.read_text(encoding="utf-8")
        index = json.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder} is not a data set{_describe_other(folder)}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise UserError(f"the index {file} is damaged: re-import the data") from None
    except OSError as error:
        raise read_error(file, error) from None
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise UserError(f"{file} is not the index of a Djinn data set: give a folder that `djinn data import` created")
    if index.get("version") != VERSION:
        raise UserError(
            f"{folder} is a data set of version {index.get('version')}, but this Djinn reads version {VERSION}: "
            "re-import the data"
        )
    fault = _find_fault(index)
    if fault is not None:
        raise UserError(f"the index {file} is damaged ({fault}): re-import the data")
    return index


def parse_index(index: dict[str, Any]) -> IndexFile:
    """Convert the JSON object of a valid index."""
    shard_keys = [field.name for field in dataclasses.fields(ShardRecord)]
    return IndexFile(
        height=index["height"],
        width=index["width"],
        fps=float(index["fps"]),
        metadata=index[METADATA_KEY],
        shards=tuple(ShardRecord(**{k: v for k, v in s.items() if k in shard_keys}) for s in index["shards"]),
        episodes=tuple(EpisodeRecord(**episode) for episode in index["episodes"]),
    )


def write_index(folder: Path, index: IndexFile) -> None:
    """Write `dataset.json` with one line per shard and episode."""
    lines = []
    for key, value in index.to_json().items():
        if key in ("shards", "episodes"):
            rows = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in value)
            lines.append(f"{json.dumps(key)}: [\n{rows}\n]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    (folder / INDEX_FILE).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _describe_other(path: Path) -> str:
    """Return what a path without an index is, and the remedy."""
    if not path.is_dir():
        return ": it is a file; give the folder that `djinn data import` created"
    for folder in (path, path / "world"):
        if (folder / "model.safetensors").is_file():
            return ": it is a world; give the folder that `djinn data import` created"
    return f" (it has no {INDEX_FILE}): create one with `djinn data import`"


def _find_fault(index: dict[str, Any]) -> str | None:
    """Return what is wrong with an index, or None. Its content is not trusted."""
    for name, kind in (("height", int), ("width", int), ("shards", list), ("episodes", list), (METADATA_KEY, dict)):
        if type(index.get(name)) is not kind:
            return f"'{name}' is missing or of the wrong type"
    fps = index.get("fps")
    if not isinstance(fps, int | float) or not 0 < fps < math.inf:
        return f"'fps' is {fps!r}"
    for i, entry in enumerate(index["shards"]):
        if not isinstance(entry, dict) or type(entry.get("frames")) is not int or not _is_file_name(entry.get("file")):
            return f"shard {i} is not described by the name of a file in the folder and its number of frames"
        if entry.get("actions") is not None and not _is_file_name(entry["actions"]):
            return f"the actions of shard {i} are not in a file in the folder"
    if len({entry.get("actions") is None for entry in index["shards"]}) > 1:
        return "only some shards have actions"
    shards = range(len(index["shards"]))
    fields = {field.name: field.type for field in dataclasses.fields(EpisodeRecord)}
    for i, entry in enumerate(index["episodes"]):
        if not isinstance(entry, dict) or {key: type(value).__name__ for key, value in entry.items()} != fields:
            return f"episode {i} is not described by {', '.join(fields)}"
        if entry["shard"] not in shards or entry["start"] < 0 or entry["length"] < 1 or entry["split"] not in SPLITS:
            return f"episode {i} has an invalid position, length or split"
        if entry["start"] + entry["length"] > index["shards"][entry["shard"]]["frames"]:
            return f"episode {i} has frames that its shard lacks"
    return None if index["episodes"] else "it has no episodes"


def _is_file_name(value: Any) -> bool:
    """Return whether `value` is a file name without a folder, so that nothing outside is read."""
    return isinstance(value, str) and value not in ("", ".", "..") and not set(value) & set("/\\\0")
