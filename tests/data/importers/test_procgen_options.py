import pytest

from djinn.data.importers import coinrun
from djinn.data.importers.coinrun import CoinRun
from djinn.data.importers.import_dataset import import_dataset
from djinn.data.importers.procgen import ProcgenOptions, parse_levels
from djinn.errors import UserError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": "5:5"}, "FIRST < END"),
        ({"levels": "2147483646:2147483648"}, "last level is 2147483646"),
        ({"frames": 5}, "frames must be at least 16"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"fps": 0}, "fps must lie between"),
        ({"size": "160x90"}, "rendered at 64x64"),
        ({"game": "maze"}, "known games: coinrun"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        ProcgenOptions(**{"game": "coinrun", **options})


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("keys", "keyboard-jump"), ("turns", "keyboard-turn"), ("players", "keyboard-mix"), ("person", "held-moves")],
)
def test_renamed_policy_is_refused_with_its_new_name(name, nearest):
    with pytest.raises(UserError, match=f"unknown policy '{name}'; did you mean '{nearest}'"):
        CoinRun(policy=name)


def test_levels_are_parsed():
    assert parse_levels("0:10000") == range(10000) and parse_levels("7") == range(7, 8)
    for text in ("a", "1:2:3", ":5", "-1:5"):
        with pytest.raises(UserError, match="FIRST:END"):
            parse_levels(text)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModuleNotFoundError("No module named 'procgen'", name="procgen"), r"is not installed .* 'djinn\[coinrun\]'"),
        (ImportError("numpy 2 is not supported"), "cannot be imported .*numpy 2 is not supported.* --force-reinstall"),
        (ModuleNotFoundError("No module named 'gym3'", name="gym3"), "cannot be imported .*gym3"),
    ],
)
def test_game_that_cannot_be_imported_is_reported_with_the_reason(tmp_path, monkeypatch, error, message):
    def import_module(name):
        raise error

    monkeypatch.setattr(coinrun, "importlib", type("", (), {"import_module": staticmethod(import_module)}))
    with pytest.raises(UserError, match=message):
        import_dataset(ProcgenOptions("coinrun", frames=100), tmp_path / "d")
    assert not (tmp_path / "d").exists()
