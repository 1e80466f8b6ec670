"""Losses over logits (B, outputs, H, W) and masks (B, H, W) of class indices; pixels of 255 are not counted."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unplateau.types import IGNORE


@final
class CompoundLoss(nn.Module):
    """Weighted cross-entropy plus soft Dice, the usual pair: the first ranks pixels, the second minds the overlap.

    Args:
        outputs: logits a pixel; 1 = binary, with class index 1 the positive one.
        class_weights: (outputs,) factors of the cross-entropy; for binary, the factor of positive pixels.
        dice: weight of the Dice term (arXiv 1606.04797, over the whole batch, so that an image without the class
            does not dominate).
    """

    class_weights: Tensor

    def __init__(self, outputs: int, class_weights: Tensor, dice: float = 1.0) -> None:
        super().__init__()
        self.outputs = outputs
        self.dice = dice
        self.register_buffer("class_weights", class_weights)

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Scalar loss."""
        logits = logits.float()
        counted = masks != IGNORE
        entropy = self._cross_entropy(logits, masks, counted)
        return entropy + self.dice * self._dice(logits, masks, counted) if self.dice else entropy

    def _cross_entropy(self, logits: Tensor, masks: Tensor, counted: Tensor) -> Tensor:
        if self.outputs == 1:
            positive = (masks == 1).float()
            loss = F.binary_cross_entropy_with_logits(
                logits[:, 0], positive, pos_weight=self.class_weights, reduction="none"
            )
            return (loss * counted).sum() / counted.sum().clamp(min=1)
        loss = F.cross_entropy(logits, masks.long(), self.class_weights, ignore_index=IGNORE, reduction="sum")
        return loss / counted.sum().clamp(min=1)

    def _dice(self, logits: Tensor, masks: Tensor, counted: Tensor) -> Tensor:
        weight = counted[:, None].float()
        if self.outputs == 1:
            scores, true = logits.sigmoid() * weight, (masks == 1)[:, None].float()
        else:
            scores = logits.softmax(1) * weight
            index = torch.where(counted, masks, 0).long()
            true = F.one_hot(index, self.outputs).permute(0, 3, 1, 2) * weight
        overlap = (scores * true).sum((0, 2, 3))
        size = scores.sum((0, 2, 3)) + true.sum((0, 2, 3))
        # One pixel of smoothing on either side: a class absent from the batch costs little and divides nothing.
        dice = (2 * overlap + 1) / (size + 1)
        present = true.sum((0, 2, 3)) > 0
        return (1 - dice[present]).mean() if present.any() else (1 - dice).mean()
