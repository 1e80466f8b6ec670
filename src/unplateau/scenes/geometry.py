"""Scenes decided by the shape of objects."""

from __future__ import annotations

import numpy as np

from unplateau.scenes.base import Difficulty, Planted
from unplateau.scenes.canvas import dull, ground, paint, photograph, unit
from unplateau.scenes.noise import spots
from unplateau.scenes.shapes import (
    Shape,
    clasp,
    coverage,
    disc,
    inside,
    offsets,
    places,
    some,
    triangle,
    zigzag,
)
from unplateau.types import IGNORE, Size


def geometry(rng: np.random.Generator, size: Size, difficulty: Difficulty) -> Planted:
    """Triangles among discs of equal area, at random turns and sizes; positive = triangles.

    All objects of a scene share one fill, so a pixel, or a patch inside an object, says nothing. Corners and curves
    of the outline tell, which needs a view of a good part of an object.

    Limited view: a single pixel, and all below the width of a corner, attains the level of "all objects", below 0.5; a
    view as wide as an object, some 24 pixels at 96x96, above 0.9.
    """
    return _shaped(rng, size, difficulty, (triangle, disc))


def arrangement(rng: np.random.Generator, size: Size, difficulty: Difficulty) -> Planted:
    """Clasps among zigzags, at random turns and sizes; positive = clasps.

    Both are one bar with two feet, to the same side (clasp) or to opposite sides (zigzag): area, fill and corners are
    the same, and any statistic that forgets where these lie towards one another says nothing. Either remains
    what it is in a mirror, so flips are a sound augmentation.

    Limited view: below the length of an object, some 20 pixels at 96x96, the level of "all objects", below 0.5.
    """
    return _shaped(rng, size, difficulty, (clasp, zigzag))


def geometry_alone(rng: np.random.Generator, size: Size, difficulty: Difficulty) -> Planted:
    """As `geometry`, but the ground does not count (255): that there is an object is no part of the question."""
    return _shaped(rng, size, difficulty, (triangle, disc), ground_is=IGNORE)


def arrangement_alone(rng: np.random.Generator, size: Size, difficulty: Difficulty) -> Planted:
    """As `arrangement`, but the ground does not count (255)."""
    return _shaped(rng, size, difficulty, (clasp, zigzag), ground_is=IGNORE)


def _shaped(
    rng: np.random.Generator, size: Size, difficulty: Difficulty, shapes: tuple[Shape, Shape], ground_is: int = 0
) -> Planted:
    """A scene of the first (positive) and second shape."""
    u = unit(size)
    margin = np.full(2, 13 * u)
    # The spacing suits the longest shape and is kept for all: crowding must not tell them apart.
    centres = places(rng, difficulty.objects, margin, np.array(size) - margin, 27 * u)
    positive = some(rng, len(centres))
    image, mask = ground(rng, size), np.full(size, ground_is, np.uint8)
    lift = dull(rng, (0.22, 0.30), 0.05) + np.float32(0.04) * spots(rng, size, 5 * u)[..., None]
    fill = (image + difficulty.contrast * lift).astype(np.float32)
    for centre, is_positive in zip(centres, positive, strict=True):
        y, x = offsets(size, centre, rng.uniform(0, 2 * np.pi))
        hand = np.float32(rng.choice((-1, 1)))
        distance = shapes[0 if is_positive else 1](y, hand * x, float(np.pi * (rng.uniform(6.8, 8) * u) ** 2))
        image = paint(image, coverage(distance), fill)
        mask[inside(distance) == 1] = np.uint8(is_positive)
    return Planted(photograph(rng, image, difficulty.noise), mask, "geometry")
