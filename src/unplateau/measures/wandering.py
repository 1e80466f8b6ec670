"""Whether outlines wander: whether each stretch of them lies off its image by an offset of its own.

A stretch moved to where it fits best fits better, by chance too. So each is moved to where its *neighbours* fit best:
the cells of a board are dealt to two halves like its colours, one half tells the offset and the other is read at it. On
masks that are in place that costs agreement; where contours wander smoothly it gains, and by no chance.

Axes: O offsets from -reach to reach along rows and along columns, C planes, H W pixels, h w cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import binary_dilation, gaussian_filter, map_coordinates, uniform_filter

from unplateau.measures.alignment import binary_digits, image_edges, mask_edges
from unplateau.types import IGNORE

Floats = NDArray[np.float32]

CELL = 4
"""Pixels of a side of a cell: less than a contour wanders together, more than an edge is wide."""

STRETCH = 3
"""Cells of a side of the windows that outlines are judged in."""

SHORTEST = 6.0
"""Pixels of outline that each half of a window must hold to tell anything."""

BEYOND = 2
"""Pixels around what is not counted in which outlines are those of the labelling, not of objects."""

STEADY = 1.0
"""Cells over which offsets are smoothed where masks are moved back; and how much it counts against an offset that it
is large, in what the best one stands above the mean by."""


@dataclass(frozen=True)
class Stretches:
    """The windows of one image that hold enough outline: agreement (n, O, O) of either half at each offset."""

    one: Floats
    other: Floats

    def __len__(self) -> int:
        return len(self.one)

    @property
    def total(self) -> Floats:
        """Agreement (O, O) of all of them at common offsets."""
        return np.asarray((self.one + self.other).sum(0))


@dataclass(frozen=True)
class Fit:
    """How well the stretches of an image agree with its edges: where they are, moved as their neighbours say, and on
    average over all offsets; sums over `count` readings. `product` is the sum of the scalar products of the two halves'
    offsets, in square pixels: chance cancels in it.
    """

    here: float
    moved: float
    anywhere: float
    product: float
    count: int


def stretches(image: NDArray[np.uint8], mask: NDArray[np.uint8], reach: int) -> Stretches:
    """The windows of an image (H, W, 3) and its mask (H, W) of ids that hold enough outline in both halves."""
    volume, length = _agreement(image, mask, reach)
    board = np.indices(length.shape).sum(0) % 2 == 0
    halves = [(_windows(volume * half), _windows(length * half)) for half in (board, ~board)]
    enough = np.minimum(halves[0][1], halves[1][1]) >= SHORTEST
    one, other = (summed[:, :, enough].transpose(2, 0, 1) for summed, _ in halves)
    return Stretches(one, other)


def fit(found: Stretches, common: tuple[int, int]) -> Fit:
    """How well an image's stretches fit where they are, up to the offset `common` (indices) to all, and moved."""
    if not len(found):
        return Fit(0.0, 0.0, 0.0, 0.0, 0)
    each = np.arange(len(found))
    places = [_best(half) for half in (found.one, found.other)]
    read = [(found.other, places[0]), (found.one, places[1])]
    moved = sum(float(half[each, rows, columns].sum()) for half, (rows, columns) in read)
    here, anywhere = float(found.total[common]), float(found.total.mean())
    off = [np.stack(place, axis=1) - np.array(common) for place in places]
    return Fit(here, moved, anywhere, float((off[0] * off[1]).sum()), len(found))


def put_back(image: NDArray[np.uint8], mask: NDArray[np.uint8], reach: int) -> NDArray[np.uint8]:
    """The mask (H, W) with each place taken from where its surroundings fit the image best, smoothly."""
    volume, length = _agreement(image, mask, reach)
    if not length.any():
        return mask
    summed = uniform_filter(_windows(volume), (3, 3, 0, 0), mode="nearest")
    offsets = np.arange(-reach, reach + 1)
    away = (offsets[:, None] ** 2 + offsets[None] ** 2) / reach**2
    flat = summed.reshape(-1, *length.shape)
    clear = np.maximum(flat.max(0) - flat.mean(0), 1e-9)
    place = (flat - STEADY * away.reshape(-1, 1, 1) * clear).argmax(0)
    weight = gaussian_filter(clear, STEADY) + 1e-12
    moves = [gaussian_filter(clear * offsets[part], STEADY) / weight for part in np.divmod(place, len(offsets))]
    cells = [(np.arange(side) + 0.5) / CELL - 0.5 for side in mask.shape]
    grid = np.meshgrid(*cells, indexing="ij")
    return _taken(mask, [map_coordinates(move, grid, order=1, mode="nearest") for move in moves])


