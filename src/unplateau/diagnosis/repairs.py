"""Putting faults right: what is trained for it, and what that adds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from unplateau.experiments.fits import Fit, Fitted, run_fits
from unplateau.experiments.run import Run
from unplateau.experiments.trials import resumed
from unplateau.measures.scoring import score_images
from unplateau.measures.thresholds import ScoreTable, counts_at, join, mean_iou, scores_of
from unplateau.progress import Told
from unplateau.types import Fold, Interval, Pictures, Remedy

SHORT_OF_IT = 0.1
"""Share of a gain that going on from old weights for half of the steps may miss: .374 was told as .347."""


FEWEST = 8
"""Groups that each half of those that report must hold for one half to teach the other."""


@dataclass(frozen=True)
class Fault:
    """Something that surely is wrong. `repaired` is what to train on to see what it costs, `instead` how to train where
    that is what is wrong, and `there` says that images like those that report must train; where no training can tell,
    `gain` says by how much the number is off. `partly` where the repair leaves out what is doubtful: then the old
    number is what was counted with it. `resumes` where most of what the model has learnt still holds on repaired masks,
    so that it may go on from there. The repair puts right a `share` of what is wrong: between what a training on it
    adds and that many times as much lies the whole.
    """

    remedy: str
    cost: str
    claim: str
    repaired: Pictures | None = None
    gain: Interval | None = None
    partly: bool = False
    instead: Fit | None = None
    there: bool = False
    resumes: bool = False
    share: float = 1.0

    @property
    def trained(self) -> bool:
        """Whether a training tells what putting it right adds."""
        return self.repaired is not None or self.instead is not None or self.there


def tried(fault: Fault) -> str:
    """What the trainings on repaired data are called."""
    return f"repaired {fault.remedy}"


def as_it_is(fault: Fault) -> str:
    """What the baseline's own answers are called when the repaired masks score them."""
    return f"as is {fault.remedy}"


def try_repairs(
    run: Run, faults: tuple[Fault, ...], fits: list[Fit], cache: Path, told: Told, start: Path | None = None
) -> Run:
    """The run with the outcomes of the baseline trained on repaired masks, and of its old answers scored on them; or
    trained as it should have been.

    `fits` are the baseline's own trainings, one a fold. Where a fault resumes and its weights are in the folder `start`
    they go on from them for half of their steps; others begin anew.
    """
    outcomes = dict(run.outcomes)
    for fault in faults:
        if fault.instead is not None:
            other = [replace(_instead(fit, fault.instead), name=tried(fault), maps=()) for fit in fits]
            # Another training brings a threshold of its own: the one in force belongs to what was wrong.
            outcomes[tried(fault)] = tuple(run_fits(other, {"image": run.pictures}, cache, told))
        elif fault.there:
            outcomes[tried(fault)] = _taught_there(run, fault, fits, cache, told)
        elif fault.repaired is not None:
            outcomes |= _on_repaired(run, fault, fault.repaired, fits, cache, told, start)
    return replace(run, outcomes=outcomes, _sums={})


def _on_repaired(
    run: Run, fault: Fault, repaired: Pictures, fits: list[Fit], cache: Path, told: Told, start: Path | None
) -> dict[str, tuple[Fitted, ...]]:
    """The outcomes of trainings on repaired masks, and of the old answers scored on them."""
    goes_on = fault.resumes and start
    begun = [replace(fit, start=start, recipe=resumed(fit.recipe)) if goes_on else fit for fit in fits]
    again = [replace(fit, name=tried(fault), view=tried(fault), maps=()) for fit in begun]
    done = run_fits(again, {tried(fault): repaired}, cache, told)
    return {
        tried(fault): tuple(replace(each, fixed=run.imposed) for each in done),
        as_it_is(fault): tuple(rescored(run, repaired, number) for number in range(len(run.folds))),
    }


def teaches(run: Run) -> bool:
    """Whether enough groups report in every fold for one half of them to teach the other."""
    halves = [half for fold in run.folds for half in _halves(run, fold)]
    groups = [len({run.pictures.groups[index] for index in half}) for half in halves]
    return min(groups) >= FEWEST


def _halves(run: Run, fold: Fold) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The images that report, dealt to two halves by their groups."""
    groups = np.array([run.pictures.groups[index] for index in fold.report])
    order = np.random.default_rng(run.seed).permutation(np.unique(groups))
    first = np.isin(groups, order[::2])
    one, other = (tuple(np.array(fold.report)[half].tolist()) for half in (first, ~first))
    return one, other


def _taught_there(run: Run, fault: Fault, fits: list[Fit], cache: Path, told: Told) -> tuple[Fitted, ...]:
    """Outcomes of which each half of the groups that report is answered by a model that the other half taught."""
    halves = [_halves(run, fold) for fold in run.folds]
    crossed = [
        replace(
            fit,
            name=tried(fault),
            maps=(),
            parts=replace(fit.parts, fit=taught, report=asked),
            # The inner images are from home: they cannot choose the moment of what was taught there.
            recipe=replace(fit.recipe, keep="last"),
        )
        for fit, (one, other) in zip(fits, halves, strict=True)
        for taught, asked in ((one, other), (other, one))
    ]
    done = iter(run_fits(crossed, {"image": run.pictures}, cache, told))
    joined = (_joined(next(done), next(done), fold, parts) for fold, parts in zip(run.folds, halves, strict=True))
    return tuple(replace(each, fixed=run.imposed) for each in joined)


def _joined(of_other: Fitted, of_one: Fitted, fold: Fold, halves: tuple[tuple[int, ...], tuple[int, ...]]) -> Fitted:
    """One outcome of the two halves' answers, in the order of `fold.report`; the inner images of neither choose."""
    one, other = halves
    place = {index: number for number, index in enumerate((*other, *one))}
    report = join([of_other.report, of_one.report]).take(np.array([place[index] for index in fold.report]))
    return replace(of_other, report=report, inner=of_other.inner.take(np.zeros(0, np.int64)))


