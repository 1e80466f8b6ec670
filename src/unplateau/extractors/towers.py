"""What the image tower of a language-aligned network must offer, whichever library built it.

Axes: B images, N tokens, C channels, Q words, E channels of the embedding that images and words share.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Mean of the images that OpenAI's CLIP was trained on, RGB, 0..1."""

CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Standard deviation of these, RGB, 0..1."""


@dataclass(frozen=True)
class Facts:
    """Of a tower: pixels a token and side, channels of a token and of the shared embedding, blocks, normalisation."""

    patch: int
    width: int
    embedding: int
    blocks: int
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD


class AbstractTower(nn.Module, ABC):
    """A vision transformer with a class token, taken apart so that its last block can be changed."""

    facts: Facts

    @abstractmethod
    def tokens(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to the tokens (B, 1 + N, C) that enter the first block."""

    @abstractmethod
    def block(self, index: int, tokens: Tensor, *, values: bool) -> Tensor:
        """Tokens through block `index`; with `values` every token attends to itself alone."""

    @abstractmethod
    def shared(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, C) of the last block in the embedding that words share: (B, N, E)."""


def resized(positions: Tensor, rows: int, columns: int) -> Tensor:
    """Position embeddings (1 + M, C), a class token and a square grid, for another grid: (1 + rows columns, C)."""
    side = round((len(positions) - 1) ** 0.5)
    if (rows, columns) == (side, side):
        return positions
    grid = positions[1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    moved = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
    return torch.cat([positions[:1], moved.permute(0, 2, 3, 1).reshape(rows * columns, -1)])
