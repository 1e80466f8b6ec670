"""The label of a whole image: what a linear rule reads from the mean and the peak of each characteristic."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from unplateau.decoders.base import AbstractDecoder
from unplateau.types import Characteristics, Level, Prediction, Size


@final
class LabelDecoder(AbstractDecoder):
    """A weighted sum of how strong each channel of each level is on average, and where it is strongest.

    The mean alone would drown a small thing in its surroundings (arXiv 1411.6228), the peak alone has a gradient at
    one cell of the map only.
    """

    gives = "label"

    def __init__(self, reads: tuple[Level, ...], outputs: int) -> None:
        super().__init__()
        self.reads, self.outputs = reads, outputs
        self.standards = nn.ModuleList(nn.BatchNorm2d(level.channels, affine=False) for level in reads)
        self.rule = nn.Linear(2 * sum(level.channels for level in reads), outputs)

    def forward(self, characteristics: Characteristics, size: Size) -> Prediction:
        """Characteristics to logits (B, outputs); `size` plays no part."""
        pairs = zip(self.standards, characteristics.levels, strict=True)
        return Prediction(self.rule(torch.cat([_pooled(standard(maps)) for standard, maps in pairs], dim=1)))


def _pooled(maps: Tensor) -> Tensor:
    """Maps (B, C, h, w) to their means and peaks (B, 2 C)."""
    return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)


def label(reads: tuple[Level, ...], outputs: int) -> AbstractDecoder:
    """A linear decoder of image labels for any levels."""
    return LabelDecoder(reads, outputs)
