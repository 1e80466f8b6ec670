"""Several extractors on one grid, read as one.

"fused(unet + weights.safetensors)" names the parts, " + " with its blanks between them: a "+" inside a file name is
part of that name. A part that brings weights trained elsewhere is frozen, any other is trained. Before a part may stand
"frozen:" or "trainable:", which say otherwise, and "pretrained:", which takes a network's published weights.

Axes: B images, C channels, h w cells, P parts, S strides.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Self, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unplateau.errors import PieceError
from unplateau.extractors.base import AbstractExtractor
from unplateau.types import Characteristics, Level, Size

OPENS, CLOSES, BETWEEN = "fused(", ")", " + "
FROZEN, TRAINABLE, PRETRAINED = "frozen:", "trainable:", "pretrained:"

CHANNELS = 32
"""Channels of each level: a few parts at the finest stride must not cost more than the parts themselves."""


@dataclass(frozen=True)
class PartSaid:
    """One part as it was said; `frozen` None = when it brings weights trained elsewhere."""

    name: str
    frozen: bool | None = None
    pretrained: bool = False


@dataclass(frozen=True)
class Gate:
    """How much of a level comes from a part, 0..1; over the parts of a level it adds up to 1."""

    part: str
    stride: int
    share: float


@final
class FusedExtractor(AbstractExtractor):
    """Every part's maps, each behind its own normalisation, as a gated sum on common strides.

    The strides are the powers of two from the finest to the coarsest of the parts. To each of them a part gives its
    coarsest maps that are no coarser, averaged over the cell; standardised and mixed to `CHANNELS` channels,
    standardised again, so that a gate weighs what it says, and added with the share that the gate of this part and
    level has learnt (after the gated mixture of Jacobs et al., 1991). Nothing here looks beyond a cell, so the reach is
    the longest of the parts', but for the averaging.

    Parts are run one after the other, and frozen ones without gradients: of these no activation is kept but the maps.
    """

    def __init__(self, parts: tuple[AbstractExtractor, ...], frozen: tuple[bool, ...]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(part.requires_grad_(not still) for part, still in zip(parts, frozen, strict=True))
        self.frozen = frozen
        self.names = tuple(part.architecture for part in parts)
        marks = (FROZEN if still else "" for still in frozen)
        self.architecture = _spelled(mark + name for mark, name in zip(marks, self.names, strict=True))
        self.pretrained = any(part.pretrained for part in parts)
        strides = _common(parts)
        self.gives = tuple(Level(CHANNELS, stride) for stride in strides)
        self.taken = tuple({stride: taken for stride in strides if (taken := _taken(part, stride))} for part in parts)
        self.reach = max(_reach(part, taken) for part, taken in zip(parts, self.taken, strict=True))
        self.projections = nn.ModuleDict(
            {
                f"{place}-{stride}": _projection(sum(part.gives[index].channels for index in taken[stride]))
                for place, (part, taken) in enumerate(zip(parts, self.taken, strict=True))
                for stride in taken
            }
        )
        self.joined = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.ReLU()) for _ in strides)
        self.gate = nn.Parameter(torch.zeros(len(parts), len(strides)))
        absent = [[0.0 if stride in taken else -torch.inf for stride in strides] for taken in self.taken]
        self.register_buffer("absent", torch.tensor(absent), persistent=False)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Frozen parts stay in eval mode whatever `mode` says: their batch statistics would drift."""
        super().train(mode)
        for part, still in zip(self.parts, self.frozen, strict=True):
            if still:
                part.train(False)
        return self

    def forward(self, images: Tensor) -> Characteristics:
        """Images (B, 3, H, W), RGB 0..1, to one map of `CHANNELS` channels at each common stride."""
        shares_PS, mixed = self._shares(), cast(dict[int, Tensor], {})
        column = {level.stride: place for place, level in enumerate(self.gives)}
        for place in range(len(self.parts)):
            for stride, maps in self._maps(place, images).items():
                own = shares_PS[place, column[stride]] * self.projections[f"{place}-{stride}"](maps)
                mixed[stride] = mixed[stride] + own if stride in mixed else own
        levels = tuple(join(mixed[level.stride]) for join, level in zip(self.joined, self.gives, strict=True))
        return Characteristics(levels, tuple(column))

    def gates(self) -> tuple[Gate, ...]:
        """What each part was found to be worth at each stride to which it gives anything, part by part."""
        shares_PS = self._shares().detach().cpu()
        return tuple(
            Gate(name, level.stride, float(shares_PS[place, column]))
            for place, name in enumerate(self.names)
            for column, level in enumerate(self.gives)
            if level.stride in self.taken[place]
        )

    def _shares(self) -> Tensor:
        return torch.softmax(self.gate + cast(Tensor, self.absent), dim=0)

    def _maps(self, place: int, images: Tensor) -> dict[int, Tensor]:
        """What a part gives to each stride (B, C, H / stride, W / stride); of a frozen one without gradients."""
        part = cast(AbstractExtractor, self.parts[place])
        height, width = images.shape[-2:]
        with torch.no_grad() if self.frozen[place] else nullcontext():
            given = part(_padded(images, max(level.stride for level in part.gives)))
            return {
                stride: torch.cat(
                    [moved(given.levels[index], given.strides[index], stride, grid) for index in indices], dim=1
                )
                for stride, indices in self.taken[place].items()
                for grid in [(height // stride, width // stride)]
            }


def fused(parts: tuple[AbstractExtractor, ...], frozen: tuple[bool | None, ...] | None = None) -> AbstractExtractor:
    """Several extractors as one; `frozen` None = those, of a tuple the part, that bring weights trained elsewhere.

    Raises:
        PieceError: fewer than two parts, or not a word on each in `frozen`.
    """
    said = frozen or (None,) * len(parts)
    if len(parts) < 2 or len(said) != len(parts):
        raise PieceError(
            f"`parts` must be at least two, with a word on each in `frozen` or none at all; got {len(parts)} parts and "
            f"{len(said)} words. Use a single extractor as it is."
        )
    still = tuple(part.pretrained if each is None else each for part, each in zip(parts, said, strict=True))
    return FusedExtractor(parts, still)


def is_fused(name: str) -> bool:
    """Whether a name spells a fusion: no network is called so, and no checkpoint ends so."""
    return name.startswith(OPENS) and name.endswith(CLOSES)


def parts_said(name: str) -> tuple[PartSaid, ...]:
    """The parts that a name such as "fused(unet + frozen:resnet18)" spells; of any other name, itself.

    Raises:
        PieceError: fewer than two parts, an empty one, or a fusion within.
    """
    if not is_fused(name):
        return (PartSaid(name),)
    said = [each.strip() for each in name[len(OPENS) : -len(CLOSES)].split(BETWEEN)]
    if len(said) < 2 or not all(said):
        raise PieceError(
            f"A fusion must name at least two extractors, such as 'fused(unet + resnet18)', with blanks around the +; "
            f"got {name!r}. Name them."
        )
    parts = tuple(part_said(each) for each in said)
    if any(OPENS in part.name for part in parts):
        raise PieceError(f"A fusion must not hold another; got {name!r}. Name all parts side by side.")
    return parts


def fused_name(*names: str) -> str:
    """The name of a fusion of these, the parts of one that is a fusion already among them."""
    return _spelled(
        part for name in names for part in (name[len(OPENS) : -len(CLOSES)] if is_fused(name) else name).split(BETWEEN)
    )


def _spelled(parts: Iterable[str]) -> str:
    return f"{OPENS}{BETWEEN.join(parts)}{CLOSES}"


def part_said(said: str) -> PartSaid:
    """One part with what stands before its name."""
    part = PartSaid(said)
    while True:
        if part.name.startswith(PRETRAINED):
            part = replace(part, name=part.name.removeprefix(PRETRAINED), pretrained=True)
        elif part.name.startswith((FROZEN, TRAINABLE)):
            mark, _, rest = part.name.partition(":")
            part = replace(part, name=rest, frozen=f"{mark}:" == FROZEN)
        else:
            return part


def _common(parts: tuple[AbstractExtractor, ...]) -> tuple[int, ...]:
    """Powers of two from the finest stride of all to the coarsest."""
    strides = [_power(level.stride) for part in parts for level in part.gives]
    return tuple(2**power for power in range(min(strides).bit_length() - 1, max(strides).bit_length()))


def _power(stride: int) -> int:
    """The least power of two that is no finer: 14 counts as 16."""
    return 1 << (stride - 1).bit_length()


def _taken(part: AbstractExtractor, stride: int) -> tuple[int, ...]:
    """The levels that a part gives to a stride: its coarsest that are no coarser; none where all are."""
    powers = [_power(level.stride) for level in part.gives]
    nearest = max((power for power in powers if power <= stride), default=0)
    return tuple(index for index, power in enumerate(powers) if power == nearest)


def _reach(part: AbstractExtractor, taken: dict[int, tuple[int, ...]]) -> float:
    """The part's, and what the moving of its maps adds: a mean over cells, or between two where none falls on one."""
    moved = [(stride, part.gives[index].stride) for stride, indices in taken.items() for index in indices]
    return part.reach + max(stride - own if stride % own == 0 else own for stride, own in moved)


def _projection(channels: int) -> nn.Module:
    """Standardise, mix, standardise: channels of frozen networks differ in scale by orders of magnitude."""
    mix = nn.Conv2d(channels, CHANNELS, kernel_size=1, bias=False)
    return nn.Sequential(nn.BatchNorm2d(channels, affine=False), mix, nn.BatchNorm2d(CHANNELS, affine=False))


def _padded(images: Tensor, stride: int) -> Tensor:
    """Images with their border repeated, for a part whose stride does not divide the sides."""
    height, width = images.shape[-2:]
    down, right = -height % stride, -width % stride
    return F.pad(images, (0, right, 0, down), mode="replicate") if down or right else images


def moved(maps: Tensor, own: int, stride: int, grid: Size) -> Tensor:
    """Maps (B, C, h, w) of stride `own` on the `grid` of `stride`, each cell where it was in the image."""
    if own == stride:
        return maps
    if stride % own == 0:
        return F.avg_pool2d(maps, stride // own)
    if own % stride == 0:  # the same places as below, and several times as fast
        return F.interpolate(maps, scale_factor=own // stride, mode="bilinear")[..., : grid[0], : grid[1]]
    rows, columns = (
        ((torch.arange(cells, device=maps.device) + 0.5) * (2 * stride / (own * there)) - 1).to(maps.dtype)
        for cells, there in zip(grid, maps.shape[-2:], strict=True)
    )
    places = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1)
    wanted = places.expand(len(maps), *places.shape)
    return F.grid_sample(maps, wanted, mode="bilinear", padding_mode="border", align_corners=False)
