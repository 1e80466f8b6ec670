"""In which order a diagnosis trains, how long, and when it need not go on."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from made_run import changed, made_pictures, made_run, table
from unplateau.checks.curve import twice_gain
from unplateau.checks.ladder import PRIOR, LadderCheck
from unplateau.checks.operating_point import OperatingPointCheck
from unplateau.checks.repeat import RepeatCheck
from unplateau.data.splits import split
from unplateau.diagnosis.faults import Faults
from unplateau.diagnosis.settling import doubtful, settled, trial_gain
from unplateau.diagnosis.stages import confirming, later_stages, promising
from unplateau.diagnosis.task import unclear
from unplateau.experiments.fits import Fit
from unplateau.experiments.plan import (
    CANDIDATE,
    CONTEXT,
    HALF_STEPS,
    UNTRAINED,
    Plan,
    less_name,
    make_fits,
    make_given_fits,
    make_plan,
    shortened,
    trial_fits,
    with_given,
    with_larger_pieces,
)
from unplateau.experiments.run import Run
from unplateau.experiments.trials import AGAIN, LONGER, REHEARSAL, make_trials, resumed
from unplateau.experiments.views import Objects
from unplateau.training.recipe import Recipe
from unplateau.training.saved import Made
from unplateau.types import Finding, Interval, Verdict

# ---- how long ------------------------------------------------------------------------------------------------


def given_fits(steps: int) -> tuple[Plan, list[Fit]]:
    """The plan and the trainings for a model that was trained for so many steps."""
    made = Made("reach-9", frozen=False, recipe=Recipe(steps=steps), seed=0)
    plan = with_given(make_plan(Objects.discs(8.0), (32, 48), baseline="unet"), made, "linear")
    pictures = made_pictures(20)
    return plan, make_given_fits(plan, pictures, split(pictures, folds=3, seed=0)[:1], Recipe(), made, 0)


def test_a_long_run_is_rehearsed_beside_itself_and_its_steps_shared_out_with_its_data():
    plan, fits = given_fits(4000)
    assert plan.control == REHEARSAL
    assert {trial.recipe.steps for trial in plan.trials} == {500}
    steps = {fit.name: fit.recipe.steps for fit in fits}
    assert [steps[name] for name in (REHEARSAL, less_name(0.25), less_name(0.5), HALF_STEPS)] == [500, 1000, 2000, 2000]


def test_a_short_run_is_tried_at_its_own_length():
    plan, fits = given_fits(120)
    assert (plan.rehearsal, plan.control) == (None, plan.baseline)
    own = {fit.recipe.steps for fit in fits if fit.name in (less_name(0.25), "trial rebalance")}
    assert own == {120}


def test_the_other_seed_is_trained_as_the_trials_are():
    for steps, wanted in ((120, 120), (4000, 500)):
        _, fits = given_fits(steps)
        (again,) = (fit for fit in fits if fit.name == AGAIN)
        trial = next(fit for fit in fits if fit.name == "trial rebalance")
        assert again.recipe.steps == wanted
        assert again.seed != trial.seed
        assert (again.extractor, again.decoder) == (trial.extractor, trial.decoder)


def test_a_model_goes_on_for_half_of_its_steps_and_never_for_longer_than_it_was_trained():
    steps = {whole: resumed(Recipe(steps=whole)).steps for whole in (24, 60, 200, 4000)}
    assert steps == {24: 24, 60: 40, 200: 100, 4000: 500}


# ---- what another seed says ----------------------------------------------------------------------------------


def with_another_seed(scores: float) -> Run:
    """A model of .5 whose larger extractor scores .6, and which from another seed scores so much."""
    run = with_trials(made_run({"context": 0.5}, noise=0.0, groups=40))
    at = {score: made_run({"context": score}, noise=0.0, groups=40).outcomes["context"] for score in (0.6, scores)}
    return changed(run, **{"trial larger-extractor": at[0.6], AGAIN: at[scores]})


def larger_gain(run: Run) -> Interval:
    (trial,) = (each for each in run.plan.trials if each.remedy == "larger-extractor")
    return trial_gain(run, trial)


def test_a_trial_is_compared_with_the_mean_of_two_seeds_and_widened_by_how_far_they_lie_apart():
    alike, apart = larger_gain(with_another_seed(0.5)), larger_gain(with_another_seed(0.3))
    assert alike.mean == pytest.approx(0.1, abs=0.02)
    assert apart.mean == pytest.approx(0.2, abs=0.03)
    assert apart.high - apart.low > 3 * (alike.high - alike.low)


def test_longer_training_too_is_compared_with_the_mean_of_two_seeds():
    for score, wanted in ((0.5, 0.1), (0.3, 0.2)):
        run = with_another_seed(score)
        longer = next(each.name for each in run.plan.trials if each.remedy == LONGER)
        run = changed(run, **{longer: run.outcomes["trial larger-extractor"]})
        assert twice_gain(run).mean == pytest.approx(wanted, abs=0.03)


def test_seeds_that_lie_apart_are_a_concern_and_said_in_the_evidence():
    check = RepeatCheck()
    said = {score: check.judge(check.measure(with_another_seed(score))) for score in (0.5, 0.3)}
    assert [said[score].verdict for score in (0.5, 0.3)] == [Verdict.SOUND, Verdict.CONCERN]
    assert "0.3" in said[0.3].claim
    assert check.judge(check.measure(made_run())).verdict is Verdict.UNDETERMINED


def test_the_two_most_promising_trials_are_trained_from_another_seed_and_pooled_with_it():
    run = with_trials(made_run({"context": 0.5}, noise=0.0, groups=40))
    scored = {"rebalance": 0.4, "stronger-decoder": 0.55, "larger-extractor": 0.6, LONGER: 0.5}
    at = {score: made_run({"context": score}, noise=0.0, groups=40).outcomes["context"] for score in scored.values()}
    run = changed(run, **{f"trial {remedy}": at[score] for remedy, score in scored.items()})
    fit = make_fits(run.plan, run.pictures, run.folds[:1], Recipe(steps=4), 0)[0]
    fits = [replace(fit, name=f"trial {remedy}", seed=place) for place, remedy in enumerate(scored)]
    again = confirming(promising(run), fits)
    assert {each.name for each in again} == {"trial larger-extractor again", "trial stronger-decoder again"}
    assert not {each.seed for each in again} & {each.seed for each in fits}
    lucky = changed(run, **{"trial larger-extractor again": at[0.4]})
    assert larger_gain(run).mean == pytest.approx(0.1, abs=0.02)
    assert larger_gain(lucky).mean == pytest.approx(0.0, abs=0.02)


def with_a_threshold_that_few_images_choose(run: Run, name: str) -> Run:
    """The run with that training's answers read too high: the one inner image chooses .5 where .2 tells all apart."""
    parts = [
        replace(each, inner=table(np.array([0.5])), report=table(np.full(len(each.report), 0.5), cut=0.2))
        for each in run.outcomes[name]
    ]
    return changed(run, **{name: tuple(parts)})


