"""A training that cannot fit four images is found, the part that is broken is named, and one that can is left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import write_pairs
from made_run import made_run, table
from unplateau import api
from unplateau.checks.check import UNMEASURED
from unplateau.checks.ladder import PRIOR
from unplateau.checks.overfit import (
    IMAGES,
    ONE_BATCH,
    RATE,
    STEPS,
    OverfitCheck,
    OverfitMeasured,
    again,
    batch_of,
    by_heart,
    learnt,
    one_batch,
    put_right,
)
from unplateau.data import open_data, read_pictures, split
from unplateau.data.transforms import NONE
from unplateau.diagnosis import faults as module
from unplateau.diagnosis import repairs
from unplateau.diagnosis.repairs import remedy_of, tried, try_repairs
from unplateau.experiments.fits import Fit, run_fit
from unplateau.experiments.plan import make_fits, make_plan
from unplateau.experiments.run import Run
from unplateau.experiments.views import Objects
from unplateau.training.recipe import Recipe
from unplateau.types import Fold, Pictures, Sample, Verdict


def discs(count: int = 12, side: int = 32) -> list[Sample]:
    """A bright disc, class 1, on noise; every third image has none."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side]
    samples = []
    for index in range(count):
        top, left = generator.uniform(8, side - 8, 2)
        mask = (((rows - top) ** 2 + (columns - left) ** 2 < 36) & (index % 3 > 0)).astype(np.uint8)
        image = generator.integers(0, 120, (side, side, 3)) + 100 * mask[..., None]
        samples.append(Sample(f"p{index:02d}", image.astype(np.uint8), mask, f"g{index}"))
    return samples


@pytest.fixture(scope="module")
def bare() -> tuple[Run, Fit]:
    """A run without outcomes, and its baseline's own training."""
    source = open_data(discs())
    pictures = read_pictures(source, positive=[1], size=32, seed=0)
    folds = split(pictures, folds=2, seed=0)
    plan = make_plan(Objects.discs(12.0), pictures.size, baseline="reach-9-8")
    own = next(f for f in make_fits(plan, pictures, folds, Recipe(), 0) if f.name == plan.baseline and f.fold == 0)
    return Run(source, pictures, folds, Objects.discs(12.0), plan, {}, 0), own


def trained(run: Run, own: Fit, *, parts: tuple[str, ...] = ()) -> Run:
    """The run with the batch trained on, and the named parts put right."""
    fit = one_batch(own, run.pictures)
    assert fit is not None
    fits = [fit, *(each for each in again(fit) if each.name.removeprefix(f"{ONE_BATCH} ") in parts)]
    return replace(run, outcomes={each.name: (run_fit(each, run.pictures),) for each in fits}, _sums={})


def test_a_training_that_works_fits_one_batch(bare):
    run, own = bare
    check = OverfitCheck()
    measured = check.measure(trained(run, own))
    assert measured is not None
    assert measured.fitted
    assert check.judge(measured).verdict is Verdict.SOUND


@pytest.mark.parametrize(
    ("broken", "part"),
    [
        (Recipe(learning_rate=1e-7), "step size"),
        (Recipe(learning_rate=10.0), "step size"),
        (Recipe(loss="ce", hard_pixels=1e-4), "loss"),
    ],
    ids=["too small", "too large", "of one pixel"],
)
def test_a_broken_part_is_named_and_no_other(bare, broken, part):
    run, own = bare
    bad = replace(own, recipe=broken)
    check = OverfitCheck()
    measured = check.measure(trained(run, bad, parts=("loss", "step size")))
    assert measured is not None
    assert measured.part == part
    finding = check.judge(measured)
    assert finding.verdict is Verdict.CONCERN
    assert part in finding.claim


def test_what_no_change_mends_is_left_open(bare):
    check = OverfitCheck()
    finding = check.judge(OverfitMeasured(0.4, 1.0, 1, {"loss": 0.45, "step size": 0.35}))
    assert finding.verdict is Verdict.UNDETERMINED


def test_an_output_that_is_too_coarse_for_more_is_not_held_against_the_training():
    check = OverfitCheck()
    assert check.judge(OverfitMeasured(0.55, 0.6, 16, {})).verdict is Verdict.SOUND
    assert check.judge(OverfitMeasured(0.55, 1.0, 1, {})).verdict is not Verdict.SOUND


def test_the_ceiling_is_that_of_the_models_own_stride(bare):
    run, own = bare
    fine = OverfitCheck().measure(trained(run, own))
    rungs = tuple(
        replace(rung, extractor="timm/resnet18:2") if rung.name == run.plan.baseline else rung
        for rung in run.plan.rungs
    )
    coarse = OverfitCheck().measure(replace(trained(run, own), plan=replace(run.plan, rungs=rungs)))
    assert fine is not None
    assert coarse is not None
    assert (fine.stride, fine.ceiling) == (1, 1.0)
    assert coarse.stride == 8
    assert coarse.ceiling < 0.9


def test_without_its_training_it_is_not_measured(bare):
    assert OverfitCheck().judge(OverfitCheck().measure(bare[0])).claim == UNMEASURED


