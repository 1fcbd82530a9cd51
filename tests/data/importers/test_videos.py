import os

import numpy as np
import pytest
from PIL import Image
from synthetic_videos import numbered, numbers

from djinn.data.dataset import Dataset
from djinn.data.importers.import_dataset import import_dataset
from djinn.data.importers.videos import VideoOptions, find_videos
from djinn.data.splits import hold_out_end
from djinn.data.store.index import EpisodeRecord, parse_index, read_index
from djinn.errors import UserError


def import_videos(sources, out, size=(16, 16), **options) -> Dataset:
    text = f"{size[1]}x{size[0]}"
    return import_dataset(VideoOptions(tuple(map(str, sources)), size=text, **options), out)


def records(folder) -> tuple[EpisodeRecord, ...]:
    return parse_index(read_index(folder)).episodes


def test_files_of_a_folder_are_split_by_file(tmp_path, make_video):
    for i in range(12):
        make_video(f"videos/{'deep/er/' if i % 2 else ''}video-{i}.mp4", numbered(12), fps=10)
    dataset = import_videos([tmp_path / "videos"], tmp_path / "d", (24, 32))
    assert (dataset.height, dataset.width, dataset.fps, dataset.frames) == (24, 32, 10, 144)
    assert dataset.splits["val"] >= 1 and sum(dataset.splits.values()) == 12
    assert not dataset.has_actions
    assert sorted(e.source for e in dataset.episodes)[0] == "deep/er/video-1.mp4"
    assert all(numbers(dataset.read(e)) == list(range(12)) for e in dataset.episodes)
    repeated = import_videos([tmp_path / "videos"], tmp_path / "repeated", (24, 32))
    assert repeated.identity == dataset.identity


def test_frames_are_resampled_to_the_requested_rate(tmp_path, make_video):
    dataset = import_videos([make_video("fast.mp4", numbered(24), fps=30)], tmp_path / "d", (24, 32), fps=10)
    assert [n for e in dataset.episodes for n in numbers(dataset.read(e))] == list(range(0, 24, 3))


def test_single_file_is_split_by_time(tmp_path, make_noise_video, capsys):
    dataset = import_videos([make_noise_video("a.mp4")], tmp_path / "d")
    assert dataset.splits == {"train": 1, "val": 1}
    assert [e.length for e in dataset.episodes] == [36, 4]
    assert "only one source, a.mp4, and its last tenth is split 'val'" in capsys.readouterr().err


def test_single_short_file_has_no_held_out_part(tmp_path, make_noise_video, capsys):
    assert import_videos([make_noise_video("a.mp4", 8)], tmp_path / "d").splits == {"train": 1}
    assert "it is too short for a split 'val'" in capsys.readouterr().err


def test_held_out_part_of_a_long_file_is_its_end(tmp_path, make_noise_video, monkeypatch):
    monkeypatch.setattr("djinn.data.importers.importer._RUN_BYTES", 1)
    import_videos([make_noise_video("a.mp4", 600)], tmp_path / "d")
    parts = [(e.start, e.length, e.split) for e in records(tmp_path / "d")]
    assert parts == [(0, 256, "train"), (256, 256, "train"), (512, 28, "train"), (540, 60, "val")]


@pytest.mark.parametrize("lengths", [(19,), (20,), (256, 30), (256, 29), (256, 2), (256, 256, 3), (10, 9)])
def test_held_out_parts_have_at_least_two_frames(lengths):
    starts = np.cumsum((0, *lengths[:-1])).tolist()
    parts = hold_out_end([EpisodeRecord(0, s, n, "train", "a") for s, n in zip(starts, lengths, strict=True)])
    assert sum(p.length for p in parts) == sum(lengths) and min(p.length for p in parts) >= 2
    assert [p.start for p in parts] == np.cumsum([0, *(p.length for p in parts[:-1])]).tolist()
    splits = [p.split for p in parts]
    assert splits == sorted(splits) and ("val" in splits) == (sum(lengths) >= 15)


def test_unusable_files_in_a_folder_are_skipped_with_the_reason(tmp_path, make_noise_video, capsys):
    for i in range(3):
        make_noise_video(f"videos/good-{i}.mp4", 20)
    cut = make_noise_video("videos/cut.mp4", options={"movflags": "+faststart"})
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 6 // 10])
    (tmp_path / "videos" / "letter.mp4").write_text("dear")
    (tmp_path / "videos" / "notes.txt").write_text("not a video")
    Image.new("RGB", (32, 32)).save(tmp_path / "videos" / "image.mp4", format="PNG")
    make_noise_video("videos/one.mp4", 1)
    dataset = import_videos([tmp_path / "videos"], tmp_path / "d")
    output = capsys.readouterr().err
    assert {e.source for e in dataset.episodes} == {"good-0.mp4", "good-1.mp4", "good-2.mp4", "cut.mp4"}
    assert "letter.mp4 is not a video" in output and "3 of 7 files were skipped" in output
    assert "cut.mp4 is damaged or cut short" in output and "one.mp4 has a single frame" in output
    assert "image.mp4 is an image, not a video" in output
    assert dataset.metadata["files"] == 4 and {"train", "val"} <= set(dataset.splits)