def test_a_trial_is_not_judged_by_the_threshold_that_few_images_chose_for_it():
    run = with_another_seed(0.5)
    run = with_a_threshold_that_few_images_choose(run, "trial larger-extractor")
    assert run.reading("trial larger-extractor").mean < 0.1
    assert larger_gain(run).mean == pytest.approx(0.0, abs=0.03)


def test_a_threshold_that_suits_a_single_group_is_no_gain_for_others():
    run = with_a_threshold_that_few_images_choose(made_run({"context": 0.5}, groups=40), "context")
    alone = replace(run.pictures, groups=("one",) * len(run.pictures))
    regret = {
        of: OperatingPointCheck().measure(each).regret
        for of, each in (("many", run), ("one", replace(run, pictures=alone)))
    }
    assert regret["many"].low > 0.3
    assert regret["one"].mean == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("gain", "wanted"), [(0.07, False), (0.15, True)])
def test_a_threshold_that_is_off_by_little_does_not_end_the_measuring(gain, wanted, monkeypatch):
    run = with_trials(made_run({"context": 0.5}, noise=0.0, groups=40, seen=0.5))
    plain = {name: run.outcomes[name] for name in ("prior", "context")}
    measured = replace(OperatingPointCheck().measure(run), regret=Interval(gain, gain / 2, 2 * gain))
    monkeypatch.setattr(OperatingPointCheck, "measure", lambda *_: measured)
    assert settled(replace(run, outcomes=plain), Faults((), ())) is wanted


