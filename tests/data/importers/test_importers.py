import sys
import types
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import pytest

from djinn.data.importers import registry
from djinn.data.importers.import_dataset import import_dataset
from djinn.data.importers.importer import Episode, Importer, parse_size, stack_runs
from djinn.data.importers.registry import importers
from djinn.errors import UserError


@dataclass(frozen=True)
class NoiseOptions:
    """Import noise."""

    videos: int = 3
    fps: float = 10.0
    frame_size: tuple[int, int] = (8, 10)


def noise(options: NoiseOptions) -> Generator[Episode]:
    for number in range(options.videos):
        frames = np.full((20, *options.frame_size, 3), number, np.uint8)
        yield Episode(frames, f"noise-{number}", actions=np.zeros(19, np.int16))


@pytest.fixture
def noise_importer(monkeypatch) -> None:
    """A module of the importers package that defines an importer and nothing else."""
    module = types.ModuleType("djinn.data.importers.noise")
    module.IMPORTER = Importer("noise", "noise", NoiseOptions, noise, lambda options, count: {"videos": count})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    modules = [*registry.pkgutil.iter_modules(registry.package.__path__), types.SimpleNamespace(name="noise")]
    monkeypatch.setattr(registry.pkgutil, "iter_modules", lambda path: modules)
    registry.importers.cache_clear()
    yield
    registry.importers.cache_clear()


def test_importers_of_the_package_are_found():
    assert list(importers()) == ["images", "procgen", "videos"]
    assert all(importer.options.__doc__ for importer in importers().values())


def test_new_source_is_one_file(noise_importer, tmp_path):
    assert "noise" in importers()
    dataset = import_dataset(NoiseOptions(), tmp_path / "d")
    assert dataset.metadata == {"kind": "noise", "videos": 3}
    assert (dataset.height, dataset.width, dataset.frames, dataset.has_actions) == (8, 10, 60, True)
    assert set(dataset.splits) >= {"train", "val"}


def test_output_is_checked_before_the_sources_are_read(noise_importer, tmp_path, monkeypatch):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_text("")
    monkeypatch.setattr(np, "full", lambda *args: pytest.fail("the source was read"))
    with pytest.raises(UserError, match="exists already"):
        import_dataset(NoiseOptions(), tmp_path / "d")


def test_source_without_episodes_is_refused(noise_importer, tmp_path):
    with pytest.raises(UserError, match="nothing to write"):
        import_dataset(NoiseOptions(videos=0), tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


def test_frames_before_an_error_are_yielded():
    def frames():
        for value in range(3):
            yield np.full((8, 8, 3), value, np.uint8)
        raise UserError("damaged")

    runs = stack_runs(frames(), (8, 8))
    assert next(runs)[:, 0, 0, 0].tolist() == [0, 1, 2]
    with pytest.raises(UserError, match="damaged"):
        next(runs)


def test_sizes_are_parsed():
    assert parse_size("160x90") == (90, 160)
    for text in ("64", "64x", "64x64x3", "a", "1" * 5000 + "x64"):
        with pytest.raises(UserError, match="WIDTHxHEIGHT"):
            parse_size(text)
    for text in ("0x64", "64x7", "20000x64", "64x5000"):
        with pytest.raises(UserError, match="at least 8x8 and at most 4096x4096"):
            parse_size(text)
