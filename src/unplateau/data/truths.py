"""What is true of each image, where it is not one mask: masks that may overlap, labels, boxes.

Axes: N images, C classes, M boxes of an image, H W pixels of the working grid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from unplateau.data.checks import refuse_damaged, refuse_other_size, scan_mask
from unplateau.data.folder import some
from unplateau.data.grid import Box, fit_mask
from unplateau.data.parallel import in_parallel
from unplateau.data.sources import AbstractSource
from unplateau.data.tasks import find_task
from unplateau.errors import DataError
from unplateau.types import IGNORE, Size, Task

Packed = tuple[NDArray[np.uint8], NDArray[Any] | None, tuple[str, ...]]
"""Masks, targets and warnings, as `Pictures` holds them."""

SMALLEST_BOX = 2.0
"""Sides of a box in pixels of the working grid below which no model could find it."""


class AbstractTruth(ABC):
    """What is true of the images of a source, in their order."""

    task: Task
    warnings: tuple[str, ...] = ()

    @abstractmethod
    def on_grid(self, index: int, native: Size, box: Box, grid: Size) -> NDArray[Any]:
        """What is true of one image of `native` size that lies in `box` of the working grid."""

    @abstractmethod
    def packed(self, rows: Sequence[NDArray[Any]]) -> Packed:
        """All images together."""


@final
class LayeredMasks(AbstractTruth):
    """A binary mask for each class; they may overlap. `layers` are sources of the same images, one a class."""

    def __init__(self, names: tuple[str, ...], layers: Sequence[AbstractSource]) -> None:
        self._layers = tuple(layers)
        tasks = [_binary(layer, name) for layer, name in zip(layers, names, strict=True)]
        self._yes = tuple(task.positive[0] for task in tasks)
        self.task = Task((), tuple(range(len(names))), names, "multi-label", exclusive=False)

    def on_grid(self, index: int, native: Size, box: Box, grid: Size) -> NDArray[np.uint8]:
        """0, 1 or 255 = not counted, uint8 (C, H, W)."""
        row = np.full((len(self._layers), *grid), IGNORE, np.uint8)
        for layer, yes, out in zip(self._layers, self._yes, row, strict=True):
            mask = layer.mask(index)
            refuse_other_size(layer.mask_file(index), (mask.shape[0], mask.shape[1]), native)
            inside = fit_mask(mask, box)
            unknown = (inside == IGNORE) & (yes != IGNORE)
            out[box.top : box.top + box.height, box.left : box.left + box.width] = np.where(
                unknown, IGNORE, inside == yes
            )
        return row

    def packed(self, rows: Sequence[NDArray[np.uint8]]) -> Packed:
        """Masks (N, C, H, W)."""
        masks = np.stack(rows)
        gone = [name for name, seen in zip(self.task.names, (masks == 1).any((0, 2, 3)), strict=True) if not seen]
        if gone:
            raise DataError(f"Each class must be seen on the working grid; {some(gone)} are too small: raise `size`.")
        return masks, None, ()


@final
class ImageLabels(AbstractTruth):
    """Which classes each image has: `table` uint8 (N, C), 0, 1 or 255 = not known.

    Raises:
        DataError: no class tells any two images apart.
    """

    def __init__(self, task: Task, table: NDArray[np.uint8]) -> None:
        self.task, self._table = task, table
        constant = [name for name, column in zip(task.names, table.T, strict=True) if len(set(column) - {IGNORE}) < 2]
        if len(constant) == len(task.names):
            raise DataError(
                f"A label must hold for some images and not for others; {some(constant)} holds for all or for none: "
                "add images of the other kind."
            )
        if constant:
            self.warnings = (f"Labels that all images have, or none, teach nothing: {some(constant)}.",)

    def on_grid(self, index: int, native: Size, box: Box, grid: Size) -> NDArray[np.uint8]:
        """The row of the table (C,), wherever the image lies."""
        return self._table[index]

    def packed(self, rows: Sequence[NDArray[np.uint8]]) -> Packed:
        """Targets (N, C)."""
        return np.zeros((len(rows), 0, 0), np.uint8), np.stack(rows), ()


@final
class ImageBoxes(AbstractTruth):
    """The boxes of each image: (M, 5), index of the class, then left, top, right and bottom in native pixels.

    Raises:
        DataError: there is no box at all.
    """

    def __init__(self, task: Task, boxes: Sequence[NDArray[np.float32]], warnings: tuple[str, ...] = ()) -> None:
        self.task, self._boxes, self.warnings = task, tuple(boxes), warnings
        if not any(len(each) for each in boxes):
            raise DataError("There must be boxes to learn from, but no image has any: check the class ids.")

    def on_grid(self, index: int, native: Size, box: Box, grid: Size) -> NDArray[np.float32]:
        """The boxes of an image (M, 5) in pixels of the grid."""
        boxes = self._boxes[index].copy()
        boxes[:, [1, 3]] = boxes[:, [1, 3]] * (box.width / native[1]) + box.left
        boxes[:, [2, 4]] = boxes[:, [2, 4]] * (box.height / native[0]) + box.top
        return boxes

    def packed(self, rows: Sequence[NDArray[np.float32]]) -> Packed:
        """Targets (N, M, 5); rows of class -1 fill up, and stand for boxes too small to be found at this size."""
        total, kept = sum(map(len, rows)), [row[_large(row)] for row in rows]
        lost = total - sum(map(len, kept))
        if lost == total:
            raise DataError(f"No box has a side of {SMALLEST_BOX:g} pixels on the working grid: raise `size`.")
        targets = np.zeros((len(rows), max(map(len, kept)), 5), np.float32)
        targets[..., 0] = -1
        for target, row in zip(targets, kept, strict=True):
            target[: len(row)] = row
        said = f"{lost} of {total} boxes are below {SMALLEST_BOX:g} pixels on the working grid and are left out."
        return np.zeros((len(rows), 0, 0), np.uint8), targets, (said,) if lost else ()


def _large(row: NDArray[np.float32]) -> NDArray[np.bool_]:
    return (row[:, 3:] - row[:, 1:3]).min(1) >= SMALLEST_BOX


def _binary(layer: AbstractSource, name: str) -> Task:
    """The binary task that one class's masks pose."""
    scans = in_parallel(lambda index: scan_mask(layer.mask(index)), range(len(layer)))
    refuse_damaged(scans, [layer.mask_file(index) for index in range(len(layer))])
    ids = {each for scan in scans for each in scan.ids}
    if not ids <= {0, 1, IGNORE} or not ids & {1, IGNORE}:
        raise DataError(
            f"The masks of the class {name!r} must hold 0 and 1, or 0 and 255, and both; they hold "
            f"{', '.join(map(str, sorted(ids)))}: export one binary mask for each class."
        )
    # 255 is what was drawn in white, unless a 1 says that it is not counted; ones alone leave nothing to tell apart.
    return find_task(ids)


