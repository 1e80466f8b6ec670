"""The shape of a training curve, from the records of its evaluations alone: whoever trained, and wherever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from unplateau.types import Epoch

ENOUGH = 6
"""Evaluations below which a curve has no type."""

STILL = 0.01
"""Change of IoU over the last third of a run that counts as movement: about half of what two seeds differ by."""

EXPLODED = 0.1
"""Rise of the training loss over the last third, as a share of its mean, from which a run diverges."""


class CurveType(Enum):
    """What a training curve does at its end."""

    RISING = "still rising"
    CONVERGED = "converged"
    OVERFITTING = "overfitting"
    DIVERGING = "diverging"
    WOBBLING = "operating point wobbling"
    UNDETERMINED = "undetermined"


ADVICE = {
    CurveType.RISING: "It has not stopped: train on before anything else is changed.",
    CurveType.CONVERGED: "It has stopped: longer training of the same kind adds little.",
    CurveType.OVERFITTING: "It was better before: keep that moment, and look for more data or less capacity.",
    CurveType.DIVERGING: "It falls apart: lower the learning rate, and look for broken images.",
    CurveType.WOBBLING: "The threshold moves, not the model: choose it once, on images that do not report.",
    CurveType.UNDETERMINED: f"A type needs at least {ENOUGH} evaluations and a finite IoU at each.",
}
"""What follows from a type, in one sentence."""


@dataclass(frozen=True)
class CurveReading:
    """The type of one curve and the numbers behind it.

    `rise` is the change of the IoU along the line through the last third, `wobble` how far the IoU at 0.5 moves from
    one evaluation to the next, `settled_wobble` the same at the best threshold; nan where not logged. `best` is the
    highest IoU and `best_step` where it was reached (-1 where no IoU is finite).
    """

    type: CurveType
    evaluations: int
    rise: float
    wobble: float
    settled_wobble: float
    best: float
    best_step: int


def read_curve(epochs: Sequence[Epoch]) -> CurveReading:
    """Type and numbers of one training curve."""
    settled = settled_iou(epochs)
    finite = np.flatnonzero(np.isfinite(settled))
    top = int(finite[np.argmax(np.array(settled)[finite])]) if len(finite) else -1
    return CurveReading(
        type=curve_type(epochs),
        evaluations=len(epochs),
        rise=trend(settled) if settled else float("nan"),
        wobble=wobble([epoch.iou for epoch in epochs]),
        settled_wobble=wobble([epoch.best_iou for epoch in epochs]),
        best=settled[top] if len(finite) else float("nan"),
        best_step=epochs[top].step if len(finite) else -1,
    )


def curve_type(epochs: Sequence[Epoch]) -> CurveType:
    """The type of one training curve, from its last third (at least three evaluations).

    What was never logged (nan at every evaluation) is not asked: without the IoU at the best threshold that at 0.5
    stands in and no wobble of the threshold can be told; without any loss an IoU that falls is overfitting or
    divergence, and undetermined.
    """
    settled = settled_iou(epochs)
    train, val = ([getattr(epoch, name) for epoch in epochs] for name in ("train_loss", "val_loss"))
    if len(epochs) < ENOUGH:
        return CurveType.UNDETERMINED
    if _diverges(train):
        return CurveType.DIVERGING
    if not np.isfinite(_last_third(settled)).all():
        # There was a score, and then none: the answers themselves are no numbers any more.
        return CurveType.DIVERGING if _logged(settled) else CurveType.UNDETERMINED
    if trend(settled) < -STILL:
        if not _logged(train) and not _logged(val):
            return CurveType.UNDETERMINED
        if (not _logged(val) or trend(val) > 0) and (not _logged(train) or trend(train) <= 0):
            return CurveType.OVERFITTING
    if _threshold_moves(epochs):
        return CurveType.WOBBLING
    return CurveType.RISING if trend(settled) > STILL else CurveType.CONVERGED


def settled_iou(epochs: Sequence[Epoch]) -> list[float]:
    """The IoU at the best threshold of each evaluation, or at 0.5 where a log never had the former."""
    best = [epoch.best_iou for epoch in epochs]
    return best if _logged(best) else [epoch.iou for epoch in epochs]


def trend(values: Sequence[float]) -> float:
    """Change along the straight line through the last third of the values (at least three)."""
    last = _last_third(values)
    return float(np.polyfit(np.linspace(0, 1, len(last)), last, 1)[0]) if np.isfinite(last).all() else float("nan")


def wobble(values: Sequence[float]) -> float:
    """Root mean square of the steps between neighbours of the last two thirds, without their common drift."""
    steps = np.diff(np.array(values)[len(values) // 3 :])
    return float(np.std(steps)) if len(steps) else float("nan")


def _diverges(train: list[float]) -> bool:
    if not _logged(train):
        return False
    broken = bool((~np.isfinite(train[1:])).any())
    return broken or trend(train) > EXPLODED * float(abs(np.nanmean(train)))


def _threshold_moves(epochs: Sequence[Epoch]) -> bool:
    at_half, best = ([getattr(epoch, name) for epoch in epochs] for name in ("iou", "best_iou"))
    return _logged(best) and wobble(at_half) > 2 * max(wobble(best), STILL / 2)


def _logged(values: Sequence[float]) -> bool:
    return bool(np.isfinite(values).any())


def _last_third(values: Sequence[float]) -> NDArray[np.float64]:
    return np.array(values[-max(3, len(values) // 3) :], dtype=np.float64)
