"""Scenes decided by something far away, and scenes that mix what decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from unplateau.errors import UnplateauError, nearest
from unplateau.scenes.base import Builder, Difficulty, Field, Planted
from unplateau.scenes.canvas import Colour, ground, paint, photograph, rgb, unit
from unplateau.scenes.noise import lines, spots
from unplateau.scenes.shapes import Point, Shape, coverage, disc, inside, offsets, places, some, square, triangle
from unplateau.types import IGNORE, Size

RADIUS = 7.0
"""Radius in pixels of a disc at 96x96; all objects of these scenes have its area."""

PLAIN = (0.62, 0.60, 0.58)
MARKER = (0.10, 0.85, 0.95)


@dataclass(frozen=True)
class Layout:
    """Where things stand: `centres` of the objects, which are `near` the marker's side, and the `marker` itself."""

    centres: list[Point]
    near: list[bool]
    marker: Point


@dataclass(frozen=True)
class Look:
    """What an object looks like."""

    shape: Shape
    colour: Colour
    grain: Field | None = None


def context(rng: np.random.Generator, size: Size, difficulty: Difficulty) -> Planted:
    """Identical discs in the left and right half; positive = those in the half where the marker stands.

    The marker stands in a corner, the discs in the opposite upper or lower half, at least 35 rows away at 96x96 (in
    proportion at other sizes): no window of 70 pixels around a disc pixel holds any of the marker.

    Limited view: nothing up to a reach of 70 pixels does better than to take all discs, half of whose area is
    positive: an IoU just below 0.5, less where a larger model learns its training scenes by heart. A model that
    sees the whole image attains above 0.9.
    """
    return mixture({"context": 1.0})(rng, size, difficulty)


def context_alone(rng: np.random.Generator, size: Size, difficulty: Difficulty) -> Planted:
    """As `context`, but the ground does not count (255): what is left to say of a disc is which half it is in."""
    return _mixed(("context",), (1.0,), rng, size, difficulty, ground_is=IGNORE)


def mixture(shares: Mapping[str, float]) -> Builder:
    """A builder of scenes that look alike, each decided by one family, drawn with the given shares.

    Each scene holds the same ground, the same marker, and the same number of objects of equal area, half of which are
    positive on average; so a family's share of the scenes is its share of the positive area. The objects of
    "context" are plain discs, positive on the marker's side; of "texture", discs with lines (positive) or spots; of
    "geometry", plain triangles (positive) or squares; of "fire", orange (positive) or blue discs. The marker
    decides nothing in the last three.

    Limited view: at each reach, the best IoU is that of all its families taken together; those out of reach stay at
    the level of "all objects", just below 0.5.

    Shares are relative weights. Raises `UnplateauError` on an unknown family, a negative or missing weight.
    """
    for family, share in shares.items():
        if family not in LOOKS:
            raise UnplateauError(f"`shares` has the unknown family {family!r}: {nearest(family, LOOKS)}")
        if not share >= 0:
            raise UnplateauError(f"`shares` must not be negative; got {share} for {family!r}.")
    total = float(sum(shares.values()))
    if not total > 0:
        raise UnplateauError("`shares` must give at least one family a share above 0.")
    return partial(_mixed, tuple(shares), tuple(share / total for share in shares.values()))


def _mixed(
    families: tuple[str, ...],
    shares: tuple[float, ...],
    rng: np.random.Generator,
    size: Size,
    difficulty: Difficulty,
    ground_is: int = 0,
) -> Planted:
    family = families[rng.choice(len(families), p=shares)]
    layout = _layout(rng, size, difficulty.objects)
    positive = layout.near if family == "context" else some(rng, len(layout.near))
    looks = LOOKS[family](rng, size)
    image, mask = _marked(ground(rng, size), layout.marker, size), np.full(size, ground_is, np.uint8)
    area = float(np.pi * (RADIUS * unit(size)) ** 2)
    for centre, is_positive in zip(layout.centres, positive, strict=True):
        look = looks[0 if is_positive else 1]
        distance = look.shape(*offsets(size, centre, rng.uniform(0, 2 * np.pi)), area)
        image = paint(image, coverage(distance), _fill(image, look, difficulty.contrast))
        # A later object may hide the tip of an earlier one.
        mask = np.where(inside(distance) == 1, np.uint8(is_positive), mask)
    return Planted(photograph(rng, image, difficulty.noise), mask, family)


def _fill(image: Field, look: Look, contrast: float) -> Field:
    plain = image + contrast * (look.colour - image)
    return plain if look.grain is None else plain + contrast * look.grain[..., None]


def _marked(image: Field, centre: Point, size: Size) -> Field:
    y, x = offsets(size, centre, np.pi / 4)
    return paint(image, coverage(square(y, x, (8 * unit(size)) ** 2)), rgb(*MARKER))


def _layout(rng: np.random.Generator, size: Size, objects: int) -> Layout:
    """Objects in the lower half, left and right of the middle, the marker in an upper corner; or upside down."""
    height, width = size
    u = unit(size)
    margin, on_left = 9 * u, bool(rng.random() < 0.5)
    centres: list[Point] = []
    near: list[bool] = []
    for left in (True, False):
        first = margin if left else width / 2 + margin
        low = np.array([height / 2 + margin, first])
        high = np.array([height - 1 - margin, first + width / 2 - 1 - 2 * margin])
        found = places(rng, max(1, objects // 2 - int(rng.random() < 0.3)), low, high, 17.5 * u)
        centres, near = centres + found, near + [left == on_left] * len(found)
    row, column = rng.uniform((6 * u, 6.5 * u), (7.5 * u, 12 * u))
    marker = np.array([row, column if on_left else width - 1 - column])
    if rng.random() < 0.5:
        centres, marker = [_flipped(centre, height) for centre in centres], _flipped(marker, height)
    return Layout(centres, near, marker)


def _flipped(point: Point, height: int) -> Point:
    return np.array([height - 1 - point[0], point[1]])


Looks = Callable[[np.random.Generator, Size], tuple[Look, Look]]


def _plain_discs(rng: np.random.Generator, size: Size) -> tuple[Look, Look]:
    return Look(disc, rgb(*PLAIN)), Look(disc, rgb(*PLAIN))


def _grained_discs(rng: np.random.Generator, size: Size) -> tuple[Look, Look]:
    wavelength = 5 * unit(size)
    lined, spotted = lines(rng, size, wavelength), spots(rng, size, wavelength)
    return Look(disc, rgb(*PLAIN), 0.13 * lined), Look(disc, rgb(*PLAIN), 0.13 * spotted)


def _polygons(rng: np.random.Generator, size: Size) -> tuple[Look, Look]:
    return Look(triangle, rgb(*PLAIN)), Look(square, rgb(*PLAIN))


def _coloured_discs(rng: np.random.Generator, size: Size) -> tuple[Look, Look]:
    # Both have the lightness of the plain fill.
    return Look(disc, rgb(0.85, 0.55, 0.25)), Look(disc, rgb(0.45, 0.63, 0.80))


LOOKS: dict[str, Looks] = {
    "fire": _coloured_discs,
    "texture": _grained_discs,
    "geometry": _polygons,
    "context": _plain_discs,
}
"""How the positive and the negative objects of each family look in a mixture."""
