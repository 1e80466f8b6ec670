"""Extractors with a known, bounded reach: the rungs of the ladder.

A rung must differ from the next in what it may see and in nothing else, so all of them are one small residual
encoder-decoder (after U-Net, arXiv 1505.04597, with added instead of concatenated skips, which costs a third in
the decoder). Its reach is counted exactly from its kernels and strides, never estimated.

Batch normalisation keeps the bound: statistics are constants at evaluation, so nothing outside the reach can
change an answer.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unplateau.errors import Doubt, PieceError
from unplateau.extractors.base import AbstractExtractor
from unplateau.types import Characteristics, Level

MEAN, SPREAD = 0.45, 0.25
"""Grey level and spread of natural images in 0..1; the rungs are trained from scratch, so any fixed pair will do."""

WIDTH = 16
"""Channels at full size; each halving of the map doubles them."""


@dataclass(frozen=True)
class Plan:
    """Arrangement of a bounded encoder-decoder.

    `halvings` of the map; `fine` 3x3 convolutions at full size; the first `ordered` halvings are followed by a 3x3
    convolution, the others by a 1x1 one.
    """

    halvings: int
    fine: int
    ordered: int

    @property
    def reach(self) -> int:
        """Side in pixels of the smallest square, centred on a pixel, that holds all it can see."""
        phases = range(2**self.halvings)
        spans = [(pixel, *self._decoded(0, pixel, pixel)) for pixel in phases]
        return 1 + 2 * max(max(pixel - low, high - pixel) for pixel, low, high in spans)

    def _decoded(self, level: int, low: int, high: int) -> tuple[int, int]:
        """Span of input pixels that cells low..high of the decoder's output at `level` depend on."""
        if level == self.halvings:
            return self._encoded(level, low, high)
        if level > 0 or self.fine > 0:
            low, high = low - 1, high + 1
        skip = self._encoded(level, low, high)
        below = self._decoded(level + 1, low // 2, high // 2)
        return min(skip[0], below[0]), max(skip[1], below[1])

    def _encoded(self, level: int, low: int, high: int) -> tuple[int, int]:
        """Span of input pixels that cells low..high of the encoder's output at `level` depend on."""
        if level == 0:
            return low - self.fine, high + self.fine
        if level <= self.ordered:
            low, high = low - 1, high + 1
        return self._encoded(level - 1, 2 * low - 1, 2 * high + 1)


@final
class BoundedExtractor(AbstractExtractor):
    """A residual encoder-decoder that sees `plan.reach` pixels, or the whole image when `whole`.

    Gives one map of `width` channels at stride 1. With `whole`, the mean of the coarsest map is added to each of its
    cells, so that an answer may depend on every pixel.
    """

    pretrained = False

    def __init__(self, plan: Plan, *, whole: bool = False, width: int = WIDTH) -> None:
        super().__init__()
        widths = tuple(width << level for level in range(plan.halvings + 1))
        self.architecture = ("unet" if whole else f"reach-{plan.reach}") + ("" if width == WIDTH else f"-{width}")
        self.gives = (Level(widths[0], 1),)
        self.reach = math.inf if whole else plan.reach
        self.stem = nn.Sequential(*_stem(widths[0], plan.fine))
        self.down = nn.ModuleList(
            ResidualBlock(narrow, wide, ordered=level < plan.ordered)
            for level, (narrow, wide) in enumerate(pairwise(widths))
        )
        self.project = nn.ModuleList(nn.Conv2d(wide, narrow, 1) for narrow, wide in pairwise(widths))
        self.up = nn.ModuleList(
            nn.Sequential(*_conv(width, width, 3 if level > 0 or plan.fine > 0 else 1))
            for level, width in enumerate(widths[:-1])
        )
        self.scene = nn.Linear(widths[-1], widths[-1]) if whole else None

    def forward(self, images: Tensor) -> Characteristics:
        """Images (B, 3, H, W) to one map (B, 16, H, W)."""
        maps = [self.stem((images - MEAN) / SPREAD)]
        for down in self.down:
            maps.append(down(maps[-1]))
        answer = maps.pop()
        if self.scene is not None:
            answer = answer + self.scene(answer.mean((2, 3)))[:, :, None, None]
        for project, up in zip(reversed(self.project), reversed(self.up), strict=True):
            skip = maps.pop()
            answer = up(skip + F.interpolate(project(answer), size=skip.shape[-2:], mode="nearest"))
        return Characteristics((answer,), (1,))


@final
class ResidualBlock(nn.Module):
    """Halves the map: a 3x3 convolution of stride 2, then 3x3 (`ordered`) or 1x1, beside an average-pooled path."""

    def __init__(self, narrow: int, wide: int, *, ordered: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv(narrow, wide, 3, stride=2),
            nn.Conv2d(wide, wide, 3 if ordered else 1, padding=1 if ordered else 0, bias=False),
            nn.BatchNorm2d(wide),
        )
        self.path = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(narrow, wide, 1, bias=False), nn.BatchNorm2d(wide)
        )

    def forward(self, cells: Tensor) -> Tensor:
        """Cells (B, narrow, h, w) to (B, wide, ceil(h / 2), ceil(w / 2))."""
        return F.relu(self.body(cells) + self.path(cells))