def remedy_of(run: Run, fault: Fault) -> Remedy:
    """The remedy of a fault with what it adds."""
    if not fault.trained:
        gain = fault.gain or Interval(math.nan, math.nan, math.nan)
        return Remedy(fault.remedy, gain, fault.cost, (fault.claim,))
    if fault.there:
        return _of_there(run, fault)
    compare = run.resampler
    trained = above = run.sums(tried(fault))
    if fault.share < 1:
        # Where a model has blurred what is wrong its old answers gain by better masks too, with no luck of a training.
        above = max(above, run.sums(as_it_is(fault)), key=compare.mean)
    # At the thresholds in force, unlike trials: old answers beside themselves on better masks are then surely paired.
    below = run.sums(run.plan.baseline if fault.partly or fault.instead else as_it_is(fault))
    where = ("on the repaired masks", " on them") if fault.repaired is not None else ("with that put right", "")
    evidence = (
        fault.claim,
        f"Trained {where[0]} the baseline scores {compare.interval(trained):.3f}{where[1]}; as it is, "
        f"{compare.interval(below):.3f}.",
    )
    gain = compare.difference(above, below)
    # As much again may lie in what was not found, or left out as doubtful; half of the steps do not go all the way.
    more = (1.0 if fault.partly else SHORT_OF_IT if fault.resumes else 0.0) * max(0.0, gain.mean)
    gain = Interval(gain.mean, gain.low, gain.high + more)
    if 0 < fault.share < 1 and gain.mean > 0:
        gain = _whole(gain, fault.share, 1 - compare.mean(below))
    return Remedy(fault.remedy, gain, fault.cost, evidence)


def _of_there(run: Run, fault: Fault) -> Remedy:
    """What images from where those that report come from add, a better threshold apart: that needs none.

    Half of those that report taught: more of them would add more. What it attains at home is another least.
    """
    above, below = run.fairly(tried(fault)), run.fairly(run.plan.baseline)
    taught, home, compare = run.resampler.difference(above, below), at_home(run), run.resampler
    evidence = (
        fault.claim,
        f"Trained on half of the images that report alone, and read on the other half, it scores "
        f"{compare.interval(above):.3f}; as it is, {compare.interval(below):.3f}, each at its best threshold. At home "
        f"it scores {home.mean:+.3f} beside the latter.",
    )
    more = max(taught, home, key=lambda gain: gain.mean)
    high = max(taught.high + max(0.0, taught.mean), home.high)
    return Remedy(fault.remedy, Interval(more.mean, more.low, high), fault.cost, evidence)


def _whole(gain: Interval, share: float, room: float) -> Interval:
    """What putting all of a fault right adds, where a `share` of it adds `gain`: no less than that, and at most in
    proportion; in the middle. `room` is all there is to gain.
    """
    most = max(min(gain.mean / share, room), gain.mean)
    return Interval((gain.mean + most) / 2, gain.low, max(most, gain.high))


def _instead(fit: Fit, other: Fit) -> Fit:
    """The fit with the pieces and the recipe of another."""
    return replace(fit, extractor=other.extractor, frozen=other.frozen, recipe=other.recipe)


def rescored(run: Run, repaired: Pictures, number: int) -> Fitted:
    """The baseline's outcome on one fold with its report part scored on repaired masks."""
    fitted, report = run.outcomes[run.plan.baseline][number], list(run.folds[number].report)
    return replace(fitted, report=score_images(scores_of(fitted.maps[: len(report)]), repaired.masks[report].numpy()))


def at_home(run: Run) -> Interval:
    """What the baseline scores on held-out images from where it was trained, minus what it scores where it reports at a
    threshold that suits it.

    Few inner images may be easier than most, and then score more than images that were trained on: the less of the two
    counts. Images from there may also be easier or harder than those that report, which no training here tells: the
    interval is from half of that to twice as much, and the chance of the images on top.
    """
    fits = run.outcomes[run.plan.baseline]
    parts = [[_iou(table, fitted.threshold) for table in (fitted.inner, fitted.seen) if len(table)] for fitted in fits]
    report = run.resampler.interval(run.fairly(run.plan.baseline))
    gain = float(np.mean([min(each) for each in parts])) - report.mean
    spread = (report.high - report.low) / 2
    low, high = sorted((gain / 2, 2 * gain))
    return Interval(gain, low - spread, min(high + spread, 1 - report.mean))


def _iou(table: ScoreTable, threshold: float) -> float:
    return mean_iou(counts_at(table, threshold))
