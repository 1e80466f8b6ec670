"""Scenes by another hand than the package's own: what decides them is known, how they look was not developed on.

    python -m benchmarks.other_scenes

Trains the ladder on each as `benchmarks.families` does, one fold, and prints which family it says decides.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.families import PURE, row
from benchmarks.grounds import KINDS as ON_GROUNDS
from benchmarks.grounds import SIDE, Drawn, Plane, apart, blobs
from unplateau.types import Sample


def grid() -> tuple[Plane, Plane]:
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    return y, x


def grey(plane: Plane, rng: np.random.Generator, noise: float = 0.04) -> Plane:
    """A photograph of a grey plane."""
    image = np.repeat(plane[..., None], 3, axis=2)
    return np.asarray(np.clip(image + noise * rng.standard_normal(image.shape), 0, 1))


def gratings(rng: np.random.Generator) -> Drawn:
    """Waves of half the length in some regions, at any turn."""
    y, x = grid()
    mask = blobs(rng)

    def wave(length: float) -> Plane:
        turn = rng.uniform(0, np.pi)
        return np.asarray(np.sin(2 * np.pi * (np.cos(turn) * y + np.sin(turn) * x) / length + rng.uniform(0, 6)))

    return grey(0.5 + 0.18 * np.where(mask, wave(4), wave(8)), rng), mask


def grain(rng: np.random.Generator) -> Drawn:
    """Fine and coarse grain of the same strength."""
    mask = blobs(rng)
    fine, coarse = (ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), each) for each in (0.6, 1.6))
    plane = np.where(mask, fine / fine.std(), coarse / coarse.std())
    return grey(0.5 + 0.13 * plane, rng, 0.02), mask


def hue(rng: np.random.Generator) -> Drawn:
    """Ellipses of one hue among those of another, at any brightness, on any ground."""
    y, x = grid()
    image = np.ones((SIDE, SIDE, 3)) * rng.uniform(0.3, 0.6, 3)
    mask = np.zeros((SIDE, SIDE), bool)
    for at in apart(rng, 7, 6, 14):
        turn, long, wide = rng.uniform(0, np.pi), rng.uniform(4, 9), rng.uniform(3, 5)
        dy, dx = y - at[0], x - at[1]
        u, v = np.cos(turn) * dy + np.sin(turn) * dx, np.cos(turn) * dx - np.sin(turn) * dy
        inside = (u / long) ** 2 + (v / wide) ** 2 < 1
        is_positive = rng.random() < 0.5
        colour = np.array((0.8, 0.35, 0.3) if is_positive else (0.3, 0.7, 0.35)) * rng.uniform(0.6, 1.2)
        image[inside] = colour
        mask |= inside & is_positive
    return np.clip(image + 0.05 * rng.standard_normal(image.shape), 0, 1), mask


def shaped(rng: np.random.Generator, inside: Callable[[Plane, Plane, bool], NDArray[np.bool_]], gap: float) -> Drawn:
    """Dark things of two shapes on a light, uneven ground; one shape is positive."""
    y, x = grid()
    plane = 0.75 + 0.08 * ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), 8) * 20
    mask = np.zeros((SIDE, SIDE), bool)
    for at in apart(rng, 5, gap / 2, gap):
        turn, is_positive = rng.uniform(0, 2 * np.pi), bool(rng.random() < 0.5)
        dy, dx = y - at[0], x - at[1]
        shape = inside(np.cos(turn) * dy + np.sin(turn) * dx, np.cos(turn) * dx - np.sin(turn) * dy, is_positive)
        plane = np.where(shape, 0.35, plane)
        mask |= shape & is_positive
    return grey(plane, rng), mask


def bars(rng: np.random.Generator) -> Drawn:
    """Long bars among short ones of the same width."""
    return shaped(rng, lambda u, v, long: (abs(u) < (10 if long else 5)) & (abs(v) < 2.5), 22)


def gaps(rng: np.random.Generator) -> Drawn:
    """Open rings among closed ones."""

    def ring(u: Plane, v: Plane, opened: bool) -> NDArray[np.bool_]:
        whole = (np.hypot(u, v) < 8) & (np.hypot(u, v) > 4.5)
        return np.asarray(whole & ~((u > 0) & (abs(v) < 2.5)) if opened else whole)

    return shaped(rng, ring, 19)


def crosses(rng: np.random.Generator) -> Drawn:
    """Crosses among squares of the same area."""

    def cross(u: Plane, v: Plane, crossed: bool) -> NDArray[np.bool_]:
        if crossed:
            return np.asarray(((abs(u) < 8) & (abs(v) < 2.5)) | ((abs(v) < 8) & (abs(u) < 2.5)))
        return np.asarray((abs(u) < 5.8) & (abs(v) < 5.8))

    return shaped(rng, cross, 20)


def discs(rng: np.random.Generator, at: list[Plane], positive: list[bool]) -> Drawn:
    """Equal discs, some of them positive."""
    y, x = grid()
    plane, mask = np.full((SIDE, SIDE), 0.7), np.zeros((SIDE, SIDE), bool)
    for centre, each in zip(at, positive, strict=True):
        inside = np.hypot(y - centre[0], x - centre[1]) < 4
        plane = np.where(inside, 0.4, plane)
        mask |= inside & each
    return grey(plane, rng), mask


def lamp(rng: np.random.Generator) -> Drawn:
    """Equal discs; all are positive where a lamp at the lower edge is red, none where it is green."""
    lit = bool(rng.random() < 0.5)
    at = [each * np.array((0.55, 1)) for each in apart(rng, 5, 5, 14)]
    image, mask = discs(rng, at, [lit] * len(at))
    left = int(rng.integers(2, SIDE - 10))
    image[SIDE - 8 : SIDE - 2, left : left + 8] = (0.85, 0.2, 0.2) if lit else (0.2, 0.75, 0.2)
    return image, mask


def river(rng: np.random.Generator) -> Drawn:
    """Equal discs on both sides of a river; those on the side where a boat lies at the edge are positive."""
    y, x = grid()
    middle = rng.uniform(26, 38) + 3 * np.sin(y[:, 0] / 9 + rng.uniform(0, 6))
    left = x < middle[:, None]
    at = apart(rng, 7, 5, 11)
    at = [each for each in at if abs(each[1] - middle[int(each[0])]) > 7 and each[0] < 48]
    is_left = bool(rng.random() < 0.5)
    image, mask = discs(rng, at, [bool(left[int(each[0]), int(each[1])]) == is_left for each in at])
    image[abs(x - middle[:, None]) < 2] = (0.3, 0.45, 0.8)
    place = rng.uniform(8, 16) if is_left else rng.uniform(48, 56)
    image[(abs(y - 59) < 3) & (abs(x - place) < 5)] = (0.9, 0.85, 0.3)
    return image, mask


def dots(rng: np.random.Generator) -> Drawn:
    """Small dots, three times as many in some regions."""
    mask = blobs(rng)
    drawn = rng.random((SIDE, SIDE)) < np.where(mask, 0.12, 0.04)
    return grey(0.6 - 0.35 * np.clip(ndimage.gaussian_filter(drawn.astype(float), 0.7) * 4, 0, 1), rng), mask


def plaid(rng: np.random.Generator) -> Drawn:
    """A fine chequer among stripes of the same length of wave and the same strength."""
    y, x = grid()
    mask, turn, phase = blobs(rng), rng.uniform(0, np.pi), rng.uniform(0, 6)
    along = np.sin(2 * np.pi * (np.cos(turn) * y + np.sin(turn) * x) / 5 + phase)
    across = np.sin(2 * np.pi * (np.cos(turn) * x - np.sin(turn) * y) / 5 + phase)
    return grey(0.5 + 0.2 * np.where(mask, along * across * np.sqrt(2), along), rng), mask


def speckle(rng: np.random.Generator) -> Drawn:
    """Coloured speckle among grey speckle of the same lightness."""
    mask = blobs(rng)
    colour = rng.standard_normal((SIDE, SIDE, 3))
    alone = np.repeat(rng.standard_normal((SIDE, SIDE, 1)), 3, axis=2)
    return np.clip(0.5 + 0.12 * np.where(mask[..., None], colour, alone), 0, 1), mask


def stars(rng: np.random.Generator) -> Drawn:
    """Stars of five points among hexagons."""

    def star(u: Plane, v: Plane, pointed: bool) -> NDArray[np.bool_]:
        turn, far = np.arctan2(u, v), np.hypot(u, v)
        if pointed:
            return np.asarray(far < 5.6 + 2.6 * np.cos(5 * turn))
        return np.asarray(far * np.cos((turn % (np.pi / 3)) - np.pi / 6) < 5.6)

    return shaped(rng, star, 20)


def ovals(rng: np.random.Generator) -> Drawn:
    """Ovals among discs of the same area."""

    def oval(u: Plane, v: Plane, flat: bool) -> NDArray[np.bool_]:
        wide = 8.5 if flat else 6.0
        return np.asarray((u / wide) ** 2 + (v * wide / 36) ** 2 < 1)

    return shaped(rng, oval, 20)


def corners(rng: np.random.Generator) -> Drawn:
    """Angles of two arms among angles whose arms cross."""

    def arms(u: Plane, v: Plane, crossed: bool) -> NDArray[np.bool_]:
        start = -7 if not crossed else -10
        one = (abs(u) < 2) & (v > start) & (v < start + 15)
        other = (abs(v + 5) < 2) & (u > -7) & (u < 8) if crossed else (abs(v + 5) < 2) & (u > -2) & (u < 13)
        return np.asarray(one | other)

    return shaped(rng, arms, 24)


def crowd(rng: np.random.Generator) -> Drawn:
    """Equal discs; positive where there are six of them, and not where there are three."""
    many = bool(rng.random() < 0.5)
    at = apart(rng, 6 if many else 3, 6, 13)
    return discs(rng, at, [len(at) > 3] * len(at))


def frame(rng: np.random.Generator) -> Drawn:
    """Equal discs in the middle; positive where the frame of the picture is blue, and not where it is green."""
    blue = bool(rng.random() < 0.5)
    at = [SIDE / 2 + (each - SIDE / 2) * 0.5 for each in apart(rng, 4, 8, 22)]
    image, mask = discs(rng, at, [blue] * len(at))
    edge = np.ones((SIDE, SIDE), bool)
    edge[3:-3, 3:-3] = False
    image[edge] = (0.3, 0.4, 0.8) if blue else (0.3, 0.7, 0.4)
    return image, mask


KINDS: dict[str, tuple[str, Callable[[np.random.Generator], Drawn]]] = {
    "gratings": ("texture", gratings),
    "grain": ("texture", grain),
    "hue": ("texture", hue),
    "bars": ("geometry", bars),
    "gaps": ("geometry", gaps),
    "crosses": ("geometry", crosses),
    "lamp": ("context", lamp),
    "river": ("context", river),
    "dots": ("texture", dots),
    "plaid": ("texture", plaid),
    "speckle": ("texture", speckle),
    "stars": ("geometry", stars),
    "ovals": ("geometry", ovals),
    "corners": ("geometry", corners),
    "crowd": ("context", crowd),
    "frame": ("context", frame),
    **ON_GROUNDS,
}
"""What decides each, by the word that `benchmarks.families` knows, and how it is drawn. The first eight were looked at
before the ladder was mended by them; the next eight, and then those of `benchmarks.grounds`, were not.
"""


def samples(kind: str, count: int, seed: int) -> list[Sample]:
    """Scenes of one kind; each is its own group."""
    family, draw = KINDS[kind]
    made = []
    for number in range(count):
        image, mask = draw(np.random.default_rng((seed, number)))
        name = f"{family}-{kind}-{number}"
        made.append(Sample(name, np.asarray(image * 255, np.uint8), mask.astype(np.uint8), name))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    print("| task | seed | textural | geometric | semantic | error | best IoU | right | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    told = [
        row(kind, seed, samples(kind, PURE.count, 5000 + seed), PURE)
        for kind in args.kinds
        for seed in range(args.seeds)
    ]
    print(f"\nright: {sum(right for right, _ in told)} of {len(told)}")


if __name__ == "__main__":
    main()