@final
class OrderlessExtractor(AbstractExtractor):
    """Local statistics without their arrangement: features of reach 5, averaged over windows, then 1x1 convolutions.

    Inside a window only how often a local pattern occurs is known, not where (after bags of local features,
    arXiv 1904.00760). `windows` are odd sides in pixels; they are averaged in cells of 2 x 2 pixels, a quarter of the
    cost. Gives 32 channels at stride 1.
    """

    pretrained = False

    def __init__(self, windows: tuple[int, ...], width: int = 32) -> None:
        super().__init__()
        if any(window % 2 == 0 or window < 1 for window in windows):
            raise PieceError(f"`windows` must be odd sides in pixels; got {windows}. Use the next odd number.")
        self.architecture = "orderless-" + "-".join(map(str, windows))
        self.gives = (Level(width, 1),)
        self.reach = 5 + 2 * max(_spread(window) for window in windows)
        self.windows = windows
        self.patterns = nn.Sequential(*_conv(3, 16, 3), *_conv(16, width, 3))
        self.counts = nn.Sequential(*_conv(width * len(windows), 2 * width, 1), *_conv(2 * width, width, 1))

    def forward(self, images: Tensor) -> Characteristics:
        """Images (B, 3, H, W) to one map (B, 32, H, W)."""
        patterns = self.patterns((images - MEAN) / SPREAD)
        averaged = torch.cat([_window_mean(patterns, window) for window in self.windows], dim=1)
        return Characteristics((self.counts(averaged),), (1,))


@final
class ColourExtractor(AbstractExtractor):
    """The pixel alone: 1x1 convolutions. Gives 32 channels at stride 1."""

    pretrained = False

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.architecture = "colour"
        self.gives = (Level(width, 1),)
        self.reach = 1
        self.layers = nn.Sequential(*_conv(3, width, 1), *_conv(width, width, 1), *_conv(width, width, 1))

    def forward(self, images: Tensor) -> Characteristics:
        """Images (B, 3, H, W) to one map (B, 32, H, W)."""
        return Characteristics((self.layers((images - MEAN) / SPREAD),), (1,))