# ---- in which order ------------------------------------------------------------------------------------------


def with_trials(run: Run) -> Run:
    trials = make_trials("unet", "linear", math.inf, Recipe(), frozen=False)
    return replace(run, plan=replace(run.plan, trials=trials, given=True))


def staged(run: Run) -> list[list[str]]:
    recipe = Recipe(steps=4)
    folds = run.folds[:1] if run.plan.given else run.folds
    fits = make_fits(run.plan, run.pictures, folds, recipe, 0)
    again = [AGAIN, *(trial.name for trial in run.plan.trials)] if run.plan.trials else []
    wanted = [*fits, *(replace(fits[0], name=name) for name in again)]
    stages = [sorted(fit.name for fit in stage(run)) for stage in later_stages(run, wanted)]
    return [stage for stage in stages if stage]


def test_what_is_known_by_heart_asks_for_data_first_and_what_is_not_for_another_model():
    heart = staged(with_trials(made_run({"context": 0.5}, seen=0.9)))
    not_learnt = staged(with_trials(made_run({"context": 0.5}, seen=0.5)))
    assert heart[:2] == [[less_name(0.25), less_name(0.5)], [AGAIN, "trial larger-extractor"]]
    assert not_learnt[:2] == [[AGAIN, "trial larger-extractor"], ["trial rebalance", "trial stronger-decoder"]]


def test_the_candidate_comes_before_the_ladder_and_nothing_is_trained_twice():
    run = with_trials(made_run({"context": 0.5}, candidate="resnet18"))
    order = staged(run)
    assert order[-2] == [CANDIDATE, UNTRAINED]
    assert "colour" in order[-1]
    every = [name for stage in order for name in stage]
    assert len(every) == len(set(every))


def on_folds(run: Run, count: int) -> Run:
    """The run with its ladder climbed on so many folds, and its baseline trained on all."""
    outcomes = {name: fits if name in (PRIOR, CONTEXT) else fits[:count] for name, fits in run.outcomes.items()}
    return replace(run, outcomes=outcomes, _sums={})


def of_task(run: Run, count: int, *, thorough: bool = False) -> list[list[str]]:
    """What each stage would train of a task that was measured on so many folds, larger pieces among it."""
    run = replace(on_folds(run, count), plan=with_larger_pieces(run.plan, Recipe(steps=4)))
    if not count:
        run = replace(run, outcomes={name: run.outcomes[name] for name in (PRIOR, CONTEXT)}, _sums={})
    fits = [*make_fits(run.plan, run.pictures, run.folds, Recipe(steps=4), 0), *trial_fits(run.plan, run.folds, 0)]
    return [
        sorted(f"{fit.name} {fit.fold}" for fit in stage(run)) for stage in later_stages(run, fits, thorough=thorough)
    ]


def test_a_task_is_measured_on_one_fold_after_the_other():
    run = made_run({"context": 0.5}, folds=3)
    for count in (0, 1):
        first, *_ = of_task(run, count)
        assert {f"{name} {count}" for name in (less_name(0.25), less_name(0.5), HALF_STEPS, "colour")} <= set(first)
        assert {each.rpartition(" ")[2] for each in first if not each.startswith("trial")} == {str(count)}
        assert not any(each.startswith(CONTEXT) for each in first)  # the baseline, trained on all folds before
    assert not any(of_task(run, 3))


