"""The numbers of a diagnosis, on runs whose fits scored what we say: nothing here is trained."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import make_pictures
from made_run import DIAMETER, SIZE, changed, curve, epoch, fitted, made_pictures, made_run, table, told_apart
from unplateau.checks.data_scale import DataScaleCheck
from unplateau.checks.ladder import EITHER, FAMILIES, PRIOR, LadderCheck, coalitions, family_draws
from unplateau.checks.operating_point import variance_explained
from unplateau.checks.scaling import fit_law, predict
from unplateau.data.splits import split
from unplateau.data.transforms import NONE
from unplateau.diagnosis.diagnose import CHECKS, LARGE, MOSTLY_HALF, RECIPE, fitting
from unplateau.experiments.choosing import BY_AREA, UNITS, choosing_units, prefer, unit_sums
from unplateau.experiments.fits import Fit, Fitted, Scored, _key, build_model, fingerprint, load, save, spread
from unplateau.experiments.plan import (
    CANDIDATE,
    CONTEXT,
    CONTOUR,
    FRACTIONS,
    HALF_STEPS,
    UNTRAINED,
    less_name,
    make_fits,
    make_plan,
)
from unplateau.experiments.prior import position_map, position_scores
from unplateau.experiments.run import Resampler, Run
from unplateau.experiments.trials import make_trials
from unplateau.experiments.views import Objects, contours, core_masks, gaussian_blur, measure_objects, total_variation
from unplateau.extractors.catalogue import build_extractor
from unplateau.files import plain
from unplateau.measures.curves import CurveType, curve_type, trend
from unplateau.measures.thresholds import THRESHOLDS, ScoreTable, best_threshold, mean_iou, net_threshold
from unplateau.training.recipe import Recipe
from unplateau.training.saved import load_model
from unplateau.training.train import train_model
from unplateau.types import Epoch, Finding, Fold, Interval, Pictures, Verdict


def width(interval: Interval) -> float:
    return interval.high - interval.low


@pytest.fixture(scope="module")
def run() -> Run:
    return made_run()


# ---- one battery over every check ----------------------------------------------------------------------------

RUNS = {
    "usual": {},
    "candidate": {"candidate": "resnet18", "baseline": "reach-9"},
    "two groups": {"groups": 4, "folds": 2},
    "nothing learnt": {"scores": dict.fromkeys(("colour", "texture", "contour", "context"), 0.2)},
    "perfect": {"scores": {"texture": 0.99, "context": 1.0, "contour": 0.99}},
}


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("name", CHECKS)
def test_every_check_makes_a_claim_in_whole_sentences(name, kind):
    made = made_run(**RUNS[kind])
    check = CHECKS[name]()
    finding = check.judge(check.measure(made))
    assert isinstance(finding, Finding)
    assert finding.check == name
    assert isinstance(finding.verdict, Verdict)
    assert finding.claim[0].isupper()
    assert finding.claim.endswith(".")
    assert "nan" not in finding.claim
    json.dumps(plain(finding), allow_nan=False)


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_measures_the_same_twice(name):
    assert repr(CHECKS[name]().measure(made_run())) == repr(CHECKS[name]().measure(made_run()))


# ---- the fabricated tables are what they promise -------------------------------------------------------------


def test_a_made_table_has_the_iou_it_was_made_with():
    ious = np.array([0.2, 0.5, 0.8])
    assert mean_iou(table(ious).at(0.5)) == pytest.approx(ious.mean())
    assert mean_iou(table(ious).argmax) == pytest.approx(ious.mean())


# ---- resampling ----------------------------------------------------------------------------------------------


def test_draws_lie_around_the_measured_value(run):
    for name in run.outcomes:
        draws = run.resampler.draws(run.sums(name))
        assert draws.mean() == pytest.approx(run.resampler.mean(run.sums(name)), abs=0.003)
        assert np.isfinite(draws).all()


def test_a_reading_is_the_pooled_iou_of_all_report_images(run):
    tables = [outcome.report for outcome in run.outcomes[CONTEXT]]
    counts = np.concatenate([each.at(0.5) for each in tables])
    assert run.reading(CONTEXT).mean == pytest.approx(mean_iou(counts))


def test_a_rung_differs_from_itself_by_exactly_nothing(run):
    same = run.resampler.difference(run.sums(CONTEXT), run.sums(CONTEXT))
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_paired_differences_are_narrower_than_the_readings_they_come_from(run):
    step = run.resampler.difference(run.sums(CONTEXT), run.sums("colour"))
    assert width(step) < 0.5 * width(run.reading(CONTEXT))


def test_intervals_are_wider_with_fewer_groups():
    few, many = (made_run(groups=groups, noise=0.08, seed=1) for groups in (5, 40))
    assert width(few.reading(CONTEXT)) > 1.5 * width(many.reading(CONTEXT))


def test_frames_of_a_group_do_not_narrow_an_interval_as_groups_do():
    pictures = made_pictures(groups=6, of_each=20)
    quality = np.repeat(np.linspace(0.3, 0.9, 6), 20)
    everything = Fold((), (), tuple(range(120)))
    bands = {}
    for name, groups in (("groups", pictures.groups), ("frames", tuple(map(str, range(120))))):
        resampler = Resampler.of(replace(pictures, groups=groups), (everything,), np.random.default_rng(0))
        bands[name] = resampler.interval(resampler.sums(0, table(quality).at(0.5))[None])
    assert width(bands["groups"]) > 3 * width(bands["frames"])


def test_folds_that_report_each_image_once_count_once_each():
    pictures = made_pictures()
    resampler = Resampler.of(pictures, split(pictures, folds=3), np.random.default_rng(0))
    assert (resampler.seeds == 1).all()
    assert (resampler.weights.sum(1) == 8).all()


def test_folds_that_report_the_same_images_are_seeds_and_are_resampled():
    pictures = made_pictures()
    repeats = tuple(Fold(tuple(range(12)), (12, 13), tuple(range(15, 24))) for _ in range(3))
    resampler = Resampler.of(pictures, repeats, np.random.default_rng(0))
    assert (resampler.seeds.sum(1) == 3).all()
    assert len(np.unique(resampler.seeds)) > 1
    reported = sorted({int(pictures.groups[index][1:]) for index in repeats[0].report})
    assert set(np.flatnonzero(resampler.weights.sum(0))) == set(reported)


def test_seeds_that_disagree_widen_an_interval():
    pictures = made_pictures()
    repeats = tuple(Fold(tuple(range(12)), (12, 13), tuple(range(15, 24))) for _ in range(3))
    resampler = Resampler.of(pictures, repeats, np.random.default_rng(0))

    def band(by_seed: list[float]) -> float:
        sums = [resampler.sums(place, table(np.full(9, iou)).at(0.5)) for place, iou in enumerate(by_seed)]
        return width(resampler.interval(np.stack(sums)))

    assert band([0.5, 0.6, 0.7]) > band([0.6, 0.6, 0.6]) + 0.05


# ---- choosing ------------------------------------------------------------------------------------------------


def outcomes_of(run: Run, inner: float, report: float) -> tuple[Fitted, ...]:
    return tuple(
        fitted(np.full(len(fold.inner), inner), np.full(len(fold.report), report), np.ones(2)) for fold in run.folds
    )


def test_a_rung_is_chosen_by_the_inner_part_whatever_the_report_part_says(run):
    made = changed(run, colour=outcomes_of(run, 0.8, 0.3), texture=outcomes_of(run, 0.4, 0.9))
    assert made.resampler.mean(made.chosen(["colour", "texture"])) == pytest.approx(0.3)
    assert made.resampler.mean(made.chosen(["texture", "colour"])) == pytest.approx(0.3)


def test_each_fold_chooses_for_itself(run):
    first, second = outcomes_of(run, 0.8, 0.6), outcomes_of(run, 0.5, 0.1)
    made = changed(run, colour=(first[0], *second[1:]), texture=(second[0], *first[1:]))
    assert made.resampler.mean(made.chosen(["colour", "texture"])) == pytest.approx(0.6)


def counts_by_unit(ious: list[float]) -> np.ndarray:
    return table(np.array(ious)).at(0.5).astype(float)


def test_the_simpler_of_two_alike_is_preferred_and_the_surely_better_one_is_not_passed_over():
    simple = counts_by_unit([0.50, 0.60, 0.55, 0.58])
    lucky, better = counts_by_unit([0.70, 0.45, 0.60, 0.55]), counts_by_unit([0.70, 0.80, 0.74, 0.79])
    assert prefer(np.stack([simple, lucky])) == 0
    assert prefer(np.stack([simple, better])) == 1
    assert prefer(np.stack([better, simple])) == 0


def test_by_area_the_rung_that_tells_more_apart_is_preferred_and_of_two_alike_the_simpler():
    none, some, more = (told_apart(np.arange(8) < decided) for decided in (0, 4, 5))
    sums = np.stack([each.at(net_threshold(each)).astype(float) for each in (none, some, more)])
    assert prefer(sums, BY_AREA) == 1
    assert prefer(sums[::-1], BY_AREA) == 0
    assert prefer(sums[[0, 2]], BY_AREA) == 1


def test_a_single_inner_group_is_cut_into_parts_and_several_are_kept_whole():
    assert choosing_units(["b", "a", "b", "c"]).tolist() == [1, 0, 1, 2]
    assert sorted(set(choosing_units(["a"] * 40))) == list(range(UNITS))
    counts = table(np.linspace(0.1, 0.9, 5)).at(0.5)
    assert unit_sums(counts, np.array([0, 1, 0, 1, 1])).sum(0) == pytest.approx(counts.sum(0))


# ---- families ------------------------------------------------------------------------------------------------

NEAR = ("reach D/4", "reach D/2", "reach D", "reach object")


def planted(colour: float, texture: float, contour: float, near: float, everything: float) -> dict[str, float]:
    ordered = dict.fromkeys(NEAR, near)
    scores = {PRIOR: 0.2, "colour": colour, "texture": texture, CONTOUR: contour, **ordered}
    return {**scores, "reach 4D": max(near, 0.46), CONTEXT: everything}


PLANTED = {
    "textural": planted(0.23, 0.94, 0.82, 0.92, 0.94),
    "geometric": planted(0.37, 0.72, 0.95, 0.98, 0.98),
    "semantic": planted(0.39, 0.43, 0.44, 0.44, 0.85),
}


@pytest.mark.parametrize("family", PLANTED)
def test_the_family_that_was_planted_has_the_largest_share(family):
    made = made_run(PLANTED[family], noise=0.01)
    measured = LadderCheck().measure(made)
    shares = {name: share.mean for name, share in measured.families.items()}
    assert shares[family] > 0.8
    assert sum(shares.values()) == pytest.approx(1)
    assert f"the {family} family decides most" in LadderCheck().judge(measured).claim


def deciding(run: Run, share: float) -> tuple[Fitted, ...]:
    """The outcomes of a rung that decides that share of the images of each part, and of the others nothing."""
    parts = [
        [told_apart((np.arange(len(part)) * 7 % 10) < 10 * share) for part in (fold.inner, fold.report, fold.fit)]
        for fold in run.folds
    ]
    return tuple(Fitted(*tables, curve(0.5), 1.0) for tables in parts)


def mixed_run(colour: float, texture: float, contour: float, near: float) -> Run:
    """A run on images of which the whole decides all, and these rungs a part."""
    made = made_run(groups=20)
    parts = {PRIOR: 0.0, "colour": colour, "texture": texture, CONTOUR: contour, **dict.fromkeys(NEAR, near)}
    parts |= {"reach 4D": near, CONTEXT: 1.0}
    outcomes = {name: deciding(made, share) for name, share in parts.items()}
    return replace(made, outcomes={**made.outcomes, **outcomes})


def test_a_rung_that_decides_some_of_the_images_has_their_share_though_its_best_iou_claims_all():
    made = mixed_run(colour=0.0, texture=0.0, contour=0.4, near=0.4)
    measured = LadderCheck().measure(made)
    assert made.reading("reach D").mean == pytest.approx(1 / 1.66, abs=0.02)
    assert measured.families["geometric"].mean == pytest.approx(0.4, abs=0.05)
    assert measured.families["semantic"].mean == pytest.approx(0.6, abs=0.05)


@pytest.mark.parametrize("contour", [0.0, 0.2])
@pytest.mark.parametrize("colour", [0.0, 0.5], ids=["texture", "colour"])
def test_contours_that_show_some_of_a_texture_do_not_make_it_less_beside_the_context(colour, contour):
    families = LadderCheck().measure(mixed_run(colour, 0.5, contour, near=0.5)).families
    assert families["textural"].mean == pytest.approx(0.5, abs=0.05)
    assert families["semantic"].mean == pytest.approx(0.5, abs=0.05)


def test_contours_that_lie_a_pixel_off_take_nothing_for_texture():
    run = made_run({**PLANTED["geometric"], "contour": 0.8, "reach object": 0.98})
    inside = made_run({**PLANTED["geometric"], "contour": 0.98, "reach object": 0.98})
    outcomes = {
        name: tuple(
            replace(each, cores=Scored(core.inner, core.report))
            for each, core in zip(fits, inside.outcomes[name], strict=True)
        )
        for name, fits in run.outcomes.items()
    }
    blurred, told = LadderCheck().measure(run), LadderCheck().measure(replace(run, outcomes=outcomes, _sums={}))
    assert blurred is not None
    assert told is not None
    assert told.families["textural"].mean < 0.05 < 0.25 < blurred.families["textural"].mean
    assert told.gains == blurred.gains  # of the IoU, in which borders count


def test_no_family_is_needed_where_each_alone_attains_all():
    measured = LadderCheck().measure(made_run(planted(0.9, 0.9, 0.9, 0.9, 0.9), noise=0.01))
    assert all(np.isnan(share.mean) for share in measured.families.values())
    assert measured.gains[EITHER].mean == pytest.approx(0.7, abs=0.02)
    assert LadderCheck().judge(measured).verdict is Verdict.UNDETERMINED


def test_two_families_of_use_only_together_are_both_needed():
    measured = LadderCheck().measure(made_run(planted(0.3, 0.3, 0.3, 0.9, 0.9), noise=0.01))
    assert measured.families["textural"].mean == pytest.approx(0.5, abs=0.05)
    assert measured.gains[EITHER].mean < -0.4


@pytest.mark.parametrize("kind", ["usual", "candidate"])
def test_what_the_families_add_sums_to_the_best_rung_minus_position_exactly(kind):
    made = made_run(**RUNS[kind])
    gains = family_draws(made, coalitions(made))
    names = [PRIOR, *(rung.name for rung in made.plan.rungs if rung.kind != "control"), CONTOUR]
    best = max(names, key=lambda name: made.reading(name).mean)
    total = sum(mean for mean, _ in gains.values())
    assert set(gains) == {*FAMILIES, EITHER}
    assert total == pytest.approx(made.reading(best).mean - made.reading(PRIOR).mean, abs=1e-12)
    draws = made.resampler.draws(made.sums(best)) - made.resampler.draws(made.sums(PRIOR))
    assert sum(each for _, each in gains.values()) == pytest.approx(draws, abs=1e-12)


def test_what_a_given_model_was_trained_for_longer_is_no_family():
    bare = made_run({"context": 0.5, "baseline": 0.9}, baseline="resnet18")
    given = replace(
        bare,
        plan=replace(bare.plan, trials=make_trials("resnet18", "unet", math.inf, Recipe(), frozen=False), given=True),
    )
    apart, together = (LadderCheck().measure(run) for run in (given, bare))
    assert apart is not None
    assert together is not None
    assert apart.gains["semantic"].mean < together.gains["semantic"].mean - 0.3


def test_what_lies_within_half_an_object_is_counted_as_local():
    made = made_run({"colour": 0.6, "texture": 0.6, "context": 0.6, **dict.fromkeys((*NEAR, "reach 4D"), 0.6)})
    measured = LadderCheck().measure(made)
    assert measured.local_share.mean == pytest.approx(1, abs=0.01)
    assert "half an object" in LadderCheck().judge(measured).claim


def test_a_baseline_that_sees_too_much_falls_short_of_a_rung_that_sees_less():
    made = made_run({"colour": 0.6, "context": 0.4, **dict.fromkeys((*NEAR, "reach 4D"), 0.5)})
    shortfall = LadderCheck().measure(made).baseline_shortfall
    assert shortfall.low > 0
    assert shortfall.mean == pytest.approx(0.2, abs=0.02)


def test_a_rung_that_adds_nothing_has_a_step_of_nothing(run):
    rungs = {rung.name: rung for rung in LadderCheck().measure(run).rungs}
    assert rungs[CONTEXT].step.low > 0
    assert rungs[CONTOUR].step is None
    assert rungs[CONTOUR].control
    assert [rung.reach for rung in rungs.values() if not rung.control][:2] == [0, 1]


# ---- scaling -------------------------------------------------------------------------------------------------

SHARES = np.array([0.25, 0.5, 1.0])


def noisy(values: np.ndarray, spread: float, count: int = 1000) -> np.ndarray:
    return values + np.random.default_rng(0).normal(0, spread, (count, len(values)))


@pytest.mark.parametrize("exponent", [0.35, 0.5, 0.8, 1.5, 2.5])
def test_a_planted_power_law_is_recovered_within_its_interval(exponent):
    law = lambda share: 0.8 - 0.15 * share**-exponent  # noqa: E731
    ahead = predict(SHARES, noisy(law(SHARES), 0.004), (2.0, 4.0), np.random.default_rng(0))
    for factor, draws in zip((2.0, 4.0), ahead, strict=True):
        low, high = np.quantile(draws, [0.05, 0.95])
        assert low <= law(factor) <= high
        assert high - low < 0.15


@pytest.mark.parametrize("values", [(0.4, 0.5, 0.6), (0.6, 0.6, 0.6), (0.7, 0.6, 0.5), (0.97, 0.98, 0.99)], ids=str)
def test_more_data_is_never_predicted_to_score_below_all_of_it_and_never_above_one(values):
    draws = noisy(np.array(values), 0.01).clip(0, 1)
    twice, fourfold = predict(SHARES, draws, (2.0, 4.0), np.random.default_rng(0))
    assert draws[:, -1].mean() <= twice.mean() <= fourfold.mean() <= 1
    assert max(twice.max(), fourfold.max()) <= 1


def test_a_fitted_law_passes_through_points_that_follow_one():
    law = fit_law(SHARES, 0.8 - 0.2 * SHARES**-0.5, 0.5)
    assert (law.ceiling, law.scale) == pytest.approx((0.8, 0.2))
    assert law.at(4) == pytest.approx(0.7)
    assert law.at(1e9) <= 1


def test_a_curve_that_falls_has_no_slope():
    assert fit_law(SHARES, np.array([0.7, 0.65, 0.6]), 0.5).scale == 0


def test_a_steep_learning_curve_is_a_concern_with_groups_enough_and_a_flat_one_is_sound():
    steep = {less_name(0.25): 0.3, less_name(0.5): 0.5, CONTEXT: 0.7}
    flat = {less_name(0.25): 0.7, less_name(0.5): 0.7, CONTEXT: 0.7}
    verdicts = {}
    for name, scores in (("steep", steep), ("flat", flat)):
        check = DataScaleCheck()
        verdicts[name] = check.judge(check.measure(made_run(scores, groups=20))).verdict
    assert verdicts == {"steep": Verdict.CONCERN, "flat": Verdict.SOUND}


def test_data_is_not_called_enough_where_only_one_amount_could_be_measured():
    check = DataScaleCheck()
    measured = check.measure(made_run({less_name(each): 0.7 for each in FRACTIONS}, groups=20))
    points = tuple(replace(point, groups=1.0) for point in measured.points)
    assert check.judge(replace(measured, points=points, groups=1)).verdict is Verdict.UNDETERMINED


# ---- the training curve --------------------------------------------------------------------------------------


def epochs(best: np.ndarray, iou: np.ndarray | None = None, **more: np.ndarray) -> tuple[Epoch, ...]:
    at_half = best if iou is None else iou
    rows = [{name: float(values[place]) for name, values in more.items()} for place in range(len(best))]
    return tuple(
        epoch(place, float(b), float(h), **row)
        for place, (b, h, row) in enumerate(zip(best, at_half, rows, strict=True))
    )


FLAT, RISE = np.full(12, 0.7), np.linspace(0.3, 0.7, 12)
FALL = np.concatenate([np.linspace(0.3, 0.7, 8), np.linspace(0.69, 0.6, 4)])
SWING = 0.7 - 0.1 * (np.arange(12) % 2)
CURVES = {
    CurveType.RISING: epochs(RISE),
    CurveType.CONVERGED: epochs(FLAT),
    CurveType.OVERFITTING: epochs(FALL, train_loss=np.linspace(1, 0.1, 12), val_loss=np.linspace(0.5, 1, 12)),
    CurveType.DIVERGING: epochs(FLAT, train_loss=np.linspace(0.5, 3, 12)),
    CurveType.WOBBLING: epochs(FLAT, SWING),
    CurveType.UNDETERMINED: epochs(RISE[:5]),
}


def test_every_type_of_curve_is_tried_below():
    assert set(CURVES) == set(CurveType)


@pytest.mark.parametrize("wanted", CurveType)
def test_a_curve_has_the_type_it_was_drawn_with(wanted):
    assert curve_type(CURVES[wanted]) is wanted


def test_a_loss_that_is_no_number_diverges():
    assert curve_type(epochs(FLAT, train_loss=np.array([0.5] * 11 + [np.nan]))) is CurveType.DIVERGING


def test_a_trend_is_the_change_over_the_last_third():
    assert trend([0.0] * 6 + [0.0, 0.1, 0.2]) == pytest.approx(0.2)
    assert math.isnan(trend([1.0, 2.0, float("nan")]))


# ---- the operating point -------------------------------------------------------------------------------------


def test_the_threshold_explains_everything_when_only_it_wobbles():
    wobble = np.random.default_rng(0).uniform(0, 0.2, 12)
    explained, by_coverage = variance_explained([epochs(FLAT, FLAT - wobble, coverage=np.exp(3 * wobble))])
    assert explained == pytest.approx(1)
    assert by_coverage == pytest.approx(1)


def test_the_threshold_explains_nothing_when_only_the_best_iou_moves():
    best = 0.7 - np.random.default_rng(0).uniform(0, 0.2, 12)
    explained, by_coverage = variance_explained([epochs(best, best - 0.1, coverage=np.full(12, 1.3))])
    assert explained == pytest.approx(0, abs=1e-12)
    assert by_coverage == 0


def test_nothing_is_explained_where_nothing_moves_or_too_little_was_seen():
    assert all(map(math.isnan, variance_explained([epochs(FLAT)])))
    assert all(map(math.isnan, variance_explained([epochs(SWING[:3], SWING[:3])])))
    assert all(map(math.isnan, variance_explained([])))


@pytest.mark.parametrize("cut", [0.3, 0.5, 0.7])
def test_the_curve_over_thresholds_peaks_where_it_was_planted(cut):
    measured = CHECKS["operating point"]().measure(made_run(cut=cut))
    assert THRESHOLDS[int(np.argmax(measured.iou))] == pytest.approx(cut, abs=0.11)
    assert measured.chosen == pytest.approx(cut, abs=0.02)
    assert measured.regret.mean == pytest.approx(0, abs=0.002)
    assert (measured.from_half.mean > 0.3) == (cut == 0.3 or cut == 0.7)


def test_a_threshold_chosen_wrongly_costs_what_the_best_one_would_add(run):
    wrong = tuple(replace(each, inner=table(np.full(4, 0.7), cut=0.2)) for each in run.outcomes[CONTEXT])
    check = CHECKS["operating point"]()
    finding = check.judge(check.measure(changed(run, context=wrong)))
    assert finding.verdict is Verdict.CONCERN
    assert finding.gain.mean == pytest.approx(0.7, abs=0.05)


# ---- views of the image --------------------------------------------------------------------------------------


def discs(radii: list[float], side: int = 96) -> Pictures:
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    masks = torch.stack([((rows - side // 2) ** 2 + (columns - side // 2) ** 2 <= r**2).byte() for r in radii])
    return make_pictures([str(place) for place in range(len(radii))], masks=masks)


@pytest.mark.parametrize("radius", [4, 10, 25])
def test_the_diameter_of_discs_is_found_and_is_their_extent_and_thickness(radius):
    found = measure_objects(discs([radius] * 3))
    assert found.diameter == pytest.approx(2 * radius, rel=0.06)
    assert found.extent == pytest.approx(2 * radius + 1, rel=0.03)
    assert found.thickness == pytest.approx(2 * radius, rel=0.3)
    assert found.whole == max(found.extent, found.diameter)


def drawn(inside) -> Objects:
    """What is measured of one thing, where `inside` is true of the offsets from the middle."""
    rows, columns = torch.meshgrid(torch.arange(96.0) - 48, torch.arange(96.0) - 48, indexing="ij")
    return measure_objects(make_pictures(["one"], masks=inside(rows, columns)[None].byte()))


def test_long_things_are_seen_whole_from_their_ends_and_as_thick_as_they_are_wide():
    bar = drawn(lambda rows, columns: (rows.abs() < 3) & (columns.abs() < 15))
    assert bar.extent == pytest.approx(30, abs=1)
    assert bar.diameter == pytest.approx(math.sqrt(5 * 29 * 4 / math.pi))
    assert bar.thickness == pytest.approx(1.7 * 5, rel=0.3)
    assert bar.whole == pytest.approx(min(bar.extent, 2 * bar.diameter))
    ring = drawn(lambda rows, columns: ((rows**2 + columns**2).sqrt() - 20).abs() < 2)
    assert ring.extent == pytest.approx(44, abs=2)
    assert ring.thickness < 9
    net = drawn(lambda rows, columns: (rows % 12 < 1) | (columns % 12 < 1))
    assert net.whole == 2 * net.diameter < net.extent


@pytest.mark.parametrize("turn", [0.0, 0.3, 0.7, 1.1, 1.5])
def test_the_extent_does_not_depend_on_the_turn(turn):
    cos, sin = math.cos(turn), math.sin(turn)
    bar = drawn(lambda y, x: ((cos * y + sin * x).abs() < 3) & ((cos * x - sin * y).abs() < 18))
    assert bar.extent == pytest.approx(36, abs=2)


def test_half_of_the_positive_area_lies_in_objects_at_least_as_large_as_the_diameter():
    assert measure_objects(discs([3, 3, 3, 3, 20])).diameter == pytest.approx(40, rel=0.05)


def test_touching_classes_are_objects_of_their_own_and_uncounted_pixels_none():
    pictures = discs([10])
    ringed = pictures.masks.clone()
    ringed[:, :20] = 255
    assert measure_objects(replace(pictures, masks=ringed)) == measure_objects(pictures)
    nothing = replace(pictures, masks=torch.zeros_like(pictures.masks))
    none = measure_objects(nothing)
    assert math.isnan(none.diameter)
    assert math.isnan(none.whole)
    assert make_plan(none, (96, 96), baseline="unet").baseline == CONTEXT


def test_beside_another_class_no_pixel_counts_and_objects_that_are_all_border_are_kept():
    masks = torch.zeros(1, 24, 24, dtype=torch.uint8)
    masks[0, 4:10, 4:10] = 1
    masks[0, 16, 4:20] = 1
    masks[0, 20:, 20:] = 255
    core = core_masks(masks)[0]
    assert (core[5:9, 5:9] == 1).all()
    ring = core[3:11, 3:11].clone()
    ring[2:6, 2:6] = 255
    assert (ring == 255).all()
    assert (core[16, 4:20] == 1).all()
    assert (core[15, 4:20] == 255).all()
    assert (core[20:, 20:] == 255).all()
    assert (core == 0).sum() > 300
    assert (masks[0, 4:10, 4:10] == 1).all()


def test_of_a_thin_thing_whose_core_is_a_few_pixels_all_is_kept():
    masks = torch.zeros(1, 24, 24, dtype=torch.uint8)
    masks[0, 10:12, 4:20] = 1
    masks[0, 9:12, 18:21] = 1  # three by three: one pixel of it has no other class beside it
    core = core_masks(masks)[0]
    assert torch.equal(core == 1, masks[0] == 1)


@pytest.mark.parametrize("label", [0, 1])
def test_a_mask_of_one_class_is_all_core(label):
    masks = torch.full((2, 8, 8), label, dtype=torch.uint8)
    assert (core_masks(masks) == masks).all()


def scene(strength: float, seed: int = 0) -> Pictures:
    """A disc on a gentle slope, with a little noise."""
    pictures = discs([20.0, 30.0])
    generator = torch.Generator().manual_seed(seed)
    slope = torch.linspace(-0.1, 0.1, 96)[None, None, None, :]
    noise = 0.02 * torch.randn(2, 3, 96, 96, generator=generator)
    image = 0.5 + strength * (pictures.masks[:, None] * 0.4 - 0.2 + slope + noise)
    return replace(pictures, images=image.clamp(0, 1).mul(255).round().to(torch.uint8))


def test_a_contour_map_shows_outlines_and_nothing_else():
    maps = contours(scene(1.0), 40.0).images[:, 0].float() / 255
    masks = scene(1.0).masks.float()
    edge = torch.nn.functional.max_pool2d(masks, 3, 1, 1) - -torch.nn.functional.max_pool2d(-masks, 3, 1, 1) > 0
    far = torch.nn.functional.max_pool2d(edge.float(), 9, 1, 4) == 0
    assert maps[edge].mean() > 10 * maps[far].mean()


def test_on_a_ground_full_of_steps_the_outlines_of_thin_things_stand_out():
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(4, 64, 64, dtype=torch.uint8)
    masks[:, 30:34, 10:54] = 1
    clouds = gaussian_blur(torch.randn(4, 3, 64, 64, generator=generator), 2.0)
    image = 110 + 20 * clouds / clouds.std() + 90 * masks[:, None]
    pictures = replace(
        make_pictures(list("abcd"), masks=masks), images=image.clamp(0, 255).round().to(torch.uint8), native=(64, 64)
    )
    maps = contours(pictures, 4.0).images[:, 0].float() / 255
    assert maps[:, 29, 12:52].mean() > 0.9
    assert maps[:, :24].mean() < 0.35


def test_a_contour_map_does_not_carry_contrast_brightness_or_colour():
    maps = contours(scene(1.0), 40.0).images.float()
    weaker = contours(scene(0.7), 40.0).images.float()
    assert np.corrcoef(maps.flatten(), weaker.flatten())[0, 1] > 0.98
    brighter = replace(scene(0.7), images=scene(0.7).images + 40)
    assert (contours(brighter, 40.0).images.float() - weaker).abs().max() <= 2
    swapped = replace(scene(1.0), images=scene(1.0).images.flip(1))
    assert (contours(swapped, 40.0).images.float() - maps).abs().max() <= 2
    assert (maps[:, 0] == maps[:, 2]).all()


def test_waves_finer_than_objects_are_thick_leave_no_contours_and_outlines_stay():
    masks = discs([20.0, 20.0]).masks
    columns = torch.arange(96.0).expand(96, 96)
    waves = 0.5 + 0.2 * torch.sin(2 * math.pi * columns / torch.where(masks == 1, 4.0, 8.0))
    steps = torch.where(masks == 1, 0.7, 0.3)
    seen = [(each[:, None].expand(-1, 3, -1, -1) * 255).byte() for each in (waves, steps)]
    shown = [contours(replace(discs([20.0, 20.0]), images=each), 40.0) for each in seen]
    texture, shape = (each.images.float() for each in shown)
    assert texture.mean() < 0.2 * shape.mean()
    assert shape.max() == 255


def test_a_contour_is_drawn_alike_however_much_else_there_is_in_the_image():
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    alone = (rows - 48) ** 2 + (columns - 48) ** 2 <= 64
    corners = [(rows - y) ** 2 + (columns - x) ** 2 <= 64 for y in (12, 84) for x in (12, 84)]
    masks = torch.stack([alone, torch.stack([alone, *corners]).any(0)]).byte()
    noise = 4 * torch.randn(96, 96, generator=torch.Generator().manual_seed(0))
    images = (90 + 80 * masks + noise)[:, None].expand(-1, 3, -1, -1).byte()
    one, many = contours(replace(discs([8.0, 8.0]), images=images, masks=masks), 16.0).images[:, 0, 32:64, 32:64]
    assert (one.int() - many.int()).abs().max() <= 8
    assert one.max() == 255


def roughness(images: torch.Tensor) -> float:
    return float(images.diff(dim=-1).abs().sum() + images.diff(dim=-2).abs().sum())


def test_total_variation_smoothing_lowers_the_variation_and_keeps_the_mean():
    noise = torch.rand(2, 40, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    smooth = [total_variation(noise, strength, 60) for strength in (0.02, 0.1, 0.4)]
    assert roughness(noise) > roughness(smooth[0]) > roughness(smooth[1]) > roughness(smooth[2])
    assert float(smooth[1].mean()) == pytest.approx(float(noise.mean()))


def test_total_variation_smoothing_converges_to_the_least_energy():
    noise = torch.rand(1, 24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def energy(smooth: torch.Tensor) -> float:
        down = torch.nn.functional.pad(smooth.diff(dim=-2), (0, 0, 0, 1))
        right = torch.nn.functional.pad(smooth.diff(dim=-1), (0, 1))
        return float(torch.hypot(down, right).sum() + ((smooth - noise) ** 2).sum() / (2 * 0.1))

    energies = [energy(total_variation(noise, 0.1, iterations)) for iterations in (5, 20, 80, 400, 800)]
    assert energies == sorted(energies, reverse=True)
    assert energies[-2] - energies[-1] < 1e-3 * energies[-1]


def test_a_flat_image_has_no_contours_and_stays_as_it_is():
    flat = torch.full((1, 12, 12), 0.4)
    assert total_variation(flat, 0.12, 30) == pytest.approx(flat)
    grey = replace(discs([5.0], side=16), images=torch.full((1, 3, 16, 16), 90, dtype=torch.uint8))
    assert (contours(grey, 10.0).images == 0).all()


# ---- position alone ------------------------------------------------------------------------------------------


def at_the_top(count: int = 12) -> Pictures:
    masks = torch.zeros(count, 32, 32, dtype=torch.uint8)
    masks[:, :16] = 1
    masks[:, :, -4:] = 255
    return make_pictures([str(place) for place in range(count)], masks=masks)


def test_a_class_that_is_always_at_one_place_is_found_by_position_alone():
    pictures = at_the_top()
    fold = split(pictures)[0]
    scored = position_scores(pictures, fold)
    assert mean_iou(scored.report.at(best_threshold(scored.inner))) > 0.9
    assert scored.epochs == ()


def test_a_position_map_is_a_share_and_counts_only_what_is_counted():
    found = position_map(at_the_top(), (0, 1, 2))
    assert found.shape == (1, 32, 32)
    assert found.min() >= 0
    assert found.max() <= 1
    assert found[0, 0, :28] == pytest.approx(1, abs=0.01)


def test_the_position_maps_of_several_classes_add_up_to_one():
    pictures = make_pictures([str(place) for place in range(9)], classes=4)
    assert position_map(pictures, tuple(range(9))).sum(0) == pytest.approx(1)


# ---- kept outcomes -------------------------------------------------------------------------------------------


def same(first: Fitted, second: Fitted) -> bool:
    tables = [(getattr(each, part) for each in (first, second)) for part in ("inner", "report", "seen")]
    equal = all((a.histograms == b.histograms).all() and (a.argmax == b.argmax).all() for a, b in tables)
    maps = (first.maps == second.maps).all() and first.maps.dtype == second.maps.dtype
    return bool(equal and maps and repr(first.epochs) == repr(second.epochs) and first.seconds == second.seconds)


@pytest.mark.parametrize("maps", [(0, 0, 0), (3, 8, 9)])
@pytest.mark.parametrize("evaluations", [0, 4])
@pytest.mark.parametrize("rung", [False, True])
def test_an_outcome_is_read_as_it_was_written(maps, evaluations, rung, tmp_path):
    made = fitted(np.array([0.2, 0.4]), np.array([0.5, 0.6, 0.7]), np.array([0.9]))
    answer = np.random.default_rng(0).integers(0, 201, maps).astype(np.uint8)
    inside = fitted(np.array([0.3, 0.5]), np.array([0.6, 0.7, 0.8]), np.array([0.9]))
    cores = Scored(inside.inner, inside.report) if rung else None
    made = replace(made, maps=answer, epochs=curve(0.6, evaluations), cores=cores)
    save(made, tmp_path / "kept.npz")
    read = load(tmp_path / "kept.npz")
    assert same(read, made)
    assert (read.cores is not None) is rung
    assert (read.inside.report.histograms == made.inside.report.histograms).all()


@pytest.mark.parametrize("damage", ["gone", "cut", "empty", "text", "other", "folder"])
def test_a_damaged_outcome_is_none_and_will_be_computed_again(damage, tmp_path):
    path = tmp_path / "kept.npz"
    save(fitted(np.array([0.2]), np.array([0.5]), np.array([0.9])), path)
    content = {"cut": path.read_bytes()[:200], "empty": b"", "text": b"not an archive"}.get(damage)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    elif damage == "folder":
        path.mkdir()
    elif damage == "other":
        np.savez(path, other=np.zeros(3))
    assert load(path) is None


@pytest.mark.parametrize("byte", [30, 300, 900, -200, -30])
def test_an_outcome_with_a_flipped_byte_is_none_or_the_same(byte, tmp_path):
    path = tmp_path / "kept.npz"
    made = fitted(np.array([0.2]), np.array([0.5]), np.array([0.9]))
    save(made, path)
    content = bytearray(path.read_bytes())
    content[byte] ^= 0xFF
    path.write_bytes(bytes(content))
    kept = load(path)
    assert kept is None or same(kept, made)


def a_fit(**more) -> Fit:
    given = {"name": "colour", "extractor": "colour", "decoder": "linear", "frozen": False, "pretrained": False}
    parts = Fold((0, 1), (2,), (3,))
    rest = {"view": "image", "fold": 0, "parts": parts, "recipe": Recipe(), "seed": 0}
    return Fit(**{**given, **rest, **more})


@pytest.mark.parametrize(
    "more",
    [
        {"seed": 1},
        {"recipe": Recipe(steps=3)},
        {"parts": Fold((0,), (2,), (3,))},
        {"extractor": "unet"},
        {"frozen": True},
    ],
    ids=str,
)
def test_another_fit_has_another_key(more):
    assert _key(a_fit(**more), "mark") != _key(a_fit(), "mark")
    assert _key(a_fit(), "mark") == _key(a_fit(), "mark")
    assert _key(a_fit(), "other data") != _key(a_fit(), "mark")


def test_one_other_pixel_is_other_data():
    pictures = made_pictures()
    first = fingerprint({"image": pictures})
    for part in ("images", "masks"):
        other = getattr(pictures, part).clone()
        other.view(-1)[7] ^= 1
        assert fingerprint({"image": replace(pictures, **{part: other})}) != first


@pytest.mark.parametrize(
    ("count", "wanted"), [(3, (10, 14, 18)), (9, tuple(range(10, 19))), (50, tuple(range(10, 19)))]
)
def test_a_spread_is_even_from_end_to_end_and_takes_nothing_twice(count, wanted):
    assert spread(tuple(range(10, 19)), count) == wanted


# ---- the plan ------------------------------------------------------------------------------------------------

DIAMETERS = [2.0, 5.0, 8.0, 13.0, 20.0, 40.0, 90.0]
GRIDS = [(48, 64), (96, 128), (112, 112)]


@pytest.mark.parametrize("diameter", DIAMETERS)
@pytest.mark.parametrize("size", GRIDS, ids=str)
def test_the_rungs_of_a_plan_rise_and_stay_below_the_image(diameter, size):
    plan = make_plan(Objects.discs(diameter), size, baseline="unet")
    names = [rung.name for rung in plan.rungs]
    ordered = [rung.reach for rung in plan.rungs if rung.name.startswith("reach")]
    assert len(set(names)) == len(names)
    assert ordered == sorted(set(ordered))
    assert all(reach < max(size) for reach in ordered)
    assert names[0] == "colour"
    assert plan.baseline == names[-1] == CONTEXT


@pytest.mark.parametrize("diameter", DIAMETERS)
def test_a_rung_reaches_no_farther_than_its_name_says(diameter):
    shares = {"reach D/4": 0.25, "reach D/2": 0.5, "reach D": 1, "reach 4D": 4}
    for rung in make_plan(Objects.discs(diameter), (112, 112), baseline="unet").rungs:
        if rung.name in shares and shares[rung.name] * diameter >= 3:
            assert rung.reach <= shares[rung.name] * diameter


@pytest.mark.parametrize("objects", [Objects.discs(8.0), Objects(11.0, 20.0, 6.0), Objects(10.0, 40.0, 4.0)], ids=str)
def test_the_widest_rung_of_geometry_sees_the_whole_of_an_object_and_the_contours_as_much(objects):
    rungs = {rung.name: rung for rung in make_plan(objects, (112, 112), baseline="unet").rungs}
    whole = rungs["reach object"]
    assert whole.reach >= 2 * objects.whole
    assert whole.family == "geometric"
    assert rungs[CONTOUR].reach == whole.reach
    assert all(rung.reach <= whole.reach for rung in rungs.values() if rung.family in ("textural", "geometric"))


@pytest.mark.parametrize("diameter", DIAMETERS)
@pytest.mark.parametrize("baseline", ["unet", "reach-27", "colour", "resnet18"])
def test_the_reach_in_a_plan_is_that_of_its_extractor(diameter, baseline):
    for rung in make_plan(Objects.discs(diameter), (96, 128), baseline=baseline).rungs:
        assert build_extractor(rung.extractor).reach == rung.reach, rung.name


def test_candidate_its_control_and_baseline_are_added_when_asked_for():
    plan = make_plan(
        Objects.discs(DIAMETER), SIZE, baseline="resnet18", candidate="resnet34", untrained="timm/resnet34"
    )
    added = {rung.name: rung for rung in plan.rungs}
    assert plan.baseline == "baseline"
    assert added["baseline"].extractor == "resnet18"
    assert (added[CANDIDATE].frozen, added[CANDIDATE].pretrained) == (True, True)
    assert (added[UNTRAINED].frozen, added[UNTRAINED].pretrained) == (True, False)
    without = {rung.name for rung in make_plan(Objects.discs(DIAMETER), SIZE, baseline="unet").rungs}
    assert not without & {CANDIDATE, UNTRAINED, "baseline"}


@pytest.fixture(scope="module")
def fits() -> list[Fit]:
    pictures = made_pictures(groups=16)
    plan = make_plan(Objects.discs(DIAMETER), SIZE, baseline="reach-9")
    return make_fits(plan, pictures, split(pictures, folds=3), Recipe(steps=40), seed=5)


def named(fits: list[Fit], name: str) -> list[Fit]:
    return [fit for fit in fits if fit.name == name]


def test_every_rung_is_trained_once_on_every_fold(fits):
    names = {fit.name for fit in fits}
    assert {*map(less_name, FRACTIONS), HALF_STEPS, "baseline", CONTEXT, CONTOUR, "colour"} <= names
    assert all([fit.fold for fit in named(fits, name)] == [0, 1, 2] for name in names)
    assert len({fit.seed for fit in fits}) == 3


def test_smaller_shares_of_the_data_lie_in_larger_ones_and_in_fit(fits):
    for quarter, half, whole in zip(
        named(fits, "data-0.25"), named(fits, "data-0.5"), named(fits, "baseline"), strict=True
    ):
        assert set(quarter.parts.fit) < set(half.parts.fit) < set(whole.parts.fit)
        assert quarter.parts.report == half.parts.report == whole.parts.report
        assert quarter.parts.inner == whole.parts.inner


def test_only_the_baseline_keeps_its_answers_and_only_the_contours_stay_uncoloured(fits):
    assert {fit.name for fit in fits if fit.maps} == {"baseline", CONTEXT}
    assert {fit.name for fit in fits if fit.view == "contour"} == {CONTOUR}
    still = named(fits, CONTOUR)[0].recipe.augmentation
    assert (still.contrast, still.brightness, still.colour) == (NONE.contrast, NONE.brightness, NONE.colour)
    assert still.scale == Recipe().augmentation.scale


def test_half_the_steps_are_half_of_the_baseline_and_nothing_else(fits):
    half, whole = named(fits, HALF_STEPS)[0], named(fits, "baseline")[0]
    assert half.recipe.steps * 2 == whole.recipe.steps
    assert replace(half, name="", recipe=Recipe()) == replace(whole, name="", recipe=Recipe(), maps=(), cores=False)


def test_a_fit_draws_its_weights_by_its_seed_alone():
    pictures = made_pictures()
    first, again, other = (build_model(a_fit(seed=seed), pictures).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_fit_that_goes_on_begins_with_the_weights_it_is_given(tmp_path):
    pictures, recipe = made_pictures(), Recipe(steps=1, batch=2)
    train_model(pictures, extractor="reach-9", decoder="linear", frozen=False, recipe=recipe, seed=0, folder=tmp_path)
    fit = a_fit(seed=3, extractor="reach-9")
    given, fresh = load_model(tmp_path).model.state_dict(), build_model(fit, pictures).state_dict()
    begun = build_model(replace(fit, start=tmp_path), pictures).state_dict()
    assert all(torch.equal(begun[name], given[name]) for name in given)
    assert not all(torch.equal(fresh[name], given[name]) for name in given)


def test_a_table_of_many_classes_is_decided_by_its_best_class(run):
    many = ScoreTable(np.zeros((2, 3, 2, 200), np.int64), np.ones((2, 3, 3), np.int64))
    several = replace(run.outcomes[CONTEXT][0], inner=many, report=many)
    from unplateau.experiments.run import decided

    assert (decided(several) == 1).all()


# ---- the recipe ----------------------------------------------------------------------------------------------


def test_large_objects_are_mostly_learnt_at_half_size_and_small_ones_are_not():
    assert fitting(RECIPE, LARGE).half_size == MOSTLY_HALF
    assert fitting(RECIPE, LARGE - 1) == RECIPE
    assert fitting(RECIPE, float("nan")) == RECIPE
    assert fitting(replace(RECIPE, half_size=0.8), LARGE).half_size == 0.8
