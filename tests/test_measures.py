"""Measures: what they must equal, by brute force and by property."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from made_run import told_apart
from unplateau.measures.intervals import bootstrap
from unplateau.measures.scoring import score_images
from unplateau.measures.thresholds import (
    BINS,
    THRESHOLDS,
    average_precision,
    best_threshold,
    chosen_threshold,
    coverage,
    iou,
    iou_by_threshold,
    join,
    mean_iou,
    net_area,
    net_threshold,
    ranking,
)

SCORES = arrays(np.float64, (3, 1, 6, 5), elements=st.floats(0, 1, width=32))
TRUTH = arrays(np.uint8, (3, 6, 5), elements=st.sampled_from([0, 1, 255]))


def brute_iou(scores, truth, threshold):
    counted = truth != 255
    chosen = (scores[:, 0] >= threshold) & counted
    true = (truth == 1) & counted
    union = (chosen | true).sum()
    return (chosen & true).sum() / union if union else np.nan


@given(SCORES, TRUTH)
@settings(max_examples=60, deadline=None)
def test_iou_at_every_threshold_equals_brute_force(scores, truth):
    scores = np.floor(scores * BINS) / BINS
    curve = iou_by_threshold(score_images(scores, truth))[0]
    for index in (0, 1, BINS // 2, BINS - 1):
        assert curve[index] == pytest.approx(brute_iou(scores, truth, THRESHOLDS[index]), nan_ok=True)


@given(SCORES, TRUTH)
@settings(max_examples=40, deadline=None)
def test_tables_add_over_batches(scores, truth):
    whole = score_images(scores, truth)
    parts = join([score_images(scores[:1], truth[:1]), score_images(scores[1:], truth[1:])])
    assert (whole.histograms == parts.histograms).all()
    assert (whole.argmax == parts.argmax).all()


@given(SCORES, TRUTH)
@settings(max_examples=40, deadline=None)
def test_best_threshold_is_not_beaten(scores, truth):
    table = score_images(scores, truth)
    threshold = best_threshold(table)
    curve = iou_by_threshold(table)[0]
    if np.isfinite(threshold):
        assert mean_iou(table.at(threshold)) == pytest.approx(curve.max())


@given(SCORES, TRUTH)
@settings(max_examples=40, deadline=None)
def test_ranking_is_the_share_of_pairs_put_in_order(scores, truth):
    scores = np.floor(scores * BINS) / BINS
    true, false = scores[:, 0][truth == 1][:, None], scores[:, 0][truth == 0][None]
    pairs = (true > false) + (true == false) / 2
    expected = pairs.mean() if pairs.size else np.nan
    assert ranking(score_images(scores, truth)) == pytest.approx(expected, nan_ok=True)


def groups_that_would_move_it_to(*wanted):
    """One group of ten images for each: every pixel at or above that score is true, no other."""
    generator = np.random.default_rng(0)
    scores = generator.random((10 * len(wanted), 1, 16, 16))
    truth = scores[:, 0] >= np.repeat(wanted, 10)[:, None, None]
    return replace(score_images(scores, truth.astype(np.uint8)), groups=np.repeat(np.arange(len(wanted)), 10))


def test_groups_that_agree_move_the_threshold_to_the_best_and_groups_that_do_not_leave_it():
    agreeing = groups_that_would_move_it_to(*[0.8] * 6)
    assert chosen_threshold(agreeing) == best_threshold(agreeing) == pytest.approx(0.8, abs=0.02)
    assert chosen_threshold(groups_that_would_move_it_to(0.95, 0.2)) == 0.5


def test_images_of_one_group_cannot_speak_for_another():
    """Twenty images agree with one another within each of two groups; as twenty groups they would seem to agree."""
    table = groups_that_would_move_it_to(0.95, 0.3)
    alone = replace(table, groups=None)
    assert chosen_threshold(table) == 0.5
    assert chosen_threshold(alone) == best_threshold(alone) != 0.5


def test_a_single_group_moves_the_threshold_only_where_a_half_is_hopeless():
    """Nothing holds its choice against another group: at most half of what 0.5 finds is put at stake."""
    mild, hopeless = groups_that_would_move_it_to(0.7), groups_that_would_move_it_to(0.9)
    assert mean_iou(mild.at(0.5)) > 0.5 > mean_iou(hopeless.at(0.5))
    assert (chosen_threshold(mild), best_threshold(mild)) == (0.5, pytest.approx(0.7, abs=0.02))
    assert chosen_threshold(hopeless) == best_threshold(hopeless) == pytest.approx(0.9, abs=0.02)


@given(SCORES, TRUTH)
@settings(max_examples=40, deadline=None)
def test_the_chosen_threshold_is_the_best_or_a_half(scores, truth):
    table = score_images(scores, truth)
    best, chosen = best_threshold(table), chosen_threshold(table)
    assert (np.isnan(best) and np.isnan(chosen)) or chosen in (best, 0.5)


def test_absent_class_is_nan_not_zero_or_one():
    assert np.isnan(iou(np.zeros((1, 3), np.int64))).all()
    table = score_images(np.zeros((2, 1, 4, 4)), np.zeros((2, 4, 4), np.uint8))
    assert np.isnan(average_precision(table))
    assert np.isnan(coverage(table.at(0.5)))


def test_argmax_counts_of_many_classes_equal_brute_force():
    generator = np.random.default_rng(0)
    scores = generator.dirichlet(np.ones(4), size=(2, 7, 9)).transpose(0, 3, 1, 2)
    truth = generator.choice([0, 1, 2, 3, 255], size=(2, 7, 9)).astype(np.uint8)
    counts = score_images(scores, truth).argmax
    winner = scores.argmax(1)
    for image in range(2):
        for index in range(4):
            counted = truth[image] != 255
            chosen = (winner[image] == index) & counted
            true = truth[image] == index
            assert counts[image, index].tolist() == [(chosen & true).sum(), chosen.sum(), true.sum()]


def test_average_precision_of_perfect_and_inverted_scores():
    truth = np.zeros((1, 8, 8), np.uint8)
    truth[:, :2] = 1
    assert average_precision(score_images(truth[:, None].astype(float), truth)) == pytest.approx(1)
    assert average_precision(score_images(1 - truth[:, None].astype(float), truth)) == pytest.approx(0.25)


def test_bootstrap_covers_the_mean_nine_times_in_ten():
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        band = bootstrap(generator.normal(0, 1, (40, 1)), lambda rows: float(rows.mean()), generator, resamples=200)
        inside += band.low <= 0 <= band.high
    assert 0.84 <= inside / 200 <= 0.95


# ---- net area ------------------------------------------------------------------------------------------------


@given(st.integers(1, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_net_area_is_a_share_that_an_empty_answer_cannot_fall_below(true, missed, spurious):
    hit = max(0, true - missed)
    score = float(net_area(np.array([hit, hit + spurious, true])))
    assert 0 <= score <= 1
    assert score == pytest.approx(max(0.0, 1 - (true - hit + spurious) / true))


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_net_area_adds_where_the_iou_does_not(decided, other):
    """Right on one part of the true area and silent on the other is that part of all that is to be had."""
    part = float(net_area(np.array([decided, decided, decided + other])))
    assert part == pytest.approx(decided / (decided + other))


def test_the_threshold_of_net_area_leaves_out_what_cannot_be_told_and_that_of_the_iou_claims_it():
    scores = told_apart(np.arange(10) < 4)
    assert 0.8 < net_threshold(scores) <= 0.95
    assert best_threshold(scores) <= 0.8
    assert float(net_area(scores.at(net_threshold(scores)).sum(0))[0]) == pytest.approx(0.4)


def test_where_nothing_can_be_told_the_threshold_of_net_area_claims_nothing():
    scores = told_apart(np.zeros(5))
    assert net_threshold(scores) == 1.0
    assert scores.at(1.0)[..., 1].sum() == 0


def test_the_threshold_of_net_area_is_undefined_without_true_area():
    assert np.isnan(net_threshold(score_images(np.zeros((1, 1, 4, 4)), np.zeros((1, 4, 4), np.uint8))))


def test_net_area_is_undefined_without_true_area():
    assert np.isnan(net_area(np.array([0, 5, 0])))
