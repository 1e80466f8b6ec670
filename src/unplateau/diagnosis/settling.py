"""When the rest need not be measured: what comes first is clear, and what is below it would be measured on top."""

from __future__ import annotations

from unplateau.checks.capacity import CapacityCheck
from unplateau.checks.data_scale import FEW, DataScaleCheck, by_gap, unrelated
from unplateau.checks.ladder import PRIOR, climbed
from unplateau.checks.operating_point import OperatingPointCheck
from unplateau.checks.resolution import finer_gain
from unplateau.diagnosis.faults import INVALID, Faults
from unplateau.diagnosis.repairs import Fault, remedy_of
from unplateau.experiments.gains import TIE, WORTH, at_length, beside, of_trial, over_seeds
from unplateau.experiments.plan import CANDIDATE, CONTEXT
from unplateau.experiments.run import Run
from unplateau.experiments.trials import FINER, LONGER, Trial
from unplateau.types import COSTS, Interval

LARGE = 0.1
"""Gain from which a threshold, or a remedy that costs labels, data or a training, comes first though others have not
been tried. A threshold is moved in minutes, but .05 by it has hidden a training that adds .3.
"""

FEWEST = 5
"""Groups that must report before any gain is called sure: two videos may agree by chance on what a third denies."""


def settled(run: Run, faults: Faults) -> bool:
    """Whether the first remedy is clear from what is trained so far, whatever a ladder of a task would say.

    A number that is wrong, and a bug whose repair surely gains, come first whatever else there is: every other gain
    would be measured on top of them. So does a threshold that is off by much. What costs more than a repair must gain
    more; and a candidate that was named is always tried. Where few groups report nothing is sure.
    """
    if any(fault.remedy in INVALID for fault in faults.faults):
        return True
    if run.units < FEWEST:
        return False
    if run.plan.given and run.reading(run.plan.baseline).low > 1 - WORTH:
        # Nothing that is left to gain would be listed; of a task one still wants to know what decides.
        return True
    if any(_clear(repair_gain(run, fault), fault.cost) for fault in faults.faults):
        return True
    regret = OperatingPointCheck().measure(run).regret if run.binary else Interval(0.0, 0.0, 0.0)
    if regret.low > 0 and regret.mean >= LARGE:
        return True
    if any(rung.name == CANDIDATE and CANDIDATE not in run.outcomes for rung in run.plan.rungs):
        return False
    gains = [*_measured_gains(run), *_inferred_gains(run, faults)] if run.plan.given else []
    return any(_clear(gain, COSTS[1]) for gain in gains)


def doubtful(run: Run) -> list[Trial]:
    """Trials that would settle the verdict by one training each: networks that learn a thing from one seed and not from
    the next have told .16 for what truly loses .05. Of a task, another fold is the other seed.
    """
    if not run.plan.given:
        return []
    return [
        trial
        for trial in _decisive(run)
        if trial.again not in run.outcomes and _clear(trial_gain(run, trial), COSTS[1])
    ]


def _decisive(run: Run) -> list[Trial]:
    """The trials that can settle a verdict; not rehearsals, which a whole training may take back."""
    longer = run.trial(LONGER)
    return [*(() if run.plan.rehearsal else tried(run)), *([longer] if longer else [])]


def _measured_gains(run: Run) -> list[Interval]:
    """What the trainings so far say that trials, from two seeds each, the candidate and twice the data add."""
    gains = [trial_gain(run, trial) for trial in _decisive(run) if trial.again in run.outcomes]
    if run.trial(FINER) and not run.plan.rehearsal:
        gains.append(over_seeds(finer_gain(run), run))
    if candidate := candidate_gain(run):
        gains.append(candidate)
    data = DataScaleCheck().measure(run)
    return [*gains, over_seeds(data.gains["2x"], run)] if data else gains


def _inferred_gains(run: Run, faults: Faults) -> list[Interval]:
    """What twice the data adds to a model in question that knows by heart the few unrelated images that it saw."""
    if unrelated(faults.findings) >= FEW:
        return []
    gain = by_gap(CapacityCheck().measure(run))
    return [over_seeds(gain, run)] if gain else []


def repair_gain(run: Run, fault: Fault) -> Interval:
    """What putting a fault right adds; where it was trained for, as wide as seeds make it."""
    gain = remedy_of(run, fault).gain
    return over_seeds(gain, run) if fault.trained else gain


def tried(run: Run) -> tuple[Trial, ...]:
    """The trials that were trained, but for those that a check reads."""
    named = (trial for trial in run.plan.trials if trial.remedy not in (LONGER, FINER))
    return tuple(trial for trial in named if trial.name in run.outcomes)


def trial_gain(run: Run, trial: Trial) -> Interval:
    """What a trial adds to the model in question, as wide as seeds make it."""
    run = run.shared([trial.name])
    return over_seeds(run.resampler.difference(of_trial(run, trial), beside(run)), run, trial)


def contested_gain(run: Run, trial: Trial) -> Interval | None:
    """What more context adds where the ladder contradicts the trial: between the two, as wide as both; else None.

    The rung that sees all is the network of the trial by another recipe. What it scores more than all that see no more
    than the model in question, by either recipe, is due to what it sees. Where that is surely more than the trial
    found, one of the two trainings has learnt what the other has not, and the next may do either.
    """
    if trial.remedy != "more-context" or not climbed(run):
        return None
    reach = run.plan.rung(run.plan.baseline).reach
    near = [PRIOR, *(rung.name for rung in run.plan.rungs if rung.kind == "rung" and rung.reach <= reach)]
    below = max(run.chosen(near), run.sums(run.plan.control), key=run.resampler.mean)
    found, told = trial_gain(run, trial), over_seeds(run.resampler.difference(run.sums(CONTEXT), below), run)
    return Interval((found.mean + told.mean) / 2, found.low, told.high) if told.low > found.high else None


def candidate_gain(run: Run) -> Interval | None:
    """What the candidate adds to the model in question, as wide as seeds make it; None where either is absent."""
    if not run.plan.given or CANDIDATE not in run.outcomes:
        return None
    return over_seeds(run.resampler.difference(run.fairly(CANDIDATE), at_length(run)), run)


def _clear(gain: Interval, cost: str) -> bool:
    return gain.low > 0 and gain.mean >= (TIE if cost == COSTS[0] else LARGE)
