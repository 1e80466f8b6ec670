"""Where is the IoU lost: repair one kind of error at a time in the baseline's answers, and score again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from unplateau.checks.check import AbstractCheck
from unplateau.experiments.plan import mapped
from unplateau.experiments.run import Run, Sums
from unplateau.measures.anatomy import KINDS, anatomy_counts
from unplateau.measures.intervals import interval
from unplateau.measures.thresholds import BINS, Counts
from unplateau.types import Finding, Interval, Verdict

WORTH = 0.01
"""IoU below which no kind of error is worth a name."""

EXAMPLES = 8


@dataclass(frozen=True)
class AnatomyMeasured:
    """What each kind of error costs: the IoU after repairing it alone, minus the IoU as it is.

    `lost` is 1 minus the IoU; `remainder` what of it no single repair brings, because the last repairs of a union
    gain more than the first ones: it belongs to no kind, whatever the order. `first` is the costliest kind, `lead`
    its cost minus that of the next one; `pixels` the share of all wrong pixels by kind; `worst` names the pictures
    with most wrong pixels of the first kind.
    """

    iou: Interval
    gains: dict[str, Interval]
    lost: Interval
    remainder: Interval
    first: str
    second: str
    lead: Interval
    pixels: dict[str, float]
    worst: tuple[str, ...]


@final
class AnatomyCheck(AbstractCheck[AnatomyMeasured]):
    """Which kind of error costs the IoU most.

    What it measures: each wrong pixel of the answers has one kind (contour wanders, extent of a found object, missed
        object, spurious object, objects merged or split, class confused); one kind at a time is repaired in the
        answers and the pooled IoU is taken again. The gains do not add up to what is missing, since the ratio is not
        linear; the remainder is shown and shared out to none.

    Why it matters: a contour asks for resolution, missed and spurious objects for context or data, confused classes
        for semantics; one number hides which.

    When it misleads: an object counts as found from one right pixel on, so that a barely touched one is lost in extent
        rather than missed; a seam thinner than the contour band counts as contour; a wrong mask shows up as an error
        of the answer.

    What to do next: look at the pictures named, and take the remedy of the kind that costs most.

    Reference: Bolya et al., TIDE, ECCV 2020 (repair and score again); beyond-iou's contour, extent and segment errors.
    """

    def measure(self, run: Run) -> AnatomyMeasured:
        """The gain of each repair, paired over resamples of groups."""
        counts = answer_counts(run)
        sums = [_sums(run, counts[:, row]) for row in range(counts.shape[1])]
        kinds = KINDS if not run.binary else tuple(kind for kind in KINDS if kind != "confusion")
        rows = {kind: 1 + KINDS.index(kind) for kind in kinds}
        compare = run.resampler
        gains = {kind: compare.difference(sums[row], sums[0]) for kind, row in rows.items()}
        first, second = sorted(kinds, key=lambda kind: -np.nan_to_num(gains[kind].mean))[:2]
        pixels = _wrong_pixels(counts)
        return AnatomyMeasured(
            iou=compare.interval(sums[0]),
            gains=gains,
            lost=interval(1 - compare.mean(sums[0]), 1 - compare.draws(sums[0])),
            remainder=_remainder(run, sums),
            first=first,
            second=second,
            lead=compare.difference(sums[rows[first]], sums[rows[second]]),
            pixels={kind: float(pixels[:, row - 1].sum() / max(1, pixels.sum())) for kind, row in rows.items()},
            worst=_worst(run, pixels[:, rows[first] - 1]),
        )

    def judge(self, measured: AnatomyMeasured) -> Finding:
        """Concern when one kind surely costs more than each other one; undetermined when two are level."""
        first = measured.gains[measured.first]
        if not np.isfinite(first.mean):
            return Finding("anatomy", Verdict.UNDETERMINED, "No picture that reports holds a class to be scored on.")
        others = ", ".join(
            f"{kind} {gain.mean:+.3f}" for kind, gain in measured.gains.items() if kind != measured.first
        )
        claim = f"Of {measured.lost.mean:.3f} IoU that is missing, most goes to {measured.first}: repaired alone it "
        claim += (
            f"would add {first:+.3f}; the others {others}; {measured.remainder.mean:+.3f} belongs to no single kind."
        )
        verdict = Verdict.CONCERN
        if first.mean < WORTH:
            verdict, claim = Verdict.SOUND, f"No kind of error alone costs as much as {WORTH} IoU."
        elif not measured.lead.above_zero:
            verdict = Verdict.UNDETERMINED
            claim += f" Its lead over {measured.second} is not sure ({measured.lead:+.3f})."
        return Finding("anatomy", verdict, claim, None, {"gains": measured.gains}, measured.worst)


def answer_counts(run: Run) -> Counts:
    """Counts (N, 1 + K, C, 3) of every picture that some fold reports, zeros for the others."""
    task = run.pictures.task
    classes = 2 if task.binary else task.outputs
    counts = np.zeros((len(run.pictures), 1 + len(KINDS), task.outputs, 3), np.int64)
    cuts, masks = thresholds(run, run.plan.baseline), run.pictures.masks.numpy()
    for index in np.flatnonzero(run.unseen).tolist():
        said = run.answers[index]
        answer = (said[0] >= cuts[index] if task.binary else said.argmax(0)).astype(np.uint8)
        counts[index] = anatomy_counts(answer, masks[index], classes, task.binary)
    return counts


def thresholds(run: Run, name: str) -> NDArray[np.int64]:
    """The threshold (N,) in steps of 1 / BINS that decides each picture's answer: that in force in its fold."""
    cuts = np.full(len(run.pictures), BINS // 2)
    if run.binary:
        fits = run.outcomes[name]
        for number, fitted in reversed(list(enumerate(fits))):
            threshold = fitted.threshold if np.isfinite(fitted.threshold) else 0.5
            cuts[list(mapped(run.folds, number, len(run.pictures)))] = round(threshold * BINS)
    return cuts


def _sums(run: Run, counts: Counts) -> Sums:
    """Counts of pictures (N, C, 3), summed over groups for each fold that reports them."""
    return run.resampler.sums_of(counts[list(fold.report)] for fold in run.folds)


def _remainder(run: Run, sums: list[Sums]) -> Interval:
    draws = np.stack([run.resampler.draws(each) for each in sums])
    means = np.array([run.resampler.mean(each) for each in sums])
    # 1 - IoU minus the sum of the single gains.
    left = [1 - values[0] - (values[1:] - values[0]).sum(0) for values in (means, draws)]
    return interval(float(left[0]), left[1])


def _wrong_pixels(counts: Counts) -> NDArray[np.int64]:
    """Wrong pixels (N, K) by kind: a repair adds a hit for each missing pixel and takes each extra one away."""
    missing = counts[:, 1:, :, 0] - counts[:, :1, :, 0]
    extra = missing - (counts[:, 1:, :, 1] - counts[:, :1, :, 1])
    # With many classes a wrong pixel is missing in one and extra in another.
    return (missing + extra).sum(-1) if counts.shape[2] == 1 else missing.sum(-1)


def _worst(run: Run, pixels: NDArray[np.int64]) -> tuple[str, ...]:
    order = np.argsort(-pixels, kind="stable")[:EXAMPLES]
    return tuple(run.pictures.names[index] for index in order.tolist() if pixels[index])
