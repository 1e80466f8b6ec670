"""What no training tells is inferred only where it must be, and is nothing where something else explains the IoU."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from made_run import changed, made_run
from unplateau.checks.data_scale import CLOSED
from unplateau.diagnosis.diagnose import Measurements, measure_all
from unplateau.diagnosis.faults import Faults
from unplateau.diagnosis.inferred import by_heart, rough_contours, unlearnt
from unplateau.diagnosis.repairs import Fault
from unplateau.diagnosis.repairs import tried as repaired
from unplateau.diagnosis.verdict import SINGLE, calibrated, consider_remedies, say
from unplateau.experiments.gains import WIDER
from unplateau.experiments.run import Run
from unplateau.experiments.trials import make_trials
from unplateau.training.recipe import Recipe
from unplateau.types import Finding, Interval, Remedy, Verdict

NO_FAULTS = Faults((), ())


def tried(run: Run) -> Run:
    """The run with every trial scoring as the baseline does."""
    trials = make_trials("unet", "linear", math.inf, Recipe(), frozen=False)
    outcomes = {trial.name: run.outcomes[run.plan.baseline] for trial in trials}
    return changed(replace(run, plan=replace(run.plan, trials=trials, given=True)), **outcomes)


OFF, ON = Interval(0.1, 0.06, 0.14), Interval(-0.1, -0.14, -0.06)
"""What moving stretches of contour adds to how well they fit, where they lie a little off their edges, and on them."""


def with_anatomy(measured: Measurements, contours: Interval = OFF, **gains: float) -> Measurements:
    kinds = {"boundary": 0.0, "extent": 0.0, "missed": 0.0, "spurious": 0.0, "merged or split": 0.0, **gains}
    numbers = {"gains": {kind: Interval(gain, gain, gain) for kind, gain in kinds.items()}}
    found = Finding("anatomy", Verdict.CONCERN, "Said.", measured=numbers)
    bent = Finding("contours", Verdict.SOUND, "Said.", measured={"gain": contours})
    return replace(measured, findings=(*(e for e in measured.findings if e.check != "anatomy"), found, bent))


def test_few_groups_known_by_heart_ask_for_data():
    run = made_run({"context": 0.5}, groups=6, seen=0.9)
    gain = by_heart(measure_all(run, NO_FAULTS))
    assert gain is not None
    assert gain.mean == pytest.approx(0.4 * CLOSED.mean, abs=0.02)
    assert 0 < gain.low < gain.mean < gain.high


@pytest.mark.parametrize(("groups", "seen"), [(40, 0.9), (6, 0.3)], ids=["many groups", "nothing by heart"])
def test_many_groups_or_nothing_known_by_heart_leave_it_to_the_learning_curve(groups, seen):
    run = made_run({"context": 0.5}, groups=groups, seen=seen)
    assert by_heart(measure_all(run, NO_FAULTS)) is None


def test_where_nothing_learns_more_than_position_the_pairing_may_gain_anything():
    gain = unlearnt(tried(made_run({"context": 0.2})))
    assert gain is not None
    assert gain.low == 0
    assert gain.high == pytest.approx(0.8, abs=0.05)


def test_where_something_learns_or_nothing_was_tried_pairing_is_not_blamed():
    assert unlearnt(tried(made_run({"context": 0.6}))) is None
    assert unlearnt(made_run({"context": 0.2})) is None


ELSEWHERE = Fault("fix-domain", "new data", "Elsewhere.", there=True)


def from_elsewhere(taught: float) -> Remedy:
    """What is told where no model learns more than position here, and one that was taught there scores `taught`."""
    run = tried(made_run({"context": 0.2}, groups=60, noise=0.0))
    there = made_run({"context": taught}, groups=60, noise=0.0).outcomes["context"]
    run = changed(run, **{repaired(ELSEWHERE): there})
    told = consider_remedies(run, measure_all(run, Faults((), (ELSEWHERE,))))
    return next(each for each in told if each.name == "fix-domain")


def test_where_nothing_learns_images_from_elsewhere_may_be_why():
    gain = from_elsewhere(0.2).gain
    assert gain.low == 0
    assert gain.high == pytest.approx(0.8, abs=0.05)


def test_what_was_learnt_there_tells_what_images_from_there_add():
    assert from_elsewhere(0.6).gain.mean == pytest.approx(0.4, abs=0.02)


def test_where_nothing_learns_the_verdict_says_so_instead_of_nothing_to_gain():
    said = [say(run, measure_all(run, NO_FAULTS), ()) for run in (tried(made_run({"context": 0.2})), made_run())]
    assert "No training here learns more than where the class lies" in said[0]
    assert "Nothing measured here would lift it." in said[1]


def test_contours_that_nothing_mends_are_to_be_redrawn():
    run = tried(made_run({"context": 0.3}, seen=0.35))
    remedy = rough_contours(run, with_anatomy(measure_all(run, NO_FAULTS), extent=0.3), 0.03)
    assert remedy is not None
    assert (remedy.name, remedy.gain.mean) == ("relabel", pytest.approx(0.3))


def test_contours_on_their_edges_are_not_to_be_redrawn_however_little_thin_things_score():
    measured = with_anatomy(measure_all(tried(made_run({"context": 0.3}, seen=0.35)), NO_FAULTS), ON, extent=0.3)
    assert rough_contours(tried(made_run({"context": 0.3}, seen=0.35)), measured, 0.03) is None


@pytest.mark.parametrize(
    ("seen", "gains", "others"),
    [
        (0.9, {"extent": 0.3}, 0.03),
        (0.35, {"extent": 0.3, "missed": 0.3}, 0.03),
        (0.35, {"extent": 0.3}, 0.2),
        (0.35, {"extent": 0.05}, 0.0),
    ],
    ids=["it fits what it has seen", "objects are missed", "something else helps", "contours cost little"],
)
def test_contours_are_not_blamed_where_something_else_explains_it(seen, gains, others):
    run = tried(made_run({"context": 0.3}, seen=seen))
    assert rough_contours(run, with_anatomy(measure_all(run, NO_FAULTS), **gains), others) is None


def test_gains_of_single_trainings_are_told_wider_and_others_as_they_are():
    one, three = made_run(folds=1), made_run(folds=3)
    remedies = tuple(Remedy(name, Interval(0.1, 0.08, 0.14), "minutes", ()) for name in (*SINGLE, "fix-shift"))
    told = {each.name: each.gain for each in calibrated(remedies, one)}
    assert told["fix-shift"] == Interval(0.1, 0.08, 0.14)
    assert told["more-data"].high - told["more-data"].low == pytest.approx(0.06 * WIDER)
    assert calibrated(remedies, three) == remedies
