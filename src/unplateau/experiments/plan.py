"""What a diagnosis trains: the rungs of the ladder, its controls, the candidate, and the learning curve."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from unplateau.data.splits import nested
from unplateau.data.transforms import NONE, Augmentation
from unplateau.experiments.fits import Fit
from unplateau.experiments.trials import (
    AGAIN,
    FINER,
    LONGER,
    OF_SIZE,
    REHEARSAL,
    Trial,
    make_trials,
    rehearsed,
    share_of_steps,
)
from unplateau.experiments.views import WINDOWS, Objects
from unplateau.extractors.bounded import plan_at_least, plan_for, rung
from unplateau.training.recipe import Recipe
from unplateau.training.saved import Made
from unplateau.types import Fold, Pictures, Size

CONTEXT = "context"
"""The rung that sees the whole image, trained from scratch."""

CANDIDATE = "semantics"
"""The rung of the extractor that was trained elsewhere, frozen."""

UNTRAINED = "semantics untrained"
"""The control of the candidate: the same network with random weights, frozen under the same decoder."""

CONTOUR = "contour"
"""The control that sees the outlines alone."""

REACHES = {"D/4": 0.25, "D/2": 0.5, "D": 1.0}
"""Rungs of ordered structure, by reach relative to the diameter of an object."""

WHOLE, FAR = "object", "4D"
"""The rung from each of whose pixels the whole of an object is in view, and one that sees beyond."""

OTHER_SEED = 500
"""Added to the seed of a training to train it from another; folds count up from the seed itself."""

OBJECT = 2.0
"""Times as far as the farthest part of an object lies from a pixel of it: so wide is a view, centred on any of its
pixels, that holds the whole. Up to there a rung counts as geometry.
"""

FRACTIONS = (0.25, 0.5)
"""Shares of the training groups that the learning curve is measured at, beside all of them."""

HALF_STEPS = "half-steps"
"""The baseline trained for half as long: with the full run it tells what twice as long would add."""


@dataclass(frozen=True)
class RungPlan:
    """One thing to train on every fold. `reach` in pixels; `kind` is "rung", "control", "baseline" or "candidate"."""

    name: str
    family: str
    kind: str
    reach: float
    extractor: str
    decoder: str = "linear"
    view: str = "image"
    frozen: bool = False
    pretrained: bool = False
    crop: Size | None = None
    cost: float = 1.0


@dataclass(frozen=True)
class Plan:
    """Every rung, which of them is the baseline, and what the baseline is trained again with: shares of the data, and
    the changes of `trials`. `rehearsal` is the recipe of the latter, where it is shorter than the baseline's own.
    `given`: the baseline came trained.
    """

    rungs: tuple[RungPlan, ...]
    baseline: str
    fractions: tuple[float, ...]
    trials: tuple[Trial, ...] = ()
    rehearsal: Recipe | None = None
    given: bool = False

    @property
    def control(self) -> str:
        """What a trial is compared with: the baseline, or the baseline trained for as short a time."""
        return REHEARSAL if self.rehearsal else self.baseline

    @property
    def controls(self) -> tuple[str, ...]:
        """The trainings beside a given model that change nothing but its length or its seed."""
        return (REHEARSAL, AGAIN) if self.rehearsal else (AGAIN,)

    @property
    def ladder(self) -> tuple[str, ...]:
        """The names of all rungs."""
        return tuple(rung.name for rung in self.rungs)

    def rung(self, name: str) -> RungPlan:
        """The rung of that name."""
        return next(rung for rung in self.rungs if rung.name == name)


def make_plan(
    objects: Objects, size: Size, *, baseline: str, candidate: str | None = None, untrained: str | None = None
) -> Plan:
    """The plan for such objects on a grid of `size`.

    `baseline` names the extractor whose ceiling is in question; "unet" is the context rung itself. `candidate` is
    a name or a file of an extractor trained elsewhere, `untrained` the name of the same network without its weights.
    """
    whole = _whole(objects, size)
    rungs = [_colour(), _texture(objects, size), *_ordered(objects, whole, size), _contour(whole, size), _context()]
    if candidate:
        rungs.append(_candidate(candidate))
    if untrained:
        rungs.append(replace(_candidate(untrained), name=UNTRAINED, kind="control", pretrained=False))
    if baseline == "unet":
        return Plan(tuple(rungs), CONTEXT, FRACTIONS)
    decoder = "linear" if baseline.startswith(("reach-", "orderless-", "colour")) else "unet"
    rungs.append(RungPlan("baseline", "baseline", "baseline", _reach(baseline), baseline, decoder, cost=2.0))
    return Plan(tuple(rungs), "baseline", FRACTIONS)


def with_given(bare: Plan, made: Made, decoder: str) -> Plan:
    """The ladder of a plan, with a model that is already trained as the one in question."""
    reach = _reach(made.extractor)
    rung = RungPlan("baseline", "baseline", "baseline", reach, made.extractor, decoder, frozen=made.frozen, cost=2.0)
    short = rehearsed(made.recipe)
    whole = short == made.recipe
    trials = make_trials(made.extractor, decoder, reach, short, frozen=made.frozen, whole=whole)
    return Plan((*bare.rungs, rung), "baseline", FRACTIONS, trials, None if whole else short, given=True)


def with_larger_pieces(bare: Plan, recipe: Recipe) -> Plan:
    """The plan of a task, whose ladder asks what may be seen, with larger pieces for its baseline beside it."""
    rung = bare.rung(bare.baseline)
    trials = make_trials(rung.extractor, rung.decoder, rung.reach, recipe, frozen=rung.frozen, whole=False)
    return replace(bare, trials=tuple(trial for trial in trials if trial.remedy in OF_SIZE))


def shortened(plan: Plan) -> Plan:
    """The plan with those rungs alone that the shares of the families rest on: of the reaches that count as geometry
    the widest. Those between cost as much again and hardly move a share.
    """
    ordered = [rung for rung in plan.rungs if rung.kind == "rung" and rung.extractor.startswith("reach-")]
    widest = [rung for rung in ordered if rung.family == "geometric"][-1:]
    return replace(plan, rungs=tuple(rung for rung in plan.rungs if rung not in ordered or rung in widest))


def own_names(plan: Plan) -> tuple[str, ...]:
    """What the model in question is trained again as: on less, for half as long, as its controls, with each trial."""
    tried = (name for trial in plan.trials for name in (trial.name, trial.again))
    return (*map(less_name, plan.fractions), HALF_STEPS, *plan.controls, *tried)


def make_given_fits(
    plan: Plan, pictures: Pictures, folds: tuple[Fold, ...], recipe: Recipe, made: Made, seed: int
) -> list[Fit]:
    """The ladder by `recipe`; the model in question on less, and with each trial, by its own recipe and seed.

    So is the candidate and its control: it is to be taken in the place of that model's extractor.
    """
    wanted = {rung.name for rung in plan.rungs if rung.kind != "baseline" and rung.name not in (CANDIDATE, UNTRAINED)}
    ladder = [fit for fit in make_fits(plan, pictures, folds, recipe, seed) if fit.name in wanted]
    own = [fit for fit in make_fits(plan, pictures, folds, made.recipe, made.seed) if fit.name not in wanted]
    needless = {plan.baseline, *((HALF_STEPS,) if any(each.remedy == LONGER for each in plan.trials) else ())}
    less = [fit for fit in own if fit.name not in needless]
    rung = plan.rung(plan.baseline)
    seeds = {REHEARSAL: 0, AGAIN: OTHER_SEED}
    controls = [
        _fit(rung, name, number, fold, plan.rehearsal or made.recipe, made.seed * 1000 + number + seeds[name])
        for number, fold in enumerate(folds)
        for name in plan.controls
    ]
    return [*ladder, *less, *controls, *trial_fits(plan, folds, made.seed)]


def trial_fits(plan: Plan, folds: tuple[Fold, ...], seed: int) -> list[Fit]:
    """Every trial of the plan on each fold, from the seed that the baseline has there."""
    rung = plan.rung(plan.baseline)
    return [
        replace(
            _fit(rung, trial.name, number, fold, trial.recipe, seed * 1000 + number),
            extractor=trial.extractor,
            decoder=trial.decoder,
            pretrained=False,
            view=trial.view,
            maps=fold.report if trial.remedy == FINER else (),
            cost=trial.cost * rung.cost,
        )
        for trial in plan.trials
        for number, fold in enumerate(folds)
    ]


def make_fits(plan: Plan, pictures: Pictures, folds: tuple[Fold, ...], recipe: Recipe, seed: int) -> list[Fit]:
    """Every training of the plan: each rung on each fold with its own seed, then the baseline on less."""
    fits = []
    for number, fold in enumerate(folds):
        own_seed = seed * 1000 + number
        fits += [
            replace(
                _fit(rung, rung.name, number, fold, recipe, own_seed),
                maps=mapped(folds, number, len(pictures)) if rung.name in (plan.baseline, CONTEXT) else (),
                cores=True,
            )
            for rung in plan.rungs
        ]
        baseline = plan.rung(plan.baseline)
        subsets = nested(pictures, fold, plan.fractions, own_seed)
        for fraction, subset in zip(plan.fractions, subsets, strict=True):
            less = replace(fold, fit=subset)
            fewer = replace(recipe, steps=share_of_steps(recipe.steps, fraction))
            fits.append(_fit(baseline, less_name(fraction), number, less, fewer, own_seed))
        shorter = replace(recipe, steps=max(1, recipe.steps // 2))
        fits.append(_fit(baseline, HALF_STEPS, number, fold, shorter, own_seed))
    return fits


def mapped(folds: tuple[Fold, ...], number: int, count: int) -> tuple[int, ...]:
    """The pictures whose answers a fold keeps: its report part and, in the first fold, what no fold reports."""
    reported = {index for fold in folds for index in fold.report}
    others = sorted(set(range(count)) - reported) if number == 0 else []
    return (*folds[number].report, *others)


def less_name(fraction: float) -> str:
    """What the baseline on a share of the groups is called."""
    return f"data-{fraction:g}"


def _fit(rung: RungPlan, name: str, number: int, fold: Fold, recipe: Recipe, seed: int) -> Fit:
    shaped = replace(
        recipe,
        crop=rung.crop,
        half_size=0.0 if rung.crop else recipe.half_size,
        augmentation=_still(recipe.augmentation) if rung.view == "contour" else recipe.augmentation,
        evaluations=recipe.evaluations if rung.kind == "baseline" or rung.name == CONTEXT else 3,
    )
    return Fit(
        name,
        rung.extractor,
        rung.decoder,
        rung.frozen,
        rung.pretrained,
        rung.view,
        number,
        fold,
        shaped,
        seed,
        rung.cost,
    )


def _still(augmentation: Augmentation) -> Augmentation:
    """The same movements without changes of colour, which a contour map does not have."""
    return replace(augmentation, contrast=NONE.contrast, brightness=NONE.brightness, colour=NONE.colour)


def _colour() -> RungPlan:
    return RungPlan("colour", "textural", "rung", 1, "colour", crop=(48, 48), cost=0.2)


def _texture(objects: Objects, size: Size) -> RungPlan:
    """Windows as wide as an object is thick, so that they fit inside one, between `WINDOWS` pixels."""
    least, most = WINDOWS
    wide = _odd(min(most, max(least, objects.thickness), min(size) / 3))
    narrow = _odd(max(5.0, wide / 2))
    windows = (narrow, wide) if narrow < wide else (wide,)
    name = "orderless-" + "-".join(map(str, windows))
    return RungPlan("texture", "textural", "rung", _reach(name), name, crop=_crop(2 * wide, size), cost=0.5)


def _whole(objects: Objects, size: Size) -> int:
    """The reach that holds the whole of an object; of one diameter where that is more than the image is long, and of
    a long object what there is of it around a pixel."""
    for way in (objects.whole, objects.diameter):
        reach = plan_at_least(max(3.0, OBJECT * way)).reach
        if reach < max(size):
            return reach
    return plan_for(max(3.0, min(objects.diameter, max(size)))).reach


def _ordered(objects: Objects, whole: int, size: Size) -> list[RungPlan]:
    """Ordered structure at each of `REACHES`, with the whole of an object and beyond it, each farther than the last and
    below the image's side.
    """
    reaches = {label: plan_for(max(3.0, share * objects.diameter)).reach for label, share in REACHES.items()}
    reaches |= {WHOLE: whole, FAR: plan_for(max(3.0, 2 * OBJECT * objects.diameter)).reach}
    rungs: list[RungPlan] = []
    for label, reach in reaches.items():
        if reach >= max(size) or any(rung.reach >= reach for rung in rungs):
            continue
        family = "geometric" if reach <= whole else "semantic"
        crop = _crop(2 * reach, size)
        cost = 0.35 if crop else 0.8
        rungs.append(RungPlan(f"reach {label}", family, "rung", reach, f"reach-{reach}", crop=crop, cost=cost))
    return rungs


def _contour(whole: int, size: Size) -> RungPlan:
    return RungPlan(
        CONTOUR, "geometric", "control", whole, f"reach-{whole}", view="contour", crop=_crop(2 * whole, size), cost=0.8
    )


def _context() -> RungPlan:
    return RungPlan(CONTEXT, "semantic", "rung", math.inf, "unet", cost=1.0)


def _candidate(candidate: str) -> RungPlan:
    return RungPlan(
        CANDIDATE, "semantic", "candidate", math.inf, candidate, "conv", frozen=True, pretrained=True, cost=0.6
    )


def _crop(side: float, size: Size) -> Size | None:
    """A window of that side in multiples of 16, at least 48; None where it would hold most of the image anyway."""
    rounded = max(48, math.ceil(side / 16) * 16)
    height, width = min(rounded, size[0]), min(rounded, size[1])
    return (height, width) if height * width <= 0.6 * size[0] * size[1] else None


def _reach(extractor: str) -> float:
    """How far an extractor sees, exactly; for one that promises nothing, the whole image."""
    known = rung(extractor)
    return known.reach if known else math.inf


def _odd(length: float) -> int:
    return int(length) // 2 * 2 + 1
