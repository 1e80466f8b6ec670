"""Healthy tasks that causes are put into: planted scenes, and real sets where they are present.

A world holds clean samples only: what trains, as much again three times over (`extra`), what validates, and what is
held out to measure true gains. Groups never cross these parts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.other_scenes import KINDS as OTHER_KINDS
from benchmarks.other_scenes import samples as other_scenes
from unplateau.data import open_data
from unplateau.scenes import SCENES, Builder, mixture, plant
from unplateau.types import IGNORE, Sample

DATA = Path(os.environ.get("UNPLATEAU_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
SIDE = 64
TILE = 128
"""Native pixels of a side, where thin things would be lost in a whole image made small."""

TRAIN, VAL, TEST = 64, 48, 96
SIZES = (TRAIN, 3 * TRAIN, VAL, TEST)
"""Of the parts of a world of scenes, in its order."""


@dataclass(frozen=True)
class World:
    """Clean samples of one task, at most `SIDE` pixels on the long side; positive = 1."""

    name: str
    train: tuple[Sample, ...]
    extra: tuple[Sample, ...]
    val: tuple[Sample, ...]
    test: tuple[Sample, ...]


@dataclass(frozen=True)
class Base:
    """A task: how to make its world, how many steps a healthy training takes, whether it takes part in fitting."""

    name: str
    make: Callable[[], World]
    steps: int
    fitted: bool
    """Whether its cases may be used to calibrate anything; the others are only reported."""


def planted(name: str, builder: Builder, seed: int = 77) -> World:
    """Scenes of a builder; each is its own group."""
    return _world_of(name, plant(builder, sum(SIZES), name=name, size=(SIDE, SIDE), seed=seed))


def by_another_hand(kind: str, seed: int = 81) -> World:
    """Scenes of `benchmarks.other_scenes`; each is its own group."""
    return _world_of(kind, other_scenes(kind, sum(SIZES), seed))


def real(name: str, positive: int, tiled: bool = False, deal: int = 5) -> World:
    """A real set, shrunk, its groups dealt whole: a quarter of what trains is the case, the rest is `extra`.

    `tiled`: squares of `TILE` native pixels that hold any of the class, instead of whole images. `deal` is the seed by
    which groups are dealt.
    """
    source = open_data(DATA / name)
    rng = np.random.default_rng(deal)
    groups = rng.permutation(sorted(set(source.groups)))
    share = (0.55, 0.15) if len(groups) > 8 else (0.5, 0.2)
    first = min(round(share[0] * len(groups)), len(groups) - 2)
    # Of three groups each part gets one: a share of them would leave nothing to validate on.
    bounds = [0, first, max(first + 1, round(sum(share) * len(groups))), len(groups)]
    parts = [set(groups[low:high].tolist()) for low, high in pairwise(bounds)]
    pools = [[i for i, group in enumerate(source.groups) if group in part] for part in parts]
    wanted = (4 * TRAIN, VAL, TEST)
    cut = _tiles if tiled else _whole
    found = [[piece for i in pool for piece in cut(source.sample(i), positive)] for pool in pools]
    read = [tuple(_small(each, positive) for each in _spread(pool, n)) for pool, n in zip(found, wanted, strict=True)]
    order = rng.permutation(len(read[0]))
    quarter = max(8, len(order) // 4)
    train, extra = (tuple(read[0][i] for i in part) for part in (order[:quarter], order[quarter:]))
    return World(name, train, extra, read[1], read[2])


def _world_of(name: str, made: Sequence[Sample]) -> World:
    cuts = [0, *accumulate(SIZES)]
    return World(name, *(tuple(made[low:high]) for low, high in pairwise(cuts)))


def _spread(pool: list[Sample], count: int) -> list[Sample]:
    places = np.linspace(0, len(pool) - 1, min(count, len(pool))).round().astype(int)
    return [pool[place] for place in places]


def _whole(sample: Sample, positive: int) -> list[Sample]:
    return [sample]


def _tiles(sample: Sample, positive: int) -> list[Sample]:
    """Squares side by side from the first corner on; those without the class, or partly unlabelled, are left out."""
    height, width = sample.mask.shape
    made = []
    for top in range(0, height - TILE + 1, TILE):
        for left in range(0, width - TILE + 1, TILE):
            window = (slice(top, top + TILE), slice(left, left + TILE))
            mask = sample.mask[window]
            if (mask == positive).any() and not (mask == IGNORE).any():
                made.append(replace(sample, name=f"{sample.name}-{top}-{left}", image=sample.image[window], mask=mask))
    return made


def _small(sample: Sample, positive: int) -> Sample:
    """The sample as a square of `SIDE` pixels, so that all have one size; mask 0/1/255 by the centre of each cell."""
    size = (SIDE, SIDE)
    mask = np.where(sample.mask == IGNORE, IGNORE, sample.mask == positive).astype(np.uint8)
    image = Image.fromarray(sample.image).resize(size, Image.Resampling.BOX)
    small = Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)
    return replace(sample, image=np.asarray(image), mask=np.asarray(small), split="")


HALVES = mixture({"texture": 0.5, "geometry": 0.5})
"""Scenes that look alike and are each decided by one of two families."""

THIRDS = mixture({"fire": 0.65, "geometry": 0.35})
"""The same, of colour for the larger part."""

FAR = mixture({"fire": 0.5, "context": 0.5})
"""The same, of colour and of what lies far away."""

OTHER_STEPS = {"texture": 160, "geometry": 200, "context": 260}
"""As many as the package's own scenes of a family take."""

