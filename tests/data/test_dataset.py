import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from djinn.data.dataset import Dataset
from djinn.data.loader import Loader
from djinn.data.store import DatasetIndex, EpisodeInfo
from djinn.data.store.index import parse_index, read_index
from djinn.data.writer import DatasetWriter
from djinn.errors import UserError


def write(path, lengths, *, actions=False, split="train", shard_frames=10, size=(4, 6)):
    """Write episodes. Frame f of episode e is e at [0, 0, 0] and f everywhere else."""
    with DatasetWriter(
        path, height=size[0], width=size[1], fps=10, shard_bytes=shard_frames * size[0] * size[1] * 3
    ) as writer:
        for e, length in enumerate(lengths):
            frames = np.empty((length, *size, 3), dtype=np.uint8)
            frames[:] = np.arange(length)[:, None, None, None]
            frames[:, 0, 0, 0] = e
            known_actions = 100 * e + np.arange(length - 1) if actions else None
            writer.add_episode(frames, source=f"video-{e}", split=split, actions=known_actions)
    return Dataset.open(path)


def test_frames_and_actions_are_read_as_written(tmp_path):
    dataset = write(tmp_path / "d", [5, 7, 3], actions=True)
    assert (dataset.height, dataset.width, dataset.fps, dataset.frames) == (4, 6, 10.0, 15)
    assert dataset.splits == {"train": 3}
    assert [e.index for e in dataset.episodes] == [0, 1, 2]
    assert [e.shard for e in parse_index(read_index(tmp_path / "d")).episodes] == [0, 1, 1]
    for e, episode in enumerate(dataset.episodes):
        frames = dataset.read(episode)
        assert (frames[:, 0, 0, 0] == e).all()
        assert frames[:, 1, 1, 1].tolist() == list(range(episode.length))
        assert dataset.read_actions(episode).tolist() == [100 * e + i for i in range(episode.length - 1)]
    assert np.load(tmp_path / "d" / "frames-00001.npy", allow_pickle=False).shape == (10, 4, 6, 3)


@pytest.mark.parametrize("stride", [1, 3])
def test_all_clips_are_read_and_none_crosses_an_episode(tmp_path, stride):
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
    assert episodes == [f"video-{e}" for e, _ in expected]


def test_actions_are_none_without_ground_truth_actions(tmp_path):
    assert write(tmp_path / "d", [6, 6, 6]).clips("train", 6).actions(np.array([0])) is None


def test_clip_index_out_of_range_is_refused(tmp_path):
    clips = write(tmp_path / "d", [5]).clips("train", 4)
    for index in (-1, 2):
        with pytest.raises(IndexError):
            clips.batch(np.array([index]))


def test_episode_longer_than_a_shard_is_cut(tmp_path):
    dataset = write(tmp_path / "d", [25], actions=True)
    assert [e.length for e in dataset.episodes] == [10, 10, 5]
    assert [dataset.read_actions(e).tolist() for e in dataset.episodes][1] == list(range(10, 19))


def test_identity_depends_on_the_frames(tmp_path):
    one, same = write(tmp_path / "a", [5, 5]), write(tmp_path / "b", [5, 5])
    with DatasetWriter(tmp_path / "c", height=4, width=6, fps=10) as writer:
        for e in range(2):
            writer.add_episode(np.full((5, 4, 6, 3), 9, np.uint8), source=f"video-{e}", split="train")
    assert one.identity == same.identity != Dataset.open(tmp_path / "c").identity


def test_clips_longer_than_all_episodes_are_refused(tmp_path):
    dataset = write(tmp_path / "d", [5, 7])
    with pytest.raises(UserError, match=r"no episode of split 'train' .* has 9 frames; the longest has 7"):
        dataset.clips("train", 9)
    with pytest.raises(UserError, match=r"no split 'val' \(it has: train\)"):
        dataset.clips("val", 2)


def test_existing_files_are_not_overwritten(tmp_path):
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


