"""The agreement of annotators, estimated from one of them, against what several of them drew.

    python -m benchmarks.label_ceiling ../shared/data

Prints two Markdown tables: real sets that have several annotators, and planted scenes with two simulated ones.
"Measured" is over all pairs of annotators; "with the given" over the pairs that hold the annotation in masks/. "Undone"
is the part of a known displacement of the masks that was found again from the image, "said" whether that is enough.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.truth.plants import jittered, omitted
from unplateau.checks.label_ceiling import IMAGES, Ceilings, ceilings
from unplateau.data.decode import read_mask
from unplateau.data.grid import Box, fit_mask, working_grid
from unplateau.data.sources import AbstractSource, open_data
from unplateau.experiments.fits import spread
from unplateau.scenes import scenes
from unplateau.types import Interval, Sample, Size, Task

TASK = Task(positive=(1,), classes=(0, 1), names=("object",))
SETS = {"bubil_cells": 9, "drive_full": 2}
"""Annotators of a set: masks, masks2, masks3 ..."""

PLANTS = {
    "geometry, wander 1.5": ("geometry", 1.5, 0.0, 0.0),
    "texture, wander 2, one draws wide": ("texture", 2.0, 1.5, 0.0),
    "texture, wander 0.3": ("texture", 0.3, 0.0, 0.0),
    "fire, wander 3": ("fire", 3.0, 0.0, 0.0),
    "context, wander 1": ("context", 1.0, 0.0, 0.0),
    "geometry, wander 0.7, 1 in 5 left out": ("geometry", 0.7, 0.0, 0.2),
}
"""Kind of scene; what both annotators do: wander in pixels, draw so many pixels wide and narrow, leave out a share."""

Mask = NDArray[np.uint8]


def pooled(pairs: list[tuple[Mask, Mask]]) -> tuple[float, float]:
    """IoU of pairs of masks, pixels pooled, and the mean over pairs."""
    counts = np.array(
        [[((a == 1) & (b == 1)).sum(), (((a == 1) | (b == 1)) & (a != 255) & (b != 255)).sum()] for a, b in pairs]
    )
    return float(counts[:, 0].sum() / counts[:, 1].sum()), float(np.nanmean(counts[:, 0] / np.maximum(counts[:, 1], 1)))


def every_mask(folder: Path, source: AbstractSource, count: int) -> list[list[Mask]]:
    """The masks of every annotator for each image that has more than one."""
    found = []
    for name in source.names:
        paths = [folder / f"masks{number if number > 1 else ''}" / f"{name}.png" for number in range(1, count + 1)]
        masks = [read_mask(path, None) for path in paths if path.exists()]
        if len(masks) > 1:
            found.append(masks)
    return found


def row(
    name: str, grid: str, given: tuple[float, float], every: tuple[float, float], estimate: Interval, found: Ceilings
) -> str:
    """One line of a table."""
    inside = "yes" if estimate.low <= every[0] <= estimate.high else "no"
    return (
        f"| {name} | {grid} | {every[0]:.3f} | {every[1]:.3f} | {given[0]:.3f} | {estimate} "
        f"| {estimate.mean - every[0]:+.3f} | {estimate.mean - given[0]:+.3f} | {inside} "
        f"| {found.told} | {'yes' if found.grounded else 'undetermined'} |"
    )


@dataclass(frozen=True)
class Beside:
    """What annotators of a set agree on, pooled and as the mean of images, beside what one of them was taken to tell.

    `given` is over the pairs that hold the annotation in masks/, `every` over all.
    """

    grid: str
    given: tuple[float, float]
    every: tuple[float, float]
    estimate: Interval


def beside(folder: Path, count: int, size: int, seed: int) -> tuple[Ceilings, list[Beside]]:
    """A set natively and on the grid."""
    source = open_data(folder)
    masks = every_mask(folder, source, count)
    grid = working_grid([source.size(index) for index in range(len(source))], size)
    found = ceilings(source, TASK, spread(tuple(range(len(source))), IMAGES), grid, seed)
    rows = []
    for said, estimate, box in (
        ("native", found.native, None),
        (f"{grid[0]} x {grid[1]}", found.grid, Box(0, 0, *grid)),
    ):
        here = [[fit_mask(each, box) if box else each for each in drawn] for drawn in masks]
        given = pooled([(drawn[0], other) for drawn in here for other in drawn[1:]])
        every = pooled([pair for drawn in here for pair in combinations(drawn, 2)])
        rows.append(Beside(said, given, every, estimate))
    return found, rows


def real(folder: Path, count: int, size: int, seed: int) -> list[str]:
    """The lines of a set."""
    found, rows = beside(folder, count, size, seed)
    return [row(folder.name, each.grid, each.given, each.every, each.estimate, found) for each in rows]


def error(data: Path) -> float | None:
    """How far the estimate is off on native masks, mean over the sets; None where the check said nothing of any."""
    told = [beside(data / name, count, 112, 0) for name, count in SETS.items() if (data / name).is_dir()]
    off = [abs(rows[0].estimate.mean - rows[0].every[0]) for found, rows in told if found.grounded]
    return round(float(np.mean(off)), 3) if off else None


def annotator(samples: list[Sample], wander: float, wide: float, left_out: float, seed: int) -> list[Sample]:
    """The scenes as one simulated person annotates them."""
    generator = np.random.default_rng(seed)
    drawn = jittered(omitted(samples, left_out, 1, generator), wander, 1, generator)
    return [replace(each, mask=_widened(each.mask, wide)) for each in drawn]


def _widened(mask: Mask, pixels: float) -> Mask:
    inside = mask == 1
    if not pixels or not inside.any():
        return mask
    distance = np.where(
        inside, 0.5 - ndimage.distance_transform_edt(inside), ndimage.distance_transform_edt(~inside) - 0.5
    )
    return np.asarray(distance < pixels, np.uint8)


def planted(name: str, size: Size, seed: int) -> str:
    """One kind of scene, annotated twice; the estimate sees the first annotation only."""
    kind, wander, wide, left_out = PLANTS[name]
    drawn = scenes(kind, IMAGES, size=size, seed=seed)
    first = annotator(drawn, wander, wide, left_out, seed + 1)
    second = annotator(drawn, wander, -wide, left_out, seed + 2)
    truth = pooled([(a.mask, b.mask) for a, b in zip(first, second, strict=True)])
    found = ceilings(open_data(first), TASK, tuple(range(IMAGES)), size, seed)
    return row(name, "native", truth, truth, found.native, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", help="the folder that holds the real sets")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(
        "| set | grid | measured, pooled | mean of images | with the given | estimate | error | to the given | inside "
        "| undone | said |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name, count in SETS.items() if args.data else ():
        print(*real(args.data / name, count, args.size, args.seed), sep="\n", flush=True)
    for name in PLANTS:
        print(planted(name, (96, 96), args.seed), flush=True)


if __name__ == "__main__":
    main()
