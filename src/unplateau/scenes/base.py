"""What a builder of scenes takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unplateau.errors import UnplateauError
from unplateau.types import Size

Field = NDArray[np.float32]
"""Numbers on the pixel grid: (H, W), or (H, W, 3) for RGB in 0..1."""

Bits = NDArray[np.uint8]
"""A mask (H, W) of 0 and 1, or a finished image (H, W, 3)."""


@dataclass(frozen=True)
class Difficulty:
    """How hard a scene is.

    `noise` is the standard deviation of the pixel noise, on a scale where black is 0 and white is 1. `contrast`
    multiplies the difference between objects and ground (between the two textures and flat grey for "texture",
    the opacity of the flames for "fire"). `objects` counts what stands in a scene: flames and distractors, regions,
    shapes or discs; fewer stand where there is no room for another.
    """

    noise: float = 0.04
    contrast: float = 1.0
    objects: int = 6

    def __post_init__(self) -> None:
        if not (self.noise >= 0 and self.contrast >= 0 and self.objects >= 1):
            raise UnplateauError(f"A difficulty needs noise >= 0, contrast >= 0 and objects >= 1; got {self}.")


@dataclass(frozen=True)
class Planted:
    """One scene with its truth: `image` uint8 (H, W, 3), `mask` uint8 (H, W) of 0/1/255, and what family decides it."""

    image: Bits
    mask: Bits
    family: str


Builder = Callable[[np.random.Generator, Size, Difficulty], Planted]
"""Draws one scene; all chance comes from the generator."""