def test_remaining_files_are_in_train_and_val(tmp_path, make_noise_video):
    for good in range(4):
        folder = tmp_path / f"videos-{good}"
        make_noise_video(f"videos-{good}/video-{good}.mp4", 30)
        for bad in set(range(4)) - {good}:
            (folder / f"video-{bad}.mp4").write_text("dear")
        assert import_videos([folder], tmp_path / f"d-{good}").splits == {"train": 1, "val": 1}


def test_unusable_given_file_is_refused_and_nothing_is_written(tmp_path, make_noise_video):
    (tmp_path / "letter.mp4").write_text("dear")
    good = make_noise_video("good.mp4")
    single = make_noise_video("single.mp4", 1)
    short = make_noise_video("short.mp4", 3)
    for bad, fps, reason in (
        (tmp_path / "letter.mp4", 10, "is not a video"),
        (single, 10, "has a single frame, and an episode needs 2: leave it out"),
        (short, 1, "has fewer than 2 frames at 1 frames/s: leave it out or import it with a higher --fps"),
    ):
        with pytest.raises(UserError, match=rf"{bad.name} {reason}"):
            import_videos([good, bad], tmp_path / "d", fps=fps)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["good.mp4", "letter.mp4", "short.mp4", "single.mp4"]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tiff"])
def test_image_is_refused_with_the_kind_that_imports_it(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    Image.new("RGB", (32, 32), "red").save(path)
    with pytest.raises(UserError, match=f"image{suffix} is an image, not a video: .* `djinn data import images`"):
        import_videos([path], tmp_path / "d")


def test_sources_without_videos_are_refused(tmp_path, make_images, make_noise_video):
    (tmp_path / "videos").mkdir()
    with pytest.raises(UserError, match="contains no video file"):
        import_videos([tmp_path / "videos"], tmp_path / "d")
    (tmp_path / "videos" / "letter.mp4").write_text("dear")
    with pytest.raises(UserError, match="none of the 1 video files"):
        import_videos([tmp_path / "videos"], tmp_path / "d")
    with pytest.raises(UserError, match="no file or folder at"):
        import_videos([tmp_path / "nowhere"], tmp_path / "d")
    with pytest.raises(UserError, match="at least one"):
        import_videos([], tmp_path / "d")
    images = make_images("images", numbered(3))
    with pytest.raises(UserError, match=r"contains 3 images but no video file: .* `djinn data import images"):
        import_videos([images], tmp_path / "d")
    assert not (tmp_path / "d").exists()
    import_videos([make_noise_video("a.mp4", 12)], tmp_path / "d")
    with pytest.raises(UserError, match="is a data set already"):
        import_videos([tmp_path / "d"], tmp_path / "e")


def test_links_without_target_and_pipes_are_refused(tmp_path):
    (tmp_path / "link.mp4").symlink_to("missing.mp4")
    with pytest.raises(UserError, match=r"link\.mp4 is a link to missing\.mp4, which does not exist"):
        import_videos([tmp_path / "link.mp4"], tmp_path / "d")
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(UserError, match=r"pipe\.mp4 is neither a file nor a folder"):
        import_videos([tmp_path / "pipe.mp4"], tmp_path / "d")


def test_file_names_that_are_not_unicode_and_outputs_without_a_name(tmp_path, make_noise_video):
    make_noise_video("a.mp4", 12)
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    os.rename(tmp_path / "a.mp4", path)
    data = import_videos([path], tmp_path / "d")
    assert {episode.source for episode in data.episodes} == {"caf\ufffd.mp4"}
    for nameless in (".", ".."):
        with pytest.raises(UserError, match="has no name of its own: give the name of a new folder"):
            import_videos([path], nameless)


def test_each_file_is_found_once_and_names_are_unique(tmp_path, make_noise_video):
    one, other = make_noise_video("a/video.mp4", 4), make_noise_video("b/video.mp4", 4)
    files = find_videos([str(tmp_path / "a"), str(one), str(tmp_path / "b")])
    assert [f.path for f in files] == [one, other]
    assert len({f.name for f in files}) == 2


def test_linked_folders_are_searched_once(tmp_path, make_noise_video):
    make_noise_video("far/a.mp4", 4)
    make_noise_video("mine/sub/b.mp4", 4)
    (tmp_path / "mine" / "link").symlink_to(tmp_path / "far")
    (tmp_path / "mine" / "sub" / "up").symlink_to(tmp_path / "mine")
    assert [file.name for file in find_videos([str(tmp_path / "mine")])] == ["link/a.mp4", "sub/b.mp4"]


def test_long_file_is_read_in_several_runs(tmp_path, make_noise_video, monkeypatch):
    monkeypatch.setattr("djinn.data.importers.importer._RUN_BYTES", 1)
    dataset = import_videos([make_noise_video(f"{i}.mp4", 300) for i in range(2)], tmp_path / "d")
    assert [e.length for e in dataset.episodes] == [256, 44, 256, 44]
    assert len({(e.source, e.split) for e in dataset.episodes}) == 2
    assert Dataset.open(tmp_path / "d").read(dataset.episodes[1]).shape == (44, 16, 16, 3)


def test_progress_shows_rate_and_remaining_time(tmp_path, make_noise_video, capsys):
    import_videos([make_noise_video("a.mp4", 40)], tmp_path / "d")
    assert "reading videos: 100%" in capsys.readouterr().err.split("\r")[-1]
