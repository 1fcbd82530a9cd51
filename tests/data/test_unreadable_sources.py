"""Files and folders that exist but cannot be read are named as such, not as missing or damaged."""

import shutil

import numpy as np
import pytest
from PIL import Image
from synthetic_videos import numbered

from djinn.atomic import check_readable_file
from djinn.data.dataset import Dataset
from djinn.data.importers.images import ImageOptions
from djinn.data.importers.import_dataset import import_dataset
from djinn.data.importers.videos import VideoOptions, find_videos
from djinn.data.video import read_video
from djinn.data.writer import DatasetWriter
from djinn.errors import UserError

NO_PERMISSION = "no permission to read {}: change the permissions"


@pytest.fixture
def out(public_folder):
    """A data set to be created in a folder that all users can write to."""
    folder = public_folder / "out"
    folder.mkdir()
    folder.chmod(0o777)
    return folder / "d"


def refusal(function, *args) -> str:
    with pytest.raises(UserError) as error:
        function(*args)
    return str(error.value)


@pytest.mark.parametrize("locked", ["a.mp4", "videos"])
def test_video(public_folder, unprivileged, make_noise_video, out, locked):
    """A video without read permission or in a closed folder is not called missing or damaged."""
    folder = public_folder / "videos"
    folder.mkdir()
    shutil.copy(make_noise_video("a.mp4", 12), folder / "a.mp4")
    (folder / locked if locked == "a.mp4" else folder).chmod(0o000)
    path = folder / "a.mp4"
    with unprivileged():
        for reason in (
            refusal(check_readable_file, path),
            refusal(lambda: list(read_video(path, 10, (16, 16)))),
            refusal(import_dataset, VideoOptions((str(path),), size="16x16"), out),
        ):
            assert NO_PERMISSION.format(path) in reason
    folder.chmod(0o755)


def test_videos_in_a_folder_are_skipped_with_the_reason(public_folder, unprivileged, make_noise_video, out, capsys):
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(make_noise_video(name, 12), public_folder / name)
    (public_folder / "b.mp4").chmod(0o000)
    (public_folder / "closed").mkdir(mode=0o000)
    with unprivileged():
        dataset = import_dataset(VideoOptions((str(public_folder),), size="16x16"), out)
        assert {e.source for e in dataset.episodes} == {"a.mp4"}
    output = capsys.readouterr().err
    for path in (public_folder / "b.mp4", public_folder / "closed"):
        assert NO_PERMISSION.format(path) in output
    assert "1 of 2 files were skipped" in output


@pytest.mark.parametrize("options", [VideoOptions, ImageOptions])
def test_folder(public_folder, unprivileged, out, options):
    folder = public_folder / "closed"
    folder.mkdir(mode=0o000)
    with unprivileged():
        assert NO_PERMISSION.format(folder) in refusal(import_dataset, options((str(folder),)), out)


def test_image(public_folder, unprivileged, out, capsys):
    folder = public_folder / "images"
    folder.mkdir()
    for number, frame in enumerate(numbered(5)):
        Image.fromarray(frame).save(folder / f"{number}.png")
    (folder / "2.png").chmod(0o000)
    with unprivileged():
        assert [e.length for e in import_dataset(ImageOptions((str(folder),), size="16x16"), out).episodes] == [2, 2]
    assert NO_PERMISSION.format(folder / "2.png") in capsys.readouterr().err


@pytest.mark.parametrize("locked", ["dataset.json", "frames-00000.npy", "actions-00000.npy", ""])
def test_data_set(public_folder, unprivileged, locked):
    folder = public_folder / "d"
    with DatasetWriter(folder, height=4, width=6, fps=10) as writer:
        writer.add_episode(np.zeros((5, 4, 6, 3), np.uint8), source="a", split="train", actions=np.zeros(4, np.int64))
    for path in folder.iterdir():
        path.chmod(0o644)
    folder.chmod(0o755)
    (folder / locked).chmod(0o000)
    with unprivileged():
        reason = refusal(Dataset.open, folder)
    folder.chmod(0o755)
    assert NO_PERMISSION.format(folder / (locked or "dataset.json")) in reason


def test_output_folder(public_folder, unprivileged):
    with unprivileged():
        reason = refusal(lambda: DatasetWriter(public_folder / "d", height=4, width=6, fps=10))
        assert f"cannot write to the folder {public_folder} (permission denied)" in reason
    closed = public_folder / "closed"
    closed.mkdir(mode=0o000)
    with unprivileged():
        reason = refusal(lambda: DatasetWriter(closed / "d", height=4, width=6, fps=10))
    assert f"cannot write data set {closed / 'd'} (permission denied): choose another folder" in reason


def test_folder_that_becomes_unreadable_is_not_called_empty(public_folder, unprivileged):
    (public_folder / "closed").mkdir(mode=0o000)
    with unprivileged():
        assert "contains no video file that can be found" in refusal(find_videos, [str(public_folder)])
