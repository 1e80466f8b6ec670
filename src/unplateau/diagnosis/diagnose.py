"""The main flow: data in, everything trained, every question asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from unplateau.checks.alignment import AlignmentCheck
from unplateau.checks.anatomy import AnatomyCheck
from unplateau.checks.capacity import CapacityCheck, CapacityMeasured
from unplateau.checks.check import unmeasured
from unplateau.checks.class_index import ClassIndexCheck
from unplateau.checks.contours import ContoursCheck
from unplateau.checks.curve import CurveCheck, CurveMeasured
from unplateau.checks.data_scale import DataMeasured, DataScaleCheck
from unplateau.checks.diversity import DiversityCheck
from unplateau.checks.domain import DomainCheck
from unplateau.checks.label_ceiling import LabelCeilingCheck
from unplateau.checks.labels import LabelsCheck
from unplateau.checks.ladder import PRIOR, LadderCheck, LadderMeasured
from unplateau.checks.leaks import LeaksCheck
from unplateau.checks.metric import MetricCheck
from unplateau.checks.normalisation import NormalisationCheck
from unplateau.checks.operating_point import OperatingMeasured, OperatingPointCheck
from unplateau.checks.overfit import STEPS, OverfitCheck, again, fits_by_heart, learnt, one_batch
from unplateau.checks.repeat import RepeatCheck
from unplateau.checks.resolution import ResolutionCheck, ResolutionMeasured, grid_costs
from unplateau.checks.shuffled import SHUFFLED, ShuffledCheck, shuffled_fit
from unplateau.data.pictures import read_again
from unplateau.data.sources import AbstractSource
from unplateau.data.splits import refuse_no_inner, split
from unplateau.data.transforms import Augmentation
from unplateau.diagnosis.faults import Faults, find_faults
from unplateau.diagnosis.repairs import try_repairs
from unplateau.diagnosis.settling import doubtful, settled
from unplateau.diagnosis.stages import confirming, first_stage, how_many, later_stages
from unplateau.diagnosis.task import told_by
from unplateau.experiments.fits import Fit, Views, by_name, run_fits
from unplateau.experiments.given import Given, answered, at_native_size, its_fold
from unplateau.experiments.plan import (
    make_fits,
    make_given_fits,
    make_plan,
    own_names,
    shortened,
    trial_fits,
    with_given,
    with_larger_pieces,
)
from unplateau.experiments.prior import position_scores
from unplateau.experiments.run import Run
from unplateau.experiments.trials import FINER, on_twice_the_grid
from unplateau.experiments.views import contours, measure_objects
from unplateau.extractors.catalogue import build_extractor
from unplateau.progress import Told
from unplateau.training.recipe import Recipe
from unplateau.types import Finding, Fold, Pictures

RECIPE = Recipe(
    steps=230,
    half_size=0.3,
    evaluations=8,
    learning_rate=3e-3,
    warmup=0.2,
    augmentation=Augmentation(scale=(0.8, 1.1), contrast=0.15, brightness=0.03, colour=0.015),
)
"""How each model of a diagnosis is trained: short, so milder augmentation and a higher rate than `train` has. Chosen on
inner images only (docs/log.md). `train-longer` says what the shortness costs."""

LARGE = 32.0
"""Diameter in pixels from which objects stay easy to see at half size; cars of 27 lost .05 by it (docs/log.md)."""

MOSTLY_HALF = 0.6
"""Share of the steps at half size where objects are large: people learn as well so, in three quarters of the time."""

CHECKS = {
    "ladder": LadderCheck,
    "data scale": DataScaleCheck,
    "curve": CurveCheck,
    "operating point": OperatingPointCheck,
    "resolution": ResolutionCheck,
    "capacity": CapacityCheck,
    "repeat": RepeatCheck,
    "anatomy": AnatomyCheck,
    "label ceiling": LabelCeilingCheck,
    "alignment": AlignmentCheck,
    "contours": ContoursCheck,
    "class index": ClassIndexCheck,
    "labels": LabelsCheck,
    "leaks": LeaksCheck,
    "metric": MetricCheck,
    "domain": DomainCheck,
    "diversity": DiversityCheck,
    "one-batch overfit": OverfitCheck,
    "shuffled labels": ShuffledCheck,
    "normalisation": NormalisationCheck,
}


@dataclass(frozen=True)
class Measurements:
    """What each check measured that others read, what is a fault, and what all concluded, in the order of `CHECKS`.

    None where the trainings that a check reads are absent.
    """

    ladder: LadderMeasured | None
    data: DataMeasured | None
    curve: CurveMeasured
    operating: OperatingMeasured
    resolution: ResolutionMeasured
    capacity: CapacityMeasured | None
    faults: Faults
    findings: tuple[Finding, ...]

    def finding(self, check: str) -> Finding:
        """What a check concluded; where it was not asked, that it was not."""
        return next((each for each in self.findings if each.check == check), unmeasured(check))


@dataclass(frozen=True)
class Order:
    """How a diagnosis trains: pretrained candidate, recipe of the ladder, seed, and where outcomes are kept.

    What `cache` already holds is not trained again. `thorough` goes on when the verdict is settled.
    """

    candidate: str | None
    recipe: Recipe
    seed: int
    cache: Path
    told: Told
    thorough: bool = False

    @property
    def untrained(self) -> str | None:
        """The name of the candidate's network, without its weights."""
        return build_extractor(self.candidate, pretrained=True).architecture if self.candidate else None


