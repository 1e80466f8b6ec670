"""Label scores and the check of labels: planted errors are found and put right, sound masks are left alone."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter

from made_run import changed, made_run
from unplateau.checks.labels import LabelsCheck, contour_distance, repaired, share
from unplateau.errors import DataError
from unplateau.experiments.plan import CONTEXT, mapped
from unplateau.measures.label_scores import (
    calibrated,
    denial_scores,
    foreign_masks,
    join_objects,
    large_from,
    objects,
    omission_scores,
    score_labels,
)
from unplateau.measures.thresholds import BINS
from unplateau.types import Verdict

SIDE, COUNT = 64, 60
BAD = tuple(range(0, COUNT, 6))


def made_masks(count=COUNT, seed=0):
    """Two discs of different sizes anywhere."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    masks = np.zeros((count, SIDE, SIDE), np.uint8)
    for mask in masks:
        for radius in rng.uniform(6, 12, 2):
            top, left = rng.uniform(12, SIDE - 12, 2)
            mask[(rows - top) ** 2 + (columns - left) ** 2 < radius**2] = 1
    return masks


def answers_of(masks, seed=1):
    """What a fair model says: blurred, noisy, its doubt its own in each image."""
    rng = np.random.default_rng(seed)
    said = np.empty((len(masks), 1, *masks.shape[1:]), np.uint8)
    for place, mask in enumerate(masks):
        soft = gaussian_filter((mask == 1).astype(float), rng.uniform(1, 3))
        wander = gaussian_filter(rng.normal(size=mask.shape), 4)
        said[place, 0] = (BINS * (soft * 0.8 + 0.1 + 0.1 * wander / wander.std()).clip(0, 1)).astype(np.uint8)
    return said


def moved(mask):
    return np.roll(mask, 5, axis=(0, 1))


def emptied(mask):
    return np.zeros_like(mask)


def planted(masks, plant):
    return np.stack([plant(mask) if place in BAD else mask for place, mask in enumerate(masks)])


def turned(masks, places=BAD):
    """The masks of these places handed round."""
    made = masks.copy()
    made[list(places)] = masks[list(np.roll(places, 1))]
    return made


# ---- scores --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plant", [emptied, moved])
def test_planted_errors_have_the_lowest_scores(plant):
    masks = made_masks()
    scores = score_labels(planted(masks, plant), answers_of(masks))
    assert len(set(np.argsort(scores)[: len(BAD)].tolist()) & set(BAD)) >= 0.8 * len(BAD)


def test_masks_of_other_images_have_the_lowest_scores():
    masks = made_masks()
    scores = score_labels(turned(masks), answers_of(masks))
    assert len(set(np.argsort(scores)[: len(BAD)].tolist()) & set(BAD)) >= 0.8 * len(BAD)


def test_an_empty_mask_under_an_empty_answer_is_not_suspect():
    masks = made_masks()
    masks[:10] = 0
    scores = score_labels(masks, answers_of(masks))
    assert (scores[:10] > np.quantile(scores, 0.1)).mean() > 0.7


