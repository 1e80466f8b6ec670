"""One extractor for all families: a textural, a geometric and a contextual path on one grid.

Axes: B images, C channels, h w cells, N cells as rows, M cells that are looked at, A heads, P paths, S strides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unplateau.errors import PieceError
from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.bounded import MEAN, SPREAD, ResidualBlock
from unplateau.extractors.fused import FusedExtractor, Gate
from unplateau.extractors.tensors import load, read_tensors
from unplateau.types import Characteristics, Level

NAME = "families"

PATHS = ("textural", "geometric", "contextual")

GIVES = (Level(16, 1), Level(32, 2), Level(32, 4), Level(48, 8))

STEM, TEXTURE, WINDOWS = 16, 32, (2, 4)
"""Channels of what all paths read; channels of the textural path, and its windows in cells of 2 pixels to each side."""

CONTEXT, DEEP, HEADS, BLOCKS = 96, 280, 8, 3
"""Widths of the contextual path at strides 8 and 16; heads, and how often its cells look at one another."""

LOOKED_AT = 8
"""Cells a side, at most, that each cell looks at: of a larger map they are averaged, so the cost stays linear."""


GIVEN = {
    "textural": (Level(TEXTURE, 2),),
    "geometric": (Level(16, 1), Level(32, 2), Level(64, 4)),
    "contextual": (Level(CONTEXT, 8),),
}
"""What each path gives before anything is mixed, finest first."""


@dataclass(frozen=True)
class Seen:
    """What the paths saw of a batch: the maps of each path before anything is mixed, and the levels mixed of them."""

    textural: Characteristics
    geometric: Characteristics
    contextual: Characteristics
    mixed: Characteristics


@final
class FamiliesExtractor(AbstractExtractor):
    """Three paths behind one convolution, mixed on strides 1, 2, 4 and 8 by a gate of each path and level.

    **textural**: patterns of 5 pixels, averaged over windows, so that their arrangement is lost (after bags of local
    features, arXiv 1904.00760). **geometric**: two halvings and back, ordered, up to about the size of one object; it
    also reads contours and their orientation. **contextual**: cells of stride 8 look at one another over the whole
    image, by what they hold and by where they lie towards one another (arXiv 2103.14030, with the continuous offsets
    of arXiv 2111.09883), so that a cell can hold what stands far to its left.

    At each level every path is mixed to the level's channels, standardised, moved to the level's grid, and added with
    the share that its gate has learnt, as in `FusedExtractor`; nothing is cut off below zero, so that a linear decoder
    can take the sum apart again. Parameters are about those of "unet".
    """

    architecture = NAME
    gives = GIVES
    reach = math.inf
    pretrained = False

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv(3, STEM))
        self.textural = TexturalPath()
        self.geometric = GeometricPath()
        self.contextual = ContextualPath()
        reads = [GIVEN[name] for name in PATHS]
        self.sources = tuple({level.stride: _source(given, level.stride) for level in GIVES} for given in reads)
        self.mixes = nn.ModuleDict(
            {
                f"{name}-{level.stride}": _mix(given[sources[level.stride]].channels, level.channels)
                for name, given, sources in zip(PATHS, reads, self.sources, strict=True)
                for level in GIVES
            }
        )
        self.gate = nn.Parameter(torch.zeros(len(PATHS), len(GIVES)))

    def forward(self, images: Tensor) -> Characteristics:
        """Images (B, 3, H, W), RGB 0..1, to maps at strides 1, 2, 4 and 8."""
        return self.seen(images).mixed

    def seen(self, images: Tensor) -> Seen:
        """The same, with what each path saw."""
        stem = self.stem((images - MEAN) / SPREAD)
        paths = (self.textural(stem), self.geometric(stem, images), self.contextual(stem))
        return Seen(*paths, self._mixed(paths))

    def gates(self) -> tuple[Gate, ...]:
        """What each path was found to be worth at each stride, path by path; over the paths it adds up to 1."""
        shares_PS = self._shares().detach().cpu()
        return tuple(
            Gate(name, level.stride, float(shares_PS[row, column]))
            for row, name in enumerate(PATHS)
            for column, level in enumerate(self.gives)
        )

    def _shares(self) -> Tensor:
        return torch.softmax(self.gate, dim=0)

    def _mixed(self, paths: tuple[Characteristics, ...]) -> Characteristics:
        shares_PS, levels = self._shares(), []
        for column, level in enumerate(self.gives):
            parts = []
            for row, (name, path) in enumerate(zip(PATHS, paths, strict=True)):
                source = self.sources[row][level.stride]
                said = self.mixes[f"{name}-{level.stride}"](path.levels[source])
                parts.append(_moved(shares_PS[row, column] * said, path.strides[source], level.stride))
            levels.append(sum(parts[1:], start=parts[0]))
        return Characteristics(tuple(levels), tuple(level.stride for level in self.gives))


@final
class TexturalPath(nn.Module):
    """Orderless statistics of small windows: what occurs, not where. Reads the stem, gives one map at stride 2."""

    def __init__(self) -> None:
        super().__init__()
        self.patterns = nn.Sequential(*_conv(STEM, TEXTURE, stride=2))
        self.counts = nn.Sequential(
            *_conv(TEXTURE * len(WINDOWS), 2 * TEXTURE, side=1), *_conv(2 * TEXTURE, TEXTURE, side=1)
        )

    def forward(self, stem: Tensor) -> Characteristics:
        """Cells (B, 16, H, W) to one map (B, 32, H / 2, W / 2)."""
        return Characteristics((self.counts(self.counted(self.patterns(stem))),), (2,))

    def counted(self, patterns: Tensor) -> Tensor:
        """How often each pattern occurs in each window around each cell: (B, C, h, w) to (B, 2 C, h, w)."""
        return torch.cat([_window_mean(patterns, half) for half in WINDOWS], dim=1)


@final
class GeometricPath(nn.Module):
    """Ordered structure up to about one object, from the stem and from contours. Gives maps at strides 1, 2 and 4."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([ResidualBlock(STEM + 3, 32, ordered=True), ResidualBlock(32, 64, ordered=True)])
        self.project = nn.ModuleList([nn.Conv2d(64, 32, 1), nn.Conv2d(32, 16, 1)])
        self.up = nn.ModuleList([nn.Sequential(*_conv(32, 32)), nn.Sequential(*_conv(16, 16))])

    def forward(self, stem: Tensor, images: Tensor) -> Characteristics:
        """Cells (B, 16, H, W) of the images (B, 3, H, W) to maps of 16, 32 and 64 channels."""
        half = self.down[0](torch.cat([stem, contours(images).to(stem.dtype)], dim=1))
        quarter = self.down[1](half)
        middle = self.up[0](half + F.interpolate(self.project[0](quarter), scale_factor=2, mode="nearest"))
        fine = self.up[1](stem + F.interpolate(self.project[1](middle), scale_factor=2, mode="nearest"))
        return Characteristics((fine, middle, quarter), (1, 2, 4))


