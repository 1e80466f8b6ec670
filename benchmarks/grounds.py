"""Scenes by another hand on grounds like photographs: clouds of all scales in colours that fade into each other, lit
unevenly and noisy, so that nothing but what decides stands out. Read by `benchmarks.other_scenes`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIDE: Final = 64
Plane = NDArray[np.float64]
Bits = NDArray[np.bool_]
Drawn = tuple[Plane, Bits]
"""An image (H, W, 3) in 0..1 and its mask (H, W)."""

Y, X = np.mgrid[:SIDE, :SIDE].astype(float)


def clouds(rng: np.random.Generator, steep: float = 1.6) -> Plane:
    """A plane whose amplitude falls with the frequency as in photographs; mean 0, spread 1."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None])
    frequency[0, 0] = np.inf
    plane = np.fft.ifft2(np.fft.fft2(rng.standard_normal((SIDE, SIDE))) / frequency**steep).real
    return np.asarray((plane - plane.mean()) / plane.std())


def ground(rng: np.random.Generator, contrast: float = 0.09) -> Plane:
    """Two colours that fade into each other, and light and dark on top."""
    one, other = rng.uniform(0.35, 0.65, (2, 3))
    part = 1 / (1 + np.exp(-clouds(rng)))[..., None]
    return np.asarray(part * one + (1 - part) * other + contrast * clouds(rng)[..., None])


def taken(image: Plane, rng: np.random.Generator, noise: float = 0.03) -> Plane:
    """As a camera takes it."""
    return np.asarray(np.clip(image + noise * rng.standard_normal(image.shape), 0, 1))


def blobs(rng: np.random.Generator, cover: float = 0.25) -> Bits:
    """Smooth regions that cover about this share."""
    field = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), 6, mode="wrap")
    return np.asarray(field > np.quantile(field, 1 - cover))


def apart(rng: np.random.Generator, count: int, margin: float, gap: float) -> list[NDArray[np.float64]]:
    """Centres (y, x) that lie so far from the border and from each other."""
    found: list[NDArray[np.float64]] = []
    for _ in range(400):
        at = rng.uniform(margin, SIDE - margin, 2)
        if all(np.hypot(*(at - other)) >= gap for other in found):
            found.append(at)
        if len(found) == count:
            break
    return found


def painted(image: Plane, inside: Bits, rng: np.random.Generator) -> Plane:
    """The image with something of one dark or light colour in it."""
    return np.where(inside[..., None], image + rng.choice((-0.3, 0.3)) * np.ones(3), image)


# ---- texture -------------------------------------------------------------------------------------------------


def slant(rng: np.random.Generator) -> Drawn:
    """Grain that leans one way in some regions, and the other way elsewhere."""
    mask, noise = blobs(rng), rng.standard_normal((2, SIDE, SIDE))
    line = np.eye(9)
    leaning = [ndimage.convolve(noise[each], way, mode="wrap") for each, way in enumerate((line, line[::-1]))]
    plane = np.where(mask, leaning[0], leaning[1]) / 3
    return taken(ground(rng) + 0.12 * plane[..., None], rng), mask


def faded(rng: np.random.Generator) -> Drawn:
    """Regions whose colours are more lively, at the same lightness."""
    mask, spots = blobs(rng), np.stack([clouds(rng, 1.0) for _ in range(3)], axis=-1)
    spots -= spots.mean(-1, keepdims=True)
    return taken(ground(rng) + np.where(mask[..., None], 0.16, 0.03) * spots, rng), mask


def defocused(rng: np.random.Generator) -> Drawn:
    """One fine ground, out of focus in some regions."""
    mask, fine = blobs(rng), clouds(rng, 0.6)
    soft = ndimage.gaussian_filter(fine, 1.5)
    plane = np.where(mask, soft * fine.std() / soft.std(), fine)
    return taken(ground(rng, 0.04) + 0.12 * plane[..., None], rng, 0.02), mask


# ---- geometry ------------------------------------------------------------------------------------------------


