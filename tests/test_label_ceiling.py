"""The label ceiling: what is known of two annotators is found again from one."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from made_run import made_run
from unplateau.checks import label_ceiling as check
from unplateau.checks.label_ceiling import (
    SIDE,
    WIDEST,
    WINDOWS,
    Ceilings,
    LabelCeilingCheck,
    LabelCeilingMeasured,
    Window,
    ceilings,
    windows_of,
)
from unplateau.data.sources import open_data
from unplateau.errors import DataError
from unplateau.measures import annotators
from unplateau.measures.annotators import (
    Drawing,
    Redrawn,
    agreement_counts,
    annotator_iou,
    displaced,
    half_width,
    label_ceiling,
    mismatch,
    overlap,
    redraw,
    signed_distance,
    undone,
)
from unplateau.types import Interval, Sample, Task, Verdict

TASK = Task((1,), (0, 1), ("thing",))


def disc(radius: float, size: int = 64) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    return np.hypot(rows, columns) < radius


def drawn_disc(generator: np.random.Generator, wander: float) -> Sample:
    """A bright disc with a sharp edge, whose label wanders."""
    mask = disc(generator.uniform(12, 20))
    image = (60 + 120 * mask + generator.normal(0, 8, mask.shape)).clip(0, 255).astype(np.uint8)
    label = displaced(mask, wander, generator) if wander else mask
    return Sample("", np.stack([image] * 3, -1), label.astype(np.uint8), "")


def discs(count: int, wander: float, seed: int = 0) -> list[Sample]:
    generator = np.random.default_rng(seed)
    return [replace(drawn_disc(generator, wander), name=f"p{place}", group=f"g{place}") for place in range(count)]


def estimate(samples: list[Sample]) -> Ceilings:
    return ceilings(open_data(samples), TASK, tuple(range(len(samples))), (32, 32), 0)


# ---- the identities ------------------------------------------------------------------------------------------


@given(st.floats(0, 1))
def test_mismatch_and_overlap_are_inverse(value):
    assert overlap(mismatch(np.array(value))) == pytest.approx(value)


def counts_for(with_label: float, between: float, hinted: float = 2.0) -> np.ndarray:
    """Counts whose three mismatches are these."""
    ious = overlap(np.array([with_label, between, hinted]))
    return np.stack([[each, (1 + each) / 2, (1 + each) / 2] for each in ious])


@given(st.floats(0.05, 0.4), st.floats(0.0, 0.4), st.floats(0.5, 1.5))
@settings(max_examples=30, deadline=None)
def test_annotator_redrawers_and_hint_come_apart(annotator, own, hint):
    """The redrawers' common error is s without the hint and 1 / (1 / s^2 + 1 / h^2) with it; annotators sqrt(2) s."""
    common = 1 / (1 / annotator**2 + 1 / hint**2)
    counts = counts_for(np.sqrt(common + own**2), np.sqrt(2) * own, hint)
    assert annotator_iou(counts, 1.0) == pytest.approx(overlap(np.array(np.sqrt(2) * annotator)), abs=1e-6)


def test_redrawers_that_know_no_more_than_the_hint_give_no_agreement():
    assert annotator_iou(counts_for(0.5, 0.0, 0.5), 0.25) == 0


def test_a_smaller_share_of_the_annotator_raises_the_estimate():
    values = [float(annotator_iou(counts_for(0.4, 0.2), share)) for share in (1.0, 0.5, 0.25)]
    assert values == sorted(values)
    assert values[0] < values[-1] < 1


def test_half_of_the_displacement_is_undone_where_the_image_tells_as_much_as_the_hint():
    """Two independent measurements of the label of equal variance, one of them the hint, combine to half of it."""
    counts = counts_for(np.sqrt(0.5 * 0.6**2 + 0.2**2), np.sqrt(2) * 0.2, 0.6)
    assert undone(counts) == pytest.approx(0.5)
    assert undone(counts_for(0.6, 0.0, 0.6)) == pytest.approx(0)
    assert undone(counts_for(0.0, 0.0, 0.6)) == 1


def test_identical_drawings_agree_perfectly():
    mask = disc(12)
    counts = agreement_counts(mask, Redrawn(0, mask, mask, disc(16)), np.ones_like(mask))
    assert annotator_iou(counts.astype(float), 1.0) == 1
    assert counts[0, 0] == 2 * mask.sum()