@final
class ContextualPath(nn.Module):
    """The whole image in every cell. Reads the stem, gives one map at stride 8."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.AvgPool2d(2), ResidualBlock(STEM, 48, ordered=True), ResidualBlock(48, CONTEXT, ordered=True)
        )
        self.deep = nn.Sequential(ResidualBlock(CONTEXT, DEEP, ordered=True), nn.Conv2d(DEEP, CONTEXT, 1))
        self.place = nn.Linear(2, CONTEXT)
        self.blocks = nn.ModuleList(Exchange(CONTEXT, HEADS) for _ in range(BLOCKS))
        self.norm = nn.LayerNorm(CONTEXT)

    def forward(self, stem: Tensor) -> Characteristics:
        """Cells (B, 16, H, W) to one map (B, 96, H / 8, W / 8)."""
        maps = self.down(stem)
        height, width = maps.shape[-2:]
        maps = maps + F.interpolate(self.deep(maps), scale_factor=2, mode="nearest")[..., :height, :width]
        rows, columns = _centres(height, height, maps), _centres(width, width, maps)
        keys = (_centres(height, min(height, LOOKED_AT), maps), _centres(width, min(width, LOOKED_AT), maps))
        offsets_NM2 = _grid(*keys)[None] - _grid(rows, columns)[:, None]
        share = torch.tensor([2 / height, 2 / width], device=maps.device)
        maps = maps + _as_map(self.place(_grid(rows, columns) * share - 1)[None], height)
        for block in self.blocks:
            maps = block(maps, offsets_NM2)
        return Characteristics((_as_map(self.norm(_as_rows(maps)), height),), (8,))


@final
class Exchange(nn.Module):
    """Cells look at cells: attention with an offset-dependent bias, then each cell by itself; both added to it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.pair, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        first, last = nn.Linear(5, 32), nn.Linear(32, heads)
        self.alone = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))
        # Each head begins by looking into a direction of its own: what it averages is then already a piece of layout.
        with torch.no_grad():
            first.weight.mul_(2.0)
            last.weight.mul_(4.0)
        self.bias = nn.Sequential(first, nn.ReLU(), last)

    def forward(self, maps: Tensor, offsets: Tensor) -> Tensor:
        """Cells (B, C, h, w) to the same; `offsets` (N, M, 2) from each cell to each that it looks at, in cells."""
        rows_BNC = _as_rows(maps)
        normed = self.norm(rows_BNC)
        looked_at = _as_rows(_averaged(_as_map(normed, maps.shape[-2])))
        key, value = self._split(self.pair(looked_at)).chunk(2, dim=-1)
        bias_ANM = self.bias(_told(offsets)).permute(2, 0, 1)
        query = self._split(self.query(normed))
        # Written out: on a CPU torch's own is several times slower with a bias.
        weights = torch.softmax(query @ key.transpose(2, 3) * key.shape[-1] ** -0.5 + bias_ANM, dim=-1)
        found = weights.to(value.dtype) @ value
        rows_BNC = rows_BNC + self.out(found.transpose(1, 2).flatten(2))
        return _as_map(rows_BNC + self.alone(self.second(rows_BNC)), maps.shape[-2])

    def _split(self, rows: Tensor) -> Tensor:
        """Rows (B, N, C) to (B, A, N, C / A)."""
        return rows.unflatten(2, (self.heads, -1)).transpose(1, 2)


