"""Is it the operating point: all thresholds in one pass, and how much of the wobble they explain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from unplateau.checks.check import AbstractCheck
from unplateau.experiments.run import Run, Sums
from unplateau.measures.thresholds import THRESHOLDS, best_threshold, counts_at, iou_by_threshold, join
from unplateau.types import Epoch, Finding, Interval, Verdict

WORTH = 0.01
"""Regret in IoU from which moving the threshold is worth it: it costs nothing but is not free of noise."""


@dataclass(frozen=True)
class OperatingMeasured:
    """The curve over thresholds (pooled report images of the baseline), and three readings of it.

    Of a model trained elsewhere all are of masks as they came, where these are at hand (`native`), for those are what
    its threshold decides; else of the working grid.

    `chosen` is the mean over folds of the thresholds that inner images chose, `best` the best one afterwards.
    `regret` is what thresholds chosen on the inner images and on the other groups that report would add, of a `single`
    group on inner images alone; `from_half` what choosing added over 0.5. `explained` is the share of the variance of
    the IoU from one evaluation to the next that the threshold explains, `by_coverage` the share that the logarithm of
    the coverage explains; nan when there is no variance or more than one class. `crossfitted` says that no inner image
    chose: `chosen` came with the answers.
    """

    thresholds: tuple[float, ...]
    iou: tuple[float, ...]
    chosen: float
    best: float
    regret: Interval
    from_half: Interval
    explained: float
    by_coverage: float
    crossfitted: bool = False
    native: bool = False
    single: bool = False


@final
class OperatingPointCheck(AbstractCheck[OperatingMeasured]):
    """Whether the threshold, not the model, holds the IoU down.

    What it measures: the IoU at every threshold; the regret of the chosen one; and, between evaluations, how much of
        the change of the IoU at 0.5 is change of its distance to the best threshold (an exact split of the variance:
        the rest is change of the best IoU itself), and how much goes with the coverage (predicted over true area).

    Why it matters: a threshold costs nothing to move, and its wobble looks like learning.

    When it misleads: each group is read at the threshold that nine tenths of the others choose, which with few groups
        is itself noise, and a single group at that of inner images; the best threshold of all images that report would
        add a little more, and not on new ones.

    What to do next: choose the threshold on inner images, once, after training.

    Reference: Lipton et al., Optimal thresholding of classifiers to maximize F1, ECML 2014.
    """

    def measure(self, run: Run) -> OperatingMeasured:
        """The threshold curve, the regret, and the explained variance."""
        fits = run.outcomes[run.plan.baseline]
        tables = [fitted.deciding.report for fitted in fits]
        joined = join(tables)
        explained, by_coverage = variance_explained([fitted.epochs for fitted in fits])
        if not run.binary:
            nothing = Interval(0.0, 0.0, 0.0)
            return OperatingMeasured((), (), np.nan, np.nan, nothing, nothing, np.nan, np.nan)
        best, alone = best_threshold(joined), not any(len(fitted.inner) for fitted in fits)
        compare, inner = run.resampler, [fitted.deciding.inner for fitted in fits]

        def decided(thresholds: list[float]) -> Sums:
            return compare.sums_of(map(counts_at, tables, thresholds))

        in_force = [fitted.in_force for fitted in fits]
        ours, single = decided(in_force), run.units == 1 and not alone
        # Of a single group none is another: its own images would choose what suits it, which on cells was worth .11 to
        # one donor and .03 to the next.
        better = decided(list(map(best_threshold, inner))) if single else run.crossfitted(tables, inner)
        return OperatingMeasured(
            thresholds=tuple(THRESHOLDS.tolist()),
            iou=tuple(iou_by_threshold(joined)[0].tolist()),
            chosen=float(np.nanmean(in_force)),
            best=best,
            regret=compare.difference(better, ours),
            from_half=compare.difference(ours, decided([0.5] * len(fits))),
            explained=explained,
            by_coverage=by_coverage,
            crossfitted=alone,
            native=any(fitted.native for fitted in fits),
            single=single,
        )

    def judge(self, measured: OperatingMeasured) -> Finding:
        """Concern when a better threshold surely gains."""
        if not measured.thresholds:
            claim = "With several classes each pixel takes its best-scored class; there is no threshold to move."
            return Finding("operating point", Verdict.SOUND, claim)
        regret = measured.regret
        verdict = Verdict.CONCERN if regret.low > 0 and regret.mean >= WORTH else Verdict.SOUND
        claim = _moved(measured)
        if np.isfinite(measured.explained):
            share = f"{measured.explained:.0%}" if measured.explained > 0 else "nothing"
            claim += f" The threshold explains {share} of the epoch-to-epoch variance of the IoU."
        numbers = {
            "explained": measured.explained,
            "by_coverage": measured.by_coverage,
            "from_half": measured.from_half,
        }
        return Finding("operating point", verdict, claim, regret, numbers)


def variance_explained(curves: list[tuple[Epoch, ...]]) -> tuple[float, float]:
    """Shares of the variance of the IoU's steps that the threshold and that the coverage explain.

    With IoU = best - regret at each evaluation, var(d IoU) = cov(d IoU, d best) + cov(d IoU, -d regret): the second
    term over the whole is the threshold's share. The coverage's share is the R^2 of d IoU on d |log coverage|.
    The first third of training, where everything rises, is left out.
    """
    later = [curve[len(curve) // 3 :] for curve in curves]
    steps = [np.diff([epoch.iou for epoch in curve]) for curve in later]
    moved = [np.diff([epoch.iou - epoch.best_iou for epoch in curve]) for curve in later]
    off = [np.diff([abs(np.log(max(epoch.coverage, 1e-3))) for epoch in curve]) for curve in later]
    change, threshold, coverage = (np.concatenate(parts) if parts else np.zeros(0) for parts in (steps, moved, off))
    finite = np.isfinite(change) & np.isfinite(threshold) & np.isfinite(coverage)
    if finite.sum() < 4 or change[finite].var() < 1e-8:
        return float("nan"), float("nan")
    joint = np.cov(np.stack([change[finite], threshold[finite], coverage[finite]]))
    squared = joint[0, 2] ** 2 / (joint[0, 0] * joint[2, 2]) if joint[2, 2] > 1e-12 else 0.0
    return float(joint[0, 1] / joint[0, 0]), float(squared)


def _moved(measured: OperatingMeasured) -> str:
    where = " on the masks as they came" if measured.native else ""
    if measured.crossfitted:
        return (
            f"The threshold in force is {measured.chosen:.2f}; one that the other groups choose for each (about "
            f"{measured.best:.2f}) would change the IoU by {measured.regret:+.3f}{where}."
        )
    chosen = "that inner images choose" if measured.single else "that the other groups choose for each"
    about = "" if measured.single else f" (about {measured.best:.2f})"
    return (
        f"Moving the threshold from {measured.chosen:.2f}, chosen on inner images, to one {chosen}{about} would change "
        f"the IoU by {measured.regret:+.3f}{where}; choosing it gained {measured.from_half:+.3f} over 0.5."
    )
