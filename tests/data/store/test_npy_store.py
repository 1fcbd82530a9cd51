import json

import numpy as np
import pytest

from djinn.data.dataset import Dataset
from djinn.data.loader import Loader
from djinn.data.store import open_store
from djinn.data.writer import DatasetWriter
from djinn.errors import UserError

OLD_INDEX = """{
"format": "djinn-dataset",
"version": 1,
"height": 4,
"width": 6,
"fps": 10.0,
"about": {"kind": "procgen:coinrun", "policy": "turns", "action_names": ["left", "right"]},
"shards": [
  {"file": "frames-00000.npy", "frames": 9, "crc32": "6a8b1f30", "actions": "actions-00000.npy"},
  {"file": "frames-00001.npy", "frames": 4, "crc32": "0badcafe", "actions": "actions-00001.npy"}
],
"episodes": [
  {"shard": 0, "start": 0, "length": 5, "split": "train", "source": "level-1"},
  {"shard": 0, "start": 5, "length": 4, "split": "train", "source": "level-2"},
  {"shard": 1, "start": 0, "length": 4, "split": "val", "source": "level-3"}
]
}
"""
"""Index in the layout of Djinn 0.1.0, which must remain readable."""


@pytest.fixture
def old_dataset(tmp_path) -> Dataset:
    """A data set in the layout of Djinn 0.1.0. Frame f of shard s is filled with 10 s + f."""
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "dataset.json").write_text(OLD_INDEX, encoding="utf-8")
    for shard, count in enumerate((9, 4)):
        frames = np.empty((count, 4, 6, 3), np.uint8)
        frames[:] = (10 * shard + np.arange(count))[:, None, None, None]
        np.save(folder / f"frames-0000{shard}.npy", frames)
        np.save(folder / f"actions-0000{shard}.npy", np.arange(count, dtype=np.int16))
    return Dataset.open(folder)


def test_data_sets_of_earlier_versions_are_read(old_dataset):
    assert (old_dataset.height, old_dataset.width, old_dataset.fps, old_dataset.frames) == (4, 6, 10.0, 13)
    assert old_dataset.splits == {"train": 2, "val": 1} and old_dataset.has_actions
    assert old_dataset.metadata == {
        "kind": "procgen:coinrun",
        "policy": "turns",
        "action_names": ["left", "right"],
    }
    assert old_dataset.identity == "751203e82b657110"
    assert [e.source for e in old_dataset.episodes] == ["level-1", "level-2", "level-3"]
    assert [old_dataset.read(e)[:, 0, 0, 0].tolist() for e in old_dataset.episodes] == [
        [0, 1, 2, 3, 4],
        [5, 6, 7, 8],
        [10, 11, 12, 13],
    ]
    assert [old_dataset.read_actions(e).tolist() for e in old_dataset.episodes] == [[0, 1, 2, 3], [5, 6, 7], [0, 1, 2]]


def test_data_sets_of_earlier_versions_are_trained_on(old_dataset):
    clips = old_dataset.clips("train", 4)
    with Loader(clips, 3) as loader:
        batch = next(loader)
    starts = {0: 0, 1: 1, 2: 5}
    for index, video in zip(batch.indices.tolist(), batch.video, strict=True):
        assert video[:, 0, 0, 0].tolist() == [starts[index] + t for t in range(4)]
    assert clips.actions(batch.indices.numpy()).tolist() == [
        [starts[i], starts[i] + 1, starts[i] + 2] for i in batch.indices.tolist()
    ]


def test_layout_on_disk_is_that_of_earlier_versions(tmp_path):
    metadata = json.loads(OLD_INDEX)["about"]
    with DatasetWriter(tmp_path / "d", height=4, width=6, fps=10.0, metadata=metadata, shard_bytes=9 * 72) as writer:
        for source, length, split in (("level-1", 5, "train"), ("level-2", 4, "train"), ("level-3", 4, "val")):
            frames = np.zeros((length, 4, 6, 3), np.uint8)
            actions = np.arange(length - 1)
            writer.add_episode(frames, source=source, split=split, actions=actions)
    old, new = (json.loads(text) for text in (OLD_INDEX, (tmp_path / "d" / "dataset.json").read_text()))
    for entry in (*old["shards"], *new["shards"]):
        assert len(entry.pop("crc32")) == 8
    assert new == old and list(new) == list(old)
    actions = [np.load(tmp_path / "d" / f"actions-0000{i}.npy") for i in range(2)]
    assert [a.tolist() for a in actions] == [[0, 1, 2, 3, -1, 0, 1, 2, -1], [0, 1, 2, -1]]
    assert [a.dtype for a in actions] == [np.int16, np.int16]


