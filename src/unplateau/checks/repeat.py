"""Does the number hold: the same training from another seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from unplateau.checks.check import AbstractCheck, unmeasured
from unplateau.experiments.run import Run
from unplateau.experiments.trials import AGAIN
from unplateau.types import Finding, Interval, Verdict

LUCK = 0.05
"""IoU by which two seeds may differ before one training says too little of another."""


@dataclass(frozen=True)
class RepeatMeasured:
    """IoU of the model in question, trained as long as its trials, and of the same from another seed; their difference.

    The interval of the difference is of the images alone.
    """

    first: Interval
    again: Interval
    apart: Interval


@final
class RepeatCheck(AbstractCheck[RepeatMeasured | None]):
    """Whether the model in question comes out the same from another seed.

    What it measures: the IoU of the same pieces, trained by the same recipe on the same images from another seed.

    Why it matters: a remedy is tried once. Where two seeds of the same training differ by more than a remedy is worth,
        what it gained may be luck; each trial is compared with the mean of both and its interval widened by how far
        they lie apart.

    When it misleads: two seeds may agree by luck as well.

    What to do next: where the seeds lie apart, train more than once before anything else is changed, and look for what
        one of the trainings did not learn.

    Reference: Bouthillier et al., Accounting for variance in machine learning benchmarks, MLSys 2021.
    """

    def measure(self, run: Run) -> RepeatMeasured | None:
        """Both readings; None where nothing was trained again."""
        if AGAIN not in run.outcomes:
            return None
        control = run.plan.control
        apart = run.resampler.difference(run.sums(AGAIN), run.sums(control))
        return RepeatMeasured(run.reading(control), run.reading(AGAIN), apart)

    def judge(self, measured: RepeatMeasured | None) -> Finding:
        """Concern where the seeds lie further apart than `LUCK`."""
        if measured is None:
            return unmeasured("repeat")
        apart = abs(measured.apart.mean)
        verdict = Verdict.CONCERN if apart >= LUCK else Verdict.SOUND
        claim = f"The same training from another seed scores {measured.again.mean:.3f} instead of "
        claim += f"{measured.first.mean:.3f}"
        claim += "; one training says little here." if apart >= LUCK else "; the number holds."
        numbers = {"first": measured.first, "again": measured.again, "apart": measured.apart}
        return Finding("repeat", verdict, claim, None, numbers)