def test_larger_pieces_are_trained_only_where_the_baseline_does_not_fit_what_it_has_seen():
    sizes = {"trial larger-extractor 0", "trial stronger-decoder 0"}
    assert not sizes & set(of_task(made_run({"context": 0.5}, seen=0.9), 0)[0])
    assert sizes < set(of_task(made_run({"context": 0.5}, seen=0.52), 0)[0])
    assert sizes < set(of_task(made_run({"context": 0.5}, seen=0.9), 0, thorough=True)[0])


CLEAR = {"prior": 0.1, "colour": 0.2, "texture": 0.2, "contour": 0.2, "context": 0.2, "semantics": 0.8}
"""A task that a candidate alone solves."""


@pytest.mark.parametrize(
    ("scores", "groups", "wanted"),
    [(CLEAR, 60, True), (CLEAR | {"semantics": 0.24}, 60, False), (CLEAR, 12, False)],
    ids=["clear", "hardly any gain", "four groups a fold"],
)
def test_a_task_is_measured_on_no_further_fold_where_family_and_remedy_are_clear(scores, groups, wanted):
    run = made_run(scores, folds=3, groups=groups, candidate="resnet18", seen=0.3)
    assert (not unclear(on_folds(run, 1))) is wanted


def test_where_few_groups_report_all_is_trained_on_the_next_fold_but_larger_pieces():
    first, *_ = of_task(made_run({"context": 0.5}, groups=9, seen=0.5), 1)
    assert {"colour 1", "half-steps 1", f"{less_name(0.5)} 1"} <= set(first)
    assert not any(each.startswith("trial") for each in first)


def test_a_ladder_climbed_on_one_fold_is_read_on_that_fold_and_the_baseline_on_all():
    run = made_run({"context": 0.5}, folds=3, groups=24)
    one = on_folds(run, 1)
    whole, part = LadderCheck().measure(run), LadderCheck().measure(one)
    assert whole is not None
    assert part is not None
    climbed = one.shared(rung.name for rung in run.plan.rungs)
    assert climbed.folds == run.folds[:1]
    assert part.attainable.high - part.attainable.low > whole.attainable.high - whole.attainable.low
    assert one.reading(run.plan.baseline) == run.reading(run.plan.baseline)
    alone = replace(run, folds=run.folds[:1], outcomes={k: v[:1] for k, v in run.outcomes.items()}, _sums={})
    assert part == LadderCheck().measure(alone)
    assert run.shared(run.outcomes) is run


def test_of_a_task_whose_family_is_clear_only_the_remedies_that_contend_are_trained_again():
    scores = CLEAR | {"semantics": 0.24, "half-steps": 0.1, "data-0.5": 0.2, "data-0.25": 0.2}
    run = on_folds(made_run(scores, folds=3, groups=60, candidate="resnet18", seen=0.3), 1)
    assert unclear(run) == {HALF_STEPS} | {rung.name for rung in run.plan.rungs}


def test_larger_pieces_are_tried_beside_the_ladder_of_a_task():
    plan = with_larger_pieces(make_plan(Objects.discs(12.0), (96, 96), baseline="unet"), Recipe())
    assert [trial.remedy for trial in plan.trials] == ["stronger-decoder", "larger-extractor"]
    assert not plan.given
    pictures = made_pictures(20)
    folds = split(pictures, folds=3, seed=0)
    fits = trial_fits(plan, folds, 3)
    bare = [fit for fit in make_fits(plan, pictures, folds, Recipe(), 3) if fit.name == plan.baseline]
    assert [fit.seed for fit in fits[:3]] == [fit.seed for fit in bare]
    assert {(fit.extractor, fit.decoder) for fit in fits} == {("unet", "conv"), ("unet-24", "linear")}


