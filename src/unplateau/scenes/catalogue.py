"""The kinds of planted scene by name, and drawing many of one."""

from __future__ import annotations

import numpy as np

from unplateau.errors import UnplateauError, nearest
from unplateau.scenes.base import Builder, Difficulty
from unplateau.scenes.colour import colour
from unplateau.scenes.context import context, context_alone, mixture
from unplateau.scenes.fire import fire
from unplateau.scenes.geometry import arrangement, arrangement_alone, geometry, geometry_alone
from unplateau.scenes.texture import texture
from unplateau.types import Sample, Size

SCENES: dict[str, Builder] = {
    "fire": fire,
    "texture": texture,
    "geometry": geometry,
    "geometry-arrangement": arrangement,
    "context": context,
    "mixture": mixture({"texture": 1.0, "geometry": 1.0, "context": 1.0}),
}
"""A plugin: SCENES["mine"] = a builder."""

ALONE: dict[str, Builder] = {
    "colour": colour,
    "texture": texture,
    "geometry": geometry_alone,
    "geometry-arrangement": arrangement_alone,
    "context": context_alone,
}
"""Kinds in which only what one family decides counts: what is on the eye chart."""

SMALLEST = 32
"""Side in pixels below which objects have no room."""


def scenes(
    kind: str,
    count: int,
    *,
    size: Size = (96, 96),
    seed: int = 0,
    groups: int = 1,
    difficulty: Difficulty | None = None,
) -> list[Sample]:
    """Draw `count` scenes of a kind in `SCENES`: images uint8 (H, W, 3) RGB, masks uint8 (H, W) of 0/1.

    The same seed gives the same bytes, and the first scenes do not depend on `count`. `groups` is how many
    consecutive scenes share a group. Raises `UnplateauError` on an unknown kind, a negative count or a small size.
    """
    if kind not in SCENES:
        raise UnplateauError(f"`kind` must be one of the planted scenes; got {kind!r}: {nearest(kind, SCENES)}")
    return plant(SCENES[kind], count, name=kind, size=size, seed=seed, groups=groups, difficulty=difficulty)


def plant(
    builder: Builder,
    count: int,
    *,
    name: str,
    size: Size = (96, 96),
    seed: int = 0,
    groups: int = 1,
    difficulty: Difficulty | None = None,
) -> list[Sample]:
    """Draw `count` scenes of any builder, such as `mixture({"texture": 0.5, "context": 0.5})`; else as `scenes`."""
    if count < 0 or groups < 1 or seed < 0:
        raise UnplateauError(f"`count` and `seed` must be >= 0 and `groups` >= 1; got {count}, {seed} and {groups}.")
    if min(size) < SMALLEST:
        raise UnplateauError(f"`size` must be at least {SMALLEST}x{SMALLEST}; got {size[0]}x{size[1]}.")
    level = difficulty or Difficulty()
    return [_sample(builder, f"{name}-{i:04d}", f"{name}-{i // groups * groups:04d}", (seed, i), size, level)
            for i in range(count)]  # fmt: skip


def _sample(
    builder: Builder, name: str, group: str, seed: tuple[int, int], size: Size, difficulty: Difficulty
) -> Sample:
    scene = builder(np.random.default_rng(seed), size, difficulty)
    return Sample(name, scene.image, scene.mask, group)
