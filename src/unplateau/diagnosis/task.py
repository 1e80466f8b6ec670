"""A task is measured on one fold after the other: which trainings tell what, and what another fold has to tell."""

from __future__ import annotations

import math

from unplateau.checks.curve import twice_gain
from unplateau.checks.data_scale import DataScaleCheck
from unplateau.checks.ladder import LadderCheck, LadderMeasured
from unplateau.diagnosis.settling import FEWEST, trial_gain, tried
from unplateau.experiments.gains import TIE, WIDER, over_seeds, widened
from unplateau.experiments.plan import HALF_STEPS, Plan, less_name
from unplateau.experiments.run import Run
from unplateau.experiments.trials import OF_SIZE
from unplateau.types import Interval, Verdict


def told_by(plan: Plan) -> dict[str, tuple[str, ...]]:
    """The trainings, beside the baseline's, that tell what each remedy gains."""
    return {
        "more-data": tuple(map(less_name, plan.fractions)),
        "train-longer": (HALF_STEPS,),
        "richer-pretraining": plan.ladder,
        "more-context": plan.ladder,
        **{trial.remedy: (trial.name,) for trial in plan.trials},
    }


def unclear(run: Run) -> set[str]:
    """The trainings of a task that another fold is wanted of: the ladder's where it does not say which family decides,
    and what tells the first remedy from others. Nothing where there is no question; where few groups report all but
    larger pieces, which are dear and would be no surer.

    One training each tells less of gains than several: there the first remedy must be ahead of the others by as much as
    the interval is wide that is told. Two that are tied need not be told apart.
    """
    told = told_by(run.plan)
    ladder = LadderCheck().measure(run)
    if ladder is None:
        return {name for names in told.values() for name in names}
    if run.shared(told["more-context"]).units < FEWEST:
        return {name for remedy, names in told.items() if remedy not in OF_SIZE for name in names}
    families = set() if LadderCheck().judge(ladder).verdict is Verdict.SOUND else {"more-context"}
    return {name for remedy in families | _contenders(run, ladder) for name in told[remedy]}


def _contenders(run: Run, ladder: LadderMeasured) -> set[str]:
    """The first remedy and those that may come before it; none where it surely is the first."""
    gains = {name: widened(gain, WIDER) if alone(run, name) else gain for name, gain in task_gains(run, ladder).items()}
    first = max(gains, key=lambda name: gains[name].mean)
    others = {name for name in gains if name != first and gains[name].mean - TIE > gains[first].low}
    return {first, *others} if others or gains[first].low <= 0 else set()


def alone(run: Run, remedy: str) -> bool:
    """Whether a gain rests on one training beside another."""
    return len(run.shared(told_by(run.plan).get(remedy, ())).folds) == 1


def task_gains(run: Run, ladder: LadderMeasured) -> dict[str, Interval]:
    """What changes add to the baseline of a task, or to its best rung, as wide as seeds make it, by remedy."""
    told, data = told_by(run.plan), DataScaleCheck().measure(run)
    gains = {trial.remedy: trial_gain(run, trial) for trial in tried(run)}
    if HALF_STEPS in run.outcomes:
        gains["train-longer"] = over_seeds(twice_gain(run), run.shared(told["train-longer"]))
    if data:
        gains["more-data"] = over_seeds(data.gains["2x"], run.shared(told["more-data"]))
    if ladder.pretraining:
        gains["richer-pretraining"] = over_seeds(ladder.pretraining, run.shared(told["richer-pretraining"]))
    if math.isfinite(run.plan.rung(run.plan.baseline).reach):
        gains["more-context"] = context_gain(run.shared(told["more-context"]))
    return gains


def context_gain(run: Run) -> Interval:
    """What the rungs that see more than the baseline of a task score above it."""
    return over_seeds(run.resampler.difference(run.chosen(wider(run)), run.sums(run.plan.baseline)), run)


def wider(run: Run) -> list[str]:
    """The rungs that see more than the baseline of a task."""
    reach = run.plan.rung(run.plan.baseline).reach
    return [rung.name for rung in run.plan.rungs if rung.kind == "rung" and rung.reach > reach]
