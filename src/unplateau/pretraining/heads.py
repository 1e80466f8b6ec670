"""Heads and losses of self-supervision: the only file that imports lightly."""

from __future__ import annotations

import warnings
from typing import cast

from torch import Tensor, nn

HIDDEN, BOTTLENECK, PROTOTYPES, PROJECTED = 256, 64, 512, 64
"""Widths of the heads: a hundredth of the published ones, as images and budgets are."""

TEACHER_TEMPERATURE = 0.04

LONGEST_KEEP = 0.99
"""Of the teacher's weights a step, later on; a hundred steps are then most of its memory."""


def prototype_head(channels: int) -> nn.Module:
    """DINO's head (arXiv 2104.14294): rows (M, channels) to logits of prototypes (M, PROTOTYPES).

    With batch normalisation, which the paper has for convolutional networks: the features of a random network differ
    so little between images that without it every row begins at the same prototype and stays there, and a row of
    zeros has no direction to normalise.
    """
    from lightly.models.modules.heads import DINOProjectionHead

    with warnings.catch_warnings():
        # lightly normalises its weights by a function that torch has replaced by another.
        warnings.simplefilter("ignore", FutureWarning)
        return cast(nn.Module, DINOProjectionHead(channels, HIDDEN, BOTTLENECK, PROTOTYPES, batch_norm=True))


def dense_head(channels: int) -> nn.Module:
    """DenseCL's head (arXiv 2011.09157): rows (M, channels) to embeddings (M, PROJECTED)."""
    from lightly.models.modules.heads import DenseCLProjectionHead

    return cast(nn.Module, DenseCLProjectionHead(channels, HIDDEN, PROJECTED))


def view_loss() -> nn.Module:
    """DINO's loss: teacher and student logits, a list of (B, PROTOTYPES) for each view, to a number."""
    from lightly.loss import DINOLoss

    return cast(nn.Module, DINOLoss(PROTOTYPES, teacher_temp=TEACHER_TEMPERATURE))


def patch_loss() -> nn.Module:
    """iBOT's loss (arXiv 2111.07832): teacher and student logits of masked cells, and the mask (B, h, w)."""
    from lightly.loss import IBOTPatchLoss

    return cast(nn.Module, IBOTPatchLoss(PROTOTYPES, teacher_temp=TEACHER_TEMPERATURE))


def contrast_loss(temperature: float) -> nn.Module:
    """InfoNCE of rows that belong together (M, D), (M, D), against all others (arXiv 2002.05709)."""
    from lightly.loss import NTXentLoss

    return cast(nn.Module, NTXentLoss(temperature))


def follow(step: int, *pairs: tuple[nn.Module, nn.Module]) -> None:
    """Move each teacher's weights towards its student's, (teacher, student), after optimiser step `step`.

    The first steps go further, so that a short run is not held back by its random start.
    """
    from lightly.models.utils import update_momentum

    for teacher, student in pairs:
        update_momentum(student, teacher, min(LONGEST_KEEP, (1 + step) / (10 + step)))


def centred(loss: nn.Module, logits: Tensor) -> Tensor:
    """The teacher's logits (M, PROTOTYPES) as its loss sees them: without their running mean, sharpened."""
    return (logits - cast(Tensor, loss.center).reshape(1, -1)) / TEACHER_TEMPERATURE


def balanced(likeness: Tensor) -> Tensor:
    """Shares (M, W) of rows in words from their likeness (M, W), -1..1, all words equally used (arXiv 2006.09882)."""
    from lightly.loss.swav_loss import sinkhorn

    return cast(Tensor, sinkhorn(likeness, iterations=3, epsilon=0.05))
