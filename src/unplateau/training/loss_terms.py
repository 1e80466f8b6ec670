"""The terms a loss is made of. Each is a mean over what counts, so that a weight means the same on every batch.

Axes: B images, C outputs, H W pixels. Whatever has no class to speak of in a batch is 0 or pushes false positives
down; a pixel of 255 takes part in nothing.

segmentation-models-pytorch has most of these. Its Lovász loss is used as it is. Its other ones are not, because with
several classes its focal loss is a sigmoid a class where our scores are a softmax, and on a batch without a counted
pixel it is nan; its Dice and Tversky losses are 0, with no gradient, on a batch without positives, and divide by the
classes that are absent too, so that their size depends on how many are; its focal Tversky raises the mean over classes
to the power, not each class, and its gradient is infinite at a perfect answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from unplateau.types import IGNORE


@dataclass(frozen=True)
class Answer:
    """What a model said, and what is true.

    `logits` float32 (B, C, H, W); C = 1 is binary, with class index 1 the positive one. `masks` (B, H, W) of class
    indices. `class_weights` (C,): factors of the classes' pixels; for binary, of the positive ones. `hard_pixels`:
    share of the counted pixels, those of the largest cross-entropy, that the cross-entropy is taken over.
    """

    logits: Tensor
    masks: Tensor
    class_weights: Tensor
    hard_pixels: float = 1.0

    @property
    def outputs(self) -> int:
        """Logits a pixel."""
        return self.logits.shape[1]

    @property
    def counted(self) -> Tensor:
        """Which pixels count, bool (B, H, W)."""
        return self.masks != IGNORE


Term = Callable[[Answer], Tensor]
"""From an answer to a scalar, lower when the answer is better."""


# ---- pixel by pixel ------------------------------------------------------------------------------------------


def cross_entropy(answer: Answer) -> Tensor:
    """Weighted cross-entropy over the counted pixels, or over the hardest of them (arXiv 1605.06885)."""
    counted = answer.counted.sum().clamp(min=1)
    if answer.hard_pixels < 1:
        return _hardest(_entropy(answer, answer.class_weights), math.ceil(answer.hard_pixels * int(counted)))
    if answer.outputs == 1:
        return _entropy(answer, answer.class_weights).sum() / counted
    loss = F.cross_entropy(
        answer.logits, answer.masks.long(), answer.class_weights, ignore_index=IGNORE, reduction="sum"
    )
    return loss / counted


def focal(answer: Answer, *, gamma: float) -> Tensor:
    """Focal loss (arXiv 1708.02002), with the class weights as its alpha; over the softmax when multi-class."""
    entropy = _entropy(answer, torch.ones_like(answer.class_weights))
    wrong = -torch.expm1(-entropy)
    return (_pixel_weights(answer) * wrong**gamma * entropy).sum() / answer.counted.sum().clamp(min=1)


def _entropy(answer: Answer, weights: Tensor) -> Tensor:
    """Weighted cross-entropy of each pixel (B, H, W); 0 where it does not count."""
    if answer.outputs == 1:
        positive = (answer.masks == 1).float()
        loss = F.binary_cross_entropy_with_logits(answer.logits[:, 0], positive, pos_weight=weights, reduction="none")
        return loss * answer.counted
    return F.cross_entropy(answer.logits, answer.masks.long(), weights, ignore_index=IGNORE, reduction="none")


def _pixel_weights(answer: Answer) -> Tensor:
    """The factor of each pixel's class (B, H, W)."""
    if answer.outputs == 1:
        return torch.where(answer.masks == 1, answer.class_weights, 1.0)
    return answer.class_weights[torch.where(answer.counted, answer.masks, 0).long()]


def _hardest(loss: Tensor, count: int) -> Tensor:
    return loss.flatten().topk(count, sorted=False).values.mean()


# ---- by overlap ----------------------------------------------------------------------------------------------


def dice(answer: Answer) -> Tensor:
    """Soft Dice (arXiv 1606.04797) over the whole batch, so that an image without the class does not dominate."""
    scores, true = _scores(answer)
    overlap = (scores * true).sum((0, 2, 3))
    size = scores.sum((0, 2, 3)) + true.sum((0, 2, 3))
    # One pixel of smoothing on either side: a class absent from the batch costs little and divides nothing.
    return _over_present(1 - (2 * overlap + 1) / (size + 1), true)


