"""What every way of learning from images without masks is made of.

Axes: B images, M rows, C channels, D channels of an embedding, h w cells, K points.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unplateau.data.grid import SMALLEST
from unplateau.extractors.base import AbstractExtractor
from unplateau.training.devices import native_bf16
from unplateau.types import Characteristics, Size

Seen = TypeVar("Seen")

VIEW = 0.5
"""Side of a view over the side of the image: a quarter of the cost, and about the resolution of the image."""

SMALLEST_BF16 = 32
"""Smaller views are computed in float32."""


@dataclass(frozen=True)
class Outcome:
    """Of one step: the loss, and how much of the images is left in what was embedded (see `spread_of`)."""

    loss: Tensor
    spread: Tensor


class AbstractMethod(nn.Module, ABC):
    """A student to train, and what it is trained against."""

    student: AbstractExtractor

    @abstractmethod
    def forward(self, images: Tensor, generator: torch.Generator) -> Outcome:
        """The loss of a batch of images float (B, 3, H, W), RGB 0..1."""

    @abstractmethod
    def advance(self, step: int) -> None:
        """Called after optimiser step `step`."""

    @property
    @abstractmethod
    def kept(self) -> AbstractExtractor:
        """The extractor that is worth keeping."""


def spread_of(rows: Tensor) -> Tensor:
    """Root of the mean squared distance of rows (M, D), made of length 1, from their mean: 0 (all alike) .. 1."""
    unit = F.normalize(rows.detach().float(), dim=1)
    return (unit - unit.mean(0)).square().sum(1).mean().sqrt()


def information_of(logits: Tensor) -> Tensor:
    """What the prototypes say about which row it was, as a share of what they could, 0..1.

    Entropy of the mean distribution minus mean entropy of the distributions, over the log of the number of rows. Both
    ways in which self-distillation collapses bring it to 0: one prototype for all, and all prototypes for each.
    """
    p = logits.detach().float().softmax(1)
    return (_entropy(p.mean(0)) - _entropy(p).mean()) / torch.tensor(float(len(p))).log()


def _entropy(p: Tensor) -> Tensor:
    return -(p * p.clamp_min(1e-12).log()).sum(-1)


def look(extractor: Callable[[Tensor], Seen], images: Tensor) -> Seen:
    """What an extractor answers, in the fastest arithmetic that trains well; heads and losses stay in float32."""
    device = images.device.type
    # On a CPU, gradients of a bf16 convolution over maps of a single cell hold memory that nobody wrote (torch 2.15).
    able = native_bf16(device) and min(images.shape[-2:]) >= SMALLEST_BF16
    with torch.autocast(device, torch.bfloat16, enabled=able):
        return extractor(images)


# ---- what heads read -----------------------------------------------------------------------------------------


def channels_of(extractor: AbstractExtractor) -> int:
    """Channels of all levels together."""
    return sum(level.channels for level in extractor.gives)


def pooled(characteristics: Characteristics) -> Tensor:
    """Mean and standard deviation of every channel of every level: (B, 2 C)."""
    parts = []
    for maps in characteristics.levels:
        flat = maps.float().flatten(2)
        parts += [flat.mean(2), (flat.var(2, unbiased=False) + 1e-5).sqrt()]
    return torch.cat(parts, dim=1)


def cells(characteristics: Characteristics, grid: Size) -> Tensor:
    """All levels on one grid: (B, h, w, C)."""
    maps = [_regridded(level.float(), grid) for level in characteristics.levels]
    return torch.cat(maps, dim=1).permute(0, 2, 3, 1)


def _regridded(maps: Tensor, grid: Size) -> Tensor:
    finer = maps.shape[-2] >= grid[0] and maps.shape[-1] >= grid[1]
    return F.adaptive_avg_pool2d(maps, grid) if finer else F.interpolate(maps, size=grid, mode="bilinear")


def at_points(characteristics: Characteristics, points: Tensor) -> Tensor:
    """All levels at points (B, K, 2), x before y, -1..1, between cells by their neighbours: (B, K, C)."""
    found = [
        F.grid_sample(level.float(), points[:, :, None], padding_mode="border", align_corners=False)[..., 0]
        for level in characteristics.levels
    ]
    return torch.cat(found, dim=1).transpose(1, 2)


def multiple_of(size: Size, share: float, stride: int) -> Size:
    """`share` of each side, rounded to a multiple of the coarsest stride, at least `SMALLEST`."""
    least = -(-SMALLEST // stride) * stride
    height, width = (max(least, round(side * share / stride) * stride) for side in size)
    return height, width


def coarsest(extractor: AbstractExtractor) -> int:
    """Side in pixels of the cells that are hidden: the coarsest stride, at least 8."""
    return max(8, *(level.stride for level in extractor.gives))


def twin_of(student: nn.Module, build: Callable[[], nn.Module]) -> nn.Module:
    """A second piece that begins as the first; built anew, as normalised weights cannot be copied."""
    twin = build()
    twin.load_state_dict(student.state_dict())
    return twin.requires_grad_(False)
