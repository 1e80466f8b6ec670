"""Is it the size of the model: can it fit what it has seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from unplateau.checks.check import AbstractCheck, unmeasured
from unplateau.experiments.run import Run
from unplateau.measures.thresholds import counts_at, mean_iou
from unplateau.types import Finding, Verdict

FITS = 0.10
"""A model that scores this much more on what it has seen than on the rest has room left: size is not the limit."""


@dataclass(frozen=True)
class CapacityMeasured:
    """IoU of the baseline on images it was trained on, and on images that chose nothing."""

    seen: float
    report: float


@final
class CapacityCheck(AbstractCheck[CapacityMeasured | None]):
    """Whether the model can fit its own training images.

    What it measures: the IoU on a sample of the training images beside the IoU on the report part.

    Why it matters: a model far better on what it has seen is held back by data or by what it can see, not by its size;
        one equally poor on both may be too small, too short-sighted, or trained on masks that cannot be learnt.

    When it misleads: strong augmentation and short training keep the first figure low.

    What to do next: where both are low and close, compare the ladder's rungs before a larger model.

    Reference: Zhang et al., Understanding deep learning requires rethinking generalization, arXiv 1611.03530.
    """

    def measure(self, run: Run) -> CapacityMeasured | None:
        """The two scores; None where no image that was trained on has an answer."""
        if not any(len(fitted.seen) for fitted in run.outcomes[run.plan.baseline]):
            return None
        seen = []
        for fitted in run.outcomes[run.plan.baseline]:
            seen.append(mean_iou(counts_at(fitted.seen, fitted.threshold)))
        return CapacityMeasured(float(np.mean(seen)), run.reading(run.plan.baseline).mean)

    def judge(self, measured: CapacityMeasured | None) -> Finding:
        """Sound when what was seen is fitted clearly better."""
        if measured is None:
            return unmeasured("capacity")
        gap = measured.seen - measured.report
        verdict = Verdict.SOUND if gap >= FITS else Verdict.UNDETERMINED
        claim = f"The baseline scores {measured.seen:.3f} on images it has seen and {measured.report:.3f} on others"
        claim += "; it has capacity to spare." if gap >= FITS else "; that does not tell whether it is too small."
        return Finding("capacity", verdict, claim, None, {"seen": measured.seen, "report": measured.report})
