"""A recipe: every number of a fine-tuning run, in one frozen value."""

from __future__ import annotations

import math
from dataclasses import InitVar, dataclass, field, fields

from unplateau.data.balance import WEIGHTINGS
from unplateau.data.transforms import Augmentation
from unplateau.errors import UnplateauError
from unplateau.training.loss_terms import WEIGHED
from unplateau.training.losses import STANDARD, parse_loss
from unplateau.types import Size

LOWEST = {
    "steps": 1,
    "batch": 1,
    "learning_rate": 1e-12,
    "weight_decay": 0,
    "clip": 1e-12,
    "evaluations": 1,
    "patience": 0,
    "positive_rate": 0,
    "hard_pixels": 1e-12,
    "ema": 0,
    "layer_decay": 1e-12,
    "frozen_steps": 0,
    "accumulate": 1,
}
"""The least that makes sense of each number; a gradient clipped to nothing or a rate of nothing trains nothing."""

HIGHEST = {"positive_rate": 1.0, "hard_pixels": 1.0, "ema": 0.999999, "layer_decay": 1.0}
"""The most, where there is one; an average that never moves would score the random start."""

LATER = ("positive_rate", "hard_pixels", "ema", "layer_decay", "frozen_steps", "accumulate", "keep")
"""Fields that came after outcomes had been kept on disk by the text of their recipe."""


KEPT = ("best", "last")

JUDGES = 5
"""Inner groups from which the best evaluation is taken: one to four images chose weights that score .013 less on others
than the last ones do, in the mean of 22 trainings, six to twelve as much as these (decision 076)."""


@dataclass(frozen=True)
class Recipe:
    """How a model is fine-tuned.

    Attributes:
        steps: optimiser steps.
        batch: images that go through the model together.
        learning_rate: peak of a one-cycle cosine schedule; `warmup` is the share of steps until the peak.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        loss: the terms of the loss and their weights, such as "ce + 0.5*dice"; the names are those of `TERMS`.
        class_weights: "none", "auto" (by frequency, tempered), "effective" (nearly inverse to frequency), or a factor
            for each output; they weigh the terms "ce" and "focal".
        half_size: share of the steps, at the beginning, on images of half the side: a quarter of the cost a step,
            and as good for the first part of training (progressive resizing).
        crop: train on random windows of this size instead of whole images; None = whole.
        augmentation: random changes of the images.
        evaluations: how often, at most, the inner part is scored, evenly over the run, the last time at its end.
        patience: stop after so many evaluations without a better one; 0 = never.
        positive_rate: share of the images of a batch that are drawn to hold a class, each class as often as any
            other (the positive one, when binary), and whose crop is laid around a pixel of it.
        hard_pixels: share of the counted pixels, those with the largest loss, that "ce" is taken over; 1 = all.
        ema: how much of the moving average of the weights is kept a step; the average is what is evaluated and
            returned. 0 = off.
        layer_decay: factor on the learning rate from each block of the extractor to the one before it; 1 = none.
        frozen_steps: steps, at the beginning, in which the extractor does not change, batch statistics included.
        accumulate: batches whose gradients are averaged into one step, for want of memory for a larger batch.
        keep: "best" = the weights of the evaluation that scores best on the inner part, "last" = those of the end.
            Fewer than `JUDGES` inner groups do not tell one evaluation from the next: there, without `patience`, the
            last are kept either way.
        dice: how models saved earlier say their loss, "ce + `dice`*dice"; no field of its own.
    """

    steps: int = 400
    batch: int = 16
    learning_rate: float = 2e-3
    warmup: float = 0.15
    weight_decay: float = 1e-2
    clip: float = 1.0
    loss: str = STANDARD
    class_weights: str | tuple[float, ...] = "none"
    half_size: float = 0.3
    crop: Size | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    evaluations: int = 10
    patience: int = 0
    positive_rate: float = 0.0
    hard_pixels: float = 1.0
    ema: float = 0.0
    layer_decay: float = 1.0
    frozen_steps: int = 0
    accumulate: int = 1
    keep: str = "best"
    dice: InitVar[float | None] = None

    def __post_init__(self, dice: float | None) -> None:
        if dice is not None:
            object.__setattr__(self, "loss", {0.0: "ce", 1.0: STANDARD}.get(float(dice), f"ce + {dice}*dice"))
        for name, low in LOWEST.items():
            if not low <= getattr(self, name) < math.inf:
                rule = f"at least {low}" if getattr(self, name) < low else "a finite number"
                raise UnplateauError(f"`{name}` must be {rule}; got {getattr(self, name)}. Give another.")
        for name, high in HIGHEST.items():
            if getattr(self, name) > high:
                raise UnplateauError(f"`{name}` must be at most {high}; got {getattr(self, name)}. Give another.")
        self._refuse_without_effect()
        if not 0 < self.warmup < 1:
            raise UnplateauError(f"`warmup` is a share of the steps between 0 and 1; got {self.warmup}. Try 0.15.")
        if self.crop is not None and min(self.crop) < 1:
            raise UnplateauError(f"`crop` must be a height and a width in pixels; got {self.crop}. Leave it out.")
        if isinstance(self.class_weights, str) and self.class_weights not in WEIGHTINGS:
            raise UnplateauError(
                f"`class_weights` must be {' or '.join(map(repr, WEIGHTINGS))}, or a factor for each output; got "
                f"{self.class_weights!r}. Take one of these."
            )
        if self.keep not in KEPT:
            raise UnplateauError(f"`keep` must be {' or '.join(map(repr, KEPT))}; got {self.keep!r}. Take one of them.")
        if not 0 <= self.half_size < 1:
            raise UnplateauError(f"`half_size` is a share of the steps in 0..1; got {self.half_size}. Try 0.5.")

    def _refuse_without_effect(self) -> None:
        terms = parse_loss(self.loss)
        if self.hard_pixels < 1 and "ce" not in terms:
            raise UnplateauError(
                f"`hard_pixels` chooses pixels of the term 'ce', which `loss` lacks; got {self.loss!r}. Add it, or "
                "leave `hard_pixels` out."
            )
        if self.class_weights != "none" and not terms.keys() & set(WEIGHED):
            raise UnplateauError(
                f"`class_weights` weigh the terms {' and '.join(map(repr, WEIGHED))}, and `loss` has neither; got "
                f"{self.loss!r}. Add one, or leave `class_weights` out."
            )

    def __repr__(self) -> str:
        """Every number; but as it was before `LATER` and `loss` existed, wherever they change nothing.

        Outcomes are kept on disk by this text, and those of a recipe that trains to the same bits stay valid.
        """
        said = {each.name: repr(getattr(self, each.name)) for each in fields(self)}
        for each in fields(self):
            if each.name in LATER and getattr(self, each.name) == each.default:
                del said[each.name]
        text = ", ".join(f"{name}={value}" for name, value in said.items())
        # A weight of the Dice term is what stood there before.
        return f"Recipe({text})".replace(f"loss={STANDARD!r}", "dice=1.0")

    @property
    def batches(self) -> int:
        """Batches of the whole run."""
        return self.steps * self.accumulate

    @property
    def evaluate_every(self) -> int:
        """Steps between evaluations; where it does not divide the steps, the last interval is the shorter one."""
        return math.ceil(self.steps / self.evaluations)