def test_the_short_ladder_keeps_what_the_families_rest_on():
    plan = make_plan(Objects.discs(12.0), (96, 96), baseline="unet")
    left = {rung.name for rung in plan.rungs} - {rung.name for rung in shortened(plan).rungs}
    assert left == {"reach D/4", "reach D/2", "reach D", "reach 4D"}
    assert {rung.family for rung in shortened(plan).rungs} == {rung.family for rung in plan.rungs}


@pytest.mark.parametrize("rehearsal", [None, Recipe(steps=230)], ids=["whole", "rehearsed"])
def test_a_trial_that_surely_gains_from_two_seeds_ends_the_measuring_unless_it_was_a_rehearsal(rehearsal):
    run = with_trials(made_run({"context": 0.5}, noise=0.0, seen=0.5, groups=40))
    better = made_run({"context": 0.8}, noise=0.0, groups=40).outcomes["context"]
    outcomes = {"trial larger-extractor": better, REHEARSAL: run.outcomes[run.plan.baseline]}
    once = changed(replace(run, plan=replace(run.plan, rehearsal=rehearsal)), **outcomes)
    once = replace(once, outcomes={k: v for k, v in once.outcomes.items() if not k.startswith("data-")}, _sums={})
    assert [trial.remedy for trial in doubtful(once)] == (["larger-extractor"] if rehearsal is None else [])
    assert not settled(once, Faults((), ()))
    twice = changed(once, **{"trial larger-extractor again": better})
    assert not doubtful(twice)
    assert settled(twice, Faults((), ())) == (rehearsal is None)
    lucky = changed(once, **{"trial larger-extractor again": run.outcomes[run.plan.baseline]})
    assert not doubtful(lucky)
    sure, apart = larger_gain(twice), larger_gain(lucky)
    assert apart.high - apart.low > 3 * (sure.high - sure.low)


def few(effective: float) -> Faults:
    value = Interval(effective, effective, effective)
    return Faults((Finding("diversity", Verdict.CONCERN, "Said.", measured={"effective": value}),), ())


@pytest.mark.parametrize(
    ("effective", "seen", "wanted"), [(6, 0.9, True), (60, 0.9, False), (6, 0.6, False)],
    ids=["few known by heart", "many", "few not known by heart"],
)  # fmt: skip
def test_a_model_that_knows_few_images_by_heart_is_told_so_without_a_training(effective, seen, wanted):
    run = with_trials(made_run({"context": 0.5}, seen=seen))
    assert settled(run, few(effective)) == wanted


def test_where_the_task_is_in_question_the_ladder_is_climbed_however_few_the_images():
    run = made_run({"context": 0.5}, seen=0.9)
    outcomes = {name: run.outcomes[name] for name in (PRIOR, CONTEXT)}
    assert not settled(replace(run, outcomes=outcomes, _sums={}), few(6))


@pytest.mark.parametrize(
    ("score", "given", "wanted"), [(0.997, True, True), (0.98, True, False), (0.997, False, False)]
)
def test_where_nothing_is_left_to_gain_a_given_model_is_not_measured_further(score, given, wanted):
    run = made_run({"context": score}, noise=0.0, groups=40)
    run = replace(run, plan=replace(run.plan, given=given), outcomes={"context": run.outcomes["context"]}, _sums={})
    assert settled(run, Faults((), ())) is wanted


def test_where_few_groups_report_nothing_is_sure():
    run = with_trials(made_run({"context": 0.5}, seen=0.9, groups=40))
    assert settled(run, few(6))
    lonely = replace(run.pictures, groups=("one",) * len(run.pictures))
    assert not settled(replace(run, pictures=lonely, _sums={}), few(6))


def test_a_single_group_that_reports_has_an_interval_over_its_images():
    run = made_run({"context": 0.5}, groups=40)
    lonely = replace(run, pictures=replace(run.pictures, groups=("one",) * len(run.pictures)), _sums={})
    reading = lonely.reading("context")
    assert lonely.units == 1
    assert reading.low < reading.mean < reading.high