def bent(mask: NDArray[np.uint8], pixels: float, generator: np.random.Generator) -> NDArray[np.uint8]:
    """The mask (H, W) of ids under a smooth random field, about half as far again as `pixels` in root mean square: so
    far that the lengths of its moves differ by `pixels` / sqrt(2) in standard deviation.
    """
    fields = [gaussian_filter(generator.normal(size=mask.shape), STRETCH * CELL, mode="wrap") for _ in range(2)]
    scale = pixels / max(float(np.hypot(*fields).std()), 1e-9) / np.sqrt(2)
    return _taken(mask, [scale * field for field in fields])


def _taken(mask: NDArray[np.uint8], moves: list[NDArray[np.float64]]) -> NDArray[np.uint8]:
    """The mask (H, W) with each place taken from where its move, in rows and columns (H, W), points; 255 outside."""
    places = [np.rint(grid + move).astype(np.int64) for grid, move in zip(np.indices(mask.shape), moves, strict=True)]
    inside = np.all([(each >= 0) & (each < side) for each, side in zip(places, mask.shape, strict=True)], axis=0)
    rows, columns = (each.clip(0, side - 1) for each, side in zip(places, mask.shape, strict=True))
    return np.where(inside, mask[rows, columns], np.uint8(IGNORE))


def _agreement(image: NDArray[np.uint8], mask: NDArray[np.uint8], reach: int) -> tuple[Floats, Floats]:
    """Agreement (O, O, h, w) of the outlines in each cell, moved back by each offset, and their length (h, w)."""
    short = [(-side) % CELL for side in mask.shape]
    edges = fft.irfft2(image_edges(image), mask.shape).astype(np.float32)
    edges = np.pad(edges, ((0, 0), *((reach, reach + each) for each in short)))
    outlines = np.pad(_outlines(mask), ((0, 0), *((0, each) for each in short)))
    length = _cells(outlines[0])
    rows, columns = np.nonzero(length)
    own, around = (
        _patches(planes, side)[:, rows, columns] for planes, side in ((outlines, CELL), (edges, CELL + 2 * reach))
    )
    # Cells last, so that each of the many short sums runs over all of them at once.
    own, around = (np.ascontiguousarray(each.transpose(0, 2, 3, 1)) for each in (own, around))
    side = 2 * reach + 1
    volume = np.zeros((side, side, *length.shape), np.float32)
    for down, right in np.ndindex(side, side):
        # An outline moved back by an offset meets the edges at its place less the offset.
        top, left = side - 1 - down, side - 1 - right
        met = around[:, top : top + CELL, left : left + CELL]
        volume[down, right, rows, columns] = (own * met).sum((0, 1, 2))
    return volume, length


def _patches(planes: Floats, side: int) -> Floats:
    """Squares (C, h, w, side, side) of planes, one from the first corner of each cell on."""
    return sliding_window_view(planes, (side, side), axis=(1, 2))[:, ::CELL, ::CELL]


def _outlines(mask: NDArray[np.uint8]) -> Floats:
    """The outlines (3, H, W) of a mask but for those of what is not counted."""
    outlines = mask_edges(binary_digits(mask), 0)
    if (mask == IGNORE).any():
        outlines = outlines * ~binary_dilation(mask == IGNORE, iterations=BEYOND)
    return outlines


def _cells(pixels: Floats) -> Floats:
    """Sums (h, w) over cells of pixels (H, W)."""
    height, width = (side // CELL for side in pixels.shape)
    summed: Floats = pixels.reshape(height, CELL, width, CELL).sum((1, 3))
    return summed


def _windows(cells: Floats) -> Floats:
    """Sums (..., h, w) over the window around each cell."""
    size = (1,) * (cells.ndim - 2) + (STRETCH, STRETCH)
    summed: Floats = uniform_filter(cells, size, mode="constant") * STRETCH**2
    return summed


def _best(half: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The offset (indices) at which each window of one half (n, O, O) fits best, its neighbours counted in."""
    smooth = uniform_filter(half, (1, 3, 3), mode="nearest")
    rows, columns = np.divmod(smooth.reshape(len(half), -1).argmax(1), half.shape[2])
    return rows, columns
