"""Objects beside their place are found and say where they belong; answers that are merely poor are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unplateau.measures.displaced import SMALLEST, Moved, join_moved, move_objects, no_common_shift

SIDE, REACH = 48, 6


def blob(row: int, column: int, height: int = 8, width: int = 6) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[row : row + height, column : column + width] = True
    mask[row, column] = False
    return mask


@settings(deadline=None, max_examples=30)
@given(rows=st.integers(-4, 4), columns=st.integers(-3, 3))
def test_an_object_is_moved_to_where_the_answer_has_it(rows, columns):
    moved = move_objects(0, blob(20, 20), blob(20 + rows, 20 + columns), REACH)
    far = moved.before[0] < 0.55
    assert (int(moved.rows[0]), int(moved.columns[0])) == ((rows, columns) if far else (0, 0))
    assert moved.after[0] == pytest.approx(1.0) or not far
    assert moved.displaced[0] == far


def test_half_an_object_is_a_poor_answer_and_not_another_place():
    half = blob(20, 20)
    half[24:] = False
    assert not move_objects(0, blob(20, 20), half, REACH).displaced.any()


def test_an_object_without_an_answer_near_it_stays():
    moved = move_objects(0, blob(20, 20), blob(36, 36), REACH)
    assert (moved.before[0], moved.after[0]) == (0, 0)
    assert not moved.displaced.any()


def test_specks_are_not_looked_at_and_an_empty_mask_has_nothing():
    speck = blob(20, 20, SMALLEST // 4, 2)
    assert not len(move_objects(0, speck, speck, REACH).image)
    assert not len(move_objects(0, np.zeros((SIDE, SIDE), bool), speck, REACH).image)
    assert not len(join_moved([]).image)


def off_by(shifts: list[tuple[int, int]]) -> Moved:
    return join_moved(
        [move_objects(n, blob(20, 20), blob(20 + row, 20 + column), REACH) for n, (row, column) in enumerate(shifts)]
    )


def test_a_shift_that_all_share_is_not_one_of_single_objects():
    common, single = off_by([(4, 0)] * 6), off_by([(4, 0), (-4, 0), (0, 3), (0, -3)])
    assert common.displaced.all()
    assert not no_common_shift(common, 0.5).displaced.any()
    assert no_common_shift(single, 0.5).displaced.all()
