"""The cheapest decoder: what a linear rule reads from the characteristics."""

from __future__ import annotations

from typing import final

from torch import nn

from unplateau.decoders.base import AbstractDecoder
from unplateau.decoders.grids import upsample
from unplateau.types import Characteristics, Level, Prediction, Size


@final
class LinearDecoder(AbstractDecoder):
    """A weighted sum of all channels of all levels, on the finest grid, then bilinear to the size of the image."""

    def __init__(self, reads: tuple[Level, ...], outputs: int) -> None:
        super().__init__()
        self.reads, self.outputs = reads, outputs
        self.rules = nn.ModuleList(_rule(level.channels, outputs) for level in reads)

    def forward(self, characteristics: Characteristics, size: Size) -> Prediction:
        """Characteristics to logits (B, outputs, H, W) at `size` = (H, W) in pixels."""
        levels = characteristics.levels
        grid = (levels[0].shape[-2], levels[0].shape[-1])
        # The rule comes before the upsampling: both are linear, and there are far fewer outputs than channels.
        parts = [upsample(rule(maps), grid) for rule, maps in zip(self.rules, levels, strict=True)]
        return Prediction(upsample(sum(parts[1:], start=parts[0]), size))


def _rule(channels: int, outputs: int) -> nn.Module:
    """One 1x1 convolution of standardised channels: those of frozen networks differ in scale by orders of magnitude."""
    return nn.Sequential(nn.BatchNorm2d(channels, affine=False), nn.Conv2d(channels, outputs, kernel_size=1))


def linear(reads: tuple[Level, ...], outputs: int) -> AbstractDecoder:
    """A linear decoder for any levels."""
    return LinearDecoder(reads, outputs)
