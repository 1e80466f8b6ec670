"""The usual mistakes are told by the number that they give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from made_run import made_run
from unplateau.checks.metric import MetricCheck, definitions
from unplateau.types import Verdict


def others() -> dict[str, float]:
    return MetricCheck().measure(made_run()).others


@pytest.mark.parametrize("name", ["mean of class and background", "share of right pixels", "Dice score"])
def test_a_number_by_another_definition_is_named(name):
    run = made_run()
    said = MetricCheck().judge(MetricCheck().measure(replace(run, reported=others()[name])))
    assert said.verdict is Verdict.CONCERN
    assert name in said.claim


def test_the_iou_of_the_answers_is_sound_and_a_stray_number_is_left_open():
    run = made_run()
    ours = run.reading(run.plan.baseline).mean
    for reported, verdict in (
        (ours, Verdict.SOUND),
        (0.111, Verdict.UNDETERMINED),
        (float("nan"), Verdict.SOUND),
    ):
        assert MetricCheck().judge(MetricCheck().measure(replace(run, reported=reported))).verdict is verdict


def test_definitions_on_numbers_worked_out_by_hand():
    # 100 pixels, 20 true, 30 answered, 10 of them right: IoU 10 / 40, background 60 / 90.
    said = definitions(np.array([[[10, 30, 20]]]), np.array([100]))
    assert said["mean of class and background"] == pytest.approx((10 / 40 + 60 / 90) / 2)
    assert said["share of right pixels"] == pytest.approx(0.7)
    assert said["Dice score"] == pytest.approx(20 / 50)
    assert said["mean over images"] == pytest.approx(0.25)


def test_nothing_true_and_nothing_answered_has_no_score_but_right_pixels():
    said = definitions(np.zeros((2, 1, 3), np.int64), np.array([50, 50]))
    assert said["share of right pixels"] == 1
    assert np.isnan(said["Dice score"])
