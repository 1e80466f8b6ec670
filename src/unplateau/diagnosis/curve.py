"""Has it stopped: the type of the training curve, and what training twice as long would add."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import final

import numpy as np
from numpy.typing import NDArray

from unplateau.diagnosis.check import AbstractCheck
from unplateau.diagnosis.plan import HALF_STEPS
from unplateau.diagnosis.run import Run
from unplateau.diagnosis.scaling import STEP_EXPONENTS, predict
from unplateau.measures.intervals import interval
from unplateau.types import Epoch, Finding, Interval, Verdict

ENOUGH = 6
"""Evaluations below which a curve has no type."""

STILL = 0.01
"""Change of IoU over the last third of a run that counts as movement: about half of what two seeds differ by."""


class CurveType(Enum):
    """What a training curve does at its end."""

    RISING = "still rising"
    CONVERGED = "converged"
    OVERFITTING = "overfitting"
    DIVERGING = "diverging"
    WOBBLING = "operating point wobbling"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True)
class CurveMeasured:
    """Of the baseline: a type for each fold's curve, the rise over the last third, and the gain of twice the steps.

    `half` and `twice_gain` are None where nothing was trained for half the steps.
    """

    types: tuple[CurveType, ...]
    rise: Interval
    wobble: float
    settled_wobble: float
    half: Interval | None
    twice_gain: Interval | None


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
        task; so the gain comes from whole runs of two lengths, not from the slope of one.

    What to do next: train longer only if the gain's interval lies above zero.

    Reference: Domhan et al., Speeding up automatic hyperparameter optimization by extrapolation of learning curves,
        IJCAI 2015.
    """

    def measure(self, run: Run) -> CurveMeasured:
        """Types, trends and the predicted gain."""
        curves = [fitted.epochs for fitted in run.outcomes[run.plan.baseline]]
        rises = np.array([trend([epoch.best_iou for epoch in curve]) for curve in curves])
        halved = HALF_STEPS in run.outcomes
        return CurveMeasured(
            types=tuple(curve_type(curve) for curve in curves),
            rise=Interval(float(rises.mean()), float(rises.min()), float(rises.max())),
            wobble=float(np.mean([_wobble([epoch.iou for epoch in curve]) for curve in curves])),
            settled_wobble=float(np.mean([_wobble([epoch.best_iou for epoch in curve]) for curve in curves])),
            half=run.reading(HALF_STEPS) if halved else None,
            twice_gain=_twice(run) if halved else None,
        )

    def judge(self, measured: CurveMeasured) -> Finding:
        """Concern when longer training surely gains."""
        gain = measured.twice_gain
        kinds = " / ".join(dict.fromkeys(each.value for each in measured.types))
        numbers = {"rise": measured.rise, "wobble": measured.wobble, "settled_wobble": measured.settled_wobble}
        if gain is None:
            claim = f"The baseline's curve is {kinds}; what twice the steps would add was not measured."
            return Finding("curve", Verdict.UNDETERMINED, claim, None, numbers)
        verdict = Verdict.SOUND if gain.high < 2 * STILL else Verdict.UNDETERMINED
        if gain.low > 0 and gain.mean >= 2 * STILL:
            verdict = Verdict.CONCERN
        claim = f"The baseline's curve is {kinds}; twice the steps are predicted to add {gain:+.3f} IoU."
        return Finding("curve", verdict, claim, gain, numbers)


def _twice(run: Run) -> Interval:
    """What twice the steps would add, from whole runs of the full length and of half of it."""
    full, half = run.sums(run.plan.baseline), run.sums(HALF_STEPS)
    draws = np.stack([run.resampler.draws(half), run.resampler.draws(full)], axis=1)
    means = np.array([run.resampler.mean(half), run.resampler.mean(full)])
    shares, repeated = np.array([0.5, 1.0]), np.repeat(means[None], 200, 0)
    (ahead,) = predict(shares, draws, (2.0,), np.random.default_rng(run.seed), STEP_EXPONENTS)
    (middle,) = predict(shares, repeated, (2.0,), np.random.default_rng(run.seed), STEP_EXPONENTS)
    return interval(float(middle.mean()) - means[1], ahead - draws[:, 1])


def curve_type(epochs: tuple[Epoch, ...]) -> CurveType:
    """The type of one training curve, from its last third (at least three evaluations)."""
    if len(epochs) < ENOUGH:
        return CurveType.UNDETERMINED
    best, at_half = ([getattr(epoch, name) for epoch in epochs] for name in ("best_iou", "iou"))
    train, val = ([getattr(epoch, name) for epoch in epochs] for name in ("train_loss", "val_loss"))
    if not np.isfinite(train[1:]).all() or trend(train) > 0.1 * abs(np.nanmean(train)):
        return CurveType.DIVERGING
    if trend(best) < -STILL and trend(val) > 0 >= trend(train):
        return CurveType.OVERFITTING
    if _wobble(at_half) > 2 * max(_wobble(best), STILL / 2):
        return CurveType.WOBBLING
    return CurveType.RISING if trend(best) > STILL else CurveType.CONVERGED


def trend(values: list[float]) -> float:
    """Change along the straight line through the last third of the values (at least three)."""
    last = _last_third(values)
    return float(np.polyfit(np.linspace(0, 1, len(last)), last, 1)[0]) if np.isfinite(last).all() else float("nan")


def _wobble(values: list[float]) -> float:
    """Root mean square of the steps between neighbours of the last two thirds, without their common drift."""
    steps = np.diff(np.array(values)[len(values) // 3 :])
    return float(np.std(steps)) if len(steps) else float("nan")


def _last_third(values: list[float]) -> NDArray[np.float64]:
    return np.array(values[-max(3, len(values) // 3) :], dtype=np.float64)