# ---- from masks ----------------------------------------------------------------------------------------------


def things(ids: set[int], positive: Sequence[int] | None, source: AbstractSource, kind: str) -> Task:
    """What masks of these ids say of labels or boxes: the positive class, or each id by itself, but not 0.

    Raises:
        DataError: as in `find_task`.
    """
    task = find_task(ids, positive, source.class_names)
    if task.positive:
        return replace(task, kind=kind, exclusive=False)
    # Id 0 is what is left of an image once the things are taken out.
    kept = [(each, name) for each, name in zip(task.classes, task.names, strict=True) if each != 0]
    return Task((), tuple(each for each, _ in kept), tuple(name for _, name in kept), kind, exclusive=False)


def columns(task: Task) -> list[tuple[int, ...]]:
    """The ids of a mask behind each output of a task that `things` found."""
    return [task.positive] if task.positive else [(each,) for each in task.classes]


def mask_ids(source: AbstractSource) -> list[set[int]]:
    """The ids in each mask of a source, checked as masks are.

    Raises:
        DataError: damaged masks, or one of another size than its image.
    """

    def work(index: int) -> Any:
        mask = source.mask(index)
        refuse_other_size(source.mask_file(index), (mask.shape[0], mask.shape[1]), source.size(index))
        return scan_mask(mask)

    scans = in_parallel(work, range(len(source)))
    refuse_damaged(scans, [source.mask_file(index) for index in range(len(source))])
    return [set(scan.ids) for scan in scans]
