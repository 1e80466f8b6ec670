"""In which order a diagnosis trains: what is most likely to settle the verdict first, the ladder last."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from unplateau.checks.capacity import FITS, CapacityCheck
from unplateau.diagnosis.task import unclear
from unplateau.experiments.fits import Fit
from unplateau.experiments.gains import of_trial
from unplateau.experiments.plan import CANDIDATE, CONTEXT, HALF_STEPS, OTHER_SEED, UNTRAINED, Plan, less_name
from unplateau.experiments.run import Run
from unplateau.experiments.trials import FINER, LONGER, Trial

AT_A_TIME: Final = 2
"""Trainings between two questions whether the verdict is settled. It does not follow the number of cores, so that the
same seed measures the same on every machine."""

TRIALS = (FINER, LONGER, "more-context", "larger-extractor", "rebalance", "stronger-decoder")
"""Remedies in the order in which they are tried on a model that does not even fit what it has seen; the decoder works
at full size and is dear. Twice the steps of a run that is not short are dearest, and come last."""


CONFIRMED: Final = 2
"""Trials that are trained from another seed too, where nothing is settled by one of each."""

Stage = Callable[[Run], list[Fit]]
"""What to train next, by what is known so far; nothing where it has no such training."""

TWICE = 2.0
"""Steps of a longer training, in those of the run, where that is not short."""


def first_stage(plan: Plan, fits: list[Fit]) -> list[Fit]:
    """What judges the masks: the model in question and, where that sees little, the rung that sees all."""
    near = math.isfinite(plan.rung(plan.baseline).reach)
    names = {plan.baseline, CONTEXT} if near else {plan.baseline}
    return [fit for fit in fits if fit.name in names]


def later_stages(run: Run, fits: list[Fit], *, thorough: bool = False) -> list[Stage]:
    """All other fits, in the order in which they settle a verdict. Of a task: all on the first fold, on the
    next what is not clear; larger pieces only where the baseline does not fit what it has seen, or all is wanted.
    """
    done = {fit.name for fit in first_stage(run.plan, fits)}
    if run.plan.given:
        return _of_a_model(run, fits, done)
    if not thorough and _by_heart(run):
        done |= {trial.name for trial in run.plan.trials}
    beside = [fit for fit in fits if fit.name not in done]
    every = {fit.name for fit in beside}
    return [lambda run: _next_fold(run, beside, every if thorough else unclear(run)) for _ in run.folds]


def _next_fold(run: Run, fits: list[Fit], names: set[str]) -> list[Fit]:
    """The fits of these names on the first fold that has none of each."""
    return [fit for fit in fits if fit.name in names and fit.fold == len(run.outcomes.get(fit.name, ()))]


def _of_a_model(run: Run, fits: list[Fit], done: set[str]) -> list[Stage]:
    """What the model in question is trained again as, what of it is tried twice, the candidate and its control, the
    ladder.

    A model that knows by heart what it has seen is short of data first, and one that does not of something else.
    """
    own = _own_order(run)
    pairs = [own[start : start + AT_A_TIME] for start in range(0, len(own), AT_A_TIME)]
    named = [*pairs, [CANDIDATE, UNTRAINED]]
    rest = {fit.name for fit in fits} - done - {name for group in named for name in group}
    stages = [_fixed([fit for fit in fits if fit.name in group]) for group in named]
    stages.insert(len(pairs), lambda run: confirming(promising(run), fits))
    return [*stages, _fixed([fit for fit in fits if fit.name in rest])]


def how_many(plan: Plan, fits: list[Fit]) -> int:
    """How many trainings there are at most."""
    return len(fits) + (CONFIRMED * len({fit.fold for fit in fits}) if plan.given else 0)


def confirming(trials: Sequence[Trial], fits: list[Fit]) -> list[Fit]:
    """The trainings of these trials from another seed."""
    names = {trial.name: trial.again for trial in trials}
    chosen = [fit for fit in fits if fit.name in names]
    return [replace(fit, name=names[fit.name], seed=fit.seed + OTHER_SEED) for fit in chosen]


def promising(run: Run) -> list[Trial]:
    """The trials that look best and had one seed: the best of several single trainings was lucky, more or less."""
    trained = [trial for trial in run.plan.trials if trial.name in run.outcomes and trial.remedy != FINER]
    best = sorted(trained, key=lambda each: -run.resampler.mean(of_trial(run, each)))[:CONFIRMED]
    return [trial for trial in best if trial.again not in run.outcomes]


def _fixed(stage: list[Fit]) -> Stage:
    return lambda _: stage


def _own_order(run: Run) -> list[str]:
    plan = run.plan
    planned = {trial.remedy: trial for trial in plan.trials}
    symptoms = sorted(
        (remedy for remedy in TRIALS if remedy in planned),
        key=lambda remedy: remedy == LONGER and planned[remedy].cost <= TWICE,
    )
    tried = [planned[remedy].name for remedy in symptoms]
    again = [*plan.controls, *tried]
    shares = [less_name(fraction) for fraction in plan.fractions]
    return [*shares, *again, HALF_STEPS] if _by_heart(run) else [*again, *shares, HALF_STEPS]


def _by_heart(run: Run) -> bool:
    capacity = CapacityCheck().measure(run)
    return capacity is not None and capacity.seen - capacity.report >= FITS
