import importlib

import numpy as np
import pytest
from films import numbered
from PIL import Image

from djinn.data.commands import import_data, info, parse_levels, parse_size
from djinn.data.importers import procgen
from djinn.errors import UserError


def test_import_and_info(tmp_path, make_video, capsys):
    for i in range(3):
        make_video(f"films/{i}.mp4", numbered(20))
    import_data([str(tmp_path / "films")], tmp_path / "d", size="32x24")
    assert "60 of 32x24 at 10/s = 0 min 6 s" in capsys.readouterr().out
    info(tmp_path / "d", picture=tmp_path / "sheet.png")
    words = capsys.readouterr().out
    assert "not known" in words and "3 sources" in words and "train" in words
    assert np.asarray(Image.open(tmp_path / "sheet.png")).shape[0] > 100
    with pytest.raises(UserError, match=r"must be a \.png"):
        info(tmp_path / "d", picture=tmp_path / "sheet.jpg")


def test_options_of_the_other_kind_are_refused(tmp_path, make_video):
    film = str(make_video("a.mp4", numbered(20)))
    with pytest.raises(UserError, match="--levels is for procgen:coinrun only"):
        import_data([film], tmp_path / "d", levels="0:10")
    with pytest.raises(UserError, match="--restrict-themes is for procgen:coinrun only"):
        import_data([film], tmp_path / "d", restrict_themes=False)
    with pytest.raises(UserError, match="--fit is for videos only"):
        import_data(["procgen:coinrun"], tmp_path / "d", fit="crop")
    with pytest.raises(UserError, match="drawn at 64x64"):
        import_data(["procgen:coinrun"], tmp_path / "d", size="160x90")
    with pytest.raises(UserError, match="known games"):
        import_data(["procgen:maze"], tmp_path / "d")
    with pytest.raises(UserError, match="make two data sets"):
        import_data(["procgen:coinrun", film], tmp_path / "d")


def test_a_game_that_is_not_installed(tmp_path, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named '{name}'")

    monkeypatch.setattr(procgen, "importlib", type("", (), {"import_module": staticmethod(missing)}))
    assert importlib is not procgen.importlib
    with pytest.raises(UserError, match=r"pip install 'djinn\[coinrun\]'"):
        import_data(["procgen:coinrun"], tmp_path / "d", frames=100)
    assert not (tmp_path / "d").exists()


def test_sizes_and_levels():
    assert parse_size("160x90") == (90, 160)
    assert parse_levels("0:10000") == range(10000) and parse_levels("7") == range(7, 8)
    for text in ("64", "64x", "64x64x3", "a", "1" * 5000 + "x64"):
        with pytest.raises(UserError, match="WIDTHxHEIGHT"):
            parse_size(text)
    for text in ("0x64", "64x7", "20000x64", "64x5000"):
        with pytest.raises(UserError, match="at least 8x8 and at most 4096x4096"):
            parse_size(text)
    for text in ("a", "1:2:3", ":5", "-1:5"):
        with pytest.raises(UserError, match="FIRST:END"):
            parse_levels(text)
