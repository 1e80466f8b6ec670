"""Is it the labels: how well would a second annotator agree with the first?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from unplateau.checks.check import AbstractCheck
from unplateau.data.grid import Box, fit_image, fit_mask
from unplateau.data.sources import AbstractSource
from unplateau.data.tasks import task_mask
from unplateau.errors import DataError
from unplateau.experiments.fits import spread
from unplateau.experiments.run import Run
from unplateau.measures.annotators import FEWEST, Bits, Drawing, Redrawn, agreement_counts, label_ceiling, redraw
from unplateau.measures.thresholds import Counts
from unplateau.types import IGNORE, Finding, Interval, Size, Task, Verdict

IMAGES = 40
"""Images that are redrawn: contours are long, so that more of them narrow the interval little."""

LONGEST = 640
"""Long side in pixels that a native image is brought to before it is redrawn, to bound the cost."""

NOTHING = Interval(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class LabelCeilingMeasured:
    """IoU of two annotators on native masks and on the working grid, the baseline's IoU, and the images redrawn.

    nan where the task has several classes or too few images hold the class.
    """

    native: Interval
    grid: Interval
    baseline: Interval
    images: int


@final
class LabelCeilingCheck(AbstractCheck[LabelCeilingMeasured]):
    """The IoU of two annotators, estimated from one, which is what the labels allow.

    What it measures: two redrawers, trained on disjoint images, redraw each contour from the native image and a hint
        that was displaced at random. What they have in common against the label is the annotator's deviation and
        their own shared error. The low end gives all of it to the annotator; the middle, half, is a convention.

    Why it matters: no model can be told to score above the agreement of those who made the labels.

    When it misleads: objects that one annotator leaves out are not seen, nor are habits that the one annotator keeps
        everywhere, so that the truth can lie below the low end. Where the redrawers cannot follow the contour, as
        between textures, the truth can lie far above the middle. It therefore never says that labels are the limit.

    What to do next: have twenty images labelled by a second person; that measures what is estimated here.

    Reference: variance components of repeated measurements (Grubbs, J. Am. Stat. Assoc. 43, 1948).
    """

    def measure(self, run: Run) -> LabelCeilingMeasured:
        """Redraw a sample of the native images."""
        baseline = run.reading(run.plan.baseline)
        indices = spread(tuple(range(len(run.source))), IMAGES)
        if not run.binary or len(indices) < FEWEST:
            return LabelCeilingMeasured(NOTHING, NOTHING, baseline, 0)
        native, grid, images = ceilings(run.source, run.pictures.task, indices, run.pictures.size, run.seed)
        return LabelCeilingMeasured(native, grid, baseline, images)

    def judge(self, measured: LabelCeilingMeasured) -> Finding:
        """Sound when the baseline is below even the low end; else undetermined, as the high end is not known."""
        ceiling, baseline = measured.grid, measured.baseline
        if not np.isfinite([ceiling.low, ceiling.high]).all():
            claim = "Two annotators cannot be compared: that needs one class, on at least eight images."
            return Finding("label ceiling", Verdict.UNDETERMINED, claim)
        claim = f"As far as contours go, two annotators would agree at {measured.native.low:.2f} IoU at least, "
        claim += (
            f"{ceiling.low:.2f} on the working grid; the baseline scores {baseline:.2f}. How much higher they would "
        )
        claim += "agree cannot be told from one annotation."
        verdict = Verdict.SOUND if baseline.high < ceiling.low else Verdict.UNDETERMINED
        return Finding("label ceiling", verdict, claim, None, {"native": measured.native, "grid": ceiling})


def ceilings(
    source: AbstractSource, task: Task, indices: tuple[int, ...], grid: Size, seed: int
) -> tuple[Interval, Interval, int]:
    """The estimate on native masks and on the grid, and how many images it rests on; nan for too few of the class."""
    generator = np.random.default_rng(seed)
    drawings = [drawing_of(source, task, index) for index in indices]
    groups = [source.groups[index] for index in indices]
    try:
        rows = [
            (groups[each.index], *_counts(drawings[each.index], each, grid))
            for each in redraw(drawings, groups, generator)
        ]
    except DataError:  # too few images hold the class: a diagnosis goes on without this answer
        return NOTHING, NOTHING, 0
    kept, native, coarse = zip(*rows, strict=True)
    native_ceiling, grid_ceiling = (label_ceiling(np.stack(each), kept, generator) for each in (native, coarse))
    return native_ceiling, grid_ceiling, len(kept)


def _counts(drawing: Drawing, redrawn: Redrawn, grid: Size) -> tuple[Counts, Counts]:
    """Agreement (3, 3) at the size of the drawing and on the grid."""

    def coarse(mask: Bits) -> Bits:
        return fit_mask(mask.astype(np.uint8), Box(0, 0, *grid)).astype(bool)

    small = Redrawn(redrawn.index, coarse(redrawn.first), coarse(redrawn.second), coarse(redrawn.hint))
    native = agreement_counts(drawing.label, redrawn, drawing.counted)
    return native, agreement_counts(coarse(drawing.label), small, coarse(drawing.counted))


def drawing_of(source: AbstractSource, task: Task, index: int) -> Drawing:
    """An image with its label at native size, or smaller where the long side exceeds `LONGEST`."""
    image, mask = source.image(index), task_mask(source.mask(index), task)
    height, width = mask.shape
    factor = min(1.0, LONGEST / max(height, width))
    box = Box(0, 0, max(1, round(height * factor)), max(1, round(width * factor)))
    shrunk: NDArray[np.uint8] = np.ascontiguousarray(fit_image(image, box).transpose(1, 2, 0))
    mask = fit_mask(mask, box)
    return Drawing(shrunk, mask == 1, mask != IGNORE)
