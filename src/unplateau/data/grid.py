"""The one working grid that all images of a data set are brought to. Why there is one: docs/decisions/002."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unplateau.errors import DataError
from unplateau.types import Size

MULTIPLE = 8
"""Both sides of the grid are divisible by this, so that three halvings need no padding."""

SQUASH = 1.5
"""An image is squashed to the grid when its aspect differs by at most this factor, else padded."""

SMALLEST = 16
"""Shorter grids than this on the long side hold no shape."""


@dataclass(frozen=True)
class Box:
    """Where on the grid an image lies, in grid pixels."""

    top: int
    left: int
    height: int
    width: int


def working_grid(natives: Sequence[Size], size: int) -> Size:
    """Height and width of the grid for images of these native sizes.

    The long side is `size` pixels, the aspect is the median over the images, both sides are rounded to a multiple of
    8 and neither exceeds the median native side: pixels that no camera saw would only cost time.

    Raises:
        DataError: `size` is below 16.
    """
    if size < SMALLEST:
        raise DataError(f"`size` must be at least {SMALLEST} pixels, but is {size}: give the long side of the grid.")
    sides = np.array(natives, dtype=float)
    aspect = float(np.exp(np.median(np.log(sides[:, 1] / sides[:, 0]))))
    height, width = native_size(natives)
    long = min(float(size), float(max(height, width)))
    return _rounded(long * min(1.0, 1 / aspect), height), _rounded(long * min(1.0, aspect), width)


def native_size(natives: Sequence[Size]) -> Size:
    """Median height and median width in pixels."""
    height, width = np.median(np.array(natives, dtype=float), axis=0)
    return int(height), int(width)


def _rounded(side: float, native: int) -> int:
    nearest = round(side / MULTIPLE) * MULTIPLE
    return max(MULTIPLE, min(nearest, native // MULTIPLE * MULTIPLE))


def place(native: Size, grid: Size) -> Box:
    """The whole grid, or, for an image of quite another aspect, the largest centred box of that aspect."""
    scales = grid[0] / native[0], grid[1] / native[1]
    if max(scales) / min(scales) <= SQUASH:
        return Box(0, 0, *grid)
    height, width = (max(1, round(side * min(scales))) for side in native)
    return Box((grid[0] - height) // 2, (grid[1] - width) // 2, height, width)


def fit_image(image_HWC: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """The image, uint8 (H, W, 3), at the size of the box: (3, h, w).

    Shrunk with the Hamming window: an area mean that keeps edges at their place to a fraction of a pixel. The plain
    box counts whole pixels, so at uneven factors edges jump by up to half a pixel against the mask; Lanczos rings.
    """
    if image_HWC.shape[:2] != (box.height, box.width):
        shrinks = box.height <= image_HWC.shape[0] and box.width <= image_HWC.shape[1]
        resample = Image.Resampling.HAMMING if shrinks else Image.Resampling.BILINEAR
        resized = Image.fromarray(image_HWC).resize((box.width, box.height), resample, reducing_gap=2.0)
        image_HWC = np.asarray(resized)
    return image_HWC.transpose(2, 0, 1)


def fit_mask(mask_HW: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """The mask, uint8 (H, W), at the size of the box: the id at the centre of each cell.

    Centres are an even sample of the mask, so each class keeps its share of the area on average, however thin it is.
    The most frequent id of a cell would erase a vessel of half a cell; a mean would make up ids.
    """
    rows, columns = (
        np.floor((np.arange(cells) + 0.5) * pixels / cells).astype(np.intp)
        for cells, pixels in zip((box.height, box.width), mask_HW.shape, strict=True)
    )
    return mask_HW[rows[:, None], columns[None, :]]
