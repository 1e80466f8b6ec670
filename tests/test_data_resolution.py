"""The resolution ceiling is exact: checked against a slow reading of its definition and cases known by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unplateau.errors import DataError
from unplateau.measures.resolution import resolution_counts


def slowly(mask: np.ndarray, grid: tuple[int, int], stride: int, classes: int) -> np.ndarray:
    cells: dict[tuple[int, int], list[int]] = {}
    for (row, column), each in np.ndenumerate(mask):
        if each != 255:
            key = tuple(
                int((at + 0.5) * side / pixels) // stride
                for at, side, pixels in zip((row, column), grid, mask.shape, strict=True)
            )
            cells.setdefault(key, []).append(int(each))
    counts = np.zeros((classes, 3), int)
    for members in cells.values():
        answer = int(np.bincount(members, minlength=classes).argmax())
        counts[answer, 0] += members.count(answer)
        counts[answer, 1] += len(members)
        for each in members:
            counts[each, 2] += 1
    return counts


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 20), st.integers(1, 20), st.integers(1, 24), st.integers(1, 24), st.integers(1, 6), st.integers(0, 9)
)
def test_counts_follow_the_definition(height, width, rows, columns, stride, seed):
    mask = np.random.default_rng(seed).choice(np.array([0, 1, 2, 255], np.uint8), (height, width))
    counts = resolution_counts(mask, (rows, columns), stride, 3)
    assert counts.dtype == np.int64
    assert (counts == slowly(mask, (rows, columns), stride, 3)).all()


def test_native_resolution_costs_nothing():
    mask = np.random.default_rng(0).integers(0, 5, (17, 23), dtype=np.uint8)
    hit, predicted, true = resolution_counts(mask, mask.shape, 1, 5).T
    assert (hit == predicted).all()
    assert (hit == true).all()


def test_a_line_of_one_pixel_is_lost_at_stride_four():
    mask = np.zeros((16, 16), np.uint8)
    mask[:, 5] = 1
    assert resolution_counts(mask, (16, 16), 4, 2).tolist() == [[240, 256, 240], [0, 0, 16]]


def test_blocks_on_cell_borders_survive_and_255_is_not_counted():
    mask = np.zeros((16, 16), np.uint8)
    mask[4:8, 4:8], mask[0] = 1, 255
    assert resolution_counts(mask, (16, 16), 4, 2).tolist() == [[224, 224, 224], [16, 16, 16]]
    assert not resolution_counts(np.full((4, 4), 255, np.uint8), (2, 2), 1, 3).any()


def test_coarser_never_hits_more():
    mask = (np.random.default_rng(1).random((64, 64)) < 0.3).astype(np.uint8)
    hits = [resolution_counts(mask, (64, 64), stride, 2)[:, 0].sum() for stride in (1, 2, 4, 8, 16)]
    assert hits == sorted(hits, reverse=True)


@pytest.mark.parametrize(
    ("mask", "grid", "words"),
    [
        (np.zeros((1, 4, 4), np.uint8), (4, 4), "one mask at a time"),
        (np.zeros((4, 4), np.uint8), (0, 4), "must be positive"),
        (np.full((4, 4), 7, np.uint8), (4, 4), "holds 7"),
    ],
)
def test_bad_input(mask, grid, words):
    with pytest.raises(DataError, match=words):
        resolution_counts(mask, grid, 1, 2)
