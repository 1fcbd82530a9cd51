import os
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

from djinn.cli import data_import, main, run
from djinn.data.dataset import Dataset
from djinn.data.importers.registry import importers
from djinn.data.store.index import INDEX_FILE
from djinn.data.video import write_video
from djinn.errors import UserError


@pytest.fixture
def videos(tmp_path):
    """A folder with three videos of 20 frames."""
    folder = tmp_path / "videos"
    for i in range(3):
        frames = np.random.default_rng(i).integers(0, 256, (20, 24, 32, 3), dtype=np.uint8)
        folder.mkdir(exist_ok=True)
        write_video(folder / f"{i}.mp4", frames, 10, exact=True)
    return folder


@pytest.fixture
def images(tmp_path):
    """A folder with a sequence of 20 images."""
    folder = tmp_path / "sequences" / "a"
    folder.mkdir(parents=True)
    for i in range(20):
        Image.new("RGB", (32, 24), (10 * i, 0, 0)).save(folder / f"{i}.png")
    return folder.parent


def refusal(*args: object) -> str:
    with pytest.raises(UserError) as error:
        run([str(arg) for arg in args])
    return str(error.value)


@pytest.mark.parametrize("kind", [(), ("videos",)])
def test_videos_are_the_default_kind(kind, videos, tmp_path, capsys):
    run(["data", "import", *kind, str(videos), "--out", str(tmp_path / "d"), "--size", "32x24", "--fps", "5"])
    assert "30 of 32x24 at 5/s = 0 min 6 s" in capsys.readouterr().out
    assert Dataset.open(tmp_path / "d").metadata == {"kind": "videos", "files": 3, "fit": "crop"}


def test_images_are_imported(images, tmp_path, capsys):
    run(["data", "import", "images", str(images), "--out", str(tmp_path / "d"), "--fit", "stretch"])
    assert "20 of 64x64 at 10/s" in capsys.readouterr().out
    assert Dataset.open(tmp_path / "d").metadata == {"kind": "images", "folders": 1, "fit": "stretch"}


@pytest.mark.parametrize(
    "args",
    [
        ("procgen", "coinrun", "--out", "d"),
        ("procgen:coinrun", "--out", "d"),
        ("--out", "d", "procgen:coinrun"),
        ("--out=d", "procgen:coinrun"),
    ],
)
def test_game_as_a_source_is_an_alias_of_procgen(args, monkeypatch):
    requests = []
    monkeypatch.setattr("djinn.data.importers.import_dataset.import_dataset", lambda *args: requests.append(args))
    monkeypatch.setattr("djinn.data.summary.summarize", lambda dataset: "")
    levels = ["--levels", "5:9", "--policy", "mix", "--backgrounds", "no", "--restrict-themes", "yes", "--seed", "3"]
    run(["data", "import", *args, *levels, "--size", "64x64", "--workers", "2", "--mode", "easy"])
    ((options, out),) = requests
    assert (options.game, options.levels, options.workers, str(out)) == ("coinrun", "5:9", 2, "d")
    game = options.coinrun
    assert (game.mode, game.policy, game.backgrounds, game.restrict_themes, game.seed) == (
        "easy",
        "mix",
        False,
        True,
        3,
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("a.mp4 --out d --levels 0:10", "--levels is for djinn data import procgen only"),
        ("a.mp4 --out d --restrict-themes no", "--restrict-themes is for djinn data import procgen only"),
        ("procgen:coinrun --out d --fit crop", "--fit is for djinn data import images and videos only"),
        ("procgen:coinrun --out d --size 160x90", "rendered at 64x64"),
        ("procgen:maze --out d", "known games: coinrun"),
        ("procgen:coinrun a.mp4 --out d", "create two data sets"),
        ("procgen coinrun --policy turns --out d", "did you mean 'keyboard-turn'"),
        ("procgen coinrun --backgrounds maybe --out d", "'maybe'"),
        ("image sequences --out d", "did you mean 'images'"),
        ("--out d", "needs a SOURCE"),
        ("images --out d", "needs a SOURCE"),
        ("a.mp4", "needs --out DATASET"),
        ("a.mp4 --out d --fps 0", "fps must lie between"),
        ("a.mp4 --out d --size 64", "WIDTHxHEIGHT"),
        ("a.mp4 --out d --fit squeeze", "'squeeze'"),
        ("nowhere.mp4 --out d", "no file or folder at nowhere.mp4"),
        ("nowhere.mp4 --out /proc/new/d", "cannot write to the folder /proc/new"),
        ("nowhere.mp4 --out /proc/new", "cannot write to the folder /proc"),
    ],
)
def test_invalid_command_lines_are_refused(args, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refusal("data", "import", *args.split())
    assert list(tmp_path.iterdir()) == []


def test_help_lists_the_kinds(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["data", "import", "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: djinn data import KIND SOURCE... --out DATASET")
    for importer in importers().values():
        assert f"  {importer.kind} " in text and importer.description in text


@pytest.mark.parametrize("kind", importers())
def test_help_of_a_kind_lists_its_options(kind, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["data", "import", kind, "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    names = data_import._option_names(importers()[kind].options) - {"sources", "game"}
    assert [name for name in ("out", *names) if f"--{name}" not in text] == []
    assert "None" not in text


def test_info_describes_a_data_set(videos, tmp_path, capsys):
    run(["data", "import", str(videos), "--out", str(tmp_path / "d"), "--size", "32x24"])
    capsys.readouterr()
    run(["data", "info", str(tmp_path / "d"), "--contact-sheet", str(tmp_path / "sheet.png")])
    text = capsys.readouterr().out
    assert "60 of 32x24 at 10/s = 0 min 6 s" in text
    assert "not known" in text and "3 sources" in text and "train" in text
    assert np.asarray(Image.open(tmp_path / "sheet.png")).shape[0] > 100


def test_contact_sheet_is_refused_before_the_data_set_is_read(tmp_path):
    for name, message in (("sheet.jpg", r"must be a .png"), (".", "must be a .png"), ("/proc/x/a.png", "cannot write")):
        assert message in refusal("data", "info", tmp_path / "nowhere", "--contact-sheet", name)


def test_world_as_data_set_is_refused_as_such(tmp_path):
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "model.safetensors").write_bytes(b"")
    for folder in (tmp_path, tmp_path / "world"):
        assert f"{folder} is not a data set: it is a world" in refusal("data", "info", folder)
    (tmp_path / "a.mp4").write_bytes(b"")
    assert "a.mp4 is not a data set: it is a file" in refusal("data", "info", tmp_path / "a.mp4")


def test_data_set_as_world_is_refused_as_such(tmp_path):
    (tmp_path / INDEX_FILE).write_text("{}")
    assert f"{tmp_path} is a data set, not a world" in refusal("bench", tmp_path)


def test_progress_bar_and_error_are_on_separate_lines(tmp_path):
    (tmp_path / "notes.mp4").write_text("not a video")
    command = [sys.executable, "-m", "djinn", "data", "import", str(tmp_path / "notes.mp4"), "--out", "d"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ}, timeout=60)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(f"djinn: {tmp_path}/notes.mp4 is not a video")


def test_single_frame_image_file_names_the_images_kind(tmp_path):
    Image.new("RGB", (32, 24)).save(tmp_path / "a.png")
    message = refusal("data", "import", tmp_path / "a.png", "--out", tmp_path / "d")
    assert "is an image, not a video" in message and "`djinn data import images`" in message
    with av.open(str(tmp_path / "a.png")) as container:  # PyAV opens images as videos of one frame
        assert len(list(container.decode(video=0))) == 1
