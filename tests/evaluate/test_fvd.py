import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from djinn.errors import UserError
from djinn.evaluate.detectors import load_detector, random_detector
from djinn.evaluate.fvd import MIN_CLIPS, Moments, VideoDistance, frechet_distance, warnings_for

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script.:DeprecationWarning")


def random_covariance(dim, seed, rank=None):
    factor = np.random.default_rng(seed).normal(size=(dim, rank or 2 * dim))
    return torch.from_numpy(factor @ factor.T / factor.shape[1])


def reference(mean_a, cov_a, mean_b, cov_b):
    """Compute the distance by the eigenvalues of the non-symmetric product."""
    mean_a, cov_a, mean_b, cov_b = (np.asarray(x, dtype=np.float64) for x in (mean_a, cov_a, mean_b, cov_b))
    roots = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real.clip(0))
    return ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * roots.sum()


def videos(count, seed, frames=12, side=16):
    return np.random.default_rng(seed).integers(0, 256, (count, frames, side, side, 3), np.uint8)


class Stub(nn.Module):
    """Network with the signature and the shortest clip of I3D, and simple features."""

    def forward(self, video: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False):
        assert rescale and resize and return_features
        x = video.double() / 127.5 - 1
        x = F.avg_pool3d(x, [10, 1, 1], stride=[1, 1, 1])
        return torch.cat([x.mean([2, 3, 4]), x.flatten(2).std(2), x.square().mean([2, 3, 4])], 1)


class Maps(nn.Module):
    """Network that returns feature maps instead of vectors."""

    def forward(self, video: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False):
        return video


class Broken(nn.Module):
    """Network that returns NaN."""

    def forward(self, video: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False):
        return video.mean([2, 3, 4]) / 0 - video.mean([2, 3, 4]) / 0


class Plain(nn.Module):
    """Network that accepts only the video."""

    def forward(self, video: torch.Tensor):
        return video.mean([2, 3, 4])


@pytest.fixture
def saved(tmp_path):
    def save(module):
        path = tmp_path / f"{type(module).__name__}.pt"
        torch.jit.script(module).save(str(path))
        return path

    return save


def statistics(video):
    """Compute the features of `Stub` with numpy."""
    x = video.astype(np.float64).transpose(0, 4, 1, 2, 3) / 127.5 - 1
    x = np.stack([x[:, :, i : i + 10].mean(2) for i in range(x.shape[2] - 9)], 2)
    flat = x.reshape(*x.shape[:2], -1)
    return np.concatenate([flat.mean(2), flat.std(2, ddof=1), (flat**2).mean(2)], 1)


