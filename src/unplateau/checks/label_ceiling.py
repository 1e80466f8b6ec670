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
from unplateau.measures.annotators import (
    FEWEST,
    QUARTERS,
    Bits,
    Drawing,
    Redrawn,
    agreement_counts,
    half_width,
    label_ceiling,
    redraw,
)
from unplateau.measures.thresholds import Counts
from unplateau.types import IGNORE, Finding, Interval, Size, Task, Verdict

IMAGES = 40
"""Images that are redrawn: contours are long, so that more of them narrow the interval little."""

WIDEST = 12.0
"""Half-width in pixels from which objects are drawn smaller: a redrawer sees lengths in half-widths, and what is finer
than a twelfth of one costs time without telling more."""

SIDE, WINDOWS = 192, 2
"""Pixels of a side of the window that is cut from a larger image, and how many of them: what bounds the cost."""

TOLD = 0.5
"""Part of the hint's displacement that redrawers must undo: below it the image tells less of where an object ends than
half its width does. Offsets so large no longer add like variances, which is what the estimate rests on."""

NOTHING = Interval(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class Ceilings:
    """IoU of two annotators on native masks, smaller where objects are wide, and on the working grid, the part of the
    native hint's displacement that the redrawers undid, 0..1, and the images redrawn. nan where too few images hold
    the class.
    """

    native: Interval
    grid: Interval
    told: Interval
    images: int

    @property
    def grounded(self) -> bool:
        """Whether the image tells enough of the contours for the estimate to mean anything."""
        return self.told.mean >= TOLD


@dataclass(frozen=True)
class Window:
    """What is redrawn of the image of that index, and how many pixels of the working grid it covers."""

    image: int
    drawing: Drawing
    grid: Size


NONE = Ceilings(NOTHING, NOTHING, NOTHING, 0)


@dataclass(frozen=True)
class LabelCeilingMeasured:
    """The estimate, nan where the task has several classes or too few images hold the class, and the baseline's IoU."""

    ceilings: Ceilings
    baseline: Interval


@final
class LabelCeilingCheck(AbstractCheck[LabelCeilingMeasured]):
    """The IoU of two annotators, estimated from one, which is what the labels allow.

    What it measures: two redrawers, trained on disjoint images, redraw each contour from the image, or two windows of a
        large one, and a hint that was displaced at random. What they have in common against the label is the
        annotator's deviation and their own shared error. The low end gives all of it to the annotator; the middle,
        half, is a convention.

    Why it matters: no model can be told to score above the agreement of those who made the labels.

    When it misleads: objects that one annotator leaves out are not seen, nor are habits that the one annotator keeps
        everywhere, so that the truth can lie below the low end. Where the redrawers cannot follow the contour, as
        between textures, the truth can lie far above the middle; where they undo less than half of the hint's
        displacement nothing is said. It never says that labels are the limit.

    What to do next: have twenty images labelled by a second person; that measures what is estimated here.

    Reference: variance components of repeated measurements (Grubbs, J. Am. Stat. Assoc. 43, 1948).
    """

    def measure(self, run: Run) -> LabelCeilingMeasured:
        """Redraw a sample of the images."""
        baseline = run.reading(run.plan.baseline)
        indices = spread(tuple(range(len(run.source))), IMAGES)
        if not run.binary or len(indices) < FEWEST:
            return LabelCeilingMeasured(NONE, baseline)
        found = ceilings(run.source, run.pictures.task, indices, run.pictures.size, run.seed)
        return LabelCeilingMeasured(found, baseline)

    def judge(self, measured: LabelCeilingMeasured) -> Finding:
        """Sound when the baseline is below even the low end; else undetermined, as the high end is not known."""
        found, baseline = measured.ceilings, measured.baseline
        numbers = {"native": found.native, "grid": found.grid, "told": found.told}
        if not np.isfinite([found.grid.low, found.grid.high]).all():
            claim = "Two annotators cannot be compared: that needs one class, on at least eight images."
            return Finding("label ceiling", Verdict.UNDETERMINED, claim)
        if not found.grounded:
            claim = (
                "What two annotators would agree at cannot be told from one: the image says too little of where objects"
                f" end (of a known displacement of masks {found.told.mean:.0%} was undone, and {TOLD:.0%} is needed)."
            )
            return Finding("label ceiling", Verdict.UNDETERMINED, claim, None, numbers)
        claim = (
            f"As far as contours go, two annotators would agree at {found.native.low:.2f} IoU at least, "
            f"{found.grid.low:.2f} on the working grid; the baseline scores {baseline:.2f}. How much higher they would "
            "agree cannot be told from one annotation."
        )
        verdict = Verdict.SOUND if baseline.high < found.grid.low else Verdict.UNDETERMINED
        return Finding("label ceiling", verdict, claim, None, numbers)


def ceilings(source: AbstractSource, task: Task, indices: tuple[int, ...], grid: Size, seed: int) -> Ceilings:
    """The estimate on native masks and on the grid; nan for too few of the class."""
    generator = np.random.default_rng(seed)
    windows = [each for index in indices for each in windows_of(source, task, index, grid, generator)]
    if len({each.image for each in windows}) < FEWEST:
        return NONE
    try:
        redrawn = list(redraw([each.drawing for each in windows], _dealt(source, windows), generator))
    except DataError:  # too few images hold the class: a diagnosis goes on without this answer
        return NONE
    shown = [windows[each.index] for each in redrawn]
    native, coarse = zip(*map(_counts, shown, redrawn), strict=True)
    groups = [source.groups[each.image] for each in shown]
    (native_ceiling, told), (grid_ceiling, _) = (
        label_ceiling(np.stack(each), groups, generator) for each in (native, coarse)
    )
    return Ceilings(native_ceiling, grid_ceiling, told, len({each.image for each in shown}))


def _dealt(source: AbstractSource, windows: list[Window]) -> list[str]:
    """What is kept whole where windows are dealt to redrawers: groups, or images where there are few groups."""
    groups = [source.groups[each.image] for each in windows]
    return groups if len(set(groups)) >= QUARTERS else [str(each.image) for each in windows]


def _counts(window: Window, redrawn: Redrawn) -> tuple[Counts, Counts]:
    """Agreement (3, 3) at the size of the drawing and on the grid."""

    def coarse(mask: Bits) -> Bits:
        return fit_mask(mask.astype(np.uint8), Box(0, 0, *window.grid)).astype(bool)

    drawing = window.drawing
    small = Redrawn(redrawn.index, coarse(redrawn.first), coarse(redrawn.second), coarse(redrawn.hint))
    native = agreement_counts(drawing.label, redrawn, drawing.counted)
    return native, agreement_counts(coarse(drawing.label), small, coarse(drawing.counted))


def windows_of(
    source: AbstractSource, task: Task, index: int, grid: Size, generator: np.random.Generator
) -> list[Window]:
    """An image with its label, small enough for its objects to be at most `WIDEST`; where it still exceeds `SIDE`,
    windows of it, each around a pixel of the class. None where it holds nothing of the class.
    """
    mask = task_mask(source.mask(index), task)
    if not (mask == 1).any():
        return []
    factor = min(1.0, WIDEST / half_width(mask == 1))
    box = Box(0, 0, *(max(1, round(side * factor)) for side in mask.shape))
    small: NDArray[np.uint8] = np.ascontiguousarray(fit_image(source.image(index), box).transpose(1, 2, 0))
    mask = fit_mask(mask, box)
    whole = Drawing(small, mask == 1, mask != IGNORE)
    if max(mask.shape) <= SIDE or not whole.label.any():
        return [Window(index, whole, grid)]
    picked = generator.choice(np.argwhere(whole.label), WINDOWS)
    return [_around(Window(index, whole, grid), (int(row), int(column))) for row, column in picked]


def _around(window: Window, centre: Size) -> Window:
    """What lies around a pixel, at most `SIDE` pixels high and wide."""
    whole, shape = window.drawing, window.drawing.label.shape
    corner = [max(0, min(place - SIDE // 2, side - SIDE)) for place, side in zip(centre, shape, strict=True)]
    part = (slice(corner[0], corner[0] + SIDE), slice(corner[1], corner[1] + SIDE))
    cut = Drawing(whole.image[part].copy(), whole.label[part].copy(), whole.counted[part].copy())
    sides = zip(window.grid, cut.label.shape, shape, strict=True)
    height, width = (max(1, round(cells * kept / side)) for cells, kept, side in sides)
    return Window(window.image, cut, (height, width))
