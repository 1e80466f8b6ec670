"""When a predicted gain counts: worth listing, worth acting on, and how wide seeds alone make it."""

from __future__ import annotations

import math

from unplateau.experiments.run import Run, Sums
from unplateau.experiments.trials import AGAIN, Trial
from unplateau.types import Interval

WORTH = 0.01
"""IoU below which a predicted gain is not listed: two seeds differ by as much."""

TIE = 0.02
"""Gains closer than this are ranked by cost."""

NINETY = 3.29
"""Standard errors that a 90 % interval of a normal variable spans."""

SEED_SPREAD = 0.015
"""Standard deviation of the difference in IoU of two single trainings that differ in a seed alone: root mean square
over the healthy cases of the fitted bases of `benchmarks.truth`. Resampled groups do not show it."""

BELIEF = 3
"""Pairs of trainings that `SEED_SPREAD` weighs as much as, beside the pairs that a task itself was trained as."""

WIDER = 2.0
"""How many times as wide the interval of a gain between two single trainings must be to hold nine in ten of the true
ones: from `benchmarks.truth`, whose fitted bases ask for less than 1.5 and whose held ones for a little more than 2."""

LIKELY = 0.5
"""Standard errors above nothing from which a gain is listed: seven in ten such are more than nothing."""


def worth_listing(gain: Interval) -> bool:
    """Whether a gain is large enough to matter and more likely there than not; the interval says how sure that is."""
    standard_error = (gain.high - gain.low) / NINETY
    return gain.mean >= WORTH and gain.mean >= LIKELY * standard_error


def seed_spread(run: Run, trial: Trial | None = None) -> float:
    """`SEED_SPREAD`, or more where the model in question, or the trial, trained again from another seed came out
    elsewhere.
    """
    pairs = [(run.plan.control, AGAIN), *([(trial.name, trial.again)] if trial else [])]
    scores = [[run.resampler.mean(run.fairly(name)) for name in pair] for pair in pairs if pair[1] in run.outcomes]
    apart = sum((again - once) ** 2 for once, again in scores)
    return math.sqrt((BELIEF * SEED_SPREAD**2 + apart) / (BELIEF + len(scores)))


def beside(run: Run) -> Sums:
    """What a trial is compared with: the model in question, pooled with itself from another seed where it has one."""
    return pooled(run, run.plan.control, AGAIN)


def at_length(run: Run) -> Sums:
    """The model in question trained as long as it was: of a long run that alone, which no rehearsal stands beside."""
    return run.fairly(run.plan.baseline) if run.plan.rehearsal else beside(run)


def of_trial(run: Run, trial: Trial) -> Sums:
    """What a trial attains, pooled with itself from another seed where it has one."""
    return pooled(run, trial.name, trial.again)


def pooled(run: Run, name: str, again: str) -> Sums:
    """Counts of a training and of the same from another seed, where that is at hand; else of the one."""
    once = run.fairly(name)
    return (once + run.fairly(again)) / 2 if again in run.outcomes else once


def widened(gain: Interval, times: float, least: float = 0.0) -> Interval:
    """The interval so many times as wide, and by as much as two independent errors are."""
    down, up = (math.hypot(times * side, least) for side in (gain.mean - gain.low, gain.high - gain.mean))
    return Interval(gain.mean, gain.mean - down, gain.mean + up)


def over_seeds(gain: Interval, run: Run, trial: Trial | None = None) -> Interval:
    """The interval of a gain between separate trainings, one a fold, widened by what their seeds alone would do."""
    reach = NINETY / 2 * seed_spread(run, trial) / math.sqrt(len(run.folds))
    down, up = (math.hypot(side, reach) for side in (gain.mean - gain.low, gain.high - gain.mean))
    return Interval(gain.mean, gain.mean - down, gain.mean + up)