@given(arrays(np.uint8, (5, 12, 13), elements=st.sampled_from([0, 1, 255])), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_images_does_not_matter(masks, seed):
    answers = np.random.default_rng(seed).integers(0, BINS + 1, (5, 1, 12, 13)).astype(np.uint8)
    turned_round = score_labels(masks[::-1].copy(), answers[::-1].copy())[::-1]
    np.testing.assert_allclose(turned_round, score_labels(masks, answers), rtol=1e-3, atol=1e-3)


def test_what_is_not_counted_changes_nothing():
    masks = made_masks()
    answers = answers_of(masks)
    masks[:, :, :8] = 255
    before = score_labels(masks, answers)
    answers[..., :8] = BINS
    np.testing.assert_allclose(score_labels(masks, answers), before, rtol=1e-5)


def test_each_model_is_calibrated_alone():
    masks = made_masks()
    answers = answers_of(masks)
    models = np.arange(COUNT) % 2
    timid = np.where(models[:, None, None, None] == 1, answers // 4, answers).astype(np.uint8)
    alone = score_labels(planted(masks, emptied), timid, models)
    assert set(BAD) <= set(np.argsort(alone)[: len(BAD) + 2].tolist())


def test_of_several_classes_the_worst_speaks():
    masks = made_masks()
    answers = answers_of(masks)
    three = np.concatenate([BINS - answers, answers, np.zeros_like(answers)], axis=1)
    scores = score_labels(planted(masks, emptied), three)
    assert set(BAD) <= set(np.argsort(scores)[: len(BAD) + 2].tolist())


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_a_higher_score_is_never_less_likely_labelled(seed):
    rng = np.random.default_rng(seed)
    masks = rng.choice([0, 1, 255], (4, 16, 16)).astype(np.uint8)
    probability = calibrated(masks, rng.integers(0, BINS + 1, (4, 1, 16, 16)).astype(np.uint8))
    assert (np.diff(probability) >= 0).all()
    assert ((probability >= 0) & (probability <= 1)).all()


def test_memory_does_not_grow_with_the_images():
    masks = made_masks(20)
    answers = answers_of(masks)
    peaks = []
    for times in (4, 40):
        many = [np.broadcast_to(each, (times, *each.shape)).reshape(-1, *each.shape[1:]) for each in (masks, answers)]
        tracemalloc.start()
        score_labels(*many)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 40 * 20 * 500, "less than 500 bytes an image"


def test_answers_to_other_images_are_refused():
    with pytest.raises(DataError, match="one answer for each mask"):
        score_labels(made_masks(3), answers_of(made_masks(4)))


# ---- objects and pairs ---------------------------------------------------------------------------------------


def table_of(masks, answers):
    probability = calibrated(masks, answers)[0]
    found, known = [], []
    for place, (mask, answer) in enumerate(zip(masks, answers, strict=True)):
        said = answer[0] >= BINS // 2
        found.append(objects(place, said, mask == 1, probability[answer[0]]))
        known.append(objects(place, mask == 1, said, probability[answer[0]]))
    return join_objects(found), join_objects(known)


def test_the_lowest_objects_of_the_answers_are_those_rubbed_out():
    masks = made_masks()
    found, _ = table_of(planted(masks, emptied), answers_of(masks))
    scores = omission_scores(found)
    assert set(found.image[np.argsort(scores)[: len(BAD)]].tolist()) <= set(BAD)
    assert (scores[~found.alone] == 1).all()


def test_the_lowest_objects_of_the_masks_are_those_invented():
    masks = made_masks()
    invented = masks.copy()
    invented[list(BAD), 2:14, 2:14] = 1
    answers = answers_of(masks)
    _, known = table_of(invented, answers)
    lowest = known.image[np.argsort(denial_scores(known))[:5]]
    assert set(lowest.tolist()) <= set(BAD)


def test_a_pixel_of_each_object_lies_in_it():
    masks = made_masks(5)
    _, known = table_of(masks, answers_of(masks))
    assert (masks[known.image, known.row, known.column] == 1).all()


def test_large_objects_hold_half_of_the_area():
    assert large_from(np.array([1.0, 1, 1, 1, 8])) == 8
    assert large_from(np.zeros(0)) == np.inf


def test_exchanged_masks_are_paired_and_others_are_not():
    masks = made_masks()
    groups, models = np.arange(COUNT), np.zeros(COUNT, np.int64)
    answers = answers_of(masks)
    assert foreign_masks(masks, answers, groups, models) == ()
    pairs = dict(foreign_masks(turned(masks), answers, groups, models))
    assert set(pairs) <= set(BAD)
    assert pairs
    assert all((turned(masks)[other] == masks[one]).all() for one, other in pairs.items())


def hazy(masks, seed):
    """What a weak model says: the mask from afar, under clouds of its own."""
    rng = np.random.default_rng(seed)
    said = np.empty((len(masks), 1, *masks.shape[1:]), np.uint8)
    for place, mask in enumerate(masks):
        cloud = gaussian_filter(rng.normal(size=mask.shape), 5)
        soft = 0.3 + 0.4 * gaussian_filter((mask == 1).astype(float), 3)
        said[place, 0] = (BINS * (soft + 0.1 * cloud / cloud.std()).clip(0, 1)).astype(np.uint8)
    return said


@pytest.mark.parametrize("seed", range(6))
def test_of_many_exchanged_masks_most_are_told_by_a_weak_model_and_hardly_one_more(seed):
    masks = made_masks(seed=seed)
    wrong = turned(masks, tuple(range(0, COUNT, 3)))
    pairs = dict(foreign_masks(wrong, hazy(masks, seed), np.arange(COUNT), np.zeros(COUNT, np.int64)))
    right = [one for one, other in pairs.items() if one % 3 == 0 and (wrong[other] == masks[one]).all()]
    assert len(right) >= COUNT / 6, "half of them"
    assert len(pairs) - len(right) <= 2


@pytest.mark.parametrize("seed", range(6))
def test_a_model_that_knows_nothing_calls_no_masks_foreign(seed):
    masks, others = made_masks(seed=seed), made_masks(seed=seed + 100)
    told = foreign_masks(masks, answers_of(others), np.arange(COUNT), np.zeros(COUNT, np.int64))
    assert len(told) <= 1, "a single one is no concern of the check"


def test_a_mask_of_the_same_group_is_never_foreign():
    masks = made_masks()
    groups = np.where(np.isin(np.arange(COUNT), BAD), 0, np.arange(COUNT))
    assert foreign_masks(turned(masks), answers_of(masks), groups, np.zeros(COUNT, np.int64)) == ()


# ---- the check -----------------------------------------------------------------------------------------------


def run_of(masks, answers):
    run = made_run(groups=COUNT // 3)
    images = torch.zeros((COUNT, 3, SIDE, SIDE), dtype=torch.uint8)
    pictures = replace(run.pictures, masks=torch.from_numpy(masks), images=images)
    said = tuple(
        replace(fitted, maps=answers[list(mapped(run.folds, number, COUNT))])
        for number, fitted in enumerate(run.outcomes[CONTEXT])
    )
    return changed(replace(run, pictures=pictures), **{CONTEXT: said})


def checked(masks, answers):
    measured = LabelsCheck().measure(run_of(masks, answers))
    return measured, LabelsCheck().judge(measured)


def wrong(masks, clean):
    return int(((masks != clean) & (masks != 255)).sum())


def test_sound_masks_raise_no_alarm_and_stay_as_they_are():
    masks = made_masks()
    run = run_of(masks, answers_of(masks))
    measured = LabelsCheck().measure(run)
    assert LabelsCheck().judge(measured).verdict is Verdict.SOUND
    assert (repaired(run.pictures, run.answers, measured).masks == run.pictures.masks).all()


@pytest.mark.parametrize("plant", [emptied, moved])
def test_wrong_masks_are_among_the_worst(plant):
    masks = made_masks()
    measured, finding = checked(planted(masks, plant), answers_of(masks))
    names = {f"p{place}" for place in BAD}
    assert len(names & set(measured.worst[: len(BAD)])) >= 0.8 * len(BAD)
    assert finding.examples == measured.worst


def test_omitted_objects_are_found_and_added():
    masks = made_masks()
    answers, without = answers_of(masks), planted(masks, emptied)
    run = run_of(without, answers)
    measured = LabelsCheck().measure(run)
    finding = LabelsCheck().judge(measured)
    assert finding.verdict is Verdict.CONCERN
    assert "masks lack" in finding.claim
    assert measured.omitted.low <= 1 / 6 <= measured.omitted.high
    mended = repaired(run.pictures, answers, measured).masks.numpy()
    assert wrong(mended, masks) < 0.7 * wrong(without, masks)
    sound = [place for place in range(COUNT) if place not in BAD]
    assert (mended[sound] == masks[sound]).all()


def test_invented_objects_are_found_and_not_counted():
    masks = made_masks()
    invented = masks.copy()
    for place in range(0, COUNT, 4):
        invented[place] = 0
        invented[place, 2:30, 2:30] = 1
    measured, finding = checked(invented, answers_of(np.where(invented == masks, masks, 0).astype(np.uint8)))
    assert finding.verdict is Verdict.CONCERN
    assert "invent" in finding.claim
    run = run_of(invented, answers_of(masks))
    mended = repaired(run.pictures, run.answers, replace(measured, spots=())).masks.numpy()
    assert {spot.picture % 4 for spot in measured.denied} == {0}
    assert all((mended[spot.picture, 5:20, 5:20] == 255).all() for spot in measured.denied)


def test_exchanged_masks_go_back():
    masks = made_masks()
    given, answers = turned(masks), answers_of(masks)
    run = run_of(given, answers)
    measured = LabelsCheck().measure(run)
    assert LabelsCheck().judge(measured).verdict is Verdict.CONCERN
    assert measured.partners
    mended = repaired(run.pictures, answers, measured).masks.numpy()
    assert wrong(mended, masks) < wrong(given, masks)
    back = set(dict(measured.partners))
    whole = [one for one, other in measured.partners if other in back]
    assert all((mended[one] == masks[one]).all() for one in whole)


def test_a_foreign_mask_whose_own_is_unknown_is_not_counted():
    masks = made_masks()
    run = run_of(masks, answers_of(masks))
    measured = replace(LabelsCheck().measure(run), partners=((4, 9),))
    mended = repaired(run.pictures, run.answers, measured).masks.numpy()
    assert (mended[4] == 255).all()
    assert (mended[9] == masks[9]).all()


def test_a_model_that_finds_nothing_cannot_tell():
    masks = made_masks()
    answers = np.full((COUNT, 1, SIDE, SIDE), BINS // 10, np.uint8)
    assert checked(masks, answers)[1].verdict is Verdict.UNDETERMINED


def test_contours_apart_by_three_pixels_are_three_pixels_apart():
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    wide = np.zeros_like(mask)
    wide[7:33, 7:33] = True
    assert contour_distance(mask, wide) == 3
    assert np.isnan(contour_distance(mask, np.zeros_like(mask)))


def test_an_exact_interval_holds_its_share_and_nothing_has_none():
    few = share(1, 10)
    assert few.low < few.mean < few.high
    assert share(0, 10).low == 0
    assert share(10, 10).high == 1
    assert np.isnan(share(0, 0).mean)
