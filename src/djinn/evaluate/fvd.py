"""Frechet distance between the features of real and generated clips: FVD, where the features are those of a video network.

FVD (Unterthiner et al. 2019) fits a Gaussian to the features of each side and takes the Frechet distance of the two. The
figure hangs on all of its protocol: network, number of clips, their length and how they are brought to the network, which
is why `VideoDistance.protocol` says all of it. Networks are in `djinn.evaluate.detectors`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from djinn.evaluate.detectors import Detector

ENOUGH = 2048
"""Clips from which the field compares FVD; with fewer the figure comes out too high."""


class Moments:
    """Mean and covariance of feature vectors that come in batches, in float64.

    Args:
        dim: length of a feature vector.
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean = torch.zeros(dim, dtype=torch.float64)
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64)

    def add(self, features: Float[Tensor, "b d"]) -> None:
        """Takes in some vectors (the update of Chan et al. 1983, which loses no digits to a large mean)."""
        values = features.to("cpu", torch.float64)
        new, total = len(values), self.count + len(values)
        mean = values.mean(0)
        centred, shift = values - mean, mean - self.mean
        self._scatter += centred.T @ centred + shift.outer(shift) * (self.count * new / total)
        self.mean += shift * (new / total)
        self.count = total

    @property
    def covariance(self) -> Float64[Tensor, "d d"]:
        """The unbiased covariance, with `count - 1` below, as in the paper's code."""
        assert self.count > 1
        return self._scatter / (self.count - 1)


def frechet_distance(
    mean_a: Float64[Tensor, "d"],
    covariance_a: Float64[Tensor, "d d"],
    mean_b: Float64[Tensor, "d"],
    covariance_b: Float64[Tensor, "d d"],
) -> float:
    """Squared Frechet (2-Wasserstein) distance of two Gaussians: |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)).

    The trace of the root is the sum of the singular values of the product of the two symmetric roots, which eigenvalues
    of symmetric matrices give; no root of the product itself, which is not symmetric, is ever taken. Singular
    covariances do no harm.
    """
    cross = torch.linalg.svdvals(_root(covariance_a) @ _root(covariance_b)).sum()
    distance = (mean_a - mean_b).square().sum() + covariance_a.trace() + covariance_b.trace() - 2 * cross
    return max(float(distance), 0.0)


def _root(matrix: Float64[Tensor, "d d"]) -> Float64[Tensor, "d d"]:
    """The symmetric root of a covariance; eigenvalues that are rounding errors count as zero."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    floor = values[-1].clamp_min(0) * len(values) * torch.finfo(values.dtype).eps
    return (vectors * torch.where(values > floor, values, 0).sqrt()) @ vectors.T


class VideoDistance:
    """Frechet distance between real and generated clips that come in batches.

    Args:
        detector: the network whose features are compared.
    """

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self._sides: tuple[Moments, Moments] | None = None

    def add(self, real: UInt8[np.ndarray, "b t h w 3"], made: UInt8[np.ndarray, "b t h w 3"]) -> None:
        """Takes in some real clips and what was made in their place.

        Raises:
            UserError: the network fails on them, or gives something else than features.
        """
        assert real.shape == made.shape
        features = self.detector(real), self.detector(made)
        if self._sides is None:
            self._sides = Moments(features[0].shape[1]), Moments(features[0].shape[1])
        for side, values in zip(self._sides, features, strict=True):
            side.add(values)

    def distance(self) -> float:
        """The distance of all clips so far; there must be two or more."""
        assert self._sides is not None
        real, made = self._sides
        return frechet_distance(real.mean, real.covariance, made.mean, made.covariance)

    def protocol(self) -> dict[str, Any]:
        """How the figure was made: the network with its sha256, the number of clips and of features, and warnings."""
        assert self._sides is not None
        count, dim = self._sides[0].count, len(self._sides[0].mean)
        return {**self.detector.about(), "clips": count, "features": dim, "warnings": warnings_for(count, dim)}


def warnings_for(clips: int, features: int) -> list[str]:
    """What to bear in mind with a Frechet distance of so few clips; empty with `ENOUGH` of them."""
    said = []
    if clips < ENOUGH:
        said.append(
            f"{clips} clips are few: the figure comes out too high and compares only with others of as many clips "
            f"({ENOUGH} are the custom)"
        )
    if clips <= features:
        said.append(f"{clips} clips for {features} features: the covariances are singular")
    return said