def train_all(
    source: AbstractSource, pictures: Pictures, order: Order, *, baseline: str, folds: int
) -> tuple[Run, Faults]:
    """Everything a diagnosis trains, as a `Run`, and the faults of the data, the repair of each tried."""
    parts = split(pictures, folds=folds, seed=order.seed)
    refuse_no_inner(parts)
    objects = measure_objects(pictures)
    bare = make_plan(objects, pictures.size, baseline=baseline, candidate=order.candidate, untrained=order.untrained)
    recipe = fitting(order.recipe, objects.diameter)
    plan = with_larger_pieces(bare, recipe)
    fits = [*make_fits(plan, pictures, parts, recipe, order.seed), *trial_fits(plan, parts, order.seed)]
    run = Run(source, pictures, parts, objects, plan, {}, order.seed, recipe=recipe)
    return _in_stages(run, fits, [fit for fit in fits if fit.name == plan.baseline], order)


def train_given(source: AbstractSource, pictures: Pictures, order: Order, given: Given) -> tuple[Run, Faults]:
    """As `train_all`, for a model that is already trained: on the images that it was trained and scored on."""
    parts = its_fold(given, pictures)
    objects, decoder = measure_objects(pictures), given.saved.decoder
    bare = make_plan(objects, pictures.size, baseline="unet", candidate=order.candidate, untrained=order.untrained)
    plan = with_given(bare if order.thorough else shortened(bare), given.made, decoder)
    outcomes = {plan.baseline: tuple(answered(given, pictures, fold) for fold in parts)}
    reported = given.saved.reported
    run = Run(source, pictures, parts, objects, plan, outcomes, order.seed, reported, recipe=given.recipe)
    if grid_costs(run):
        finer = on_twice_the_grid(given.made.extractor, decoder, plan.rehearsal or given.recipe)
        run = replace(run, plan=replace(plan, trials=(*plan.trials, finer)), _sums={})
    fits = make_given_fits(run.plan, pictures, parts, fitting(order.recipe, objects.diameter), given.made, order.seed)
    again = make_fits(plan, pictures, parts, given.recipe, given.made.seed)
    return _in_stages(run, fits, [fit for fit in again if fit.name == plan.baseline], order, start=given.folder)


def fitting(recipe: Recipe, diameter: float) -> Recipe:
    """The recipe for objects of that diameter: those that stay visible at half size are mostly learnt there."""
    return replace(recipe, half_size=max(recipe.half_size, MOSTLY_HALF)) if diameter >= LARGE else recipe


def _in_stages(
    run: Run, fits: list[Fit], own: list[Fit], order: Order, start: Path | None = None
) -> tuple[Run, Faults]:
    """Train what settles most first, and stop when it is settled. `own` are the trainings of the model in question, and
    `start` the folder of its weights where it was given.
    """
    first, total = first_stage(run.plan, fits), how_many(run.plan, fits)
    prior = tuple(position_scores(run.pictures, fold) for fold in run.folds)
    run = _trained(replace(run, outcomes={PRIOR: prior, **run.outcomes}), first, _told_on(order, 0, total))
    done = len(first)
    run = _controlled(run, own[0], _aside(order, done, total, "a control"))
    faults = find_faults(run, own[0])
    run = try_repairs(run, faults.faults, own, order.cache, _aside(order, done, total, "a repair").told, start)
    for stage in later_stages(run, fits, thorough=order.thorough):
        if not order.thorough:
            run = _trained(run, confirming(doubtful(run), fits), _aside(order, done, total, "another seed"))
        if not order.thorough and settled(run, faults):
            break
        chosen = stage(run)
        run = _trained(run, chosen, _told_on(order, done, total))
        done += len(chosen)
    return run, faults


