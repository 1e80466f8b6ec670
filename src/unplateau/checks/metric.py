"""Is the number what its name says: the reported IoU against what the same answers score, by several definitions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from unplateau.checks.check import AbstractCheck
from unplateau.experiments.run import Run, decided
from unplateau.measures.thresholds import Counts, iou, mean_over_classes
from unplateau.types import IGNORE, Finding, Interval, Verdict

CLOSE = 0.005
"""Difference in IoU that rounding and another resampling of the masks leave."""


@dataclass(frozen=True)
class MetricMeasured:
    """The reported number (nan when none was), the IoU of the same answers, and what other definitions make of them."""

    reported: float
    iou: Interval
    others: dict[str, float]


@final
class MetricCheck(AbstractCheck[MetricMeasured]):
    """Whether the reported number is the IoU of the class in question.

    What it measures: the number that a model came with, beside the pooled IoU of its answers on the same images, and
        beside what the usual mistakes give: the mean with the background, the share of right pixels, Dice, the mean
        over images.

    Why it matters: background is easy and large; counted in, it makes a floor of nearly one half, and every gain looks
        half as large as it is.

    When it misleads: two definitions may agree by chance on one set of images; a number from other images agrees with
        none.

    What to do next: report the IoU of the class, pooled over images, and say so beside the number.

    Reference: Maier-Hein et al., Metrics reloaded, Nature Methods 2024.
    """

    def measure(self, run: Run) -> MetricMeasured:
        """All definitions on the report images."""
        counts = np.concatenate([decided(fitted) for fitted in run.outcomes[run.plan.baseline]])
        pixels = np.concatenate(
            [(run.pictures.masks[list(fold.report)] != IGNORE).flatten(1).sum(1).numpy() for fold in run.folds]
        )
        return MetricMeasured(run.reported, run.reading(run.plan.baseline), definitions(counts, pixels))

    def judge(self, measured: MetricMeasured) -> Finding:
        """Concern when the number is off and a mistake explains it; undetermined when it is off and none does."""
        reported, ours = measured.reported, measured.iou.mean
        numbers = {"reported": reported, "iou": measured.iou, "others": measured.others}
        if math.isnan(reported):
            return Finding("metric", Verdict.SOUND, "No number was reported that could be wrong.", None, numbers)
        if abs(reported - ours) <= CLOSE:
            claim = f"The reported {reported:.3f} is the IoU of these answers."
            return Finding("metric", Verdict.SOUND, claim, None, numbers)
        name, value = min(measured.others.items(), key=lambda item: abs(item[1] - reported))
        if abs(value - reported) <= CLOSE:
            claim = f"The reported {reported:.3f} is no IoU of the class but the {name}; the IoU is {measured.iou:.3f}."
            return Finding("metric", Verdict.CONCERN, claim, None, numbers)
        claim = f"The reported {reported:.3f} is not what these answers score ({measured.iou:.3f}), nor any usual "
        claim += "mistake: it was measured on other images or by another definition."
        return Finding("metric", Verdict.UNDETERMINED, claim, None, numbers)


def definitions(counts: Counts, pixels: NDArray[np.int64]) -> dict[str, float]:
    """What other definitions make of counts (N, C, 3) of images with so many counted pixels (N,)."""
    hit, predicted, true = (counts[..., place].sum(0).astype(np.float64) for place in range(3))
    total = float(pixels.sum())
    union = predicted + true - hit
    background = (total - union) / np.maximum(total - hit, 1)
    right = (hit.sum() + (total - union.sum() if len(hit) == 1 else 0)) / max(total, 1)
    by_image, dice = mean_over_classes(iou(counts)), 2 * hit / np.maximum(predicted + true, 1)
    return {
        "mean of class and background": float((iou(np.stack([hit, predicted, true], -1)) + background).mean() / 2),
        "share of right pixels": float(right),
        "Dice score": float(dice[union > 0].mean()) if (union > 0).any() else math.nan,
        "mean over images": float(np.nanmean(by_image)) if np.isfinite(by_image).any() else math.nan,
    }
