"""Error anatomy: every wrong pixel has one kind, repairs are what they say, and a planted kind is named."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from made_run import made_run
from unplateau.checks.anatomy import AnatomyCheck, thresholds
from unplateau.errors import DataError
from unplateau.measures.anatomy import KINDS, anatomy_counts, error_kinds, near_width
from unplateau.measures.thresholds import BINS, iou
from unplateau.types import Verdict

SIDE = 64
BINARY = arrays(np.uint8, (12, 14), elements=st.sampled_from([0, 1]))
MASK = arrays(np.uint8, (12, 14), elements=st.sampled_from([0, 1, 255]))
CLASSES = arrays(np.uint8, (12, 14), elements=st.sampled_from([0, 1, 2]))


def blank():
    return np.zeros((SIDE, SIDE), np.uint8)


def square(top, left, side, value=1, canvas=None):
    drawn = blank() if canvas is None else canvas.copy()
    drawn[top : top + side, left : left + side] = value
    return drawn


def gains(answer, mask, classes=2, binary=True):
    counts = anatomy_counts(answer, mask, classes, binary)
    scores = np.nanmean(iou(counts), axis=-1)
    return dict(zip(KINDS, (scores[1:] - scores[0]).round(12).tolist(), strict=True))


def costliest(answer, mask, **how):
    of_kind = gains(answer, mask, **how)
    return max(of_kind, key=of_kind.get)


# ---- the measure ---------------------------------------------------------------------------------------------


def test_a_missed_object_is_missed():
    mask = square(40, 40, 12, canvas=square(5, 5, 12))
    assert costliest(square(5, 5, 12), mask) == "missed"


def test_a_spurious_object_is_spurious():
    assert costliest(square(40, 40, 12, canvas=square(5, 5, 12)), square(5, 5, 12)) == "spurious"


def test_a_contour_that_is_one_pixel_off_is_boundary():
    assert costliest(square(11, 10, 30), square(10, 10, 30)) == "boundary"


def test_half_an_object_is_extent():
    mask = blank()
    mask[10:50, 10:50] = 1
    answer = blank()
    answer[10:50, 10:30] = 1
    assert costliest(answer, mask) == "extent"


def test_two_objects_in_one_answer_are_merged():
    mask = square(10, 35, 20, canvas=square(10, 5, 20))
    answer = blank()
    answer[10:30, 5:55] = 1
    assert costliest(answer, mask) == "merged or split"


def test_one_object_in_two_answers_is_split():
    mask = blank()
    mask[10:30, 5:55] = 1
    assert costliest(square(10, 35, 20, canvas=square(10, 5, 20)), mask) == "merged or split"


def test_an_object_of_another_class_is_confusion():
    mask = square(40, 40, 14, 2, square(5, 5, 14))
    answer = square(40, 40, 14, 1, square(5, 5, 14))
    assert costliest(answer, mask, classes=3, binary=False) == "confusion"


def test_an_object_taken_for_the_ground_is_missed_with_many_classes_too():
    mask = square(40, 40, 14, 2, square(5, 5, 14))
    assert costliest(square(5, 5, 14), mask, classes=3, binary=False) == "missed"


@given(BINARY, MASK)
@settings(max_examples=80, deadline=None)
def test_every_wrong_pixel_has_one_kind_and_no_other_has(answer, mask):
    kinds = error_kinds(answer, mask, binary=True)
    assert ((kinds >= 0) == ((answer != mask) & (mask != 255))).all()
    assert not (kinds == KINDS.index("confusion")).any()


@given(CLASSES, CLASSES)
@settings(max_examples=60, deadline=None)
def test_the_counts_of_a_repair_are_those_of_the_repaired_answer(answer, mask):
    kinds = error_kinds(answer, mask, binary=False)
    counts = anatomy_counts(answer, mask, 3, binary=False)
    for row in range(len(KINDS)):
        mended = np.where(kinds == row, mask, answer)
        assert (counts[1 + row] == anatomy_counts(mended, mask, 3, binary=False)[0]).all()


@given(BINARY, MASK)
@settings(max_examples=60, deadline=None)
def test_all_repairs_together_make_the_answer_right(answer, mask):
    counts = anatomy_counts(answer, mask, 2, binary=True)
    whole = counts[0] + (counts[1:] - counts[0]).sum(0)
    assert whole[0, 0] == whole[0, 1] == whole[0, 2]


@given(BINARY, MASK)
@settings(max_examples=40, deadline=None)
def test_an_upside_down_picture_has_the_same_counts(answer, mask):
    turned = anatomy_counts(answer[::-1].copy(), mask[::-1].copy(), 2, binary=True)
    assert (turned == anatomy_counts(answer, mask, 2, binary=True)).all()


def test_what_is_not_counted_makes_no_object_found():
    mask, answer = square(10, 10, 20), square(10, 10, 40)
    mask[20:] = 255
    assert (error_kinds(answer, mask, binary=True)[20:] == -1).all()


def test_the_band_follows_the_diagonal():
    assert near_width((10, 10)) == 1
    assert near_width((300, 400)) == 5


def test_an_answer_on_another_grid_is_refused():
    with pytest.raises(DataError, match="grid of the mask"):
        anatomy_counts(blank(), blank()[1:], 2, binary=True)


def test_a_class_that_there_is_not_is_refused():
    with pytest.raises(DataError, match="below 2"):
        anatomy_counts(square(1, 1, 3, 2), blank(), 2, binary=True)


# ---- the check -----------------------------------------------------------------------------------------------


def run_with(make, mask):
    """A run on pictures that all have this mask, each answered by `make(place)`."""
    run = made_run()
    count = len(run.pictures)
    masks = torch.from_numpy(np.repeat(mask[None], count, 0))
    run = replace(run, pictures=replace(run.pictures, masks=masks), _sums={})
    said = np.stack([make(place) for place in range(count)])
    run.__dict__["answers"] = np.where(said == 1, BINS * 9 // 10, BINS // 10).astype(np.uint8)[:, None]
    run.__dict__["unseen"] = np.ones(count, bool)
    return run


TWO = square(40, 40, 12, canvas=square(5, 5, 14))


def test_the_check_names_the_planted_kind_and_its_pictures():
    run = run_with(lambda place: square(5, 5, 14) if place % 2 else TWO, TWO)
    measured = AnatomyCheck().measure(run)
    finding = AnatomyCheck().judge(measured)
    assert measured.first == "missed"
    assert finding.verdict is Verdict.CONCERN
    assert "missed" in finding.claim
    assert set(finding.examples) <= {name for name in run.pictures.names if int(name[1:]) % 2}
    assert measured.gains["missed"].low > 0
    assert measured.pixels["missed"] == pytest.approx(1)


def test_a_right_answer_has_no_anatomy():
    finding = AnatomyCheck().judge(AnatomyCheck().measure(run_with(lambda place: TWO, TWO)))
    assert finding.verdict is Verdict.SOUND


def test_two_kinds_that_cost_alike_are_not_told_apart():
    answers = (square(5, 5, 14), square(40, 10, 12, canvas=TWO))
    finding = AnatomyCheck().judge(AnatomyCheck().measure(run_with(lambda place: answers[place % 2], TWO)))
    assert finding.verdict is Verdict.UNDETERMINED


def test_gains_and_the_remainder_make_up_what_is_missing():
    run = run_with(lambda place: square(8, 6, 14, canvas=square(40, 10, 12)), TWO)
    measured = AnatomyCheck().measure(run)
    total = sum(gain.mean for gain in measured.gains.values()) + measured.remainder.mean
    assert total == pytest.approx(measured.lost.mean)
    assert measured.lost.mean == pytest.approx(1 - measured.iou.mean)


def test_the_threshold_is_that_of_the_fold_that_reports():
    run = made_run(cut=0.7)
    assert (thresholds(run, run.plan.baseline) > 0.6 * BINS).all()
    low = made_run(cut=0.3)
    assert (thresholds(low, low.plan.baseline) < 0.4 * BINS).all()
