"""The ternary decision: what it promises is tested by simulation, what it computes by brute force."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unplateau.errors import DataError
from unplateau.files import plain
from unplateau.measures.scoring import score_images
from unplateau.measures.ternary import (
    GRID,
    NOT_P,
    P,
    Ternary,
    U,
    achieved,
    calibrate,
    calibrate_labels,
    decide,
    decide_labels,
    restored,
    weights,
)
from unplateau.measures.thresholds import BINS, ScoreTable

SCORES = arrays(np.float64, (9, 1, 4, 5), elements=st.integers(0, BINS).map(lambda each: each / BINS))
TRUTH = arrays(np.uint8, (9, 4, 5), elements=st.sampled_from([0, 1, 255]))
TOLERANCES = st.floats(0.02, 0.9)


def table_of(histograms: np.ndarray) -> ScoreTable:
    """A table of histograms (N, C, 2, BINS)."""
    histograms = np.asarray(histograms, np.int64)
    return ScoreTable(histograms, np.zeros((*histograms.shape[:2], 3), np.int64))


def at(bins: list[int], true: list[int]) -> ScoreTable:
    """One pixel an image: its bin and whether it is true."""
    histograms = np.zeros((len(bins), 1, 2, BINS), np.int64)
    histograms[np.arange(len(bins)), 0, true, bins] = 1
    return table_of(histograms)


def drawn(images: int, generator: np.random.Generator, quality: np.ndarray | None = None) -> ScoreTable:
    """Images of 400 true and 400 other pixels whose scores overlap by an amount of their own."""
    quality = generator.uniform(0.3, 2.0, images) if quality is None else quality
    shifted = generator.normal(size=(images, 2, 400)) + np.array([-1, 1])[None, :, None] * quality[:, None, None]
    bins = np.minimum((BINS / (1 + np.exp(-1.5 * shifted))).astype(np.int64), BINS - 1)
    cell = (np.arange(images)[:, None, None] * 2 + np.arange(2)[None, :, None]) * BINS + bins
    return table_of(np.bincount(cell.ravel(), minlength=images * 2 * BINS).reshape(images, 1, 2, BINS))


def sides(ternary: Ternary) -> tuple[float, float]:
    """(alpha, beta) as each risk alone would have it."""
    return ternary.overlap or (ternary.alpha.threshold, ternary.beta.threshold)


# ---- the promise ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("missed", "spurious", "images"), [(0.1, 0.05, 30), (0.2, 0.2, 10), (0.05, 0.1, 60)])
def test_the_mean_risk_over_many_draws_keeps_the_promise_and_is_not_far_below_it(missed, spurious, images):
    generator = np.random.default_rng(0)
    risks = []
    for _ in range(250):
        (ternary,) = calibrate(drawn(images, generator), missed, spurious)
        (result,) = achieved(drawn(40, generator), [ternary])
        risks.append((result.missed, result.spurious))
    mean, error = np.mean(risks, axis=0), np.std(risks, axis=0) / np.sqrt(len(risks))
    tolerances = np.array([missed, spurious])
    assert (mean <= tolerances + 3 * error).all()
    # Conformal risk control is at most 2 / (n + 1) below; a step of 1 / BINS of the score costs a little more.
    assert (mean >= tolerances - 2 / (images + 1) - 0.01 - 3 * error).all()


@pytest.mark.parametrize(("positives", "missed"), [(49, 0.1), (19, 0.05), (30, 0.1)])
def test_labels_of_images_are_missed_exactly_as_often_as_the_theorem_says(positives, missed):
    generator = np.random.default_rng(1)
    truth = np.repeat([1, 0], positives)
    wrong, trials = 0, 0
    for _ in range(600):
        scores = generator.normal(truth, 1.0)
        ternary = calibrate_labels(scores, truth, missed, missed)
        low = sides(ternary)[1]
        wrong += int((generator.normal(1.0, 1.0, 50) < low).sum())
        trials += 50
    # With continuous scores the threshold is an order statistic, so the risk is known, not only bounded.
    exact = math.floor((positives + 1) * missed + 1e-9) / (positives + 1)
    assert exact <= missed + 1e-12
    spread = math.sqrt(exact * (1 - exact) * (1 / trials + 1 / (600 * (positives + 2))))
    assert abs(wrong / trials - exact) < 4 * spread


def grouped(groups: int, generator: np.random.Generator) -> np.ndarray:
    """Scores of 12 images of the class in each group, which nearly agree within it."""
    return np.repeat(generator.normal(size=groups), 12) + generator.normal(0, 0.01, groups * 12)


def test_the_unit_is_the_group_and_taking_images_for_it_would_break_the_promise():
    generator = np.random.default_rng(2)
    enough, few = np.repeat(np.arange(14), 12), np.repeat(np.arange(5), 12)
    kept, broken = [], []
    for _ in range(400):
        after = generator.normal(size=300)
        ternary = calibrate_labels(grouped(14, generator), np.ones(168), 0.1, 0.99, enough)
        kept.append((after < ternary.beta.threshold).mean())
        scores = grouped(5, generator)
        broken.append((after < calibrate_labels(scores, np.ones(60), 0.1, 0.99).beta.threshold).mean())
        assert calibrate_labels(scores, np.ones(60), 0.1, 0.99, few).beta.lacking == 4
    assert np.mean(kept) <= 0.1 + 3 * np.std(kept) / 20
    assert np.mean(broken) > 0.1 + 3 * np.std(broken) / 20


def test_groups_of_pixel_tables_keep_the_promise():
    generator = np.random.default_rng(3)
    groups = np.repeat(np.arange(12), 5)
    risks = []
    for _ in range(150):
        (ternary,) = calibrate(drawn(60, generator, np.repeat(generator.uniform(0, 2, 12), 5)), 0.15, 0.15, groups)
        (result,) = achieved(drawn(40, generator, generator.uniform(0, 2, 40)), [ternary])
        risks.append((result.missed, result.spurious))
    mean, error = np.mean(risks, axis=0), np.std(risks, axis=0) / np.sqrt(len(risks))
    assert (mean <= 0.15 + 3 * error).all()
    assert (mean >= 0.15 - 2 / 13 - 3 * error).all()


def test_both_promises_hold_where_the_regions_would_overlap():
    generator = np.random.default_rng(4)
    risks, crossed = [], 0
    for _ in range(150):
        (ternary,) = calibrate(drawn(40, generator), 0.3, 0.3)
        crossed += ternary.overlap is not None
        (result,) = achieved(drawn(40, generator), [ternary])
        risks.append((result.missed, result.spurious))
    assert crossed > 100
    assert (np.mean(risks, axis=0) <= 0.3).all()


# ---- what is chosen ------------------------------------------------------------------------------------------


def brute_risks(scores, truth, threshold):
    missed, spurious = [], []
    for score, mask in zip(scores[:, 0], truth, strict=True):
        bins = np.minimum((score * BINS).astype(int), BINS - 1)
        reached = bins >= round(min(threshold, 2) * BINS)
        if (mask == 1).any():
            missed.append((~reached)[mask == 1].mean())
        if (mask == 0).any():
            spurious.append(reached[mask == 0].mean())
    return missed, spurious


@given(SCORES, TRUTH, TOLERANCES, TOLERANCES)
@settings(max_examples=60, deadline=None)
def test_each_threshold_is_the_last_that_is_allowed(scores, truth, missed, spurious):
    (ternary,) = calibrate(score_images(scores, truth), missed, spurious)
    had, others = brute_risks(scores, truth, 0.5)

    def allowed(index: int, side: int, tolerance: float) -> bool:
        losses = brute_risks(scores, truth, GRID[index])[side]
        return (sum(losses) + 1) / (len(losses) + 1) <= tolerance + 1e-12

    alpha, beta = sides(ternary)
    if (len(had) + 1) * missed >= 1:
        place = round(beta * BINS)
        assert allowed(place, 0, missed)
        assert not allowed(place + 1, 0, missed)
    else:
        assert ternary.beta.lacking > 0
        assert math.isnan(beta)
    if (len(others) + 1) * spurious >= 1:
        place = BINS if math.isinf(alpha) else round(alpha * BINS)
        assert allowed(place, 1, spurious)
        assert not allowed(place - 1, 1, spurious)
    else:
        assert ternary.alpha.lacking > 0
        assert math.isnan(alpha)


@given(SCORES, TRUTH)
@settings(max_examples=40, deadline=None)
def test_more_tolerance_never_leaves_more_to_u(scores, truth):
    table = score_images(scores, truth)
    found = [calibrate(table, eps, eps)[0] for eps in (0.15, 0.3, 0.45, 0.6, 0.9)]
    pairs = [sides(each) for each in found if each.feasible]
    assert all(later[0] <= earlier[0] for earlier, later in pairwise(pairs))
    assert all(later[1] >= earlier[1] for earlier, later in pairwise(pairs))
    assert [each.feasible for each in found] == sorted(each.feasible for each in found)


@given(SCORES, TRUTH, TOLERANCES, TOLERANCES)
@settings(max_examples=60, deadline=None)
def test_alpha_is_never_below_beta_and_the_bounds_are_kept(scores, truth, missed, spurious):
    (ternary,) = calibrate(score_images(scores, truth), missed, spurious)
    if not ternary.feasible:
        return
    assert ternary.alpha.threshold >= ternary.beta.threshold
    assert ternary.beta.bound <= missed + 1e-9
    assert ternary.alpha.bound <= spurious + 1e-9
    assert ternary.beta.risk <= ternary.beta.bound
    if ternary.overlap:
        alpha, beta = ternary.overlap
        assert alpha <= ternary.alpha.threshold == ternary.beta.threshold <= beta


@given(SCORES, TRUTH, TOLERANCES, TOLERANCES)
@settings(max_examples=60, deadline=None)
def test_deciding_a_map_is_what_was_calibrated_and_what_is_reported(scores, truth, missed, spurious):
    table = score_images(scores, truth)
    (ternary,) = calibrate(table, missed, spurious)
    if not ternary.feasible:
        with pytest.raises(DataError, match="Calibration needs"):
            decide(scores[0, 0], ternary)
        return
    decided = np.stack([decide(each[0], ternary) for each in scores])
    (result,) = achieved(table, [ternary])

    def mean(value: int, label: tuple[int, ...]) -> float:
        shares = [
            (one[np.isin(mask, label)] == value).mean()
            for one, mask in zip(decided, truth, strict=True)
            if np.isin(mask, label).any()
        ]
        return float(np.mean(shares)) if shares else math.nan

    assert result.missed == pytest.approx(mean(NOT_P, (1,)), nan_ok=True)
    assert result.spurious == pytest.approx(mean(P, (0,)), nan_ok=True)
    assert result.unknown == pytest.approx(mean(U, (0, 1)), nan_ok=True)
    assert result.unknown_true == pytest.approx(mean(U, (1,)), nan_ok=True)
    assert result.unknown_other == pytest.approx(mean(U, (0,)), nan_ok=True)
    assert result.missed == pytest.approx(ternary.beta.risk)
    assert result.spurious == pytest.approx(ternary.alpha.risk)


@given(
    arrays(np.int64, 40, elements=st.integers(0, 6)),
    arrays(np.uint8, 40, elements=st.sampled_from([0, 1, 255])),
    TOLERANCES,
)
@settings(max_examples=60, deadline=None)
def test_labels_are_one_pixel_images_and_ties_are_kept_together(bins, truth, eps):
    counted = truth != 255
    ternary = calibrate_labels(bins / BINS, truth, eps, eps)
    (pixels,) = calibrate(at(bins[counted].tolist(), truth[counted].tolist()), eps, eps)
    assert ternary.beta.units == pixels.beta.units == int((truth == 1).sum())
    assert ternary.feasible == pixels.feasible
    if not ternary.feasible:
        return
    assert ternary.beta.risk == pytest.approx(pixels.beta.risk)
    assert ternary.alpha.risk == pytest.approx(pixels.alpha.risk)
    decided = decide_labels(bins / BINS, ternary)
    assert (decided[counted] == decide((bins[counted] + 0.5) / BINS, pixels)).all()
    if (truth == 1).any():
        assert (decided[truth == 1] == NOT_P).mean() == pytest.approx(ternary.beta.risk)


def test_the_single_threshold_of_an_overlap_is_the_one_with_the_best_iou():
    # True pixels at 160, others at 40, and one in twenty others at 100: safe from 41 on, best from 101 on.
    histograms = np.zeros((20, 1, 2, BINS), np.int64)
    histograms[:, 0, 1, 160] = 20
    histograms[:, 0, 0, 40], histograms[:, 0, 0, 100] = 19, 1
    (ternary,) = calibrate(table_of(histograms), 0.2, 0.2)
    assert ternary.overlap == (41 / BINS, 160 / BINS)
    assert ternary.alpha.threshold == ternary.beta.threshold == 131 / BINS  # the middle of 101 .. 160
    (result,) = achieved(table_of(histograms), [ternary])
    assert (result.missed, result.spurious, result.unknown) == (0, 0, 0)


def test_scores_that_tell_nothing_leave_everything_to_u():
    (ternary,) = calibrate(at([100] * 40, [1, 0] * 20), 0.1, 0.1)
    assert (ternary.beta.threshold, ternary.alpha.threshold) == (0.5, 101 / BINS)
    assert (decide(np.full((3, 3), 0.5), ternary) == U).all()
    (certain,) = calibrate(at([BINS - 1] * 40, [1, 0] * 20), 0.1, 0.1)
    assert math.isinf(certain.alpha.threshold)
    assert decide(np.array([1.0, 0.999, 0.99]), certain).tolist() == [U, U, NOT_P]


def test_each_class_of_many_gets_its_own():
    generator = np.random.default_rng(5)
    easy, hard = drawn(40, generator, np.full(40, 2.0)), drawn(40, generator, np.full(40, 0.3))
    both = table_of(np.concatenate([easy.histograms, hard.histograms], axis=1))
    first, second = calibrate(both, 0.1, 0.1)
    assert (first, second) == (calibrate(easy, 0.1, 0.1)[0], calibrate(hard, 0.1, 0.1)[0])
    results = achieved(both, [first, second])
    assert results[0].unknown < 0.05 < results[1].unknown


# ---- too little to calibrate on --------------------------------------------------------------------------------


@pytest.mark.parametrize(("eps", "needed"), [(0.1, 9), (0.05, 19), (0.01, 99), (0.3, 3), (0.07, 14), (0.5, 1)])
def test_one_image_fewer_than_the_theorem_needs_is_said_to_lack_one(eps, needed):
    assert (needed + 1) * eps >= 1 - 1e-12
    enough = calibrate_labels(np.arange(2.0 * needed), np.tile([1, 0], needed), eps, eps)
    assert enough.feasible
    assert enough.shortage == ""
    short = calibrate_labels(np.arange(2.0 * needed - 1), np.tile([0, 1], needed)[:-1], eps, eps)
    assert not short.feasible
    assert (short.beta.lacking, short.alpha.lacking) == (1, 0)
    assert math.isnan(short.beta.threshold)
    assert "1 more image(s) with the class" in short.shortage
    assert f"{eps:g} needs {needed}" in short.shortage
    assert "anything but" not in short.shortage


def test_a_class_that_never_occurs_is_infeasible_and_says_so():
    (ternary,) = calibrate(at([10] * 30, [0] * 30), 0.1, 0.1)
    assert (ternary.beta.units, ternary.beta.lacking, ternary.alpha.lacking) == (0, 9, 0)
    with pytest.raises(DataError, match=r"must be calibrated. Calibration needs 9 more image\(s\) with the class"):
        achieved(at([10], [0]), [ternary])


def test_images_without_the_class_do_not_count_for_it():
    with_class, without = drawn(30, np.random.default_rng(6)), at([150] * 50, [0] * 50)
    both = table_of(np.concatenate([with_class.histograms, without.histograms]))
    (alone,), (mixed,) = calibrate(with_class, 0.1, 0.1), calibrate(both, 0.1, 0.1)
    assert mixed.beta == alone.beta
    assert mixed.alpha.units == 80
    assert mixed.alpha.threshold > alone.alpha.threshold


def test_an_image_with_nothing_counted_is_as_if_it_were_not_there():
    table = drawn(30, np.random.default_rng(7))
    empty = table_of(np.concatenate([table.histograms, np.zeros((5, 1, 2, BINS))]))
    assert calibrate(empty, 0.1, 0.1) == calibrate(table, 0.1, 0.1)
    (nothing,) = achieved(empty.take(np.arange(30, 35)), calibrate(table, 0.1, 0.1))
    assert math.isnan(nothing.missed)
    assert math.isnan(nothing.unknown)
    assert nothing.units == (0, 0, 0)


def test_groups_share_one_vote():
    share, units = weights(np.array([True, True, False, True, False]), ["a", "a", "a", "b", "c"])
    assert share.tolist() == [0.25, 0.25, 0, 0.5, 0]
    assert units == 2
    (ternary,) = calibrate(drawn(40, np.random.default_rng(8)), 0.1, 0.1, ["one", "two"] * 20)
    assert (ternary.beta.units, ternary.beta.lacking, ternary.unit) == (2, 7, "group")
    assert "7 more group(s)" in ternary.shortage


# ---- numbers that are none -----------------------------------------------------------------------------------


def test_a_score_that_is_no_number_is_u():
    (ternary,) = calibrate(drawn(40, np.random.default_rng(9)), 0.3, 0.3)
    assert decide(np.array([0.0, np.nan, 1.0, np.inf], np.float32), ternary).tolist() == [NOT_P, U, P, U]
    labels = calibrate_labels(np.arange(40.0), np.arange(40) > 19, 0.1, 0.1)
    assert decide_labels(np.array([-3.0, np.nan, 99.0]), labels).tolist() == [NOT_P, U, P]


def test_truth_that_is_no_number_is_not_counted():
    scores, truth = np.arange(40.0), (np.arange(40) > 19).astype(float)
    holes = np.append(truth, [np.nan, 255.0])
    assert calibrate_labels(np.append(scores, [-1.0, np.nan]), holes, 0.1, 0.1) == calibrate_labels(
        scores, truth, 0.1, 0.1
    )


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: calibrate(at([1], [1]), 0.0, 0.1), r"`missed` must be a share between 0 and 1.*got 0.0"),
        (lambda: calibrate(at([1], [1]), 0.1, math.nan), r"`spurious`.*got nan"),
        (lambda: calibrate(at([1], [1]), 0.1, 1.0), r"`spurious`.*got 1.0"),
        (lambda: calibrate(at([1], [1]), 0.1, 0.1, ["a", "b"]), r"`groups` must name one.*got 2 for 1"),
        (lambda: calibrate_labels(np.ones(3), np.ones(2), 0.1, 0.1), r"one number an image; got \(3,\) and \(2,\)"),
        (lambda: calibrate_labels(np.ones(2), np.array([1, 3]), 0.1, 0.1), r"`truth` must be 0, 1 or 255"),
        (lambda: calibrate_labels(np.array([1, np.nan]), np.ones(2), 0.1, 0.1), r"finite numbers; 1 are not"),
        (lambda: achieved(at([1], [1]), []), r"`ternaries` must be one a class; got 0 for 1"),
        (lambda: restored({"beta": {}}), r"must be whole.*Calibrate again"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_in_one_sentence(call, says):
    with pytest.raises(DataError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "table", [drawn(40, np.random.default_rng(10)), at([BINS - 1] * 40, [1, 0] * 20), at([3] * 30, [0] * 30)]
)
def test_a_decision_survives_json(table):
    for eps in (0.1, 0.4):
        (ternary,) = calibrate(table, eps, eps)
        back = restored(json.loads(json.dumps(plain(ternary), allow_nan=False)))
        assert repr(back) == repr(ternary)  # nan is not equal to itself
