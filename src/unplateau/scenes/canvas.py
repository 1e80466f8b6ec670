"""Ground, paint and camera: what all kinds of scene share."""

from __future__ import annotations

import numpy as np

from unplateau.scenes.base import Bits, Field
from unplateau.scenes.noise import clouds, spots
from unplateau.types import Size

Colour = Field
"""RGB (3,) in 0..1."""


def unit(size: Size) -> float:
    """Pixels for one pixel of the 96x96 scene that all lengths are stated for."""
    return min(size) / 96


def rgb(red: float, green: float, blue: float) -> Colour:
    """A colour from its channels."""
    return np.array([red, green, blue], dtype=np.float32)


def dull(rng: np.random.Generator, lightness: tuple[float, float], tint: float = 0.04) -> Colour:
    """A random colour of the given lightness range, whose channels differ by about `tint`."""
    return (rng.uniform(*lightness) + rng.normal(0, tint, 3)).astype(np.float32)


def ground(rng: np.random.Generator, size: Size) -> Field:
    """A dark, textured, faintly coloured ground (H, W, 3)."""
    u = unit(size)
    shade = 0.055 * clouds(rng, size, 40 * u) + 0.03 * spots(rng, size, 7 * u)
    drift = 0.02 * clouds(rng, size, 60 * u)
    colour = dull(rng, (0.28, 0.38))
    return colour + shade[..., None] + drift[..., None] * rng.standard_normal(3, dtype=np.float32)


def paint(image: Field, opacity: Field, colour: Field) -> Field:
    """`colour`, (3,) or (H, W, 3), laid over the image with the given opacity (H, W)."""
    return image + opacity[..., None] * (colour - image)


def photograph(rng: np.random.Generator, image: Field, noise: float) -> Bits:
    """The scene as a camera gives it: pixel noise, then uint8 0..255."""
    noisy = image + noise * rng.standard_normal(image.shape, dtype=np.float32)
    return (np.clip(noisy, 0, 1) * 255 + 0.5).astype(np.uint8)
