"""Laying one picture over another: scale and shift along rows and columns, which is what cropping and resizing do.

Axes: P pairs, H W pixels, h w pixels of a coarser level.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unplateau.types import IGNORE

Floats = NDArray[np.float32]

LEVELS = ((4, 10), (2, 6), (1, 4))
"""Registration, coarsest first: pixels of the grid a pixel of the level, and Gauss-Newton steps."""

FARTHEST = 0.25
"""Bound on each parameter of the registration, in half sides: nothing is laid over what it would not overlap."""


def registration(
    fixed: tuple[Floats, ...],
    moving: tuple[Floats, ...],
    levels: tuple[tuple[int, int], ...] = LEVELS,
    start: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Scale and shift (P, 2, 2) along rows and columns, in half sides, that lay `moving` over `fixed`.

    Levels (P, h, w), coarsest first. Gauss-Newton on the squared difference, the gain fitted at each step (Lucas and
    Kanade 1981, restricted to what cropping and resizing do).
    """
    found = np.zeros((len(fixed[0]), 2, 2)) if start is None else start
    for (_, steps), still, moved in zip(levels, fixed, moving, strict=True):
        for _ in range(steps):
            found = np.clip(found + _step(still, moved, found), -FARTHEST, FARTHEST)
    return found


def warped(moving: Floats, found: NDArray[np.float64]) -> tuple[Floats, NDArray[np.bool_]]:
    """Pictures (P, H, W) under scale and shift (P, 2, 2), by linear interpolation, and where they came from inside."""
    moved, in_height = _interpolated(moving, found[:, 0])
    moved, in_width = _interpolated(moved.swapaxes(1, 2), found[:, 1])
    return moved.swapaxes(1, 2), in_height[:, :, None] & in_width[:, None, :]


def laid_over(mask: NDArray[np.uint8], found: NDArray[np.float64], mirrored: bool) -> NDArray[np.uint8]:
    """A mask (H, W) moved as its picture was, by the nearest pixel; 255 where it came from outside."""
    mask = mask[:, :: -1 if mirrored else 1]
    places, inside = [], []
    for side, (scale, shift) in zip(mask.shape, found, strict=True):
        place = np.rint((np.linspace(-1, 1, side) * (1 + scale) + shift + 1) / 2 * (side - 1)).astype(np.int64)
        places.append(place.clip(0, side - 1))
        inside.append((place >= 0) & (place < side))
    moved = mask[places[0][:, None], places[1][None]]
    return np.where(inside[0][:, None] & inside[1][None], moved, np.uint8(IGNORE))


def _interpolated(moving: Floats, along: NDArray[np.float64]) -> tuple[Floats, NDArray[np.bool_]]:
    """Rows of (P, H, W) at places scaled and shifted by (P, 2), and which of the places (P, H) exist."""
    height = moving.shape[1]
    place = np.linspace(-1, 1, height) * (1 + along[:, :1]) + along[:, 1:]
    pixel = (place + 1) / 2 * (height - 1)
    low = np.clip(np.floor(pixel), 0, height - 2).astype(np.int64)
    part = np.clip(pixel - low, 0, 1).astype(np.float32)[..., None]
    number = np.arange(len(moving))[:, None]
    return moving[number, low] * (1 - part) + moving[number, low + 1] * part, (pixel >= 0) & (pixel <= height - 1)


def _step(fixed: Floats, moving: Floats, found: NDArray[np.float64]) -> NDArray[np.float64]:
    """One Gauss-Newton step (P, 2, 2)."""
    moved, inside = warped(moving, found)
    seen, still = (each.reshape(len(fixed), -1) for each in (moved * inside, fixed))
    gain = np.einsum("pk,pk->p", seen, still) / (np.einsum("pk,pk->p", seen, seen) + 1e-6)
    # A negative gain would lay a picture over its negative; a small one would stop the search before it began.
    moved = moved * np.clip(gain, 0.25, 4.0)[:, None, None].astype(np.float32)
    missing = ((fixed - moved) * inside).reshape(len(fixed), -1, 1)
    jacobian = _jacobian(moved, inside)
    normal = (jacobian @ jacobian.swapaxes(1, 2)).astype(np.float64)
    pull = (jacobian @ missing).astype(np.float64)
    ridge = (1e-6 + 1e-3 * np.trace(normal, axis1=1, axis2=2) / 4)[:, None, None] * np.eye(4)
    return np.asarray(np.linalg.solve(normal + ridge, pull).reshape(-1, 2, 2))


def _jacobian(moved: Floats, inside: NDArray[np.bool_]) -> Floats:
    """How pictures (P, H, W) change by scale and shift along rows, and along columns: (P, 4, H * W), filled in place,
    since most of the time of a step goes into memory.
    """
    count, *shape = moved.shape
    columns = np.empty((count, 4, *shape), np.float32)
    for axis, side in enumerate(shape):
        scale, shift = columns[:, 2 * axis], columns[:, 2 * axis + 1]
        np.multiply(np.gradient(moved, axis=axis + 1), inside, out=shift)
        shift *= side / 2
        grid = np.linspace(-1, 1, side, dtype=np.float32)
        np.multiply(shift, grid[:, None] if axis == 0 else grid, out=scale)
    return columns.reshape(count, 4, -1)
