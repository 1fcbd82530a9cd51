import os

import numpy as np
import pytest
from films import numbered, numbers

from djinn.data.dataset import Dataset
from djinn.data.importers.videos import _cut, find_videos, import_videos
from djinn.errors import UserError


def test_a_folder_becomes_a_data_set_split_by_file(tmp_path, make_video):
    for i in range(12):
        make_video(f"films/{'deep/er/' if i % 2 else ''}film-{i}.mp4", numbered(12), fps=10)
    dataset = import_videos([tmp_path / "films"], tmp_path / "d", (24, 32))
    assert (dataset.height, dataset.width, dataset.fps, dataset.frames) == (24, 32, 10, 144)
    assert dataset.splits["val"] >= 1 and sum(dataset.splits.values()) == 12
    assert not dataset.has_actions
    assert sorted(e.source for e in dataset.episodes)[0] == "deep/er/film-1.mp4"
    assert all(numbers(dataset.read(e)) == list(range(12)) for e in dataset.episodes)
    again = import_videos([tmp_path / "films"], tmp_path / "again", (24, 32))
    assert again.identity == dataset.identity


def test_rate_is_brought_to_the_one_asked_for(tmp_path, make_video):
    dataset = import_videos([make_video("fast.mp4", numbered(24), fps=30)], tmp_path / "d", (24, 32), fps=10)
    assert [n for e in dataset.episodes for n in numbers(dataset.read(e))] == list(range(0, 24, 3))


def test_a_single_file_is_cut_by_time(tmp_path, make_noise_video, capsys):
    dataset = import_videos([make_noise_video("a.mp4")], tmp_path / "d", (16, 16))
    assert dataset.splits == {"train": 1, "val": 1}
    assert [e.length for e in dataset.episodes] == [36, 4]
    assert "only one file" in capsys.readouterr().err


def test_the_held_out_part_of_a_long_file_is_its_end(tmp_path, make_noise_video, monkeypatch):
    monkeypatch.setattr("djinn.data.importers.videos._PIECE_BYTES", 1)
    dataset = import_videos([make_noise_video("a.mp4", 600)], tmp_path / "d", (16, 16))
    parts = [(e.start, e.length, e.split) for e in dataset.episodes]
    assert parts == [(0, 256, "train"), (256, 256, "train"), (512, 28, "train"), (540, 60, "val")]


@pytest.mark.parametrize("lengths", [(19,), (20,), (256, 30), (256, 29), (256, 2), (256, 256, 3), (10, 9)])
def test_every_part_of_a_film_is_long_enough_to_move(lengths):
    starts = np.cumsum((0, *lengths[:-1])).tolist()
    parts = _cut([{"source": "a", "start": s, "length": n} for s, n in zip(starts, lengths, strict=True)])
    assert sum(p["length"] for p in parts) == sum(lengths) and min(p["length"] for p in parts) >= 2
    assert [p["start"] for p in parts] == np.cumsum([0, *(p["length"] for p in parts[:-1])]).tolist()
    splits = [p["split"] for p in parts]
    assert splits == sorted(splits) and ("val" in splits) == (sum(lengths) >= 15)


def test_bad_files_in_a_folder_are_left_out_with_a_word(tmp_path, make_noise_video, capsys):
    for i in range(3):
        make_noise_video(f"films/good-{i}.mp4", 20)
    cut = make_noise_video("films/cut.mp4", options={"movflags": "+faststart"})
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 6 // 10])
    (tmp_path / "films" / "letter.mp4").write_text("dear")
    (tmp_path / "films" / "notes.txt").write_text("not looked at")
    make_noise_video("films/one.mp4", 1)
    dataset = import_videos([tmp_path / "films"], tmp_path / "d", (16, 16))
    words = capsys.readouterr().err
    assert {e.source for e in dataset.episodes} == {"good-0.mp4", "good-1.mp4", "good-2.mp4", "cut.mp4"}
    assert "letter.mp4 is not a video" in words and "2 of 6 files were left out" in words
    assert "cut.mp4 is damaged or cut short" in words and "one.mp4 has fewer than 2 frames" in words
    assert dataset.metadata["files"] == 4 and {"train", "val"} <= set(dataset.splits)


