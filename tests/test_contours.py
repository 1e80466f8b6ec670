"""Wandering contours: stretches that lie off their images are found and moved back; others are left alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates

from conftest import real_folder
from made_run import made_run
from unplateau.checks.alignment import AlignmentCheck, measure_alignment, read_scores
from unplateau.checks.contours import ContoursCheck, ContoursMeasured, straightened
from unplateau.data import open_data, read_pictures
from unplateau.diagnosis.faults import _each_once, _wandering, concluded, either
from unplateau.diagnosis.repairs import Fault, _whole
from unplateau.experiments.plan import CONTEXT, mapped
from unplateau.measures.scoring import score_images
from unplateau.measures.thresholds import BINS
from unplateau.measures.wandering import fit, put_back, stretches
from unplateau.scenes import scenes
from unplateau.types import IGNORE, Interval, Sample, Verdict

COUNT, REACH = 24, 5
KINDS = ("fire", "texture", "geometry", "context")


@cache
def healthy(kind: str) -> tuple[Sample, ...]:
    return tuple(scenes(kind, COUNT, seed=11))


def bent(mask: np.ndarray, pixels: float, seed: int = 0) -> np.ndarray:
    """The mask under a smooth field of that root mean square along each axis."""
    rng = np.random.default_rng(seed)
    fields = [gaussian_filter(rng.normal(size=mask.shape), max(4.0, 3 * pixels), mode="wrap") for _ in range(2)]
    places = [grid + pixels * each / each.std() for grid, each in zip(np.indices(mask.shape), fields, strict=True)]
    return (map_coordinates((mask == 1).astype(np.float32), places, order=1, mode="nearest") >= 0.5).astype(np.uint8)


def wandering(samples, pixels: float) -> list[Sample]:
    return [replace(each, mask=bent(each.mask, pixels, seed)) for seed, each in enumerate(samples)]


def moved(samples, rows: int, columns: int) -> list[Sample]:
    return [replace(each, mask=np.roll(each.mask, (rows, columns), (0, 1))) for each in samples]


def asked(samples):
    """What the check measures and says of samples as a data set."""
    source = open_data(list(samples))
    pictures = read_pictures(source, positive=[1], size=96, seed=0)
    run = replace(made_run(groups=len(pictures)), source=source, pictures=pictures)
    measured = ContoursCheck().measure(run)
    return measured, ContoursCheck().judge(measured)


def overlap(one, other) -> float:
    one, other = (np.stack([np.asarray(each) for each in part]) == 1 for part in (one, other))
    return float((one & other).sum() / (one | other).sum())


# ---- found and left alone ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_contours_in_place_are_left_alone(kind):
    measured, finding = asked(healthy(kind))
    assert finding.verdict is Verdict.SOUND
    assert measured.gain.mean < 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pixels", [2.5, 3.5])
def test_contours_that_wander_are_found(kind, pixels):
    measured, finding = asked(wandering(healthy(kind), pixels))
    assert finding.verdict is Verdict.CONCERN
    assert measured.apart > 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_shift_of_all_masks_is_no_wandering(kind):
    assert asked(moved(healthy(kind), 3, -2))[1].verdict is Verdict.SOUND


@pytest.mark.parametrize("name", ["drive_full", "human", "fire_video", "isbi_membrane", "crackforest_full"])
def test_no_real_set_is_said_to_wander(name):
    source = open_data(real_folder(name))
    pictures = read_pictures(source, positive=[1], size=96, limit=32, seed=0)
    run = replace(made_run(groups=len(pictures)), source=source, pictures=pictures)
    assert ContoursCheck().judge(ContoursCheck().measure(run)).verdict is not Verdict.CONCERN


def test_masks_without_outlines_leave_it_open():
    first, *others = healthy("fire")
    empty = [first, *(replace(each, mask=np.zeros_like(each.mask)) for each in others)]
    assert asked(empty)[1].verdict is Verdict.UNDETERMINED


# ---- put back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fire", "geometry"])
def test_contours_that_wander_are_nearer_to_the_true_ones_once_they_are_put_back(kind):
    true = [each.mask for each in healthy(kind)]
    off = wandering(healthy(kind), 3.5)
    back = [put_back(each.image, each.mask, REACH) for each in off]
    assert overlap(back, true) > overlap([each.mask for each in off], true) + 0.05


@pytest.mark.parametrize("kind", ["fire", "geometry", "context"])
def test_contours_in_place_hardly_move(kind):
    back = [put_back(each.image, each.mask, REACH) for each in healthy(kind)]
    assert overlap(back, [each.mask for each in healthy(kind)]) > 0.9


def test_straightened_masks_are_of_the_same_grid_and_classes():
    source = open_data(wandering(healthy("fire"), 3.5))
    pictures = read_pictures(source, positive=[1], size=48, seed=0)
    mended = straightened(source, pictures)
    assert mended.masks.shape == pictures.masks.shape
    assert set(np.unique(mended.masks)) <= {0, 1, IGNORE}
    assert not (mended.masks == pictures.masks).all()


def told_to_wander(samples, answers):
    """What follows from the check on samples whose model answers so, as a fault."""
    source = open_data(samples)
    pictures = read_pictures(source, positive=[1], size=96, seed=0)
    made = made_run(groups=len(pictures) // 3)
    soft = np.stack([gaussian_filter((mask == 1).astype(np.float32), 2) for mask in answers])[:, None]
    maps = (soft * BINS).clip(0, BINS - 1).astype(np.uint8)
    fits = [
        replace(fitted, maps=maps[list(mapped(made.folds, number, len(pictures)))], fixed=0.5)
        for number, fitted in enumerate(made.outcomes[CONTEXT])
    ]
    true = [pictures.masks[list(fold.report)].numpy() for fold in made.folds]
    scored = [
        replace(each, report=score_images((each.maps[: len(masks)] + 0.5) / BINS, masks))
        for each, masks in zip(fits, true, strict=True)
    ]
    run = replace(made, source=source, pictures=pictures, outcomes={**made.outcomes, CONTEXT: tuple(scored)})
    return concluded(run, ContoursCheck(), ContoursCheck().measure(run), _wandering)[1]


def true_masks(kind):
    return [each.mask for each in healthy(kind)]


def test_wandering_contours_are_a_fault_whose_remedy_is_to_label_again():
    fault = told_to_wander(wandering(healthy("geometry"), 3.5), true_masks("geometry"))
    assert (fault.remedy, fault.trained, fault.resumes) == ("relabel", True, True)
    assert 0.05 < fault.share < 0.9


def test_contours_that_the_answers_follow_wherever_they_wander_are_no_fault():
    samples = wandering(healthy("geometry"), 3.5)
    assert told_to_wander(samples, [each.mask for each in samples]) is None


def test_contours_in_place_are_no_fault():
    assert told_to_wander(list(healthy("geometry")), true_masks("geometry")) is None


def test_the_whole_gain_lies_between_what_a_share_of_the_repair_adds_and_in_proportion():
    told = _whole(Interval(0.1, 0.08, 0.12), share=0.25, room=0.9)
    assert (told.low, told.high) == (0.08, pytest.approx(0.4))
    assert told.mean == pytest.approx(0.25)
    assert _whole(Interval(0.1, 0.08, 0.12), share=0.25, room=0.3).high == pytest.approx(0.3)


def explained(samples, apart: float):
    """What is left of both findings where contours are said to wander so far: verdict of the first, and the faults."""
    aligned = measure_alignment(read_scores(open_data(list(samples)), 0), 0)
    bent = ContoursMeasured(Interval(0.5, 0.4, 0.6), apart, COUNT, 1000)
    shift = AlignmentCheck().judge(aligned), Fault("fix-shift", "minutes", "Off.")
    both = either(aligned, bent, shift, (ContoursCheck().judge(bent), Fault("relabel", "minutes", "Wander.")))
    return both[0][0].verdict, [fault.remedy for _, fault in both if fault]


def test_a_shift_by_less_than_contours_wander_is_no_shift():
    off = moved(healthy("fire"), 3, 0)
    assert explained(off, 5.0) == (Verdict.UNDETERMINED, ["relabel"])
    assert explained(off, 1.0) == (Verdict.CONCERN, ["fix-shift", "relabel"])


def test_masks_turned_or_shifted_in_a_part_are_not_said_to_wander():
    first, second = healthy("fire")[: COUNT // 2], healthy("fire")[COUNT // 2 :]
    part = [
        *(replace(each, split="train") for each in first),
        *(replace(each, split="val") for each in moved(second, 3, 0)),
    ]
    mirrored = [replace(each, mask=each.mask[:, ::-1].copy()) for each in healthy("fire")]
    assert explained(part, 5.0) == (Verdict.CONCERN, ["fix-shift"])
    assert explained(mirrored, 5.0) == (Verdict.CONCERN, ["fix-shift"])


def test_each_remedy_is_named_once_by_the_first_fault_that_has_it():
    faults = [
        Fault("relabel", "minutes", "one"),
        Fault("fix-leak", "minutes", "two"),
        Fault("relabel", "minutes", "three"),
    ]
    assert [fault.claim for fault in _each_once(faults)] == ["one", "two"]


# ---- the measure ---------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(20, 70), st.integers(20, 70))
def test_noise_gains_nothing_by_chance(seed, height, width):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = (gaussian_filter(rng.normal(size=(height, width)), 2) > 0).astype(np.uint8)
    found = stretches(image, mask, REACH)
    fitted = fit(found, (REACH, REACH))
    assert fitted.count == len(found)
    assert np.isfinite([fitted.here, fitted.moved, fitted.anywhere, fitted.product]).all()
    assert put_back(image, mask, REACH).shape == mask.shape


def test_what_is_not_counted_makes_no_outline():
    image = np.zeros((48, 48, 3), np.uint8)
    mask = np.zeros((48, 48), np.uint8)
    mask[:, 20:] = IGNORE
    assert len(stretches(image, mask, REACH)) == 0