def test_pixels_that_do_not_count_are_left_out():
    mask, other = disc(12), disc(16)
    counts = agreement_counts(mask, Redrawn(0, other, other, other), ~(mask ^ other))
    assert annotator_iou(counts.astype(float), 1.0) == 1


def test_the_interval_holds_the_estimate_and_depends_on_whole_groups():
    generator = np.random.default_rng(0)
    hit = np.concatenate([generator.integers(50, 75, (12, 2)), np.full((12, 1), 20)], axis=1)
    counts = np.stack([hit, np.full_like(hit, 80), np.full_like(hit, 80)], -1)
    alone, _ = label_ceiling(counts, [f"g{place}" for place in range(12)], np.random.default_rng(1))
    together, _ = label_ceiling(counts, ["g"] * 12, np.random.default_rng(1))
    assert alone.low < together.low < together.mean == alone.mean < together.high == alone.high == 1


# ---- the hint ------------------------------------------------------------------------------------------------


def test_half_width_of_a_bar_and_of_a_disc():
    bar = np.zeros((60, 200), bool)
    bar[20:30, 10:190] = True
    assert half_width(bar) == pytest.approx(5 * 4 / np.pi, rel=0.1)
    assert half_width(disc(20)) == pytest.approx(10, rel=0.05)


def test_signed_distance_is_negative_inside_and_half_at_the_contour():
    distance = signed_distance(disc(10))
    assert distance[31, 31] < -8
    assert np.abs(distance).min() == 0.5
    assert np.isinf(signed_distance(np.zeros((4, 4), bool))).all()


@pytest.mark.parametrize("pixels", [1.0, 3.0])
def test_a_label_is_displaced_by_as_much_as_asked(pixels):
    generator = np.random.default_rng(0)
    mask = disc(40, 160)
    edge = mask & ~ndimage.binary_erosion(mask)
    off = [np.abs(signed_distance(displaced(mask, pixels, generator)))[edge].mean() for _ in range(12)]
    assert np.mean(off) == pytest.approx(pixels * np.sqrt(2 / np.pi), rel=0.35)


# ---- the redrawer --------------------------------------------------------------------------------------------


def test_a_clean_label_is_redrawn_and_a_wandering_one_is_not():
    clean, wandering = estimate(discs(24, 0.0)).native, estimate(discs(24, 2.0)).native
    assert clean.mean > 0.9
    assert wandering.mean < clean.mean - 0.02


def test_the_interval_holds_the_true_agreement_of_two_who_wander():
    generator = np.random.default_rng(3)
    bare = discs(24, 0.0)
    first = [replace(each, mask=displaced(each.mask == 1, 2.0, generator).astype(np.uint8)) for each in bare]
    second = [displaced(each.mask == 1, 2.0, generator) for each in bare]
    pairs = [(a.mask == 1, b) for a, b in zip(first, second, strict=True)]
    truth = sum((a & b).sum() for a, b in pairs) / sum((a | b).sum() for a, b in pairs)
    found = estimate(first).native
    assert found.low - 0.02 <= truth <= found.high


def test_the_same_seed_gives_the_same_estimate_on_both_grids():
    samples = discs(10, 1.0)
    first, second = estimate(samples), estimate(samples)
    assert first == second
    assert abs(first.native.mean - first.grid.mean) < 0.05


def test_clues_are_taken_once_where_they_can_be_held_and_the_answer_is_the_same_where_not(monkeypatch):
    taken, real = [], annotators.clues
    monkeypatch.setattr(annotators, "clues", lambda *given: taken.append(len(given)) or real(*given))
    held = estimate(discs(9, 1.0))
    assert len(taken) == 9
    monkeypatch.setattr(annotators, "HELD", 0)
    assert estimate(discs(9, 1.0)) == held
    assert len(taken) == 9 + 18


def test_few_groups_are_dealt_by_image():
    samples = [Drawing(each.image, each.mask == 1, np.ones((64, 64), bool)) for each in discs(9, 0.0)]
    drawn = list(redraw(samples, ["one"] * 9, np.random.default_rng(0)))
    assert [each.index for each in drawn] == list(range(9))


def test_too_few_images_of_the_class_are_refused():
    samples = [Drawing(each.image, each.mask == 1, np.ones((64, 64), bool)) for each in discs(7, 0.0)]
    with pytest.raises(DataError, match="At least 8 images must hold the class, but 7 do"):
        list(redraw(samples, ["one"] * 7, np.random.default_rng(0)))


