"""Frechet distance between features of real and generated clips; with a video network this is FVD.

FVD (Unterthiner et al. 2019) fits a Gaussian to the features of each side and computes the Frechet
distance of the two. Its value depends on the network, on the number and the length of the clips,
and on their preprocessing, all of which `VideoDistance.protocol` lists. For the networks see
`djinn.evaluate.detectors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from djinn.evaluate.detectors import Detector

MIN_CLIPS = 2048
"""Number of clips with which FVD is usually reported. With fewer its value is biased upwards."""


class Moments:
    """Mean and covariance of feature vectors that come in batches, in float64.

    Args:
        dim: Length of a feature vector.
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean = torch.zeros(dim, dtype=torch.float64)
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64)

    def add(self, features: Float[Tensor, "b d"]) -> None:
        """Add vectors by the update of Chan et al. 1983, which is stable for large means."""
        values = features.to("cpu", torch.float64)
        new, total = len(values), self.count + len(values)
        mean = values.mean(0)
        centered, shift = values - mean, mean - self.mean
        self._scatter += centered.T @ centered + shift.outer(shift) * (self.count * new / total)
        self.mean += shift * (new / total)
        self.count = total

    @property
    def covariance(self) -> Float64[Tensor, "d d"]:
        """Unbiased covariance, with the divisor `count - 1` of the original implementation."""
        assert self.count > 1
        return self._scatter / (self.count - 1)


def frechet_distance(
    mean_a: Float64[Tensor, "d"],
    covariance_a: Float64[Tensor, "d d"],
    mean_b: Float64[Tensor, "d"],
    covariance_b: Float64[Tensor, "d d"],
) -> float:
    """Return the squared Frechet (2-Wasserstein) distance of two Gaussians.

    It is `|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))`. The trace of the matrix root is
    computed as the sum of the singular values of the product of the two symmetric roots, which is
    also stable for singular covariances.
    """
    cross = torch.linalg.svdvals(_root(covariance_a) @ _root(covariance_b)).sum()
    distance = (mean_a - mean_b).square().sum() + covariance_a.trace() + covariance_b.trace() - 2 * cross
    return max(float(distance), 0.0)


def _root(matrix: Float64[Tensor, "d d"]) -> Float64[Tensor, "d d"]:
    """Return the symmetric root of a covariance; eigenvalues within rounding error are zero."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    floor = values[-1].clamp_min(0) * len(values) * torch.finfo(values.dtype).eps
    return (vectors * torch.where(values > floor, values, 0).sqrt()) @ vectors.T


class VideoDistance:
    """Frechet distance between real and generated clips that come in batches.

    Args:
        detector: Network whose features are compared.
        name: Name of the distance in reports.
    """

    def __init__(self, detector: Detector, name: str = "FVD") -> None:
        self.detector, self.name = detector, name
        self._sides: tuple[Moments, Moments] | None = None

    def add(self, real: UInt8[np.ndarray, "b t h w 3"], generated: UInt8[np.ndarray, "b t h w 3"]) -> None:
        """Add real clips and the roll-outs generated for them.

        Raises:
            UserError: The network fails on the clips, or does not return features.
        """
        assert real.shape == generated.shape
        features = self.detector(real), self.detector(generated)
        if self._sides is None:
            self._sides = Moments(features[0].shape[1]), Moments(features[0].shape[1])
        for side, values in zip(self._sides, features, strict=True):
            side.add(values)

    def distance(self) -> float:
        """Return the distance over all clips so far, of which there must be at least two."""
        assert self._sides is not None
        real, generated = self._sides
        return frechet_distance(real.mean, real.covariance, generated.mean, generated.covariance)

    def protocol(self) -> dict[str, Any]:
        """Return the network, the number of clips and of features, and warnings."""
        assert self._sides is not None
        count, dim = self._sides[0].count, len(self._sides[0].mean)
        return {**self.detector.metadata(), "clips": count, "features": dim, "warnings": warnings_for(count, dim)}

    def summary(self) -> dict[str, Any]:
        """Return the distance and its protocol, ready for JSON."""
        return {"distance": self.distance(), "protocol": self.protocol()}

    def lines(self, names: Sequence[str]) -> list[str]:
        """Return text for the terminal; the names of actions do not matter."""
        protocol = self.protocol()
        sha256 = f", sha256 {protocol['sha256'][:12]}" if protocol["sha256"] else ""
        text = f"{self.name} {self.distance():.4g} over {protocol['clips']} clips ({protocol['detector']}{sha256})"
        return [text, *(f"  note: {warning}" for warning in protocol["warnings"])]


def warnings_for(clips: int, features: int) -> list[str]:
    """Return the caveats of a Frechet distance on few clips, empty with `MIN_CLIPS` clips."""
    warnings = []
    if clips < MIN_CLIPS:
        warnings.append(
            f"{clips} clips are few: the distance is biased upwards and comparable only with others on as many clips "
            f"({MIN_CLIPS} are customary)"
        )
    if clips <= features:
        warnings.append(f"{clips} clips for {features} features: the covariances are singular")
    return warnings
