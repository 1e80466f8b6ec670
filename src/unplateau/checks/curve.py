"""Has it stopped: the type of the training curve, and what training twice as long would add."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from unplateau.checks.check import AbstractCheck
from unplateau.checks.scaling import foretell
from unplateau.experiments.gains import beside, of_trial
from unplateau.experiments.plan import HALF_STEPS
from unplateau.experiments.run import Run
from unplateau.experiments.trials import LONGER
from unplateau.measures.curves import ADVICE, STILL, CurveType, read_curve
from unplateau.measures.intervals import interval
from unplateau.types import Finding, Interval, Verdict


@dataclass(frozen=True)
class CurveMeasured:
    """Of the baseline: a type for each fold's curve, the rise over the last third, and the gain of twice the steps.

    `half` and `twice_gain` are None where nothing was trained for half as long; `evaluations` is what the shortest of
    the curves holds. `tried` > 0 is the steps that `twice_gain` was measured with, where it is not foretold for twice.
    """

    types: tuple[CurveType, ...]
    rise: Interval
    wobble: float
    settled_wobble: float
    half: Interval | None
    twice_gain: Interval | None
    evaluations: int
    tried: int = 0


@final
class CurveCheck(AbstractCheck[CurveMeasured]):
    """The shape of the training curve.

    What it measures: over the last third of the evaluations, the trend of the IoU at the best threshold, the trend of
        the two losses, and how much the IoU at 0.5 moves from one evaluation to the next beside the IoU at the best
        threshold. The baseline trained for half the steps gives, by the same power law as for data, what twice the
        steps would add.

    Why it matters: a curve that still rises needs patience, one that wobbles needs a threshold, and neither needs a
        new model.

    When it misleads: a schedule that lowers the learning rate makes the curve rise and settle at its end whatever the
        task; so the gain comes from whole runs of two lengths, not from the slope of one. What comes after
        a plateau no half foretells: a model in question that is not long is trained for twice as long instead, or
        for as long as a rung of the ladder.

    What to do next: train longer only if the gain's interval lies above zero.

    Reference: Domhan et al., Speeding up automatic hyperparameter optimization by extrapolation of learning curves,
        IJCAI 2015.
    """

    def measure(self, run: Run) -> CurveMeasured:
        """Types, trends and the predicted gain."""
        curves = [fitted.epochs for fitted in run.outcomes[run.plan.baseline]]
        readings = [read_curve(curve) for curve in curves]
        rises = np.array([reading.rise for reading in readings])
        return CurveMeasured(
            types=tuple(reading.type for reading in readings),
            rise=Interval(float(rises.mean()), float(rises.min()), float(rises.max())),
            wobble=float(np.mean([reading.wobble for reading in readings])),
            settled_wobble=float(np.mean([reading.settled_wobble for reading in readings])),
            half=run.shared([HALF_STEPS]).reading(HALF_STEPS) if HALF_STEPS in run.outcomes else None,
            twice_gain=twice_gain(run) if HALF_STEPS in run.outcomes or run.trial(LONGER) else None,
            evaluations=min(map(len, curves)),
            tried=trial.recipe.steps if (trial := run.trial(LONGER)) else 0,
        )

    def judge(self, measured: CurveMeasured) -> Finding:
        """Concern when longer training surely gains; of a log alone, when its curve is not settled."""
        gain, numbers = measured.twice_gain, _numbers(measured)
        if gain is None:
            return _judge_log(measured)
        verdict = Verdict.SOUND if gain.high < 2 * STILL else Verdict.UNDETERMINED
        if gain.low > 0 and gain.mean >= 2 * STILL:
            verdict = Verdict.CONCERN
        kinds = " / ".join(dict.fromkeys(each.value for each in measured.types))
        added = f"{measured.tried} steps added" if measured.tried else "twice the steps are predicted to add"
        claim = f"The baseline's curve is {kinds}; {added} {gain:+.3f} IoU."
        return Finding("curve", verdict, claim, gain, numbers)


def _judge_log(measured: CurveMeasured) -> Finding:
    """What one log says by itself: the type of its curve, and no gain."""
    if not measured.evaluations:
        return Finding("curve", Verdict.UNDETERMINED, "Not measured: no training, and no log of one was given.")
    kind = measured.types[0]
    verdict = {CurveType.CONVERGED: Verdict.SOUND, CurveType.UNDETERMINED: Verdict.UNDETERMINED}.get(kind)
    claim = f"The curve of the log is {kind.value} over {measured.evaluations} evaluations. {ADVICE[kind]} What longer "
    claim += "training would add was not measured: no training."
    return Finding("curve", verdict or Verdict.CONCERN, claim, None, _numbers(measured))


def _numbers(measured: CurveMeasured) -> dict[str, Any]:
    return {"rise": measured.rise, "wobble": measured.wobble, "settled_wobble": measured.settled_wobble}


def twice_gain(run: Run) -> Interval:
    """What twice the steps are foretold to add to the baseline, or what its trial with more of them added."""
    if trial := run.trial(LONGER):
        return run.resampler.difference(of_trial(run, trial), beside(run))
    run = run.shared([HALF_STEPS])
    full, half = run.sums(run.plan.baseline), run.sums(HALF_STEPS)
    draws = np.stack([run.resampler.draws(half), run.resampler.draws(full)], axis=1)
    means = np.array([run.resampler.mean(half), run.resampler.mean(full)])
    shares = np.array([0.5, 1.0])
    ((centre, ahead),) = foretell(shares, means, draws, (2.0,), run.seed)
    return interval(centre - means[1], ahead - draws[:, 1])
