"""Outlines of a given area, and where to put them.

An outline is a signed distance in pixels, negative inside, over offsets (y, x) from the centre.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from unplateau.scenes.base import Bits, Field
from unplateau.types import Size

Shape = Callable[[Field, Field, float], Field]
"""Signed distance of an outline of the given area in square pixels."""

Point = NDArray[np.float64]
"""Row and column in pixels."""


def disc(y: Field, x: Field, area: float) -> Field:
    """A disc."""
    return np.hypot(y, x) - np.float32(np.sqrt(area / np.pi))


def square(y: Field, x: Field, area: float) -> Field:
    """A square."""
    return np.maximum(np.abs(y), np.abs(x)) - np.float32(np.sqrt(area) / 2)


def triangle(y: Field, x: Field, area: float) -> Field:
    """A triangle of equal sides."""
    inradius = np.sqrt(area / np.sqrt(3)) / np.sqrt(3)
    sides = [np.float32(np.sin(a)) * y + np.float32(np.cos(a)) * x for a in np.pi * np.array([0.5, 7 / 6, 11 / 6])]
    return np.maximum.reduce(sides) - np.float32(inradius)


def clasp(y: Field, x: Field, area: float) -> Field:
    """A bar with a foot at either end, both to the same side."""
    cell = float(np.sqrt(area / 6.5))
    # The feet pull the centre of mass to their side.
    x = x + cell * (2 * 1.5 * 1.25) / 6.5
    return np.minimum(_bar(y, x, cell), np.minimum(_foot(y, x, cell), _foot(-y, x, cell)))


def zigzag(y: Field, x: Field, area: float) -> Field:
    """The bar and feet of `clasp` with the feet to opposite sides."""
    cell = float(np.sqrt(area / 6.5))
    return np.minimum(_bar(y, x, cell), np.minimum(_foot(y, x, cell), _foot(-y, -x, cell)))


def _bar(y: Field, x: Field, cell: float) -> Field:
    """Along y: 3.5 cells long, one wide, centred."""
    return np.maximum(np.abs(y) - 1.75 * cell, np.abs(x) - 0.5 * cell)


def _foot(y: Field, x: Field, cell: float) -> Field:
    """At the upper end of the bar: one cell wide, 1.5 cells beyond the bar; it overlaps the bar to leave no seam."""
    return np.maximum(np.abs(y - 1.25 * cell) - 0.5 * cell, np.abs(x - 0.75 * cell) - 1.25 * cell)


def offsets(size: Size, centre: Point, turn: float = 0.0) -> tuple[Field, Field]:
    """Rows and columns (H, W) of each pixel measured from `centre`, in axes turned by `turn` radians."""
    y = (np.arange(size[0]) - centre[0]).astype(np.float32)[:, None]
    x = (np.arange(size[1]) - centre[1]).astype(np.float32)[None]
    sine, cosine = np.float32(np.sin(turn)), np.float32(np.cos(turn))
    return cosine * y - sine * x, sine * y + cosine * x


def coverage(distance: Field) -> Field:
    """The share of each pixel inside the outline, 0..1."""
    return np.clip(0.5 - distance, 0, 1)


def inside(distance: Field) -> Bits:
    """The mask of an outline: 1 where the pixel's centre lies inside."""
    return (distance < 0).astype(np.uint8)


def places(rng: np.random.Generator, count: int, low: Point, high: Point, apart: float) -> list[Point]:
    """Up to `count` random points in the box from `low` to `high`, at least `apart` pixels from one another.

    Fewer come back when the box is too full for another.
    """
    found: list[Point] = []
    for _ in range(count):
        tries = rng.uniform(low, np.maximum(low, high), (96, 2))
        free = [np.hypot(*(tries - other).T) >= apart for other in found]
        fits = tries[np.logical_and.reduce(free)] if free else tries
        if len(fits):
            found.append(fits[0])
    return found


def some(rng: np.random.Generator, count: int) -> list[bool]:
    """Which of `count` objects are positive: at least one, not all, half on average."""
    chosen = rng.permutation(count) < rng.integers(1, max(2, count))
    return [bool(each) for each in chosen]
