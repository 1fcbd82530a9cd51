import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from djinn.data.dataset import Dataset
from djinn.data.writer import DatasetWriter
from djinn.errors import UserError


def write(path, lengths, *, actions=False, split="train", shard_frames=10, size=(4, 6)):
    """Episode e's frame f is filled with e at [0, 0, 0] and f everywhere else."""
    with DatasetWriter(
        path, height=size[0], width=size[1], fps=10, shard_bytes=shard_frames * size[0] * size[1] * 3
    ) as writer:
        for e, length in enumerate(lengths):
            frames = np.empty((length, *size, 3), dtype=np.uint8)
            frames[:] = np.arange(length)[:, None, None, None]
            frames[:, 0, 0, 0] = e
            moves = 100 * e + np.arange(length - 1) if actions else None
            writer.add_episode(frames, source=f"film-{e}", split=split, actions=moves)
    return Dataset.open(path)


def test_what_is_written_is_read(tmp_path):
    dataset = write(tmp_path / "d", [5, 7, 3], actions=True)
    assert (dataset.height, dataset.width, dataset.fps, dataset.frames) == (4, 6, 10.0, 15)
    assert dataset.splits == {"train": 3}
    assert [e.shard for e in dataset.episodes] == [0, 1, 1]
    for e, episode in enumerate(dataset.episodes):
        frames = dataset.read(episode)
        assert (frames[:, 0, 0, 0] == e).all()
        assert frames[:, 1, 1, 1].tolist() == list(range(episode.length))
        assert dataset.read_actions(episode).tolist() == [100 * e + i for i in range(episode.length - 1)]
    assert np.load(tmp_path / "d" / "frames-00001.npy", allow_pickle=False).shape == (10, 4, 6, 3)


@pytest.mark.parametrize("stride", [1, 3])
def test_clips_never_cross_an_episode_and_are_all_there(tmp_path, stride):
    lengths = [5, 7, 3, 4, 2]
    clips = write(tmp_path / "d", lengths, actions=True).clips("train", 4, stride)
    video = clips.batch(np.arange(len(clips)))
    actions = clips.actions(np.arange(len(clips)))
    expected = [(e, start) for e, n in enumerate(lengths) for start in range(0, n - 3, stride)]
    assert [(v[0, 0, 0, 0], v[0, 1, 1, 1]) for v in video] == expected
    assert all((v[:, 0, 0, 0] == v[0, 0, 0, 0]).all() and (np.diff(v[:, 1, 1, 1]) == 1).all() for v in video)
    assert actions.tolist() == [[100 * e + s, 100 * e + s + 1, 100 * e + s + 2] for e, s in expected]
    assert video.dtype == np.uint8 and video.flags.c_contiguous and actions.dtype == np.int64
    episodes = [clips.episodes[i].source for i in clips.episode_of(np.arange(len(clips)))]
    assert episodes == [f"film-{e}" for e, _ in expected]


def test_without_true_actions_there_are_none(tmp_path):
    assert write(tmp_path / "d", [6, 6, 6]).clips("train", 6).actions(np.array([0])) is None


def test_clip_index_out_of_range(tmp_path):
    clips = write(tmp_path / "d", [5]).clips("train", 4)
    for index in (-1, 2):
        with pytest.raises(IndexError):
            clips.batch(np.array([index]))


def test_episode_longer_than_a_shard_is_cut(tmp_path):
    dataset = write(tmp_path / "d", [25], actions=True)
    assert [e.length for e in dataset.episodes] == [10, 10, 5]
    assert [dataset.read_actions(e).tolist() for e in dataset.episodes][1] == list(range(10, 19))


def test_identity_follows_content(tmp_path):
    one, same = write(tmp_path / "a", [5, 5]), write(tmp_path / "b", [5, 5])
    with DatasetWriter(tmp_path / "c", height=4, width=6, fps=10) as writer:
        for e in range(2):
            writer.add_episode(np.full((5, 4, 6, 3), 9, np.uint8), source=f"film-{e}", split="train")
    assert one.identity == same.identity != Dataset.open(tmp_path / "c").identity


def test_no_episode_is_long_enough(tmp_path):
    dataset = write(tmp_path / "d", [5, 7])
    with pytest.raises(UserError, match=r"no episode of split 'train' .* has 9 frames; the longest has 7"):
        dataset.clips("train", 9)
    with pytest.raises(UserError, match=r"no split 'val' \(it has: train\)"):
        dataset.clips("val", 2)


def test_existing_data_are_never_touched(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="exists already"):
        write(tmp_path / "full", [5])
    assert (tmp_path / "full" / "letter.txt").read_text() == "dear"
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    with pytest.raises(UserError, match="exists already"):
        write(tmp_path / "link", [5])
    assert write(tmp_path / "empty", [5]).frames == 5