def things(
    rng: np.random.Generator,
    at: list[NDArray[np.float64]],
    image: Plane,
    shape: Callable[[Plane, Plane], tuple[Bits, bool]],
) -> Drawn:
    """A thing at each place of an image, its shape drawn from rows and columns away, and whether it is positive."""
    mask = np.zeros((SIDE, SIDE), bool)
    for row, column in at:
        inside, positive = shape(Y - row, X - column)
        image = painted(image, inside, rng)
        mask |= inside & positive
    return taken(image, rng), mask


def upright(rng: np.random.Generator) -> Drawn:
    """Triangles that stand on their base among those that stand on their tip."""

    def triangle(y: Plane, x: Plane) -> tuple[Bits, bool]:
        down = bool(rng.random() < 0.5)
        rows = y * (-1 if down else 1)
        return (rows > -7) & (rows < 7) & (abs(x) < (rows + 7) * 0.6), down

    image = ground(rng)
    return things(rng, apart(rng, 5, 9, 19), image, triangle)


def wavy(rng: np.random.Generator) -> Drawn:
    """Wavy strokes among straight ones, as long and as thick."""

    def stroke(y: Plane, x: Plane) -> tuple[Bits, bool]:
        turn, bent = rng.uniform(0, np.pi), bool(rng.random() < 0.5)
        along, across = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
        return (abs(along) < 10) & (abs(across - (3 * np.sin(along / 2.2) if bent else 0)) < 1.8), bent

    image = ground(rng)
    return things(rng, apart(rng, 4, 11, 22), image, stroke)


def bitten(rng: np.random.Generator) -> Drawn:
    """Discs with a bite in their border among whole ones."""

    def disc(y: Plane, x: Plane) -> tuple[Bits, bool]:
        turn, bite = rng.uniform(0, 2 * np.pi), bool(rng.random() < 0.5)
        gone = np.hypot(y - 7 * np.sin(turn), x - 7 * np.cos(turn)) < 4.5
        return (np.hypot(y, x) < 7) & ~(gone & bite), bite

    image = ground(rng)
    return things(rng, apart(rng, 5, 9, 19), image, disc)


# ---- context -------------------------------------------------------------------------------------------------


def _dealt(rng: np.random.Generator, at: list[NDArray[np.float64]], positive: list[bool]) -> Drawn:
    image, mask = ground(rng), np.zeros((SIDE, SIDE), bool)
    for centre, each in zip(at, positive, strict=True):
        inside = np.hypot(Y - centre[0], X - centre[1]) < 4
        image = np.where(inside[..., None], image + 0.3, image)
        mask |= inside & each
    return image, mask


def arrow(rng: np.random.Generator) -> Drawn:
    """Equal discs; those on the side to which an arrow at the upper edge points are positive."""
    left = bool(rng.random() < 0.5)
    at = [each for each in apart(rng, 7, 6, 12) if each[0] > 18 and abs(each[1] - SIDE / 2) > 7]
    image, mask = _dealt(rng, at, [(each[1] < SIDE / 2) == left for each in at])
    along = (X - SIDE / 2) * (1 if left else -1)
    inside = (abs(Y - 8) < 5 * np.clip((along + 7) / 7, 0, 1)) & (along < 0)
    inside |= (abs(Y - 8) < 1.6) & (along >= 0) & (along < 8)
    return taken(np.where(inside[..., None], image - 0.35, image), rng), mask


def horizon(rng: np.random.Generator) -> Drawn:
    """Equal discs over a land and in its sky; those in the sky are positive, wherever the land ends."""
    height = rng.uniform(0.35, 0.65) * SIDE + 2 * clouds(rng)[0]
    at = [each for each in apart(rng, 7, 6, 12) if abs(each[0] - height[int(each[1])]) > 13]
    image, mask = _dealt(rng, at, [bool(each[0] < height[int(each[1])]) for each in at])
    edge = abs(Y - height[None]) < 1.5
    return taken(np.where(edge[..., None], image - 0.3, image), rng), mask


KINDS: dict[str, tuple[str, Callable[[np.random.Generator], Drawn]]] = {
    "slant": ("texture", slant),
    "faded": ("texture", faded),
    "defocused": ("texture", defocused),
    "upright": ("geometry", upright),
    "wavy": ("geometry", wavy),
    "bitten": ("geometry", bitten),
    "arrow": ("context", arrow),
    "horizon": ("context", horizon),
}
"""What decides each, and how it is drawn."""
