"""A module that lets a local extractor see the whole image: "context(reach-33)".

Inside the parentheses stands any extractor. One that brings weights trained elsewhere is frozen, any other is trained,
unless "frozen:" or "trainable:" before it says otherwise.

Axes: B images, N cells, C channels, h w cells.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Self, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unplateau.errors import PieceError
from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.fused import FROZEN
from unplateau.types import Characteristics

OPENS, CLOSES = "context(", ")"

WIDTH, HEADS = 64, 4
"""Channels and attention heads of what is said of the whole image."""

COARSE = 16
"""Pixels a cell, at least, of the grid on which cells attend to each other: their pairs are what costs."""

BINS = (1, 2, 3, 6)
"""Cells a side of the pyramid, as in PSPNet."""


@final
class ContextExtractor(AbstractExtractor):
    """Another extractor, each of whose levels is also told what there is elsewhere in the image.

    Its coarsest level, on a grid of at least `COARSE` pixels a cell, is pooled over a pyramid (Zhao et al., arXiv
    1612.01105) and its cells attend to each other once (arXiv 1706.03762), with sines of their places: the pyramid says
    what is there, the attention where. What comes of it is added to every level behind a 1x1 convolution, so the levels
    keep their channels and strides.
    """

    reach = math.inf

    def __init__(self, inner: AbstractExtractor, *, frozen: bool) -> None:
        super().__init__()
        self.inner, self.frozen = inner.requires_grad_(not frozen), frozen
        self.architecture = f"{OPENS}{FROZEN if frozen else ''}{inner.architecture}{CLOSES}"
        self.gives, self.pretrained = inner.gives, inner.pretrained
        coarsest = max(level.stride for level in inner.gives)
        self.pooled = max(1, COARSE // coarsest)
        self.places = [place for place, level in enumerate(inner.gives) if level.stride == coarsest]
        channels = sum(inner.gives[place].channels for place in self.places)
        self.enter = nn.Sequential(nn.BatchNorm2d(channels, affine=False), nn.Conv2d(channels, WIDTH, 1))
        self.pyramid = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH // len(BINS), 1) for _ in BINS)
        self.join = nn.Conv2d(2 * WIDTH, WIDTH, 1)
        self.attend = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 2 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.tell = nn.ModuleList(nn.Conv2d(WIDTH, level.channels, 1) for level in inner.gives)
        self.own = nn.ModuleList(_own(level.channels) for level in inner.gives)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """A frozen extractor stays in eval mode whatever `mode` says: its batch statistics would drift."""
        super().train(mode)
        if self.frozen:
            self.inner.train(False)
        return self

    def forward(self, images: Tensor) -> Characteristics:
        """Images (B, 3, H, W), RGB 0..1, to the levels of the extractor within, each told of the whole image."""
        with torch.no_grad() if self.frozen else nullcontext():
            given: Characteristics = self.inner(images)
        whole = self._whole(torch.cat([given.levels[place] for place in self.places], dim=1))
        levels = tuple(
            F.relu(own(maps) + F.interpolate(tell(whole), size=maps.shape[-2:], mode="bilinear"))
            for own, tell, maps in zip(self.own, self.tell, given.levels, strict=True)
        )
        return Characteristics(levels, given.strides)

    def _whole(self, maps: Tensor) -> Tensor:
        """The coarsest maps (B, C, h, w) as what each coarse cell knows of all others: (B, WIDTH, h', w')."""
        cells = self.enter(maps)
        if self.pooled > 1:
            cells = F.avg_pool2d(cells, self.pooled, ceil_mode=True)
        size = (cells.shape[-2], cells.shape[-1])
        tiers = [
            F.interpolate(reduce(F.adaptive_avg_pool2d(cells, count)), size=size, mode="bilinear")
            for reduce, count in zip(self.pyramid, BINS, strict=True)
        ]
        joined: Tensor = self.join(torch.cat([cells, *tiers], dim=1))
        tokens_BNC = joined.flatten(2).transpose(1, 2) + _sines(*size).to(joined)
        attended: Tensor = self.attend(tokens_BNC)
        return attended.transpose(1, 2).unflatten(2, size)


def _own(channels: int) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(channels, affine=False), nn.Conv2d(channels, channels, 1))


def _sines(rows: int, columns: int) -> Tensor:
    """Sines and cosines of the place of each cell, half of the channels for each axis: (1, N, WIDTH).

    Places are shares of the image, so that another size says the same of the same place.
    """
    waves = math.pi * 2.0 ** torch.arange(WIDTH // 4).div(4)
    axes = [((torch.arange(count) + 0.5) / count)[:, None] * waves for count in (rows, columns)]
    down, across = (torch.cat([axis.sin(), axis.cos()], dim=1) for axis in axes)
    both = torch.cat([down[:, None].expand(-1, columns, -1), across[None].expand(rows, -1, -1)], dim=2)
    return both.reshape(1, rows * columns, WIDTH)


def is_context(name: str) -> bool:
    """Whether a name spells an extractor within a context module."""
    return name.startswith(OPENS) and name.endswith(CLOSES)


def within(name: str) -> str:
    """What stands in the parentheses.

    Raises:
        PieceError: nothing.
    """
    inner = name[len(OPENS) : -len(CLOSES)].strip()
    if not inner:
        raise PieceError(f"A context module must hold an extractor, such as 'context(reach-33)'; got {name!r}.")
    return inner


def context_name(name: str) -> str:
    """The name of an extractor within a context module."""
    return f"{OPENS}{name}{CLOSES}"


def context(inner: AbstractExtractor, frozen: bool | None = None) -> AbstractExtractor:
    """An extractor within a context module; `frozen` None = where it brings weights trained elsewhere."""
    return ContextExtractor(inner, frozen=inner.pretrained if frozen is None else frozen)