def test_a_failed_writer_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), DatasetWriter(tmp_path / "d", height=4, width=6, fps=10) as writer:
        writer.add_episode(np.zeros((5, 4, 6, 3), np.uint8), source="a", split="train")
        raise RuntimeError
    with pytest.raises(UserError, match="nothing to write"), DatasetWriter(tmp_path / "d", height=4, width=6, fps=10):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_removed_and_a_running_one_is_left_alone(tmp_path):
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    begin = f"d.importing-{socket.gethostname()}-"
    for name in (
        f"{begin}{killed.pid}",
        f"{begin}{os.getppid()}",
        f"d.importing-elsewhere-{killed.pid}",
        "d.importing",
    ):
        (tmp_path / name).mkdir()
    write(tmp_path / "d", [5])
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"d", f"{begin}{os.getppid()}", f"d.importing-elsewhere-{killed.pid}", "d.importing"}


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def full(self, rows):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("djinn.data.writer._ArrayFile.append", full)
    with pytest.raises(UserError, match="disk is full"):
        write(tmp_path / "d", [5])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "frames, split, actions",
    [
        (np.zeros((5, 4, 5, 3), np.uint8), "train", None),
        (np.zeros((5, 4, 6, 3), np.float32), "train", None),
        (np.zeros((1, 4, 6, 3), np.uint8), "train", None),
        (np.zeros((5, 4, 6, 3), np.uint8), "dev", None),
        (np.zeros((5, 4, 6, 3), np.uint8), "train", np.zeros(5, np.int64)),
    ],
)
@pytest.mark.unchecked
def test_writer_refuses_what_does_not_fit(tmp_path, frames, split, actions):
    writer = DatasetWriter(tmp_path / "d", height=4, width=6, fps=10)
    with pytest.raises(UserError):
        writer.add_episode(frames, source="a", split=split, actions=actions)
    writer.abandon()


def test_actions_for_all_or_none(tmp_path):
    writer = DatasetWriter(tmp_path / "d", height=4, width=6, fps=10)
    frames = np.zeros((5, 4, 6, 3), np.uint8)
    writer.add_episode(frames, source="a", split="train", actions=np.zeros(4, np.int64))
    with pytest.raises(UserError, match="for all episodes"):
        writer.add_episode(frames, source="b", split="train")
    writer.abandon()


def test_damage_is_named(tmp_path):
    with pytest.raises(UserError, match="no data set at"):
        Dataset.open(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is not a data set"):
        Dataset.open(tmp_path)
    path = tmp_path / "d"
    write(path, [8, 8], actions=True)
    shard = path / "frames-00001.npy"
    whole = shard.read_bytes()
    for bad in (whole[:-40], whole[:50], b"", b"no array at all"):
        shard.write_bytes(bad)
        with pytest.raises(UserError, match=r"frames-00001\.npy"):
            Dataset.open(path)
    shard.unlink()
    with pytest.raises(UserError, match=r"lacks its shard frames-00001\.npy"):
        Dataset.open(path)
    shard.write_bytes(whole)
    index = json.loads((path / "dataset.json").read_text())
    for change in ({"version": 99}, {"format": "other"}, {"shards": None}, {"height": 5}):
        (path / "dataset.json").write_text(json.dumps({**index, **change}))
        with pytest.raises(UserError):
            Dataset.open(path)
    first, *rest = index["episodes"]
    shard = index["shards"][0]
    for change, told in (
        ({"height": "x"}, "'height' is missing or not what"),
        ({"about": 3}, "'about' is missing or not what"),
        ({"fps": 0}, "'fps' is 0"),
        ({"fps": "a"}, "'fps' is 'a'"),
        ({"fps": float("nan")}, "'fps' is nan"),
        ({"shards": [1]}, "shard 0 is not described"),
        ({"shards": [{**shard, "file": "../frames-00000.npy"}]}, "shard 0 is not described by a file of the folder"),
        (
            {"shards": [{**shard, "actions": str(path / "a.npy")}]},
            "the actions of shard 0 are not in a file of the folder",
        ),
        ({"episodes": []}, "it has no episodes"),
        ({"episodes": [{**first, "length": 2.5}, *rest]}, "episode 0 is not described by shard, start, length"),
        ({"episodes": [{**first, "other": 1}, *rest]}, "episode 0 is not described by"),
        ({"episodes": [*rest, {**first, "length": -5}]}, f"episode {len(rest)} cannot be where"),
        ({"episodes": [{**first, "shard": 9}]}, "episode 0 cannot be where"),
        ({"episodes": [{**first, "split": "all"}]}, "episode 0 cannot be where"),
    ):
        (path / "dataset.json").write_text(json.dumps({**index, **change}))
        with pytest.raises(UserError, match=rf"dataset\.json is damaged \({told}.*import the data again"):
            Dataset.open(path)
    index["episodes"][0]["length"] = 1000
    (path / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="names frames that no shard has"):
        Dataset.open(path)
    (path / "dataset.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        Dataset.open(path)


def test_a_pickled_array_is_not_loaded(tmp_path):
    write(tmp_path / "d", [8])
    np.save(tmp_path / "d" / "frames-00000.npy", np.array([object()], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="damaged"):
        Dataset.open(tmp_path / "d")
