"""Of several ways to build the same, which is taken: by the images that choose, and by none that reports."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from made_run import fitted, table
from unplateau.experiments.fits import Fitted
from unplateau.experiments.ways import Pieces, prevailing, taken, weighed
from unplateau.types import Fold

CHEAP, DEAR = Pieces("cheap", "linear"), Pieces("dear", "linear")

GROUPS = [f"g{place}" for place in range(9)]

TURNS = (Fold((0, 1, 2), (3, 4, 5), (6, 7, 8)), Fold((3, 4, 5), (6, 7, 8), (0, 1, 2)))
"""Folds that report in turn: what chooses in the second reports in the first."""

REPEATS = (Fold((0, 1, 2), (3, 4, 5), (6, 7, 8)), Fold((3, 4, 5), (0, 1, 2), (6, 7, 8)))

LEVEL, A_LITTLE, MUCH = np.array([0.50, 0.60, 0.55]), np.array([0.70, 0.50, 0.60]), np.array([0.80, 0.88, 0.86])


def outcome(inner: np.ndarray, report: np.ndarray = LEVEL) -> Fitted:
    return fitted(inner, report, LEVEL)


def weigh(cheap: list[np.ndarray], dear: list[np.ndarray], folds=TURNS):
    return weighed((CHEAP, DEAR), [[outcome(each) for each in way] for way in (cheap, dear)], folds, GROUPS)


@pytest.mark.parametrize(("dear", "wanted"), [(LEVEL, CHEAP), (A_LITTLE, CHEAP), (MUCH, DEAR)])
def test_the_cheaper_way_is_taken_unless_the_dearer_is_surely_better(dear, wanted):
    assert taken(weigh([LEVEL, LEVEL], [dear, dear])) == (wanted, wanted)


def test_a_cheaper_way_that_is_surely_better_is_taken_too():
    assert taken(weigh([MUCH, MUCH], [LEVEL, LEVEL])) == (CHEAP, CHEAP)


def test_what_reports_has_no_part_in_the_choice():
    ways = [[outcome(LEVEL), outcome(MUCH)], [outcome(MUCH), outcome(LEVEL)]]
    first = weighed((CHEAP, DEAR), ways, TURNS, GROUPS)
    assert taken(first) == (DEAR, CHEAP)
    for other in (LEVEL / 9, MUCH):
        changed = [[replace(each, report=table(other)) for each in way] for way in ways]
        assert weighed((CHEAP, DEAR), changed, TURNS, GROUPS) == first


def test_folds_that_report_in_turn_choose_each_for_itself_and_those_that_report_the_same_together():
    """Elsewhere the inner images of one fold are reported by another."""
    cheap, dear = [LEVEL, LEVEL], [LEVEL, MUCH]
    assert taken(weigh(cheap, dear)) == (CHEAP, DEAR)
    assert len(set(taken(weigh(cheap, dear, REPEATS)))) == 1
    assert taken(weigh(cheap, [MUCH, MUCH - 0.02], REPEATS)) == (DEAR, DEAR)


def test_each_way_says_what_it_scored_where_it_was_chosen_how_long_it_took_and_which_folds_took_it():
    slow = [replace(outcome(each), seconds=9.0) for each in (LEVEL, MUCH)]
    cheap, dear = weighed((CHEAP, DEAR), [[outcome(LEVEL), outcome(LEVEL)], slow], TURNS, GROUPS)
    assert (cheap.folds, dear.folds) == ((0,), (1,))
    assert (cheap.seconds, dear.seconds) == (1.0, 9.0)
    assert cheap.inner == pytest.approx(0.55, abs=1e-3)
    assert dear.inner == pytest.approx((0.55 + MUCH.mean()) / 2, abs=1e-3)
    assert prevailing((cheap, dear)) is cheap  # of as many folds the cheaper
