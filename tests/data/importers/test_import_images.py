import numpy as np
import pytest
from PIL import Image
from synthetic_videos import numbered, numbers

from djinn.data.dataset import Dataset
from djinn.data.importers.images import ImageOptions, find_sequences
from djinn.data.importers.import_dataset import import_dataset
from djinn.errors import UserError


def import_images(sources, out, size="32x24", **options) -> Dataset:
    return import_dataset(ImageOptions(tuple(map(str, sources)), size=size, **options), out)


def test_each_folder_is_one_episode_in_natural_order(tmp_path, make_images):
    for name, count in (("a", 12), ("b/deep", 11), ("c", 5)):
        make_images(f"sequences/{name}", numbered(count))
    (tmp_path / "sequences" / "a" / "notes.txt").write_text("not an image")
    dataset = import_images([tmp_path / "sequences"], tmp_path / "d", fps=15)
    assert (dataset.height, dataset.width, dataset.fps) == (24, 32, 15)
    assert {e.source: e.length for e in dataset.episodes} == {"a": 12, "b/deep": 11, "c": 5}
    assert all(numbers(dataset.read(e)) == list(range(e.length)) for e in dataset.episodes)
    assert {"train", "val"} <= set(dataset.splits) and not dataset.has_actions
    assert dataset.metadata == {"kind": "images", "folders": 3, "fit": "crop"}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".JPEG"])
def test_formats(tmp_path, make_images, suffix):
    folder = make_images("sequence", numbered(20), suffix)
    dataset = import_images([folder], tmp_path / "d")
    assert {e.source for e in dataset.episodes} == {"sequence"}
    assert [n for e in dataset.episodes for n in numbers(dataset.read(e))] == list(range(20))
    assert dataset.splits == {"train": 1, "val": 1}  # a single folder is split by time


def test_crop_keeps_the_aspect_ratio_and_stretch_keeps_the_whole_image(tmp_path, make_images):
    frames = np.zeros((2, 20, 60, 3), dtype=np.uint8)
    for third in range(3):
        frames[:, :, 20 * third : 20 * third + 20, third] = 255
    folder = make_images("thirds", frames)
    dataset = import_images([folder], tmp_path / "c", "16x16")
    cropped = dataset.read(dataset.episodes[0])
    assert (cropped[..., 1] == 255).all() and (cropped[..., 0] == 0).all()
    dataset = import_images([folder], tmp_path / "s", "30x10", fit="stretch")
    stretched = dataset.read(dataset.episodes[0])
    assert [stretched[0, 5, 5 + 10 * i].argmax() for i in range(3)] == [0, 1, 2]


def test_image_that_cannot_be_read_ends_an_episode(tmp_path, make_images, capsys):
    folder = make_images("sequence", numbered(12))
    (folder / "5.png").write_bytes((folder / "5.png").read_bytes()[:60])
    (folder / "7.png").write_text("not an image")
    dataset = import_images([folder, make_images("other", numbered(3))], tmp_path / "d")
    runs = [numbers(dataset.read(e)) for e in dataset.episodes if e.source == "sequence"]
    assert runs == [[0, 1, 2, 3, 4], [8, 9, 10, 11]]  # image 6 has no neighbor
    output = capsys.readouterr().err
    assert "5.png is a damaged or incomplete image" in output and "7.png is not a readable image" in output
    assert "3 of 15 images were skipped" in output


def test_sources_without_images_are_refused(tmp_path, make_images, make_noise_video):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="contains no images"):
        import_images([tmp_path / "empty"], tmp_path / "d")
    with pytest.raises(UserError, match="no file or folder at"):
        import_images([tmp_path / "nowhere"], tmp_path / "d")
    with pytest.raises(UserError, match="at least one folder"):
        import_images([], tmp_path / "d")
    video = make_noise_video("videos/a.mp4", 4)
    with pytest.raises(UserError, match=r"contains 1 video files but no images .* `djinn data import videos"):
        import_images([video.parent], tmp_path / "d")
    with pytest.raises(UserError, match=r"a\.mp4 is a file: give a folder"):
        import_images([video], tmp_path / "d")
    folder = make_images("single", numbered(1))
    with pytest.raises(UserError, match=r"0\.png is an image: give the folder"):
        import_images([folder / "0.png"], tmp_path / "d")
    with pytest.raises(UserError, match="none of the 1 folders has two consecutive images"):
        import_images([folder], tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_each_folder_is_found_once_and_names_are_unique(tmp_path, make_images):
    one, other = make_images("a/x", numbered(2)), make_images("b/x", numbered(2))
    sequences = find_sequences([str(tmp_path / "a"), str(one), str(tmp_path / "b")])
    assert [s.paths[0].parent for s in sequences] == [one, other]
    assert len({s.name for s in sequences}) == 2


def test_transparent_images_are_composited_over_white(tmp_path):
    for number in range(2):
        (tmp_path / "sequence").mkdir(exist_ok=True)
        Image.new("RGBA", (32, 24), (0, 0, 0, 0)).save(tmp_path / "sequence" / f"{number}.png")
    dataset = import_images([tmp_path / "sequence"], tmp_path / "d")
    assert (dataset.read(dataset.episodes[0]) == 255).all()
