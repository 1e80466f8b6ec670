"""How many different images train."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_run import made_run
from test_leaks import natives, of_own_groups, pictures_of, saved
from unplateau.checks.check import HEADINGS
from unplateau.checks.diversity import DiversityCheck, DiversityMeasured, effective_number, trains
from unplateau.checks.leaks import LeaksCheck
from unplateau.files import plain
from unplateau.measures import gallery
from unplateau.types import Interval, Pictures, Verdict

__all__ = ["natives"]


def measured_on(pictures: Pictures) -> DiversityMeasured:
    return DiversityCheck().measure(replace(made_run(), pictures=pictures))


def test_unrelated_images_count_each(natives):
    measured = measured_on(of_own_groups(natives))
    assert measured.effective.mean == pytest.approx(16, rel=0.1)
    assert measured.distinct == 16
    assert DiversityCheck().judge(measured).verdict is Verdict.SOUND


def test_images_that_repeat_four_are_worth_four(natives):
    rng = np.random.default_rng(0)
    noisy = [(natives[index % 4] + rng.normal(0, 2, natives[0].shape)).clip(0, 255) for index in range(16)]
    measured = measured_on(of_own_groups([each.astype(np.uint8) for each in noisy]))
    assert measured.distinct == 4
    assert measured.effective.mean == pytest.approx(4, abs=1)
    assert measured.largest == 4
    finding = DiversityCheck().judge(measured)
    assert finding.verdict is Verdict.CONCERN
    assert "new groups" in finding.claim


def test_only_what_trains_is_counted(natives):
    pictures = of_own_groups([*natives[:8], *[saved(natives[0], 90)] * 8], ["train"] * 8 + ["val"] * 8)
    measured = measured_on(pictures)
    assert (measured.images, measured.distinct) == (8, 8)
    assert trains(pictures).tolist() == list(range(8))


def test_blank_images_cannot_be_counted():
    measured = measured_on(of_own_groups([np.full((192, 240, 3), 90, np.uint8)] * 8))
    assert DiversityCheck().judge(measured).verdict is Verdict.UNDETERMINED


def test_frames_of_few_videos_are_worth_about_their_number(natives):
    frames = [saved(natives[index // 4], 90 - index % 4) for index in range(16)]
    measured = measured_on(pictures_of(frames, [f"v{index // 4}" for index in range(16)]))
    assert measured.groups == 4
    assert measured.effective.high < 8


def test_an_interval_across_the_bound_leaves_it_open():
    measured = DiversityMeasured(100, 20, Interval(45, 30, 60), 50, 3, (), 0)
    assert DiversityCheck().judge(measured).verdict is Verdict.UNDETERMINED


@given(st.integers(2, 12), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_copies_of_each_image_do_not_add_to_the_effective_number(originals, copies):
    shared = np.kron(np.eye(originals), np.ones((copies, copies)))
    effective = effective_number(shared, np.repeat(np.arange(originals), copies))
    assert effective.mean == pytest.approx(originals)
    assert effective.low <= effective.mean <= effective.high


def test_the_interval_widens_with_unequal_groups():
    even = np.kron(np.eye(8), np.ones((4, 4)))
    uneven = even.copy()
    uneven[:16, :16] = 1.0
    units = np.repeat(np.arange(8), 4)
    narrow, wide = effective_number(even, units), effective_number(uneven, units)
    assert wide.high - wide.low > narrow.high - narrow.low


def test_the_check_explains_itself_and_its_finding_is_plain(natives):
    finding = DiversityCheck().judge(measured_on(of_own_groups(natives)))
    plain(finding)
    assert finding.claim.endswith(".")
    assert all(f"{heading}:" in (DiversityCheck.__doc__ or "") for heading in HEADINGS)


@pytest.mark.parametrize("splits", [None, ["train"] * 12 + ["val"] * 6])
def test_two_checks_that_share_a_gallery_say_what_each_says_alone(splits, natives, monkeypatch):
    """To the last bit: what is shared is what either would have worked out."""
    made, real = [], gallery.bands
    monkeypatch.setattr(gallery, "bands", lambda images: made.append(len(images)) or real(images))
    twice = [*natives, saved(natives[0], 70), saved(natives[1][:, ::-1], 90)]
    run = replace(made_run(), pictures=of_own_groups(twice, splits))
    alone = [check.measure(replace(run)) for check in (LeaksCheck(), DiversityCheck())]
    assert made == [18, 18 if splits is None else 12]
    assert repr([check.measure(run) for check in (LeaksCheck(), DiversityCheck())]) == repr(alone)
    assert len(made) == 3