def test_an_image_without_the_class_is_passed_over():
    samples = discs(10, 0.0)
    samples[3] = replace(samples[3], mask=np.zeros((64, 64), np.uint8))
    assert estimate(samples).images == 9


def windows(mask: np.ndarray, grid: tuple[int, int]) -> list[Window]:
    image = np.random.default_rng(1).integers(0, 255, (*mask.shape, 3)).astype(np.uint8)
    source = open_data([Sample("one", image, mask.astype(np.uint8), "g")])
    return windows_of(source, TASK, 0, grid, np.random.default_rng(0))


def test_an_image_of_wide_objects_is_redrawn_smaller_and_whole():
    mask = np.zeros((400, 600), bool)
    mask[100:300, 200:400] = True
    (found,) = windows(mask, (56, 80))
    assert found.drawing.label.shape[1] < SIDE
    assert half_width(found.drawing.label) == pytest.approx(WIDEST, rel=0.1)
    assert found.grid == (56, 80)


def test_of_a_large_image_of_thin_objects_windows_around_them_are_redrawn_that_cover_their_part_of_the_grid():
    mask = np.zeros((4 * SIDE, 2 * SIDE), bool)
    mask[:, SIDE : SIDE + 4] = True
    found = windows(mask, (64, 32))
    assert len(found) == WINDOWS
    assert all(each.drawing.label.shape == (SIDE, SIDE) and each.drawing.label.any() for each in found)
    assert {each.grid for each in found} == {(16, 16)}


def test_windows_of_one_image_are_not_dealt_to_redrawers_of_each_other(monkeypatch):
    seen = []
    real = check.redraw
    monkeypatch.setattr(check, "redraw", lambda drawings, dealt, _: seen.append(dealt) or real(drawings, dealt, _))
    mask = np.zeros((300, 300), np.uint8)
    mask[::40] = mask[1::40] = 1
    image = np.random.default_rng(1).integers(0, 255, (300, 300, 3)).astype(np.uint8)
    found = estimate([Sample(f"{number}", image, mask, "g") for number in range(9)])
    assert found.images == 9
    assert [len(set(seen[0])), len(seen[0])] == [9, 9 * WINDOWS]


# ---- the check -----------------------------------------------------------------------------------------------


def measured(low: float, mean: float, high: float, baseline: float, told: float = 0.8) -> LabelCeilingMeasured:
    ceiling = Interval(mean, low, high)
    found = Ceilings(ceiling, ceiling, Interval(told, told - 0.1, told + 0.1), 40)
    return LabelCeilingMeasured(found, Interval(baseline, baseline - 0.02, baseline + 0.02))


@pytest.mark.parametrize(
    ("baseline", "verdict"), [(0.4, Verdict.SOUND), (0.7, Verdict.UNDETERMINED), (0.9, Verdict.UNDETERMINED)]
)
def test_the_verdict_follows_the_place_of_the_baseline(baseline, verdict):
    finding = LabelCeilingCheck().judge(measured(0.6, 0.75, 0.82, baseline))
    assert finding.verdict is verdict
    assert "0.60" in finding.claim


def test_where_the_image_does_not_tell_nothing_is_said_of_annotators():
    found = LabelCeilingCheck().judge(measured(0.6, 0.75, 1.0, baseline=0.4, told=0.4))
    assert found.verdict is Verdict.UNDETERMINED
    assert "40%" in found.claim
    assert "0.60" not in found.claim


def test_images_that_show_an_edge_tell_more_than_images_that_show_none():
    shown = discs(16, 0.0)
    generator = np.random.default_rng(5)
    blank = [
        replace(each, image=generator.integers(80, 120, each.image.shape).astype(np.uint8), name=each.name)
        for each in shown
    ]
    assert estimate(shown).grounded
    assert not estimate(blank).grounded


def test_without_an_object_on_eight_images_it_is_undetermined():
    nothing = [replace(each, mask=np.zeros((64, 64), np.uint8)) for each in discs(10, 0.0)]
    found = estimate(nothing)
    assert found.images == 0
    assert np.isnan(found.native.mean)
    finding = LabelCeilingCheck().judge(LabelCeilingMeasured(found, Interval(0.5, 0.4, 0.6)))
    assert finding.verdict is Verdict.UNDETERMINED


def test_a_run_is_measured_from_its_source():
    result = LabelCeilingCheck().measure(made_run(groups=4))
    assert result.ceilings.images == 12
    assert result.ceilings.native.low <= result.ceilings.native.mean <= result.ceilings.native.high
