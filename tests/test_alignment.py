"""Alignment: shifts, mirrored masks and shifted parts are found; what is in place is left alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import real_folder
from made_run import made_run
from unplateau.checks.alignment import (
    AlignmentCheck,
    AlignmentMeasured,
    measure_alignment,
    read_scores,
    shifted_splits,
    turned,
)
from unplateau.checks.realigned import realigned
from unplateau.data import open_data, read_pictures
from unplateau.errors import DataError
from unplateau.measures.alignment import (
    TURNS,
    agreement,
    binary_digits,
    image_edges,
    mask_edges,
    peaks,
    pooled,
    resampled,
    share_interval,
    strays,
)
from unplateau.scenes import scenes
from unplateau.types import IGNORE, Sample, Verdict

COUNT = 16
SLOW = settings(max_examples=15, deadline=None)


@cache
def healthy(kind: str = "fire", count: int = COUNT) -> tuple[Sample, ...]:
    return tuple(scenes(kind, count, seed=3))


def moved(mask: np.ndarray, rows: int, columns: int) -> np.ndarray:
    height, width = mask.shape
    down, right = np.arange(height) - rows, np.arange(width) - columns
    return mask[np.clip(down, 0, height - 1)[:, None], np.clip(right, 0, width - 1)[None]]


def shifted(samples, rows: int, columns: int) -> list[Sample]:
    return [replace(each, mask=moved(each.mask, rows, columns)) for each in samples]


def measured(samples) -> AlignmentMeasured:
    return measure_alignment(read_scores(open_data(list(samples)), 0), 0)


def verdict(found: AlignmentMeasured) -> Verdict:
    return AlignmentCheck().judge(found).verdict


def one_score(image: np.ndarray, mask: np.ndarray, reach: int = 8) -> np.ndarray:
    score = agreement(image_edges(image), mask_edges(binary_digits(mask), reach), reach)
    assert score is not None
    return score


# ---- the measures --------------------------------------------------------------------------------------------


@given(st.integers(-5, 5), st.integers(-5, 5))
@SLOW
def test_moving_a_mask_moves_its_peak_by_as_much(rows, columns):
    sample = healthy()[0]
    at_rest = peaks(one_score(sample.image, sample.mask)[None])[0]
    found = peaks(one_score(sample.image, moved(sample.mask, rows, columns))[None])[0]
    np.testing.assert_allclose(found - at_rest, (rows, columns), atol=0.35)


@given(st.sampled_from(["rows", "columns"]), st.integers(0, 5))
@SLOW
def test_a_mirrored_pair_has_the_mirrored_offset(axis, place):
    sample = healthy("geometry")[place]
    turn = (slice(None, None, -1),) if axis == "rows" else (slice(None), slice(None, None, -1))
    mask = moved(sample.mask, 2, -3)
    found = peaks(np.stack([one_score(sample.image, mask), one_score(sample.image[turn], mask[turn])]))
    np.testing.assert_allclose(found[1], found[0] * ((-1, 1) if axis == "rows" else (1, -1)), atol=0.02)


def test_dark_on_bright_agrees_like_bright_on_dark():
    sample = healthy("context")[0]
    np.testing.assert_allclose(
        one_score(sample.image, sample.mask), one_score(255 - sample.image, sample.mask), atol=1e-2
    )


def test_a_peak_between_pixels_is_found():
    rows, columns = np.mgrid[-4:5, -4:5]
    scores = np.stack([-((rows - row) ** 2) - (columns - column) ** 2 for row, column in ((0.3, -1.2), (-4, 4))])
    np.testing.assert_allclose(peaks(scores.astype(float)), [(0.3, -1.2), (-4, 4)], atol=1e-9)


@given(st.lists(st.integers(0, 255), min_size=1, max_size=30, unique=True))
@SLOW
def test_any_two_ids_differ_in_a_digit(ids):
    digits = binary_digits(np.array([ids], np.uint8))
    assert len({tuple(column) for column in digits[:, 0].T}) == len(ids)
    assert len(digits) <= max(1, (len(ids) - 1).bit_length())


def test_no_outline_and_no_edge_give_no_score():
    sample = healthy()[0]
    assert agreement(image_edges(sample.image), mask_edges(binary_digits(np.zeros((96, 96), np.uint8)), 8), 8) is None
    flat = np.full((96, 96, 3), 90, np.uint8)
    assert agreement(image_edges(flat), mask_edges(binary_digits(sample.mask), 8), 8) is None


@pytest.mark.parametrize("turn", TURNS)
def test_each_turn_is_undone_by_its_own_and_differs_from_rest(turn):
    planes = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    done = planes
    orders = 4 if "clockwise" in turn else 2
    for time in range(orders):
        done = TURNS[turn](done)
        assert (done == planes).all() == (time == orders - 1)


def test_resamples_draw_whole_groups():
    weights = resampled(["a"] * 3 + ["b"] * 3 + ["c"], np.random.default_rng(0), 50)
    assert (weights[:, :3].sum(1) % 3 == 0).all()
    assert ((weights[:, :3].sum(1) + weights[:, 3:6].sum(1)) / 3 + weights[:, 6] == 3).all()


def test_pooled_scores_are_weighted_sums():
    scores = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(pooled(scores, np.array([[1.0, 2.0]]))[0], scores[0] + 2 * scores[1])
    with pytest.raises(DataError, match="column for each of the 2 images"):
        pooled(scores, np.ones((1, 3)))


def test_strays_are_the_largest_cluster_away_from_the_rest():
    places = np.array([(0, 0), (0.2, 0), (4, 4), (4.5, 4), (-6, 0)])
    assert strays(places, np.zeros(2), 1.5, 1.0).tolist() == [False, False, True, True, False]
    assert not strays(places[:2], np.zeros(2), 1.5, 1.0).any()
    assert not len(strays(places[:0], np.zeros(2), 1.5, 1.0))


def test_a_share_of_nothing_is_unknown_and_others_hold_their_mean():
    assert np.isnan(share_interval(0, 0).mean)
    for found in (0, 3, 10):
        share = share_interval(found, 10)
        assert 0 <= share.low <= share.mean == found / 10 <= share.high <= 1


# ---- the check -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fire", "texture", "geometry", "context"])
def test_masks_in_place_raise_no_alarm(kind):
    found = measured(healthy(kind))
    assert verdict(found) is Verdict.SOUND
    assert np.hypot(*found.whole.offset) < 0.5


@pytest.mark.parametrize(("kind", "rows", "columns"), [("texture", 2, 0), ("geometry", 0, -2), ("context", -3, 3)])
def test_a_shift_of_two_pixels_and_more_is_found(kind, rows, columns):
    found = measured(shifted(healthy(kind), rows, columns))
    assert verdict(found) is Verdict.CONCERN
    np.testing.assert_allclose(found.whole.offset, (rows, columns), atol=0.3)


def test_offsets_of_large_images_are_given_in_native_pixels():
    enlarged = np.ones((8, 8), np.uint8)
    samples = [
        replace(each, image=np.kron(each.image, enlarged[..., None]), mask=np.kron(each.mask, enlarged))
        for each in healthy("geometry", 8)
    ]
    found = measured(shifted(samples, 0, 16))
    np.testing.assert_allclose(found.whole.offset, (0, 16), atol=0.5)
    assert found.pixel == pytest.approx(1.5)


def test_a_split_that_is_off_alone_is_named():
    train = [replace(each, split="train") for each in healthy()[: COUNT // 2]]
    val = [replace(each, split="val") for each in shifted(healthy()[COUNT // 2 :], 0, 3)]
    found = measured(train + val)
    assert set(shifted_splits(found)) == {"val"}
    assert "'val'" in AlignmentCheck().judge(found).claim


def test_files_that_are_off_alone_are_named():
    bad = shifted(healthy()[:5], 3, -3)
    found = measured(bad + list(healthy()[5:]))
    finding = AlignmentCheck().judge(found)
    assert finding.verdict is Verdict.CONCERN
    assert set(finding.examples) == {each.name for each in bad}
    np.testing.assert_allclose(found.strays_at, (3, -3), atol=0.3)
    assert finding.measured["stray_share"].mean == pytest.approx(5 / COUNT, abs=0.05)


def test_mirrored_and_turned_masks_are_found():
    for turn, undone in (("mirrored left to right", np.fliplr), ("turned clockwise", lambda mask: np.rot90(mask, -1))):
        found = measured([replace(each, mask=undone(each.mask)) for each in healthy("geometry")])
        assert turned(found)
        assert found.turn == turn
        assert verdict(found) is Verdict.CONCERN


def test_masks_of_other_images_cannot_tell():
    strangers = [replace(each, mask=other.mask) for each, other in zip(healthy(), healthy()[1:], strict=False)]
    assert verdict(measured(strangers)) is Verdict.UNDETERMINED


def test_images_too_small_to_compare_cannot_tell():
    run = made_run()
    found = AlignmentCheck().measure(run)
    assert found.whole.images == 0
    assert verdict(found) is Verdict.UNDETERMINED
    assert torch.equal(realigned(run.pictures, found).masks, run.pictures.masks)


def test_a_seed_decides_everything():
    assert measured(healthy("texture")) == measured(healthy("texture"))


# ---- the repair ----------------------------------------------------------------------------------------------


def repaired_of(samples):
    return realigned(read_pictures(open_data(list(samples)), positive=[1], size=96), measured(samples))


def test_the_repair_moves_shifted_masks_back():
    masks = repaired_of(shifted(healthy(), 3, -4)).masks.numpy()
    clean = np.stack([each.mask for each in healthy()])
    known = masks != IGNORE
    assert (masks[:, 5:-5, 5:-5] == clean[:, 5:-5, 5:-5]).all()
    assert known.mean() == pytest.approx((93 / 96) * (92 / 96))


def test_the_repair_leaves_the_parts_that_are_in_place():
    bad = shifted(healthy()[:5], 3, -3)
    masks = repaired_of(bad + list(healthy()[5:])).masks.numpy()
    clean = np.stack([each.mask for each in healthy()])
    assert (masks[5:] == clean[5:]).all()
    assert (masks[:5, 5:-5, 5:-5] == clean[:5, 5:-5, 5:-5]).all()


def test_the_repair_undoes_a_mirrored_mask():
    masks = repaired_of([replace(each, mask=np.fliplr(each.mask)) for each in healthy("geometry")]).masks.numpy()
    assert (masks == np.stack([each.mask for each in healthy("geometry")])).all()


# ---- real data -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["human", "isbi_membrane"])
def test_real_masks_are_in_place_and_shifted_ones_are_not(name):
    source = open_data(real_folder(name))
    samples = [source.sample(int(index)) for index in np.linspace(0, len(source) - 1, 12)]
    assert verdict(measured(samples)) is Verdict.SOUND
    assert verdict(measured(shifted(samples, 3, 0))) is Verdict.CONCERN
