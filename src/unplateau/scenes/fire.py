"""Scenes decided by local colour: flames over clutter."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from unplateau.scenes.base import Difficulty, Field, Planted
from unplateau.scenes.canvas import paint, photograph, rgb, unit
from unplateau.scenes.noise import clouds, smooth
from unplateau.scenes.shapes import offsets
from unplateau.types import Size

HEAT = (0.0, 0.25, 0.5, 0.8, 1.2)
GLOW = ((0.45, 0.07, 0.03), (0.86, 0.26, 0.05), (0.98, 0.55, 0.10), (1.0, 0.82, 0.32), (1.0, 0.96, 0.74))
"""Colour of a flame at each heat, from its skin to its core."""

GROUNDS = (
    ((0.09, 0.13, 0.07), (0.22, 0.30, 0.13), (0.45, 0.47, 0.27)),
    ((0.15, 0.12, 0.10), (0.36, 0.29, 0.22), (0.58, 0.50, 0.40)),
    ((0.14, 0.15, 0.17), (0.36, 0.37, 0.39), (0.62, 0.62, 0.62)),
    ((0.07, 0.09, 0.14), (0.20, 0.24, 0.33), (0.42, 0.46, 0.54)),
)
"""Dark, middle and light of woods, earth, rock and dusk."""

SKIES = ((0.62, 0.71, 0.80), (0.80, 0.78, 0.74), (0.16, 0.19, 0.28), (0.72, 0.52, 0.42))
"""Day, haze, night, evening."""


def fire(rng: np.random.Generator, size: Size, difficulty: Difficulty) -> Planted:
    """Flames with soft, flickering edges over wood, rock or dusk; positive = flame, from half opacity on.

    Colour and the nearest neighbours decide. Rusty patches, an evening sky and lamps share part of the flames' colours,
    smoke and glow blur their edge, so that even a perfect model stays below 1.

    Limited view: the colour of the pixel alone attains about 0.85, its nearest neighbours add half of what is left.
    """
    flames = int(rng.integers(1, max(1, difficulty.objects // 2) + 1))
    image = _backdrop(rng, size)
    for _ in range(difficulty.objects - flames):
        image = _lamp(rng, image) if rng.random() < 0.4 else _rust(rng, image)
    heat = np.maximum.reduce([_flame(rng, size) for _ in range(flames)])
    opacity = np.clip(heat / 0.36, 0, 1) ** 1.5
    warmth = gaussian_filter(opacity, 7 * unit(size))[..., None] * rgb(0.30, 0.13, 0.03)
    image = paint(image + warmth, difficulty.contrast * 0.94 * opacity, _ramp(heat, HEAT, GLOW))
    image = _smoke(rng, image)
    return Planted(photograph(rng, image, difficulty.noise), (opacity > 0.5).astype(np.uint8), "fire")


def _ramp(field: Field, stops: tuple[float, ...], colours: tuple[tuple[float, float, float], ...]) -> Field:
    channels = [np.interp(field, stops, channel) for channel in zip(*colours, strict=True)]
    return np.stack(channels, axis=-1).astype(np.float32)


def _backdrop(rng: np.random.Generator, size: Size) -> Field:
    """Ground of many octaves, with a ragged skyline in two scenes of three."""
    u = unit(size)
    ground = _ramp(clouds(rng, size, 30 * u, 1.4), (-2.0, 0.0, 2.0), GROUNDS[rng.integers(len(GROUNDS))])
    ground = ground * (1 + 0.18 * smooth(rng, size, 50 * u))[..., None]
    if rng.random() < 1 / 3:
        return ground
    skyline = size[0] * rng.uniform(0.12, 0.5) + 4 * u * smooth(rng, size, 18 * u)[:1]
    rows = np.arange(size[0], dtype=np.float32)[:, None]
    sky = rgb(*SKIES[rng.integers(len(SKIES))]) * (1 + 0.06 * clouds(rng, size, 50 * u))[..., None]
    return paint(ground, np.clip((skyline - rows) / (1.5 * u) + 0.5, 0, 1), sky)


def _spot(rng: np.random.Generator, size: Size) -> tuple[Field, Field]:
    return offsets(size, rng.uniform((0.1 * size[0], 0), size), rng.uniform(0, np.pi))


def _rust(rng: np.random.Generator, image: Field) -> Field:
    """A patch of brick, dry leaves or soil: warm, but duller than a flame."""
    size = image.shape[:2]
    u = unit(size)
    y, x = _spot(rng, size)
    blob = 1 - np.hypot(y / (rng.uniform(7, 15) * u), x / (rng.uniform(5, 9) * u)) + 0.3 * clouds(rng, size, 12 * u)
    colour = rgb(0.60, 0.34, 0.20) * rng.uniform(0.7, 1.25) + rng.normal(0, 0.03, 3)
    shade = (1 + 0.2 * clouds(rng, size, 6 * u))[..., None] * colour.astype(np.float32)
    return paint(image, np.clip(3 * blob, 0, 0.9), shade)


def _lamp(rng: np.random.Generator, image: Field) -> Field:
    """A small round light with a halo, as light and warm as the core of a flame."""
    size = image.shape[:2]
    u = unit(size)
    distance = np.hypot(*_spot(rng, size))
    halo = 0.35 * np.exp(-((distance / (6 * u)) ** 2))
    lit = paint(image, halo.astype(np.float32), rgb(1.0, 0.80, 0.45))
    return paint(lit, np.clip(rng.uniform(1.5, 3) * u - distance + 0.5, 0, 1), rgb(1.0, 0.95, 0.78))


def _flame(rng: np.random.Generator, size: Size) -> Field:
    """Heat (H, W) of one fire, a few tongues on one bed: above 0 inside, hottest low in the middle."""
    u = unit(size)
    bed = rng.uniform((0.5 * size[0], 0.1 * size[1]), (0.97 * size[0], 0.9 * size[1]))
    tall, wide = rng.uniform(24, 46) * u, rng.uniform(6, 10) * u
    turbulence, sway = clouds(rng, size, 12 * u, 2.0), smooth(rng, size, 24 * u)
    beside = rng.normal(0, (0.04 * tall, 0.9 * wide), (int(rng.integers(1, 4)), 2))
    steps = np.concatenate([np.zeros((1, 2)), beside])
    heights = np.append(1.0, rng.uniform(0.4, 0.85, len(beside))) * tall
    tongues = [
        _tongue(offsets(size, bed + step), height, wide, turbulence, sway)
        for step, height in zip(steps, heights, strict=True)
    ]
    return np.maximum.reduce(tongues)


def _tongue(at: tuple[Field, Field], tall: float, wide: float, turbulence: Field, sway: Field) -> Field:
    """Heat of one tongue, broad at its foot; higher up it sways more and tears into wisps."""
    up = -at[0] / np.float32(tall)
    height = np.clip(up, 0, 1)
    across = at[1] + np.float32(0.6 * wide) * height * sway
    waist = np.float32(wide) * np.sqrt(np.clip(up + 0.25, 0, 1)) * np.clip(1.1 - up, 0.02, None) ** 0.8
    body = 1.1 - (across / (waist + 0.1)) ** 2 - 0.45 * height + (0.18 + 0.3 * height) * turbulence
    foot = np.clip(1 - np.clip(-up, 0, None) / 0.18, 0, 1)
    return (np.clip(body, 0, 1.2) * foot * (up < 1.1)).astype(np.float32)


def _smoke(rng: np.random.Generator, image: Field) -> Field:
    """Thin grey veils and a random exposure."""
    size = image.shape[:2]
    veil = np.clip(0.14 * clouds(rng, size, 40 * unit(size), 2.2), 0, 0.35)
    hazy = paint(image, veil, rgb(0.55, 0.54, 0.53))
    return hazy * rng.uniform(0.82, 1.15, 1).astype(np.float32)