def test_unknown_store_is_refused(tmp_path, old_dataset):
    index = {**json.loads(OLD_INDEX), "store": "lance"}
    (old_dataset.path / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="uses the store 'lance', and this Djinn reads npy"):
        open_store(old_dataset.path)


def write(path, lengths, *, actions=False):
    with DatasetWriter(path, height=4, width=6, fps=10, shard_bytes=10 * 72) as writer:
        for length in lengths:
            frames = np.zeros((length, 4, 6, 3), np.uint8)
            writer.add_episode(
                frames, source="a", split="train", actions=np.zeros(length - 1, np.int64) if actions else None
            )


def test_damaged_data_sets_are_refused_with_the_reason(tmp_path):
    with pytest.raises(UserError, match="no data set at"):
        Dataset.open(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is not a data set"):
        Dataset.open(tmp_path)
    path = tmp_path / "d"
    write(path, [8, 8], actions=True)
    shard = path / "frames-00001.npy"
    intact = shard.read_bytes()
    for bad in (intact[:-40], intact[:50], b"", b"no array at all"):
        shard.write_bytes(bad)
        with pytest.raises(UserError, match=r"frames-00001\.npy"):
            Dataset.open(path)
    shard.unlink()
    with pytest.raises(UserError, match=r"lacks its shard frames-00001\.npy"):
        Dataset.open(path)
    shard.write_bytes(intact)
    index = json.loads((path / "dataset.json").read_text())
    for change in ({"version": 99}, {"format": "other"}, {"shards": None}, {"height": 5}):
        (path / "dataset.json").write_text(json.dumps({**index, **change}))
        with pytest.raises(UserError):
            Dataset.open(path)
    first, *rest = index["episodes"]
    shard = index["shards"][0]
    for change, reason in (
        ({"height": "x"}, "'height' is missing or of the wrong type"),
        ({"about": 3}, "'about' is missing or of the wrong type"),
        ({"fps": 0}, "'fps' is 0"),
        ({"fps": "a"}, "'fps' is 'a'"),
        ({"fps": float("nan")}, "'fps' is nan"),
        ({"shards": [1]}, "shard 0 is not described"),
        (
            {"shards": [{**shard, "file": "../frames-00000.npy"}]},
            "shard 0 is not described by the name of a file in the folder",
        ),
        (
            {"shards": [{**shard, "actions": str(path / "a.npy")}]},
            "the actions of shard 0 are not in a file in the folder",
        ),
        ({"episodes": []}, "it has no episodes"),
        ({"episodes": [{**first, "length": 2.5}, *rest]}, "episode 0 is not described by shard, start, length"),
        ({"episodes": [{**first, "other": 1}, *rest]}, "episode 0 is not described by"),
        ({"episodes": [*rest, {**first, "length": -5}]}, f"episode {len(rest)} has an invalid position"),
        ({"episodes": [{**first, "shard": 9}]}, "episode 0 has an invalid position"),
        ({"episodes": [{**first, "split": "all"}]}, "episode 0 has an invalid position"),
    ):
        (path / "dataset.json").write_text(json.dumps({**index, **change}))
        with pytest.raises(UserError, match=rf"dataset\.json is damaged \({reason}.*re-import the data"):
            Dataset.open(path)
    index["episodes"][0]["length"] = 1000
    (path / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="episode 0 has frames that its shard lacks"):
        Dataset.open(path)
    (path / "dataset.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        Dataset.open(path)


def test_pickled_array_is_not_loaded(tmp_path):
    write(tmp_path / "d", [8])
    np.save(tmp_path / "d" / "frames-00000.npy", np.array([object()], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="damaged"):
        Dataset.open(tmp_path / "d")