def test_failed_writer_leaves_no_files(tmp_path):
    with pytest.raises(RuntimeError), DatasetWriter(tmp_path / "d", height=4, width=6, fps=10) as writer:
        writer.add_episode(np.zeros((5, 4, 6, 3), np.uint8), source="a", split="train")
        raise RuntimeError
    with pytest.raises(UserError, match="nothing to write"), DatasetWriter(tmp_path / "d", height=4, width=6, fps=10):
        pass
    assert list(tmp_path.iterdir()) == []


def test_folders_of_killed_writers_are_removed_and_of_running_ones_are_kept(tmp_path):
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    prefix = f"d.importing-{socket.gethostname()}-"
    for name in (
        f"{prefix}{killed.pid}",
        f"{prefix}{os.getppid()}",
        f"d.importing-elsewhere-{killed.pid}",
        "d.importing",
    ):
        (tmp_path / name).mkdir()
    write(tmp_path / "d", [5])
    remaining = {p.name for p in tmp_path.iterdir()}
    assert remaining == {"d", f"{prefix}{os.getppid()}", f"d.importing-elsewhere-{killed.pid}", "d.importing"}


def test_full_disk_is_reported_and_leaves_no_files(tmp_path, monkeypatch):
    def full(self, rows):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("djinn.data.store.npy_writer._NpyFile.append", full)
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
def test_writer_refuses_invalid_episodes(tmp_path, frames, split, actions):
    writer = DatasetWriter(tmp_path / "d", height=4, width=6, fps=10)
    with pytest.raises(UserError):
        writer.add_episode(frames, source="a", split=split, actions=actions)
    writer.abandon()


def test_actions_are_given_for_all_episodes_or_for_none(tmp_path):
    writer = DatasetWriter(tmp_path / "d", height=4, width=6, fps=10)
    frames = np.zeros((5, 4, 6, 3), np.uint8)
    writer.add_episode(frames, source="a", split="train", actions=np.zeros(4, np.int64))
    with pytest.raises(UserError, match="for all episodes"):
        writer.add_episode(frames, source="b", split="train")
    writer.abandon()


def test_writer_creates_nothing_before_the_first_episode(tmp_path):
    with pytest.raises(RuntimeError), DatasetWriter(tmp_path / "new" / "d", height=4, width=6, fps=10):
        assert list(tmp_path.iterdir()) == []
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["/proc/new", "/proc/new/d", "{tmp_path}/file/d"])
def test_output_that_cannot_be_created_is_refused(tmp_path, path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"choose another one|give the name of a folder"):
        DatasetWriter(path.format(tmp_path=tmp_path), height=4, width=6, fps=10)


@pytest.mark.parametrize("length", [250, 300])
def test_output_with_too_long_a_name_is_refused(tmp_path, length):
    with pytest.raises(UserError, match=r"cannot write data set .* \(file name too long\): choose another folder"):
        DatasetWriter(tmp_path / ("d" * length), height=4, width=6, fps=10)


def test_dataset_reads_from_any_store():
    class Store:
        """Frames that are computed instead of stored."""

        index = DatasetIndex(2, 2, 10.0, False, {}, (EpisodeInfo(0, 5, "train", "a"), EpisodeInfo(1, 4, "train", "b")))
        identity = "0"
        size_in_bytes = 0

        def read(self, episode, start, length):
            frames = np.empty((length, 2, 2, 3), np.uint8)
            frames[:] = (10 * episode + np.arange(start, start + length))[:, None, None, None]
            return frames

        def read_actions(self, episode, start, length):
            raise NotImplementedError

    dataset = Dataset(Path("computed"), Store())
    clips = dataset.clips("train", 3)
    with Loader(clips, 5) as loader:
        batch = next(loader)
    first = {0: 0, 1: 1, 2: 2, 3: 10, 4: 11}
    assert sorted(batch.indices.tolist()) == list(first)
    for index, video in zip(batch.indices.tolist(), batch.video, strict=True):
        assert video[:, 0, 0, 0].tolist() == [first[index] + t for t in range(3)]
    assert clips.actions(np.array([0])) is None
