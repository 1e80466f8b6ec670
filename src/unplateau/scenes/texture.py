"""Scenes decided by texture."""

from __future__ import annotations

import numpy as np

from unplateau.scenes.base import Difficulty, Field, Planted
from unplateau.scenes.canvas import dull, photograph, unit
from unplateau.scenes.noise import lines, smooth, spots
from unplateau.types import Size


def texture(rng: np.random.Generator, size: Size, difficulty: Difficulty) -> Planted:
    """Smooth regions filled with spots or with lines; positive = lines.

    Both textures hold exactly the same grey values at the same wavelengths: only whether the pattern has a direction
    tells them apart. Every region, background included, has its own dull tint, drawn without regard to its texture,
    and as many borders run between equal textures as chance gives: colour and contour say nothing.

    Limited view: a single pixel attains the level of "all positive", about 0.4; a view of two wavelengths (11 pixels
    at 96x96) above 0.85, and a wider one little more, for what is left lies along the borders.
    """
    regions = regions_of(rng, size, max(2, difficulty.objects))
    count = int(regions.max()) + 1
    # Fewer than half, so that taking everything does not pay.
    positive = rng.permutation(count) < max(1, round(count * rng.uniform(0.3, 0.5)))
    mask = positive[regions].astype(np.uint8)
    wavelength = 5.5 * unit(size)
    pattern = np.where(mask == 1, lines(rng, size, wavelength), spots(rng, size, wavelength))
    tints = np.stack([dull(rng, (0.40, 0.60)) for _ in range(count)])
    image = tints[regions] + (0.12 * difficulty.contrast) * pattern[..., None]
    return Planted(photograph(rng, image, difficulty.noise), mask, "texture")


def regions_of(rng: np.random.Generator, size: Size, count: int) -> np.ndarray:
    """Smooth regions that fill the scene, as their numbers (H, W) from 0."""
    fields: list[Field] = [smooth(rng, size, 50 * unit(size)) for _ in range(count)]
    owner = np.argmax(np.stack(fields), axis=0)
    return np.unique(owner, return_inverse=True)[1].reshape(size)
