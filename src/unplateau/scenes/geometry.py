"""Scenes decided by the shape of objects."""

from __future__ import annotations

import numpy as np

from unplateau.scenes.base import Difficulty, Planted
from unplateau.scenes.canvas import dull, ground, paint, photograph, unit
from unplateau.scenes.noise import spots
from unplateau.scenes.shapes import (
    Shape,
    coverage,
    disc,
    hook,
    inside,
    mirrored_hook,
    offsets,
    places,
    some,
    triangle,
)
from unplateau.types import Size


def geometry(rng: np.random.Generator, size: Size, difficulty: Difficulty) -> Planted:
    """Triangles among discs of equal area, at random turns and sizes; positive = triangles.

    All objects of a scene share one fill, so a pixel, or a patch inside an object, says nothing. Corners and curves
    of the outline tell, which needs a view of a good part of an object.

    Limited view: a single pixel, and all below the width of a corner, attains the level of "all objects", below 0.5; a
    view as wide as an object, some 24 pixels at 96x96, above 0.9.
    """
    return _shaped(rng, size, difficulty, (triangle, disc), "geometry")


def arrangement(rng: np.random.Generator, size: Size, difficulty: Difficulty) -> Planted:
    """Hooks among their mirror images, at random turns and sizes; positive = hooks that turn right.

    Both have the same area, fill, edges and corners: any statistic that forgets where they lie towards one another
    is the same for both. Only the ordered outline of a whole object tells.

    Limited view: below the length of an object, some 24 pixels at 96x96, the level of "all objects", below 0.5.
    """
    return _shaped(rng, size, difficulty, (hook, mirrored_hook), "geometry")


def _shaped(
    rng: np.random.Generator, size: Size, difficulty: Difficulty, shapes: tuple[Shape, Shape], family: str
) -> Planted:
    """A scene of the first (positive) and second shape."""
    u = unit(size)
    margin = np.full(2, 13 * u)
    # The spacing suits the longest shape and is kept for all: crowding must not tell them apart.
    centres = places(rng, difficulty.objects, margin, np.array(size) - margin, 27 * u)
    positive = some(rng, len(centres))
    image, mask = ground(rng, size), np.zeros(size, np.uint8)
    lift = dull(rng, (0.22, 0.30), 0.05) + np.float32(0.04) * spots(rng, size, 5 * u)[..., None]
    fill = (image + difficulty.contrast * lift).astype(np.float32)
    for centre, is_positive in zip(centres, positive, strict=True):
        y, x = offsets(size, centre, rng.uniform(0, 2 * np.pi))
        distance = shapes[0 if is_positive else 1](y, x, float(np.pi * (rng.uniform(6.8, 8) * u) ** 2))
        image = paint(image, coverage(distance), fill)
        mask |= inside(distance) * np.uint8(is_positive)
    return Planted(photograph(rng, image, difficulty.noise), mask, family)
