"""Scenes decided by the colour of a pixel."""

from __future__ import annotations

import numpy as np

from unplateau.scenes.base import Difficulty, Planted
from unplateau.scenes.canvas import dull, photograph, unit
from unplateau.scenes.noise import spots
from unplateau.scenes.texture import regions_of
from unplateau.types import Size

LEAN = 0.06
"""What the positive regions have more of red and less of green, and the others the reverse, on a scale of 0..1."""


def colour(rng: np.random.Generator, size: Size, difficulty: Difficulty) -> Planted:
    """Smooth regions of one grain that lean to red or to green; positive = red.

    Every region has its own lightness and a little of its own tint, so that no threshold on one channel is right
    everywhere. What a wider view adds is less noise; what it costs is the place of the borders.
    """
    regions = regions_of(rng, size, max(2, difficulty.objects))
    count = int(regions.max()) + 1
    positive = rng.permutation(count) < max(1, round(count * rng.uniform(0.3, 0.5)))
    leans = np.where(positive, LEAN, -LEAN)[:, None] * np.array([1, -1, 0]) * difficulty.contrast
    tints = np.stack([dull(rng, (0.40, 0.60)) for _ in range(count)])
    image = (tints + leans)[regions] + 0.06 * spots(rng, size, 5.5 * unit(size))[..., None]
    mask = positive[regions].astype(np.uint8)
    return Planted(photograph(rng, image.astype(np.float32), difficulty.noise), mask, "fire")