def rung(name: str) -> AbstractExtractor | None:
    """The extractor named "colour", "unet" (the whole image), "reach-33", "orderless-9-17", ...; None for others.

    "unet-8" and "reach-33-8" are the same with 8 channels at full size instead of 16. Warns where the network named
    sees less than its name says.
    """
    if name == "colour":
        return ColourExtractor()
    if name == "unet":
        return bounded(math.inf)
    kind, *parts = name.split("-")
    if not parts or not all(part.isdecimal() for part in parts):
        return None
    numbers = [int(part) for part in parts]
    if kind == "unet" and len(numbers) == 1:
        return bounded(math.inf, width=numbers[0])
    if kind == "reach" and len(numbers) <= 2:
        return _reaching(numbers[0], numbers[1] if len(numbers) == 2 else WIDTH)
    return OrderlessExtractor(tuple(numbers)) if kind == "orderless" else None


def _reaching(asked: int, width: int) -> BoundedExtractor:
    built = bounded(asked, width=width)
    if built.reach != asked:
        warnings.warn(
            f"No rung reaches {asked} pixels exactly: taken is {built.architecture!r}, which sees {built.reach}.",
            Doubt,
            stacklevel=4,
        )
    return built


RUNGS = ("colour", "orderless-9-17", "reach-33", "unet", "unet-8")
"""Examples of the names that `rung` knows."""


def bounded(reach: float, *, width: int = WIDTH) -> BoundedExtractor:
    """The bounded extractor with the longest reach up to `reach` pixels; the whole image for inf.

    Raises:
        PieceError: `reach` is below 3 pixels, where `ColourExtractor` is the rung to use; `width` is below 1.
    """
    if width < 1:
        raise PieceError(f"`width` must be at least 1 channel; got {width}. The usual one is {WIDTH}.")
    if math.isinf(reach):
        return BoundedExtractor(Plan(halvings=4, fine=1, ordered=4), whole=True, width=width)
    if not reach >= 3:
        raise PieceError(f"`reach` must be at least 3 pixels; got {reach}. Use the extractor 'colour' for one pixel.")
    return BoundedExtractor(plan_for(reach), width=width)


def plan_for(reach: float) -> Plan:
    """The plan with the longest reach up to `reach` (at least 3); of those that tie the one with more halvings."""
    return max((plan for plan in _plans() if plan.reach <= max(reach, 3)), key=lambda plan: (plan.reach, plan.halvings))


def plan_at_least(reach: float) -> Plan:
    """The plan with the shortest reach from `reach` on; of those that tie the one with more halvings. The longest where
    none reaches as far.
    """
    far = [plan for plan in _plans() if plan.reach >= reach]
    return min(far, key=lambda plan: (plan.reach, -plan.halvings)) if far else plan_for(reach)


@lru_cache(maxsize=1)
def _plans() -> tuple[Plan, ...]:
    return tuple(Plan(h, fine, ordered) for h in range(5) for fine in (1, 2) for ordered in range(h + 1))


def _stem(width: int, fine: int) -> Iterator[nn.Module]:
    channels = 3
    for _ in range(fine):
        yield from _conv(channels, width, 3)
        channels = width


def _conv(channels: int, width: int, side: int, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels, width, side, stride, side // 2, bias=False)
    return convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)


def _window_mean(maps: Tensor, window: int) -> Tensor:
    """Mean over the window around each 2 x 2 cell, at every pixel; outside the image nothing is counted."""
    cells, half = F.avg_pool2d(maps, 2, ceil_mode=True), _cells(window) // 2
    across = F.avg_pool2d(cells, (1, 2 * half + 1), 1, (0, half), count_include_pad=False)
    mean = F.avg_pool2d(across, (2 * half + 1, 1), 1, (half, 0), count_include_pad=False)
    return F.interpolate(mean, scale_factor=2, mode="nearest")[..., : maps.shape[-2], : maps.shape[-1]]


def _cells(window: int) -> int:
    """Odd number of 2 x 2 cells that a window of that side in pixels spans."""
    return max(1, window // 2 // 2 * 2 + 1)


def _spread(window: int) -> int:
    """Pixels from a pixel to the farthest one in its window: half the cells, and the rest of its own cell."""
    return _cells(window) // 2 * 2 + 1