def test_what_remains_can_be_trained_and_measured(tmp_path, make_noise_video):
    for good in range(4):
        folder = tmp_path / f"films-{good}"
        make_noise_video(f"films-{good}/film-{good}.mp4", 30)
        for bad in set(range(4)) - {good}:
            (folder / f"film-{bad}.mp4").write_text("dear")
        assert import_videos([folder], tmp_path / f"d-{good}", (16, 16)).splits == {"train": 1, "val": 1}


def test_a_bad_file_that_was_named_is_an_error_and_leaves_nothing(tmp_path, make_noise_video):
    (tmp_path / "letter.mp4").write_text("dear")
    good = make_noise_video("good.mp4")
    short = make_noise_video("short.mp4", 1)
    for bad, why in (
        (tmp_path / "letter.mp4", "is not a video"),
        (short, "has fewer than 2 frames at 10 frames/s: leave"),
    ):
        with pytest.raises(UserError, match=rf"{bad.name} {why}"):
            import_videos([good, bad], tmp_path / "d", (16, 16))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["good.mp4", "letter.mp4", "short.mp4"]


def test_nothing_to_import(tmp_path):
    (tmp_path / "films").mkdir()
    with pytest.raises(UserError, match="holds no video file"):
        import_videos([tmp_path / "films"], tmp_path / "d", (16, 16))
    (tmp_path / "films" / "letter.mp4").write_text("dear")
    with pytest.raises(UserError, match="none of the 1 video files"):
        import_videos([tmp_path / "films"], tmp_path / "d", (16, 16))
    with pytest.raises(UserError, match="no file or folder at"):
        import_videos([tmp_path / "nowhere"], tmp_path / "d", (16, 16))
    with pytest.raises(UserError, match="at least one"):
        import_videos([], tmp_path / "d", (16, 16))
    assert not (tmp_path / "d").exists()


def test_names_that_are_no_unicode_and_a_folder_without_a_name(tmp_path, make_noise_video):
    make_noise_video("a.mp4", 12)
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    os.rename(tmp_path / "a.mp4", odd)
    data = import_videos([odd], tmp_path / "d", (16, 16))
    assert {episode.source for episode in data.episodes} == {"caf\ufffd.mp4"}
    for nameless in (".", ".."):
        with pytest.raises(UserError, match="has no name of its own: name a folder"):
            import_videos([odd], nameless, (16, 16))


def test_each_file_once_and_names_told_apart(tmp_path, make_noise_video):
    one, other = make_noise_video("a/film.mp4", 4), make_noise_video("b/film.mp4", 4)
    files = find_videos([tmp_path / "a", one, tmp_path / "b"])
    assert [f.path for f in files] == [one, other]
    assert len({f.name for f in files}) == 2


def test_linked_folders_are_read_and_links_that_lead_back_are_not(tmp_path, make_noise_video):
    make_noise_video("far/a.mp4", 4)
    make_noise_video("mine/sub/b.mp4", 4)
    (tmp_path / "mine" / "link").symlink_to(tmp_path / "far")
    (tmp_path / "mine" / "sub" / "up").symlink_to(tmp_path / "mine")
    assert [file.name for file in find_videos([tmp_path / "mine"])] == ["link/a.mp4", "sub/b.mp4"]


def test_a_long_file_is_read_in_pieces(tmp_path, make_noise_video, monkeypatch):
    monkeypatch.setattr("djinn.data.importers.videos._PIECE_BYTES", 1)
    dataset = import_videos([make_noise_video(f"{i}.mp4", 300) for i in range(2)], tmp_path / "d", (16, 16))
    assert [e.length for e in dataset.episodes] == [256, 44, 256, 44]
    assert len({(e.source, e.split) for e in dataset.episodes}) == 2
    assert np.array_equal(Dataset.open(tmp_path / "d").read(dataset.episodes[1]).shape, (44, 16, 16, 3))
