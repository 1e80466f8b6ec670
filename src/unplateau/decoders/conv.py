"""A light convolutional decoder, good enough to read a frozen extractor in a few hundred steps."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from unplateau.decoders.base import AbstractDecoder
from unplateau.decoders.grids import upsample
from unplateau.types import Characteristics, Level, Prediction, Size


@final
class ConvDecoder(AbstractDecoder):
    """Every level to `width` channels, summed from coarse to fine, two 3x3 convolutions on the finest grid."""

    def __init__(self, reads: tuple[Level, ...], outputs: int, width: int) -> None:
        super().__init__()
        self.reads, self.outputs = reads, outputs
        self.projections = nn.ModuleList(_projection(level.channels, width) for level in reads)
        self.body = nn.Sequential(_block(width), _block(width))
        self.head = nn.Conv2d(width, outputs, kernel_size=1)

    def forward(self, characteristics: Characteristics, size: Size) -> Prediction:
        """Characteristics to logits (B, outputs, H, W) at `size` = (H, W) in pixels."""
        pairs = zip(self.projections, characteristics.levels, strict=True)
        finer = [projection(maps) for projection, maps in pairs]
        merged = finer.pop()
        while finer:
            merged = _add(finer.pop(), merged)
        return Prediction(upsample(self.head(self.body(merged)), size))


def _add(fine: Tensor, coarse: Tensor) -> Tensor:
    return fine + upsample(coarse, (fine.shape[-2], fine.shape[-1]))


def _projection(channels: int, width: int) -> nn.Module:
    """Standardise, then mix: channels of frozen networks differ in scale by orders of magnitude."""
    return nn.Sequential(nn.BatchNorm2d(channels, affine=False), nn.Conv2d(channels, width, kernel_size=1))


def _block(width: int) -> nn.Module:
    convolution = nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def conv(reads: tuple[Level, ...], outputs: int) -> AbstractDecoder:
    """A light convolutional decoder for any levels, 64 channels wide."""
    return ConvDecoder(reads, outputs, width=64)