BASES = {
    base.name: base
    for base in (
        Base("fire", partial(planted, "fire", SCENES["fire"]), 120, fitted=True),
        Base("texture", partial(planted, "texture", SCENES["texture"]), 160, fitted=True),
        Base("geometry", partial(planted, "geometry", SCENES["geometry"]), 200, fitted=False),
        Base("context", partial(planted, "context", SCENES["context"]), 260, fitted=False),
        Base("human", partial(real, "human", 1), 160, fitted=True),
        Base("fire_video", partial(real, "fire_video", 1), 160, fitted=False),
        Base("bubil_cells", partial(real, "bubil_cells", 1), 160, fitted=False),
        Base("drive_full", partial(real, "drive_full", 1, tiled=True), 160, fitted=False),
        Base("crackforest_full", partial(real, "crackforest_full", 1, tiled=True), 160, fitted=False),
        Base("texture-or-shape", partial(planted, "mixed", HALVES, 78), 240, fitted=False),
        Base("isbi_membrane", partial(real, "isbi_membrane", 1, tiled=True), 160, fitted=False),
        Base("cracks-dealt-anew", partial(real, "crackforest_full", 1, tiled=True, deal=6), 160, fitted=False),
        Base("colour-or-shape", partial(planted, "mixed", THIRDS, 79), 200, fitted=False),
        Base("vessels-dealt-anew", partial(real, "drive_full", 1, tiled=True, deal=6), 160, fitted=False),
        Base("camvid", partial(real, "camvid", 8), 160, fitted=False),
        Base("colour-or-context", partial(planted, "mixed", FAR, 80), 260, fitted=False),
        *(
            Base(kind, partial(by_another_hand, kind), OTHER_STEPS[family], fitted=False)
            for kind, (family, _) in OTHER_KINDS.items()
        ),
    )
}

REAL = {
    "human": "human",
    "fire_video": "fire_video",
    "bubil_cells": "bubil_cells",
    "drive_full": "drive_full",
    "crackforest_full": "crackforest_full",
    "isbi_membrane": "isbi_membrane",
    "cracks-dealt-anew": "crackforest_full",
    "vessels-dealt-anew": "drive_full",
    "camvid": "camvid",
}
"""Which folder of `DATA` a base is made of; planted ones need none."""


@cache
def world(name: str) -> World:
    """The world of a base, made once."""
    return BASES[name].make()
