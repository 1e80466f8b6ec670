"""A recipe: every number of a fine-tuning run, in one frozen value."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from unplateau.data.transforms import Augmentation
from unplateau.errors import UnplateauError
from unplateau.types import Size

WEIGHTINGS = ("none", "auto")
"""Ways to weigh the classes that have a name."""

LOWEST = {
    "steps": 1,
    "batch": 1,
    "learning_rate": 1e-12,
    "weight_decay": 0,
    "clip": 1e-12,
    "dice": 0,
    "evaluations": 1,
    "patience": 0,
}
"""The least that makes sense of each number; a gradient clipped to nothing or a rate of nothing trains nothing."""


@dataclass(frozen=True)
class Recipe:
    """How a model is fine-tuned.

    Attributes:
        steps: optimiser steps.
        batch: images a step.
        learning_rate: peak of a one-cycle cosine schedule; `warmup` is the share of steps until the peak.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        dice: weight of the Dice term beside the cross-entropy.
        class_weights: "none", "auto" (by frequency), or a factor for each output.
        half_size: share of the steps, at the beginning, on images of half the side: a quarter of the cost a step,
            and as good for the first part of training (progressive resizing).
        crop: train on random windows of this size instead of whole images; None = whole.
        augmentation: random changes of the images.
        evaluations: how often, at most, the inner part is scored, evenly over the run, the last time at its end.
        patience: stop after so many evaluations without a better one; 0 = never.
    """

    steps: int = 400
    batch: int = 16
    learning_rate: float = 2e-3
    warmup: float = 0.15
    weight_decay: float = 1e-2
    clip: float = 1.0
    dice: float = 1.0
    class_weights: str | tuple[float, ...] = "none"
    half_size: float = 0.3
    crop: Size | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    evaluations: int = 10
    patience: int = 0

    def __post_init__(self) -> None:
        for name, low in LOWEST.items():
            if not low <= getattr(self, name) < math.inf:
                raise UnplateauError(f"`{name}` must be at least {low}; got {getattr(self, name)}. Give another.")
        if not 0 < self.warmup < 1:
            raise UnplateauError(f"`warmup` is a share of the steps between 0 and 1; got {self.warmup}. Try 0.15.")
        if self.crop is not None and min(self.crop) < 1:
            raise UnplateauError(f"`crop` must be a height and a width in pixels; got {self.crop}. Leave it out.")
        if isinstance(self.class_weights, str) and self.class_weights not in WEIGHTINGS:
            raise UnplateauError(
                f"`class_weights` must be {' or '.join(map(repr, WEIGHTINGS))}, or a factor for each output; got "
                f"{self.class_weights!r}. Take one of these."
            )
        if not 0 <= self.half_size < 1:
            raise UnplateauError(f"`half_size` is a share of the steps in 0..1; got {self.half_size}. Try 0.5.")

    @property
    def evaluate_every(self) -> int:
        """Steps between evaluations; where it does not divide the steps, the last interval is the shorter one."""
        return math.ceil(self.steps / self.evaluations)
