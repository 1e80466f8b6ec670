"""Dense quality prefers features that tell places apart, and sees when they no longer do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from unplateau.measures.dense_quality import dense_quality, effective_rank, spread


def clustered(noise: float, kinds: int = 6, channels: int = 8, seed: int = 0) -> np.ndarray:
    """Features of 5 images of 60 places, each place one of a few kinds."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(kinds, channels))
    return centres[rng.integers(0, kinds, (5, 60))] + noise * rng.normal(size=(5, 60, channels))


def test_tighter_clusters_are_better_separated():
    scores = [dense_quality(clustered(noise)).separation for noise in (0.05, 0.3, 1.0)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1] + 0.3


def test_the_effective_rank_counts_the_dimensions_in_use():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(5_000, 8))
    assert effective_rank(rows) == pytest.approx(8, rel=0.01)
    assert effective_rank(rows[:, :1] @ rng.normal(size=(1, 8))) == pytest.approx(1, rel=0.01)
    assert effective_rank(np.ones((50, 8))) == 0


def test_spread_is_nothing_where_all_places_look_alike():
    rng = np.random.default_rng(0)
    assert spread(np.ones((40, 8)) + 1e-6 * rng.normal(size=(40, 8))) < 1e-4
    assert spread(rng.normal(size=(4_000, 64))) == pytest.approx(1, abs=0.02)


def test_collapsed_features_score_below_any_others():
    flat = np.ones((5, 60, 8)) + 1e-7 * np.random.default_rng(0).normal(size=(5, 60, 8))
    assert dense_quality(flat).spread < 1e-3
    assert dense_quality(np.ones((5, 60, 8))).score < dense_quality(clustered(1.0)).score


def test_the_scale_of_the_features_does_not_matter():
    features = clustered(0.3)
    assert dense_quality(1_000 * features).separation == pytest.approx(dense_quality(features).separation)


def test_the_same_features_give_the_same_score_twice():
    assert dense_quality(clustered(0.5)) == dense_quality(clustered(0.5))


def test_features_that_are_no_numbers_have_no_quality():
    features = clustered(0.3)
    features[0, 0, 0] = math.nan
    assert math.isnan(dense_quality(features).score)