def tversky(answer: Answer, *, spurious: float, missed: float, power: float = 1.0) -> Tensor:
    """Tversky loss (arXiv 1706.05721): Dice with a price for spurious and one for missed area; half each is Dice.

    A `power` below 1 makes it the focal Tversky loss (arXiv 1810.07842, where it is 1 / gamma), which keeps a class
    that is nearly right from being forgotten.
    """
    scores, true = _scores(answer)
    overlap = (scores * true).sum((0, 2, 3))
    costs = spurious * (scores.sum((0, 2, 3)) - overlap) + missed * (true.sum((0, 2, 3)) - overlap)
    # Half a pixel of smoothing is the one pixel of `dice`, whose fraction is twice this one above and below.
    loss = 1 - (overlap + 0.5) / (overlap + costs + 0.5)
    # Below 1e-6, which is rounding, a power below 1 would have no end of a slope.
    return _over_present(loss if power == 1 else loss.clamp(min=1e-6) ** power, true)


def lovasz(answer: Answer) -> Tensor:
    """Lovász extension of the Jaccard loss (arXiv 1705.08790): the hinge when binary, else over the softmax.

    Over the whole batch, classes present.
    """
    from segmentation_models_pytorch.losses import LovaszLoss

    if not answer.counted.any():
        return answer.logits.sum() * 0
    mode = "binary" if answer.outputs == 1 else "multiclass"
    loss: Tensor = LovaszLoss(mode, ignore_index=IGNORE)(answer.logits, answer.masks)
    return loss


def _scores(answer: Answer) -> tuple[Tensor, Tensor]:
    """Scores and truth (B, C, H, W), both 0 where nothing counts."""
    weight = answer.counted[:, None].float()
    if answer.outputs == 1:
        return answer.logits.sigmoid() * weight, (answer.masks == 1)[:, None].float()
    index = torch.where(answer.counted, answer.masks, 0).long()
    true = F.one_hot(index, answer.outputs).permute(0, 3, 1, 2) * weight
    return answer.logits.softmax(1) * weight, true


def _over_present(losses_C: Tensor, true: Tensor) -> Tensor:
    """Mean over the classes present in the batch; over all where none is."""
    present = true.sum((0, 2, 3)) > 0
    return losses_C[present].mean() if present.any() else losses_C.mean()


# ---- by distance ---------------------------------------------------------------------------------------------


def boundary(answer: Answer) -> Tensor:
    """Boundary loss (arXiv 1812.07032): the area in error, each pixel by its distance from the true boundary.

    A share of all the distance there is, 0..1, where the paper leaves it in pixels: images of half the side then count
    alike. An image without any boundary of a class says nothing here, so add another term to this one. Distances are
    computed on the CPU.
    """
    scores, true = _scores(answer)
    far = _distances(true, answer.counted).to(scores.device)
    return ((scores - true) * far).sum() / far.abs().sum().clamp(min=1)


def _distances(true: Tensor, counted: Tensor) -> Tensor:
    """Signed distances (B, C, H, W) in pixels from each class's boundary, negative inside."""
    inside, valid = true.detach().cpu().numpy() > 0, counted.cpu().numpy()
    maps = [[_distance(part, here & ~part) for part in image] for image, here in zip(inside, valid, strict=True)]
    return torch.from_numpy(np.array(maps, dtype=np.float32))


def _distance(inside: NDArray[np.bool_], outside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Signed distance (H, W) from the line between two areas; 0 in neither of them, and where one is empty."""
    if not inside.any() or not outside.any():
        return np.zeros(inside.shape)
    # Between the centres of two neighbours lies a whole pixel, and the boundary half-way.
    beyond, within = distance_transform_edt(~inside) - 0.5, 0.5 - distance_transform_edt(~outside)
    return np.where(outside, beyond, np.where(inside, within, 0.0))


TERMS: dict[str, Term] = {
    "ce": cross_entropy,
    "focal": partial(focal, gamma=2.0),
    "dice": dice,
    "tversky": partial(tversky, spurious=0.3, missed=0.7),
    "focal-tversky": partial(tversky, spurious=0.3, missed=0.7, power=0.75),
    "lovasz": lovasz,
    "boundary": boundary,
}
"""Every term by name, with the numbers that its paper found best."""

WEIGHED = ("ce", "focal")
"""Terms that the class weights change."""