def having(run: Run, seen: float, position: float) -> Run:
    """The run of a model that scores so on images it trained on, and position alone so."""
    outcomes = made_run({"prior": position}, seen=seen).outcomes
    prior = tuple(replace(each, seen=table(np.full(4, position))) for each in outcomes[PRIOR])
    return replace(run, outcomes={**run.outcomes, run.plan.baseline: outcomes["context"], PRIOR: prior}, _sums={})


def test_a_model_that_has_learnt_needs_no_batch(bare):
    run = having(bare[0], 0.6, 0.3)
    assert learnt(run)
    finding = OverfitCheck().judge(OverfitCheck().measure(run))
    assert finding.verdict is Verdict.SOUND
    assert "0.600" in finding.claim


def test_a_model_that_has_learnt_nothing_is_asked_for_one_batch(bare):
    run = having(bare[0], 0.4, 0.3)
    assert not learnt(run)
    assert OverfitCheck().judge(OverfitCheck().measure(run)).claim == UNMEASURED


# ---- which training ------------------------------------------------------------------------------------------


def test_the_batch_is_of_the_part_that_trains_and_holds_the_class(bare):
    run, own = bare
    batch = batch_of(run.pictures, own.parts)
    assert 0 < len(batch) <= IMAGES
    assert set(batch) <= set(own.parts.fit)
    assert (run.pictures.masks[list(batch)] == 1).flatten(1).any(1).all()


def test_images_without_the_class_make_no_batch(bare):
    run, own = bare
    empty: Pictures = replace(run.pictures, masks=run.pictures.masks * 0)
    assert batch_of(empty, own.parts) == ()
    assert one_batch(own, empty) is None


def test_one_batch_keeps_the_loss_and_drops_all_variety():
    recipe = Recipe(loss="ce", class_weights=(3.0,), crop=(16, 16), ema=0.9, positive_rate=0.5, accumulate=2)
    short = by_heart(recipe, 4)
    assert (short.loss, short.class_weights) == ("ce", (3.0,))
    assert (short.steps, short.batch, short.crop, short.augmentation) == (STEPS, 4, None, NONE)
    assert (short.ema, short.positive_rate, short.half_size, short.accumulate) == (0.0, 0.0, 0.0, 1)


def test_a_rate_that_is_low_for_many_steps_covers_the_same_way_in_few():
    assert by_heart(Recipe(learning_rate=1e-4, steps=6000), 4).learning_rate == RATE
    assert by_heart(Recipe(learning_rate=1e-7, steps=600), 4).learning_rate == pytest.approx(1e-6)
    assert by_heart(Recipe(learning_rate=1.0), 4).learning_rate == 1.0


def test_only_what_is_not_right_already_is_put_right(bare):
    own = bare[1]
    right = replace(own, recipe=by_heart(Recipe(learning_rate=RATE, loss="ce + dice"), 4))
    assert put_right(right) == {}
    assert set(put_right(replace(right, frozen=True))) == {"frozen piece"}
    assert set(put_right(replace(right, recipe=replace(right.recipe, loss="ce")))) == {"loss"}


# ---- what it costs -------------------------------------------------------------------------------------------


def test_the_remedy_is_priced_by_training_with_the_part_put_right(bare, monkeypatch):
    run, own = bare
    bad = replace(own, recipe=Recipe(learning_rate=1e-7))
    run = trained(run, bad, parts=("step size",))
    measured = OverfitCheck().measure(run)
    assert measured is not None
    fault = module._untrainable(bad, run, measured, "Broken.")
    assert fault is not None
    assert fault.remedy == "fix-training"
    assert fault.instead is not None
    assert fault.instead.recipe.learning_rate == RATE
    asked: list[Fit] = []
    outcome = run.outcomes[ONE_BATCH][0]
    worse, better = outcome, run.outcomes[f"{ONE_BATCH} step size"][0]

    def fake(fits, views, folder, told):
        asked.extend(fits)
        return [better for _ in fits]

    monkeypatch.setattr(repairs, "run_fits", fake)
    batch = batch_of(run.pictures, own.parts)
    alone = replace(run, folds=(Fold(batch, batch, batch),), outcomes={run.plan.baseline: (worse,)}, _sums={})
    after = try_repairs(alone, (fault,), [bad], Path(), lambda *_: None)
    assert [(fit.name, fit.view, fit.recipe.learning_rate) for fit in asked] == [(tried(fault), "image", RATE)]
    remedy = remedy_of(after, fault)
    assert remedy.gain.mean == pytest.approx(after.reading(tried(fault)).mean - after.reading(run.plan.baseline).mean)
    assert remedy.gain.mean > 0.2


def test_a_diagnosis_of_a_model_that_cannot_learn_names_its_training_first(tmp_path):
    data = write_pairs(tmp_path / "data", count=16)
    recipe = {"learning_rate": 1e-7}
    api.train(data, extractor="reach-9-8", out=tmp_path / "model", size=32, steps=60, recipe=recipe)
    said = api.diagnose(data, model=tmp_path / "model", steps=2, out=tmp_path / "out")
    assert said["remedies"][0]["name"] == "fix-training"
    assert said["remedies"][0]["gain"]["low"] > 0
    assert next(each for each in said["scale"] if each["question"] == "bug")["answer"] == "yes"
    assert "one-batch overfit" in (tmp_path / "out" / "report.html").read_text()
