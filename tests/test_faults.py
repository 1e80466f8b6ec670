"""A fault in the data is found, repaired, and what the repair adds is measured by training, not guessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from made_run import changed, curve, made_run
from unplateau.data import open_data, read_pictures, split
from unplateau.diagnosis import faults as faults_module
from unplateau.diagnosis import repairs as module
from unplateau.diagnosis.faults import INVALID, Faults, find_faults
from unplateau.diagnosis.repairs import Fault, as_it_is, at_home, remedy_of, teaches, tried, try_repairs
from unplateau.experiments.fits import Fit, Fitted
from unplateau.experiments.plan import CONTEXT, make_fits, make_plan
from unplateau.experiments.run import Run
from unplateau.experiments.views import Objects
from unplateau.measures.scoring import score_images
from unplateau.measures.thresholds import BINS
from unplateau.scenes import scenes
from unplateau.training.recipe import Recipe
from unplateau.types import Finding, Interval, Pictures, Sample, Verdict

COUNT = 30


def run_of(samples: Sequence[Sample]) -> Run:
    """A run whose baseline answers what a model would that learnt its masks as they are."""
    source = open_data(list(samples))
    pictures = read_pictures(source, positive=[1], size=96, seed=0)
    folds = split(pictures, folds=2, seed=0)
    plan = make_plan(Objects.discs(16.0), pictures.size, baseline="unet")
    said = np.where(pictures.masks.numpy() == 1, 0.9, 0.1)[:, None]

    def table(part: tuple[int, ...]):
        return score_images(said[list(part)], pictures.masks[list(part)].numpy())

    fits = tuple(
        Fitted(
            table(fold.inner),
            table(fold.report),
            table(fold.fit[:4]),
            curve(0.9),
            1.0,
            (said[list(fold.report)] * BINS).astype(np.uint8),
        )
        for fold in folds
    )
    return Run(source, pictures, folds, Objects.discs(16.0), plan, {plan.baseline: fits}, 0)


def moved(sample: Sample, rows: int, columns: int) -> Sample:
    return replace(sample, mask=np.roll(sample.mask, (rows, columns), (0, 1)))


@pytest.fixture(scope="module")
def clean() -> list[Sample]:
    return scenes("geometry", COUNT)


def names(run: Run) -> list[str]:
    return [fault.remedy for fault in find_faults(run).faults]


def test_clean_scenes_have_no_fault(clean):
    assert names(run_of(clean)) == []


def test_shifted_masks_are_found_and_moved_back(clean):
    found = find_faults(run_of([moved(each, 4, -3) for each in clean])).faults
    assert [fault.remedy for fault in found] == ["fix-shift"]
    assert found[0].repaired is not None
    inside = (slice(None), slice(8, -8), slice(8, -8))
    back, true = found[0].repaired.masks.numpy()[inside], np.stack([each.mask for each in clean])[inside]
    assert (back == true).mean() > 0.99


def test_a_picture_in_two_groups_is_a_leak_whose_gain_needs_no_training(clean):
    twins = [replace(each, name=f"twin-{each.name}", group=f"twin-{each.group}") for each in clean[:3]]
    (found,) = find_faults(run_of([*clean, *twins])).faults
    assert found.remedy == "fix-leak"
    assert found.repaired is None
    assert found.gain is not None


def tried_on(run: Run, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, list[Pictures]]:
    """The run with the repairs tried, each as good as the baseline is on its own masks, and what was trained on."""
    seen: list[Pictures] = []

    def trained(fits, views, folder, told):
        seen.extend(views.values())
        return [run.outcomes[run.plan.baseline][fit.fold] for fit in fits]

    monkeypatch.setattr(module, "run_fits", trained)
    fits = make_fits(run.plan, run.pictures, run.folds, Recipe(), 0)
    own = [fit for fit in fits if fit.name == run.plan.baseline]
    return try_repairs(run, faults.faults, own, Path(), lambda *_: None), seen


def test_a_repair_is_tried_on_each_fold_and_scored_on_the_repaired_masks(clean, monkeypatch):
    run = run_of([moved(each, 4, -3) for each in clean])
    faults = find_faults(run)
    after, seen = tried_on(run, faults, monkeypatch)
    (fault,) = faults.faults
    assert seen == [fault.repaired]
    # The old answers follow the shifted masks: on the repaired ones they score less than a training on those.
    below, above = after.reading(as_it_is(fault)).mean, after.reading(tried(fault)).mean
    assert below < 0.8 < above
    assert remedy_of(after, fault).gain.mean == pytest.approx(above - below)


def test_what_makes_the_number_wrong_says_by_how_much_and_is_not_trained():
    fault = Fault(INVALID[0], "minutes", "Twins.", gain=Interval(-0.1, -0.2, 0.0))
    remedy = remedy_of(None, fault)  # type: ignore[arg-type]
    assert remedy.gain == fault.gain
    assert remedy.evidence == ("Twins.",)


def test_labels_are_judged_by_the_model_that_knows_most():
    assert made_run(baseline="reach-9").witness == CONTEXT
    assert made_run({"context": 0.3, "baseline": 0.6}, baseline="reach-9").witness == "baseline"
    assert made_run().witness == made_run().plan.baseline


def begun(fault: Fault, run: Run, monkeypatch: pytest.MonkeyPatch) -> list[Fit]:
    """What is trained to try a repair of a model whose weights are at hand."""
    seen: list[Fit] = []

    def trained(fits, views, folder, told):
        seen.extend(fits)
        return [run.outcomes[run.plan.baseline][fit.fold] for fit in fits]

    monkeypatch.setattr(module, "run_fits", trained)
    fits = make_fits(run.plan, run.pictures, run.folds, Recipe(steps=100), 0)
    own = [fit for fit in fits if fit.name == run.plan.baseline]
    try_repairs(run, (fault,), own, Path(), lambda *_: None, Path("model"))
    return seen


def test_what_was_learnt_from_shifted_masks_is_kept_and_what_was_learnt_from_wrong_classes_is_not(monkeypatch):
    run = made_run()
    fault = Fault("fix-shift", "minutes", "Shifted.", run.pictures, resumes=True)
    resumed = begun(fault, run, monkeypatch)
    anew = begun(replace(fault, remedy="fix-class-index", resumes=False), run, monkeypatch)
    assert {(fit.start, fit.recipe.steps) for fit in resumed} == {(Path("model"), 50)}
    assert {(fit.start, fit.recipe.steps) for fit in anew} == {(None, 100)}


def test_masks_mended_in_part_may_gain_as_much_again():
    fault = Fault("relabel", "annotation work", "Said.", made_run().pictures, partly=True)
    below, above = (made_run({"context": score}, noise=0.0, groups=40) for score in (0.5, 0.7))
    gain = remedy_of(changed(below, **{tried(fault): above.outcomes["context"]}), fault).gain
    assert gain.high >= 2 * gain.mean > 0


def test_from_elsewhere_each_half_of_the_groups_that_report_is_taught_by_the_other(monkeypatch):
    run = made_run(groups=60, noise=0.0)
    assert teaches(run)
    asked: list[Fit] = []

    def trained(fits, views, folder, told):
        asked.extend(fits)
        whole = [run.outcomes[run.plan.baseline][fit.fold] for fit in fits]
        places = [np.searchsorted(run.folds[fit.fold].report, fit.parts.report) for fit in fits]
        return [replace(each, report=each.report.take(p)) for each, p in zip(whole, places, strict=True)]

    monkeypatch.setattr(module, "run_fits", trained)
    fits = make_fits(run.plan, run.pictures, run.folds, Recipe(), 0)
    own = [fit for fit in fits if fit.name == run.plan.baseline]
    fault = Fault("fix-domain", "new data", "Elsewhere.", there=True)
    after = try_repairs(run, (fault,), own, Path(), lambda *_: None)
    for fit in asked:
        groups = [{run.pictures.groups[index] for index in part} for part in (fit.parts.fit, fit.parts.report)]
        assert not groups[0] & groups[1]
        assert {*fit.parts.fit, *fit.parts.report} == set(run.folds[fit.fold].report)
        # The inner images are from home, and so they choose no moment of it.
        assert fit.recipe.keep == "last"
    # Put together again in the order of the report part: the same answers as before gain nothing.
    for before, joined in zip(run.outcomes[run.plan.baseline], after.outcomes[tried(fault)], strict=True):
        assert np.array_equal(before.report.histograms, joined.report.histograms)
        assert len(joined.inner) == 0
    as_it_is_told = max(0.0, at_home(run).mean)
    assert remedy_of(after, fault).gain.mean == pytest.approx(as_it_is_told, abs=1e-9)


def test_home_is_no_better_than_what_was_trained_on():
    run = made_run({"context": 0.5}, groups=60, noise=0.0, seen=0.3)
    assert at_home(run).mean == pytest.approx(-0.2, abs=0.02)


def test_few_groups_that_report_teach_nothing():
    assert not teaches(made_run(groups=20))


@pytest.mark.parametrize(("images", "told"), [(6.0, False), (60.0, True)])
def test_few_images_that_differ_from_others_are_a_lack_of_data_and_no_other_domain(clean, images, told, monkeypatch):
    fault = Fault("fix-domain", "new data", "Elsewhere.")
    monkeypatch.setattr(faults_module, "_from_elsewhere", lambda *_: fault)
    monkeypatch.setattr(faults_module, "unrelated", lambda _: images)
    found = Finding("domain", Verdict.CONCERN, "Elsewhere.")
    monkeypatch.setattr(faults_module.DomainCheck, "judge", lambda *_: found)
    assert ("fix-domain" in names(run_of(clean))) is told


def test_what_others_would_teach_is_not_trained_while_the_number_itself_is_wrong(clean, monkeypatch):
    fault = Fault("fix-domain", "new data", "Elsewhere.", gain=Interval(0.1, 0.0, 0.2), there=True)
    monkeypatch.setattr(faults_module, "_from_elsewhere", lambda *_: fault)
    found = Finding("domain", Verdict.CONCERN, "Elsewhere.")
    monkeypatch.setattr(faults_module.DomainCheck, "judge", lambda *_: found)
    twins = [replace(each, name=f"twin-{each.name}", group=f"twin-{each.group}") for each in clean[:3]]
    trained = {each.remedy: each.trained for each in find_faults(run_of([*clean, *twins])).faults}
    assert trained == {"fix-leak": False, "fix-domain": False}
    assert find_faults(run_of(clean)).faults == (fault,)
