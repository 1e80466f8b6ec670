"""What a coarser grid costs, exactly: the score of a model that makes no mistake at that resolution."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unplateau.errors import DataError
from unplateau.types import IGNORE, Size


def resolution_counts(mask_native: NDArray[np.uint8], grid: Size, stride: int, classes: int) -> NDArray[np.int64]:
    """Pixels hit, predicted and true, int64 (classes, 3), of a perfect answer given on cells of a grid.

    `mask_native`: uint8 (H, W), class indices below `classes`, 255 = not counted. `grid`: height and width in grid
    pixels that the mask is brought to. `stride`: grid pixels a side of a cell; where it does not divide the grid the
    last cells are smaller. Each native pixel belongs to the cell its centre falls in. Each cell answers with the
    class that holds most of it (the lower index in a tie), and the answer is spread back over its pixels.

    That answer is the best in pixels, so in IoU it can be beaten a little by one that favours a rare class. Counts
    add up over images; the IoU is hit / (predicted + true - hit), undefined where a class never occurs.

    Raises:
        DataError: the mask is not two-dimensional or holds an index outside the classes, or a size is not positive.
    """
    _refuse(mask_native, grid, stride, classes)
    cells = [_cells(pixels, side, stride) for pixels, side in zip(mask_native.shape, grid, strict=True)]
    cell_HW = cells[0][:, None] * (int(cells[1].max(initial=0)) + 1) + cells[1][None, :]
    counted = mask_native != IGNORE
    cell_P, true_P = cell_HW[counted], mask_native[counted].astype(np.int64)
    if not true_P.size:
        return np.zeros((classes, 3), dtype=np.int64)
    share_XC = np.bincount(cell_P * classes + true_P, minlength=(int(cell_P.max()) + 1) * classes)
    answer_P = share_XC.reshape(-1, classes).argmax(axis=1)[cell_P]
    counts = (true_P[answer_P == true_P], answer_P, true_P)
    return np.stack([np.bincount(each, minlength=classes) for each in counts], axis=1).astype(np.int64)


def _cells(pixels: int, side: int, stride: int) -> NDArray[np.int64]:
    """The cell along one axis in which the centre of each of `pixels` native pixels falls, int64 (pixels,)."""
    return ((2 * np.arange(pixels, dtype=np.int64) + 1) * side // (2 * pixels)) // stride


def _refuse(mask: NDArray[np.uint8], grid: Size, stride: int, classes: int) -> None:
    if mask.ndim != 2:
        raise DataError(f"`mask_native` must be (height, width), but is {mask.shape}: give one mask at a time.")
    if min(*grid, stride, classes) < 1:
        raise DataError(f"`grid`, `stride` and `classes` must be positive, but are {grid}, {stride} and {classes}.")
    if ((mask >= classes) & (mask != IGNORE)).any():
        highest = int(mask[mask != IGNORE].max())
        raise DataError(f"`mask_native` must hold indices below {classes} or 255, but holds {highest}: convert it.")
