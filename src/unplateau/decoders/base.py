"""The decoder f: Characteristics -> what is asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from unplateau.types import Candidates, Characteristics, Level, Prediction, Size


class AbstractDecoder(nn.Module, ABC):
    """Feature maps go in, logits come out: of each pixel, of the image, or of each candidate box."""

    gives: str = "mask"
    """What its logits are about: "mask", "label" or "boxes"."""

    reads: tuple[Level, ...]
    """Channels and stride of each feature map it was built for, finest first."""

    outputs: int
    """Logits a pixel, image or box: 1 when binary, else one a class."""

    words: tuple[str, ...] = ()
    """Words whose meaning it reads cells by, as the extractor says it; none for most."""

    def hear(self, meant: Tensor) -> None:
        """Take what `words` mean to the extractor: (Q, C), each of length 1. Nothing where there are none."""

    @abstractmethod
    def forward(self, characteristics: Characteristics, size: Size) -> Prediction | Candidates:
        """Characteristics to logits; a mask decoder's are (B, outputs, H, W) at `size` = (H, W) in pixels."""
