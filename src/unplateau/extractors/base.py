"""The extractor c: image -> Characteristics."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from unplateau.errors import PieceError
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

    def embed(self, words: tuple[str, ...]) -> Tensor:
        """What words mean in the space of the last level: (Q, C), each of length 1.

        Raises:
            PieceError: it is not aligned with language.
        """
        raise PieceError(
            f"Words can be read by a language-aligned extractor alone; {self.architecture!r} knows no "
            f"{words[0]!r}. Take 'clip/FOLDER', or another decoder."
        )
