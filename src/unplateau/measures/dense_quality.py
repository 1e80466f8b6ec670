"""How much structure dense features hold, without labels.

After the Dense representation Structure Estimator of "Exploring Structural Degradation in Dense Representations for
Self-supervised Learning" (arXiv 2510.17299): features of the places of an image are clustered, the clusters stand in
for classes, and how far apart and how tight they are is added to how many dimensions the features use. Longer
self-supervision can raise image-level accuracy and lower both.

Axes: N images, P places of an image, C channels.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

CLUSTERS = 6
"""Clusters an image: about as many kinds of surface as a photograph of a scene holds."""

Features = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class DenseQuality:
    """`separation`: distance from each cluster's centre to the nearest other one, minus the mean distance of places to
    their centre, in units of the spread of all features; mean over images. `rank`: effective number of dimensions over
    the number there are, 0..1. `spread`: how unlike the features of different places are, 0 (all alike) .. 1.
    """

    separation: float
    rank: float
    spread: float

    @property
    def score(self) -> float:
        """What checkpoints are compared by, higher is better: separation and rank, weighed alike.

        The paper weighs them by their spread over a whole series; one fixed weight lets a run keep its best so far.
        """
        return self.separation + self.rank


def dense_quality(features_NPC: Features, *, clusters: int = CLUSTERS, seed: int = 0) -> DenseQuality:
    """The quality of features (N, P, C) of at least two places an image; nan where a feature is not finite."""
    if not np.isfinite(features_NPC).all():
        return DenseQuality(math.nan, math.nan, math.nan)
    flat = features_NPC.reshape(-1, features_NPC.shape[-1]).astype(np.float64)
    standard = (features_NPC - flat.mean(0)) / np.maximum(flat.std(0), 1e-6)
    unit = math.sqrt(features_NPC.shape[-1])
    found = [_separation(each, clusters, seed) / unit for each in standard]
    return DenseQuality(float(np.mean(found)), effective_rank(flat) / flat.shape[1], spread(flat))


def effective_rank(flat: Features) -> float:
    """Exponential of the entropy of the singular values of the centred, standardised rows (M, C): 1 .. C.

    (Roy and Vetterli, "The effective rank", 2007; as RankMe, arXiv 2210.02885, on dense features.) 0 where all rows
    are the same.
    """
    centred = flat - flat.mean(0)
    values = np.linalg.svd(np.cov(centred, rowvar=False).reshape(flat.shape[1], -1), compute_uv=False) ** 0.5
    if values.sum() <= 1e-9:
        return 0.0
    shares = values / values.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def spread(flat: Features) -> float:
    """Root of the mean squared distance of the rows (M, C), each of length 1, from their mean: 0 (all alike) .. 1."""
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    rows = flat / np.maximum(length, 1e-12)
    return float(np.sqrt(((rows - rows.mean(0)) ** 2).sum(1).mean()))


def _separation(places_PC: Features, clusters: int, seed: int) -> float:
    count = min(clusters, len(places_PC) // 2)
    if count < 2:
        return 0.0
    with warnings.catch_warnings():
        # Fewer kinds of places than clusters: the empty ones are left out below.
        warnings.simplefilter("ignore", UserWarning)
        centres, label = kmeans2(places_PC, count, minit="points", rng=np.random.default_rng(seed))
    held = np.unique(label)
    within = float(np.linalg.norm(places_PC - centres[label], axis=1).mean())
    if len(held) < 2:
        return -within
    gaps = np.linalg.norm(centres[held][:, None] - centres[held][None], axis=2)
    np.fill_diagonal(gaps, np.inf)
    return float(gaps.min(axis=1).mean()) - within
