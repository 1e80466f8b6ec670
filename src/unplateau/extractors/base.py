"""The extractor c: image -> Characteristics."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from unplateau.types import Characteristics, Level


class AbstractExtractor(nn.Module, ABC):
    """An image goes in, feature maps with known channels and strides come out.

    Every extractor takes the same images: float (B, 3, H, W), RGB, 0..1, sides divisible by its coarsest stride.
    The normalisation that its weights expect is part of the extractor, not of the caller's memory.
    """

    gives: tuple[Level, ...]
    """Channels and stride of each feature map, finest first."""

    reach: float
    """Side, in input pixels, of the square that a cell can see; inf when it sees the whole image."""

    architecture: str
    """The name by which `build_extractor` makes it again, with random weights."""

    pretrained: bool
    """Whether the weights were trained elsewhere."""

    @abstractmethod
    def forward(self, images: Tensor) -> Characteristics:
        """Images (B, 3, H, W), RGB 0..1, to Characteristics that keep what `gives` promises."""