def _controlled(run: Run, own: Fit, order: Order) -> Run:
    """The run with its controls. One batch is trained where the model in question has learnt nothing, and what tells
    which part of its training is broken where that batch is not fitted; both, and exchanged masks, where all is wanted.
    A training shorter than that of one batch has not failed, it has hardly begun.
    """
    if own.recipe.steps < STEPS:
        return run
    batch = one_batch(own, run.pictures) if order.thorough or not learnt(run) else None
    if batch is not None:
        run = _trained(run, [batch], order)
        run = run if fits_by_heart(run) else _trained(run, again(batch), order)
    made = shuffled_fit(own, run.pictures, run.seed) if order.thorough else None
    if made is None:
        return run
    outcome = run_fits([made[0]], {SHUFFLED: made[1]}, order.cache, order.told)
    return replace(run, outcomes={**run.outcomes, SHUFFLED: tuple(outcome)}, _sums={})


def _aside(order: Order, done: int, total: int, name: str) -> Order:
    """The order, telling of trainings that are no part of all under one name."""
    return replace(order, told=lambda *_: order.told(done, total, name))


def _told_on(order: Order, before: int, total: int) -> Order:
    """The order, telling of the trainings of one stage as a part of all."""
    return replace(order, told=lambda done, _, name: order.told(before + done, total, name))


def _trained(run: Run, fits: list[Fit], order: Order) -> Run:
    """The run with the outcomes of some fits, after those of earlier folds."""
    if not fits:
        return run
    outcomes = by_name(fits, run_fits(fits, _views(fits, run), order.cache, order.told))
    for name in set(own_names(run.plan)) & set(outcomes):
        outcomes[name] = tuple(replace(each, fixed=run.imposed) for each in outcomes[name])
    finer = [trial.name for trial in run.plan.trials if trial.remedy == FINER and trial.name in outcomes]
    outcomes |= {name: at_native_size(outcomes[name], run.pictures, run.folds) for name in finer}
    joined = {name: (*run.outcomes.get(name, ()), *each) for name, each in outcomes.items()}
    return replace(run, outcomes={**run.outcomes, **joined}, _sums={})


def measure_all(run: Run, faults: Faults) -> Measurements:
    """Ask every question of a run; those about its data were asked before. What was not trained is not asked."""
    ladder, data, curve = LadderCheck(), DataScaleCheck(), CurveCheck()
    operating, resolution, capacity = OperatingPointCheck(), ResolutionCheck(), CapacityCheck()
    repeat, anatomy, ceiling = RepeatCheck(), AnatomyCheck(), LabelCeilingCheck()
    measured = (
        ladder.measure(run),
        data.measure(run),
        curve.measure(run),
        operating.measure(run),
        resolution.measure(run),
        capacity.measure(run),
    )
    findings = (
        ladder.judge(measured[0]),
        data.judge(measured[1]),
        curve.judge(measured[2]),
        operating.judge(measured[3]),
        resolution.judge(measured[4]),
        capacity.judge(measured[5]),
        repeat.judge(repeat.measure(run)),
        anatomy.judge(anatomy.measure(run)),
        ceiling.judge(ceiling.measure(run)),
        *faults.findings,
    )
    return Measurements(*measured, faults, findings)


def folds_said(run: Run) -> str:
    """How the images were divided, and how many of the folds were wanted, as sentences."""
    said = _divided(run.folds, run.pictures)
    trained = [names for names in told_by(run.plan).values() if set(names) <= set(run.outcomes)]
    done = sorted({len(run.shared(names).folds) for names in trained})
    if not done or done[0] == len(run.folds):
        return said
    some = f"{done[0]} of them" if len(done) == 1 else f"{done[0]} to {done[-1]} of them"
    return f"{said} The baseline was trained on all folds, what stands beside it on {some}, until it was clear."


def _divided(folds: tuple[Fold, ...], pictures: Pictures) -> str:
    groups = len(set(pictures.groups))
    if not any(fold.inner for fold in folds):
        said = f"Nothing was trained: {len(folds[0].report)} images report, and each group is read at the given "
        return said + f"threshold and at the one that the other groups choose; {groups} groups."
    if any(pictures.splits):
        return f"The data's own splits, with {len(folds)} seeds; {groups} groups."
    return (
        f"{groups} groups kept whole in {len(folds)} folds: each image is scored once, by a model that neither trained "
        "on its group nor chose anything by it."
    )


def _views(fits: list[Fit], run: Run) -> Views:
    views, wanted = {"image": run.pictures}, {fit.view for fit in fits}
    if "contour" in wanted:
        views["contour"] = contours(run.pictures, run.objects.thickness)
    if "finer" in wanted:
        views["finer"] = read_again(run.source, run.pictures, size=2 * max(run.pictures.size))
    return views
