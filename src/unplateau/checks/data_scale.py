"""Is it the amount of data: the baseline trained on nested shares of the groups."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from unplateau.checks.capacity import CapacityMeasured
from unplateau.checks.check import AbstractCheck, unmeasured
from unplateau.checks.scaling import Law, fit_law, foretell, likely_exponent
from unplateau.data.splits import nested
from unplateau.experiments.gains import at_length
from unplateau.experiments.plan import less_name
from unplateau.experiments.run import Run
from unplateau.measures.intervals import interval
from unplateau.types import Finding, Interval, Verdict

FACTORS = (2.0, 4.0)

FEW = 12
"""Unrelated images or groups under which a learning curve is that of single ones."""

CLOSED = Interval(0.45, 0.2, 0.65)
"""Share of the gap between seen and unseen images that twice the data closes: 1 - 2 ** -a for a from .3 to 1.5 (the gap
falls as a power of the data, Hestness et al., arXiv 1712.00409)."""

FEW_GROUPS = 6
WORTH = 0.02
"""IoU below which a gain is not worth new annotation, and about what two seeds differ by."""


@dataclass(frozen=True)
class CurvePoint:
    """IoU of the baseline trained on so many groups and images, means over the folds."""

    groups: float
    images: float
    iou: Interval


@dataclass(frozen=True)
class DataMeasured:
    """The learning curve, its law, and the IoU predicted at each of `FACTORS` times the data."""

    points: tuple[CurvePoint, ...]
    law: Law
    predicted: dict[str, Interval]
    gains: dict[str, Interval]
    groups: int


@final
class DataScaleCheck(AbstractCheck[DataMeasured | None]):
    """What more data of the same kind would add.

    What it measures: the baseline trained on nested shares of the training groups, whole groups at a time, scored on
        the same images; a power law through the points, with an exponent that they allow; the IoU at twice and four
        times the data.

    Why it matters: more data is the dearest remedy and the one most often guessed.

    When it misleads: with fewer than six groups the curve is that of single groups; new data of another kind (new
        scenes rather than more frames) gains more than the law says; the number of steps is the same at each share.

    What to do next: collect new groups (scenes, patients, drives), not more images of the same ones.

    Reference: Hestness et al., arXiv 1712.00409; Alabdulmohsin et al., arXiv 2209.06640.
    """

    def measure(self, run: Run) -> DataMeasured | None:
        """Points, law and predictions with paired intervals; None where no share of the data was trained on."""
        smaller = [less_name(fraction) for fraction in run.plan.fractions]
        if not smaller or any(name not in run.outcomes for name in smaller):
            return None
        run = run.shared(smaller)
        sums = [*map(run.fairly, smaller), at_length(run)]
        draws = np.stack([run.resampler.draws(each) for each in sums], axis=1)
        means = np.array([run.resampler.mean(each) for each in sums])
        points = tuple(
            CurvePoint(*_amount(run, fraction), interval(mean, draws[:, place]))
            for place, (fraction, mean) in enumerate(zip([*run.plan.fractions, 1.0], means, strict=True))
        )
        shares = np.array([point.groups for point in points]) / points[-1].groups
        keep = [place for place, share in enumerate(shares) if share < 1] + [len(shares) - 1]
        shares, draws, means = shares[keep], draws[:, keep], means[keep]
        names_of = [f"{factor:g}x" for factor in FACTORS]
        ahead = dict(zip(names_of, foretell(shares, means, draws, FACTORS, run.seed), strict=True))
        return DataMeasured(
            points=points,
            law=fit_law(shares, means, likely_exponent(shares, means)),
            predicted={name: interval(centre, values) for name, (centre, values) in ahead.items()},
            gains={name: interval(c - means[-1], values - draws[:, -1]) for name, (c, values) in ahead.items()},
            groups=round(points[-1].groups),
        )

    def judge(self, measured: DataMeasured | None) -> Finding:
        """Concern when twice the data surely gains, sound when even four times hardly can."""
        if measured is None:
            return unmeasured("data scale")
        double, fourfold = measured.gains["2x"], measured.gains["4x"]
        verdict = Verdict.UNDETERMINED
        if measured.groups >= FEW_GROUPS and double.low > 0 and double.mean >= WORTH:
            verdict = Verdict.CONCERN
        elif fourfold.high < WORTH and measured.points[0].groups < measured.groups:
            verdict = Verdict.SOUND
        claim = f"Twice the data is predicted to add {double:+.3f} IoU, four times {fourfold:+.3f}."
        if measured.groups < FEW_GROUPS:
            claim += f" Only {measured.groups} groups train, so the curve is that of single groups."
        return Finding("data scale", verdict, claim, double, {"predicted": measured.predicted, "gains": measured.gains})


def by_gap(capacity: CapacityMeasured | None) -> Interval | None:
    """What twice the data would add to a model that scores more on what it has seen: a share of that gap, else None."""
    if capacity is None or capacity.seen <= capacity.report:
        return None
    gap = capacity.seen - capacity.report
    return Interval(CLOSED.mean * gap, CLOSED.low * gap, CLOSED.high * gap)


def unrelated(findings: tuple[Finding, ...]) -> float:
    """How many unrelated images the training part is worth; infinity where that could not be told."""
    found = [each.measured.get("effective") for each in findings if each.check == "diversity"]
    effective = found[0] if found else None
    return effective.mean if isinstance(effective, Interval) and math.isfinite(effective.mean) else math.inf


def _amount(run: Run, fraction: float) -> tuple[float, float]:
    """Groups and images that a share of the data holds, means over the folds."""
    groups, images = [], []
    for number, fold in enumerate(run.folds):
        (subset,) = nested(run.pictures, fold, (fraction,), run.seed * 1000 + number)
        images.append(len(subset))
        groups.append(len({run.pictures.groups[index] for index in subset}))
    return float(np.mean(groups)), float(np.mean(images))
