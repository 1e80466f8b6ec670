"""A classical filter bank: nothing is learnt, so what a task gains over it is what learning is worth there.

Axes: B images, F filters, h w cells.
"""

from __future__ import annotations

import math
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from unplateau.extractors.base import AbstractExtractor
from unplateau.types import Characteristics, Level

SCALES = (1, 2, 4)
"""Pixels a cell of each level; the filters are the same on each."""

DIRECTIONS = 4
"""Of edges and of bars, evenly over half a turn."""

SIGMA, HALF = 1.0, 3
"""Spread of the Gaussian in cells, and cells from the middle of a filter to its border."""

CHANNELS = 3 + 2 * DIRECTIONS


@final
class FilterBank(AbstractExtractor):
    """Smoothed colour, edges and bars in four directions, at three scales; no parameters.

    Edges and bars are the first and second derivatives of a Gaussian along a direction, steered from those along the
    axes (Freeman and Adelson, 1991), on the grey image: of an edge its strength, whichever side is the brighter, of a
    bar its strength and whether it is bright or dark. Each level is the image averaged over its cells, seen by the same
    filters.
    """

    architecture = "filters"
    pretrained = False
    reach = float(SCALES[-1] * (2 * HALF + 1))

    kernels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.gives = tuple(Level(CHANNELS, stride) for stride in SCALES)
        self.register_buffer("kernels", _kernels(), persistent=False)

    def forward(self, images: Tensor) -> Characteristics:
        """Images (B, 3, H, W), RGB 0..1, to a map of 11 channels at strides 1, 2 and 4."""
        levels = tuple(self._seen(F.avg_pool2d(images, stride) if stride > 1 else images) for stride in SCALES)
        return Characteristics(levels, SCALES)

    def _seen(self, cells: Tensor) -> Tensor:
        padded = F.pad(cells, (HALF,) * 4, mode="replicate")
        smooth = F.conv2d(padded, self.kernels[:1].expand(3, 1, -1, -1), groups=3)
        found = F.conv2d(padded.mean(1, keepdim=True), self.kernels[1:])
        edges, bars = found.chunk(2, dim=1)
        return torch.cat([smooth, edges.abs(), bars], dim=1)


def _kernels() -> Tensor:
    """The Gaussian, its first and its second derivative along each direction: (F, 1, side, side).

    Each derivative answers with 1 to the ramp or the parabola x^2 / 2 along its own direction, and the Gaussian to 1.
    """
    across = torch.arange(-HALF, HALF + 1, dtype=torch.float32)
    y, x = torch.meshgrid(across, across, indexing="ij")
    gauss = torch.exp(-(x**2 + y**2) / (2 * SIGMA**2))
    gauss = gauss / gauss.sum()
    angles = [math.pi * number / DIRECTIONS for number in range(DIRECTIONS)]
    along = [math.cos(angle) * x + math.sin(angle) * y for angle in angles]
    edges = [gauss * place / (gauss * place**2).sum() for place in along]
    bars = [gauss * (place**2 - SIGMA**2) for place in along]
    bars = [bar - gauss * bar.sum() for bar in bars]
    bars = [bar / (bar * place**2 / 2).sum() for bar, place in zip(bars, along, strict=True)]
    return torch.stack([gauss, *edges, *bars])[:, None]


def filters() -> AbstractExtractor:
    """The filter bank."""
    return FilterBank()
