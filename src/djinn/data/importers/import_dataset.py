"""Creation of a data set by an importer."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from djinn.data import splits
from djinn.data.dataset import Dataset
from djinn.data.importers.importer import ImportOptions, warn
from djinn.data.importers.registry import importer_of
from djinn.data.store.index import EpisodeRecord
from djinn.data.writer import DatasetWriter

VAL_FRACTION, TEST_FRACTION = 0.05, 0.05
"""Fractions of the sources that are held out, where the importer does not assign splits."""


def import_dataset(options: ImportOptions, out: str | Path) -> Dataset:
    """Read sources and write them as a data set.

    Sources are assigned to splits by a hash of their names. Of two or more sources at least one is
    in `val`. A single source is split by time: its last tenth is `val`. Some importers assign
    splits themselves.

    Args:
        options: Options of an importer, such as `VideoOptions`.
        out: Folder to create. It must not exist, or be empty.

    Returns:
        The data set.

    Raises:
        UserError: `out` cannot be written, a source cannot be read, or the sources contain no
            episode.
    """
    importer = importer_of(options)
    height, width = options.frame_size
    with DatasetWriter(out, height=height, width=width, fps=options.fps) as writer:
        has_splits = True
        with closing(importer.episodes(options)) as episodes:
            for episode in episodes:
                has_splits = episode.split is not None
                writer.add_episode(
                    episode.frames, source=episode.source, split=episode.split or "train", actions=episode.actions
                )
        sources = list(dict.fromkeys(episode.source for episode in writer.episodes))
        writer.metadata = {"kind": importer.kind, **importer.metadata(options, len(sources))}
        if not has_splits:
            writer.episodes = assign_splits(writer.episodes)
    dataset = Dataset.open(out)
    if not has_splits and len(sources) == 1:
        held_out = "its last tenth is split 'val'" if "val" in dataset.splits else "it is too short for a split 'val'"
        warn(f"there is only one source, {sources[0]}, and {held_out}: import more sources to evaluate on others")
    return dataset


def assign_splits(episodes: list[EpisodeRecord]) -> list[EpisodeRecord]:
    """Assign episodes to splits: by source if there are two or more, else by time."""
    sources = list(dict.fromkeys(episode.source for episode in episodes))
    if len(sources) == 1:
        return splits.hold_out_end(episodes)
    split_of = dict(zip(sources, splits.assign(sources, val=VAL_FRACTION, test=TEST_FRACTION), strict=True))
    return [replace(episode, split=split_of[episode.source]) for episode in episodes]
