"""An extractor that no training changes."""

from __future__ import annotations

from typing import Self, final

import torch
from torch import Tensor

from unplateau.extractors.base import AbstractExtractor
from unplateau.types import Characteristics


@final
class FrozenExtractor(AbstractExtractor):
    """Another extractor in eval mode for good, without gradients to its weights or through it to the image.

    It takes `inner` over: `inner` itself no longer requires gradients afterwards.
    """

    def __init__(self, inner: AbstractExtractor) -> None:
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.gives, self.reach, self.pretrained = inner.gives, inner.reach, inner.pretrained
        self.architecture = inner.architecture
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode whatever `mode` says: batch statistics would drift under a frozen network."""
        return super().train(False)

    def forward(self, images: Tensor) -> Characteristics:
        """Images (B, 3, H, W), RGB 0..1, to the Characteristics of `inner`, detached."""
        with torch.no_grad():
            characteristics: Characteristics = self.inner(images)
        return characteristics

    def embed(self, words: tuple[str, ...]) -> Tensor:
        """What words mean to `inner`."""
        return self.inner.embed(words)


def freeze(extractor: AbstractExtractor) -> AbstractExtractor:
    """`extractor` without gradients and always in eval mode; the argument itself is frozen too."""
    return FrozenExtractor(extractor)
