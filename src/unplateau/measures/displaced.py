"""Objects whose mask has their shape and not their place: each is moved until it fits an answer best.

A wrong answer has seldom the very shape of a right mask some pixels away; a mask that was drawn on the wrong image
grid, by a shaking hand, or bent by a transformation that the image did not share, has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

from unplateau.measures.label_scores import NEIGHBOURS

SMALLEST = 8
"""Pixels under which a shape says nothing."""

FITS, FAILS = 0.7, 0.55
"""IoU from which an object fits an answer, and under which it does not."""

FAR = 1.5
"""Pixels from which an object is elsewhere: less is the rounding of a grid."""


@dataclass(frozen=True)
class Moved:
    """The components of one mask or of many: IoU (K,) with the answer next to them where they lie and after the shift
    (rows, columns) that fits best; `image`, `row`, `column` (K,) say which they are.
    """

    image: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    @property
    def displaced(self) -> NDArray[np.bool_]:
        """Which (K,) fit an answer elsewhere and not where they lie."""
        return (self.after >= FITS) & (self.before < FAILS) & (np.hypot(self.rows, self.columns) >= FAR)


def move_objects(image: int, mask: NDArray[np.bool_], answer: NDArray[np.bool_], reach: int) -> Moved:
    """Each component of `mask` (H, W) moved by up to `reach` pixels, and by no more than half its own side."""
    given, _ = label(mask, NEIGHBOURS)
    said, _ = label(answer, NEIGHBOURS)
    rows = [_moved(given == place, box, said, reach) for place, box in enumerate(find_objects(given), start=1)]
    table = np.array([each for each in rows if each is not None], dtype=np.float64).reshape(-1, 6)
    whole = table[:, [0, 1, 4, 5]].astype(np.int64)
    return Moved(
        np.full(len(table), image), whole[:, 0], whole[:, 1], table[:, 2], table[:, 3], whole[:, 2], whole[:, 3]
    )


def join_moved(parts: list[Moved]) -> Moved:
    """The components of many images as one table."""
    names = ("image", "row", "column", "before", "after", "rows", "columns")
    if not parts:
        whole, share = np.zeros(0, np.int64), np.zeros(0)
        return Moved(whole, whole, whole, share, share, whole, whole)
    return Moved(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def no_common_shift(moved: Moved, share: float) -> Moved:
    """The same, with none displaced when the mean shift is at least `share` of the shifts' mean length: it is one shift
    of everything, and not of single objects.
    """
    off = moved.displaced
    if not off.any():
        return moved
    rows, columns = moved.rows[off], moved.columns[off]
    if np.hypot(rows.mean(), columns.mean()) < share * np.hypot(rows, columns).mean():
        return moved
    still = np.zeros_like(moved.rows)
    return replace(moved, after=moved.before, rows=still, columns=still)


def _moved(
    shape: NDArray[np.bool_], box: tuple[slice, slice], said: NDArray[np.int32], reach: int
) -> tuple[float, ...] | None:
    """A pixel of the object, its IoU before and after, and its shift; None if it is too small to tell."""
    cut = shape[box]
    if cut.sum() < SMALLEST:
        return None
    row, column = np.argwhere(cut)[0] + (box[0].start, box[1].start)
    around = np.pad(said, reach)[box[0].start : box[0].stop + 2 * reach, box[1].start : box[1].stop + 2 * reach]
    sizes = np.bincount(said.ravel())
    before = _fit(cut, around, sizes, reach, reach)
    if before >= FAILS:
        return float(row), float(column), before, before, 0.0, 0.0
    shifts = _shifts(min(reach, max(cut.shape) // 2))
    fits = [_fit(cut, around, sizes, reach + rows, reach + columns) for rows, columns in shifts]
    best = int(np.argmax(fits))
    return float(row), float(column), before, fits[best], *map(float, shifts[best])


def _fit(cut: NDArray[np.bool_], around: NDArray[np.int32], sizes: NDArray[np.int64], top: int, left: int) -> float:
    """IoU of an object with the component of the answers that it fits best, when it lies at that place."""
    under = around[top : top + cut.shape[0], left : left + cut.shape[1]][cut]
    hits = np.bincount(under)[1:]
    if not hits.any():
        return 0.0
    return float((hits / (len(under) + sizes[1 : len(hits) + 1] - hits)).max())


def _shifts(far: int) -> list[tuple[int, int]]:
    """All shifts of up to `far` pixels, nearest first, so that of equal fits the nearest is taken."""
    steps = range(-far, far + 1)
    return sorted(((rows, columns) for rows in steps for columns in steps), key=lambda each: (np.hypot(*each), each))