def gates_of(extractor: AbstractExtractor) -> tuple[Gate, ...]:
    """How much of each level comes from each path or part; empty for an extractor that has no gates."""
    return extractor.gates() if isinstance(extractor, (FamiliesExtractor, FusedExtractor)) else ()


def contours(images: Tensor) -> Tensor:
    """Images (B, 3, H, W), 0..1, to (B, 3, H, W): strength of the local contour and its doubled angle, cos and sin.

    The doubled angle (Granlund, 1978) makes a contour the same from both sides. Reach 3.
    """
    grey = F.pad(images.float().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = 4 * (grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2])
    down = 4 * (grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1])
    strength = (across.square() + down.square() + 1e-4).sqrt()
    doubled = [(across.square() - down.square()) / strength, 2 * across * down / strength]
    return torch.cat([strength, *doubled], dim=1)


def families(*, pretrained: bool = False, weights: Path | None = None) -> AbstractExtractor:
    """All families in one network: strides 1 to 8, up to 48 channels. There are no published weights of it.

    Raises:
        PieceError: published weights are asked for, or a file that does not fit.
    """
    if pretrained and weights is None:
        raise PieceError(f"{NAME!r} has no published weights: pretrain it on your own images, and name the file.")
    extractor = FamiliesExtractor()
    if weights is not None:
        load(extractor, read_tensors(weights), NAME)
        extractor.pretrained = True
    return extractor


def _conv(channels: int, width: int, side: int = 3, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels, width, side, stride, side // 2, bias=False)
    return convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)


def _mix(channels: int, width: int) -> nn.Module:
    """Mix, standardise: the gate then weighs what a path says, not how loudly it says it."""
    mix = nn.Conv2d(channels, width, 1, bias=False)
    nn.init.orthogonal_(mix.weight)
    return nn.Sequential(mix, nn.BatchNorm2d(width, affine=False))


def _source(gives: tuple[Level, ...], stride: int) -> int:
    """Index of the level that a path gives to a stride: its coarsest that is no coarser, else its finest."""
    return max((index for index, level in enumerate(gives) if level.stride <= stride), default=0)


def _moved(maps: Tensor, own: int, stride: int) -> Tensor:
    """Maps of stride `own` on the grid of `stride`: the mean over a cell, or the same for all cells within one."""
    if own == stride:
        return maps
    if own < stride:
        return F.avg_pool2d(maps, stride // own)
    return F.interpolate(maps, scale_factor=own // stride, mode="nearest")


def _window_mean(cells: Tensor, half: int) -> Tensor:
    """Mean over the window of 2 `half` + 1 cells a side; outside the image nothing is counted."""
    across = F.avg_pool2d(cells, (1, 2 * half + 1), 1, (0, half), count_include_pad=False)
    return F.avg_pool2d(across, (2 * half + 1, 1), 1, (half, 0), count_include_pad=False)


def _centres(cells: int, count: int, like: Tensor) -> Tensor:
    """Middles of `count` equal parts of a side of `cells` cells, in cells."""
    return (torch.arange(count, device=like.device) + 0.5) * (cells / count)


def _grid(rows: Tensor, columns: Tensor) -> Tensor:
    """All places (N, 2), row before column, row by row."""
    return torch.cartesian_prod(rows, columns)


def _told(offsets: Tensor) -> Tensor:
    """Offsets (N, M, 2) in cells as the bias reads them (N, M, 5): logarithmic, with sign and without, and as a whole.

    On a logarithmic scale what was learnt on small images holds on large ones.
    """
    log = torch.log2(1 + offsets.abs()) / 3
    far = torch.log2(1 + offsets.norm(dim=-1, keepdim=True)) / 3
    return torch.cat([offsets.sign() * log, log, far], dim=-1)


def _averaged(maps: Tensor) -> Tensor:
    height, width = maps.shape[-2:]
    return F.adaptive_avg_pool2d(maps, (min(height, LOOKED_AT), min(width, LOOKED_AT)))


def _as_rows(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)


def _as_map(rows: Tensor, height: int) -> Tensor:
    return cast(Tensor, rows.transpose(1, 2).unflatten(2, (height, -1)))
