"""Losses over logits (B, outputs, H, W) and masks (B, H, W) of class indices; pixels of 255 are not counted."""

from __future__ import annotations

import math
from functools import reduce
from operator import add
from typing import final

from torch import Tensor, nn

from unplateau.errors import UnplateauError, nearest
from unplateau.training.loss_terms import TERMS, Answer

STANDARD = "ce + dice"
"""The usual pair: the first ranks pixels, the second minds the overlap."""


@final
class CompoundLoss(nn.Module):
    """A weighted sum of terms.

    Args:
        outputs: logits a pixel; 1 = binary, with class index 1 the positive one.
        class_weights: (outputs,) factors of the cross-entropy; for binary, the factor of positive pixels.
        loss: the sum as text, such as "ce + 0.5*dice"; the names are those of `TERMS`.
        hard_pixels: share of the counted pixels that the cross-entropy is taken over, the hardest first.

    Raises:
        UnplateauError: `loss` is no such sum.
    """

    class_weights: Tensor

    def __init__(self, outputs: int, class_weights: Tensor, loss: str = STANDARD, hard_pixels: float = 1.0) -> None:
        super().__init__()
        self.outputs = outputs
        self.hard_pixels = hard_pixels
        self.weights = parse_loss(loss)
        self.register_buffer("class_weights", class_weights)

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Scalar loss."""
        return self._of(Answer(logits.float(), masks, self.class_weights, self.hard_pixels))

    def of_class(self, place: int, logits: Tensor, masks: Tensor) -> Tensor:
        """Scalar loss of one class by itself: logits (B, 1, H, W) and masks (B, H, W) of 0/1/255."""
        return self._of(Answer(logits.float(), masks, self.class_weights[place : place + 1], self.hard_pixels))

    def _of(self, answer: Answer) -> Tensor:
        return reduce(add, [weight * TERMS[name](answer) for name, weight in self.weights.items()])


def parse_loss(text: str) -> dict[str, float]:
    """The weight of each term of a sum such as "ce + 0.5*dice".

    Raises:
        UnplateauError: a term is unknown or named twice, or a weight is no positive number.
    """
    weights: dict[str, float] = {}
    for part in text.split("+"):
        factor, _, name = part.strip().rpartition("*")
        name = name.strip()
        if name not in TERMS:
            raise _refusal(text, f"for {name!r}, {nearest(name, TERMS)}")
        if name in weights:
            raise _refusal(text, f"name {name!r} once.")
        weights[name] = _weight(factor.strip() or ("1" if "*" not in part else ""), text)
    return weights


def _weight(factor: str, text: str) -> float:
    try:
        weight = float(factor)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise _refusal(text, f"the factor {factor!r} must be a number above 0, and a term without any is left out.")
    return weight


def _refusal(text: str, why: str) -> UnplateauError:
    return UnplateauError(f"`loss` must add up terms by name, as in 'ce + 0.5*dice'; got {text!r}: {why}")
