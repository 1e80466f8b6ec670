"""The decoder f: Characteristics -> mask."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from unplateau.types import Characteristics, Level, Prediction, Size


class AbstractDecoder(nn.Module, ABC):
    """Feature maps go in, logits at the size of the image come out."""

    reads: tuple[Level, ...]
    """Channels and stride of each feature map it was built for, finest first."""

    outputs: int
    """Logits a pixel: 1 when binary, else one a class."""

    @abstractmethod
    def forward(self, characteristics: Characteristics, size: Size) -> Prediction:
        """Characteristics to logits (B, outputs, H, W) at `size` = (H, W) in pixels."""