def test_distance_of_gaussians_with_diagonal_covariances():
    mean, other = torch.tensor([0.0, 1, 2]).double(), torch.tensor([3.0, 1, -2]).double()
    spread, wider = torch.tensor([1.0, 4, 9]).double(), torch.tensor([4.0, 4, 1]).double()
    expected = 3**2 + 4**2 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2
    assert frechet_distance(mean, spread.diag(), other, wider.diag()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dim", [1, 5, 60])
def test_distance_of_any_gaussians_equals_the_textbook_formula(dim):
    a, b = random_covariance(dim, 1), random_covariance(dim, 2)
    means = torch.randn(2, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    value = frechet_distance(means[0], a, means[1], b)
    assert value == pytest.approx(reference(means[0], a, means[1], b), rel=1e-9)
    assert value == pytest.approx(frechet_distance(means[1], b, means[0], a), rel=1e-12)


def test_distance_of_equal_and_of_singular_covariances():
    zero = torch.zeros(50, dtype=torch.float64)
    full, thin = random_covariance(50, 1), random_covariance(50, 2, rank=5)
    assert frechet_distance(zero, full, zero, full) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(zero, thin, zero, thin) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(zero, thin, zero, 4 * thin) == pytest.approx(float(thin.trace()), rel=1e-9)
    nothing = torch.zeros(50, 50, dtype=torch.float64)
    assert frechet_distance(zero, full, zero, nothing) == pytest.approx(float(full.trace()))


def test_moments_of_batches_equal_moments_of_all():
    values = np.random.default_rng(0).normal(1e4, 1, (101, 7))  # the mean is far from zero
    moments = Moments(7)
    for part in np.split(values, [1, 40, 41, 90]):
        moments.add(torch.from_numpy(part))
    assert moments.count == 101
    np.testing.assert_allclose(moments.mean, values.mean(0), rtol=1e-13)
    np.testing.assert_allclose(moments.covariance, np.cov(values, rowvar=False), rtol=1e-9)


def test_distance_by_a_detector_file_equals_a_float64_reference(saved):
    real, generated = videos(40, 1), videos(40, 2) // 2
    path = saved(Stub())
    distance = VideoDistance(load_detector(str(path), CPU))
    for part in (slice(0, 11), slice(11, 40)):
        distance.add(real[part], generated[part])
    sides = [(x.mean(0), np.cov(x, rowvar=False)) for x in map(statistics, (real, generated))]
    assert distance.distance() == pytest.approx(reference(*sides[0], *sides[1]), rel=1e-7)
    protocol = distance.protocol()
    assert protocol["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (protocol["clips"], protocol["features"]) == (40, 9)
    assert "rescale=True, resize=True, return_features=True" in protocol["call"]
    assert [w for w in protocol["warnings"] if "40 clips are few" in w]


def test_a_function_as_detector(tmp_path, monkeypatch):
    code = "def mean(video):\n    assert video.max() > 1\n    return video.mean((2, 3, 4))\nnumber = 3\n"
    (tmp_path / "features_of_mine.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    detector = load_detector("features_of_mine:mean", CPU)
    video = videos(9, 0)
    np.testing.assert_allclose(detector(video), video.mean((1, 2, 3)), rtol=1e-5)
    assert detector.metadata()["sha256"] == hashlib.sha256(code.encode()).hexdigest()
    with pytest.raises(UserError, match="features_of_mine:number is not callable"):
        load_detector("features_of_mine:number", CPU)
    with pytest.raises(UserError, match="cannot import the detector features_of_mine:nothing"):
        load_detector("features_of_mine:nothing", CPU)
    with pytest.raises(UserError, match="cannot import the detector no_such_module:nothing: No module named"):
        load_detector("no_such_module:nothing", CPU)


def test_invalid_detector_files_are_refused(saved, tmp_path):
    with pytest.raises(UserError, match=r"no detector .*missing\.pt: --fvd-detector takes .*I3D .*does not download"):
        load_detector(str(tmp_path / "missing.pt"), CPU)
    (tmp_path / "text.pt").write_text("not a network\n")
    (tmp_path / "empty.pt").write_text("")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pt")
    for name in ("text.pt", "empty.pt", "weights.pt"):
        with pytest.raises(UserError, match=rf"{name} is not a TorchScript file: --fvd-detector takes"):
            load_detector(str(tmp_path / name), CPU)
    for module, message in (
        (Maps(), r"returns \(2, 3, 12, 16, 16\) for 2 clip\(s\), but \(2, features\) is needed"),
        (Broken(), "not finite"),
        (Plain(), "fails, called as .*rescale"),
    ):
        with pytest.raises(UserError, match=message) as error:
            load_detector(str(saved(module)), CPU)(videos(2, 0))
        assert "\n" not in str(error.value)


def test_clips_too_short_for_a_detector_are_refused(saved):
    with pytest.raises(UserError, match="needs clips of at least 10 frames, these have 8: raise --horizon") as error:
        load_detector(str(saved(Stub())), CPU)(videos(2, 0, frames=8))
    assert "\n" not in str(error.value)


def test_random_network_is_fixed_and_ranks_noise():
    real = np.repeat(videos(24, 0, frames=1), 8, axis=1)
    noise = np.random.default_rng(1).normal(size=real.shape)

    def distance_to(video):
        distance = VideoDistance(random_detector(CPU))
        distance.add(real, video)
        return distance.distance()

    noisy = [(real + noise * level).clip(0, 255).astype(np.uint8) for level in (0, 20, 60)]
    values = [distance_to(video) for video in noisy]
    assert values[0] == pytest.approx(0, abs=1e-9)
    assert 0 < values[1] < values[2]
    metadata = random_detector(CPU).metadata()
    assert metadata["sha256"].startswith("1bab19b81ff9")  # fixed weights
    assert not any("fvd" in str(x).lower() for x in (*metadata, *metadata.values()))


def test_warnings_vanish_with_enough_clips():
    assert warnings_for(MIN_CLIPS, 400) == []
    assert len(warnings_for(MIN_CLIPS, MIN_CLIPS)) == 1
    few = warnings_for(64, 400)
    assert len(few) == 2
    assert "singular" in few[1]
