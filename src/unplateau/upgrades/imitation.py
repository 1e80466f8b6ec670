"""What a student is told by its teachers: standard features to imitate, a loss for each, and which of them count now.

Axes: B images, T teachers, C channels, h w cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.fused import moved
from unplateau.pretraining.base import look
from unplateau.types import Characteristics, Level, Size

WIDTH = 128
"""Channels between the student's features and a teacher's: a translation, not a second student."""

DROPPED = 0.5
"""Chance that a teacher is not heard on an image, unless it is the one that is understood worst (arXiv 2408.05088)."""


@final
class Translation(nn.Module):
    """From the student's characteristics to one level of a teacher, cell by cell.

    A level of the student that is finer tells of the four quarters of a cell apart: their mean alone would hide what
    fine maps with few channels know.
    """

    def __init__(self, reads: tuple[Level, ...], level: Level) -> None:
        super().__init__()
        self.stride = level.stride
        self.enter = nn.ModuleList(
            _entry(each.channels * (4 if _finer(each.stride, level.stride) else 1)) for each in reads
        )
        self.leave = nn.Sequential(nn.GELU(), nn.Conv2d(WIDTH, level.channels, 1))

    def forward(self, characteristics: Characteristics, rows: int, columns: int) -> Tensor:
        """Characteristics to maps (B, C, rows, columns)."""
        parts = zip(self.enter, characteristics.levels, characteristics.strides, strict=True)
        grid = (rows, columns)
        entered = [self._entered(enter, maps.float(), own, grid) for enter, maps, own in parts]
        translated: Tensor = self.leave(sum(entered[1:], start=entered[0]))
        return translated

    def _entered(self, enter: nn.Module, maps: Tensor, own: int, grid: Size) -> Tensor:
        """One level of the student mixed to `WIDTH` channels, on the teacher's grid.

        Mixing comes before the move to a finer grid, which is linear too: a coarse level of many channels would cost
        more on a fine grid than the student itself.
        """
        if _finer(own, self.stride):
            rows, columns = 2 * grid[0], 2 * grid[1]
            quarters = moved(maps, own, self.stride // 2, (rows, columns))[..., :rows, :columns]
            entered: Tensor = enter(F.pixel_unshuffle(quarters, 2))
            return entered
        return moved(enter(maps), own, self.stride, grid)[..., : grid[0], : grid[1]]


def _finer(own: int, stride: int) -> bool:
    return 2 * own <= stride and stride % 2 == 0


def _entry(channels: int) -> nn.Module:
    """Standardise and mix: a student that brings weights may speak hundreds of times as loud as what it imitates."""
    return nn.Sequential(nn.BatchNorm2d(channels, affine=False), nn.Conv2d(channels, WIDTH, 1))


@final
class Pupil(nn.Module):
    """The student, with a translation into each level of each teacher; only the student is kept."""

    def __init__(self, student: AbstractExtractor, teachers: tuple[tuple[Level, ...], ...]) -> None:
        super().__init__()
        self.student = student
        self.translations = nn.ModuleList(
            nn.ModuleList(Translation(student.gives, level) for level in levels) for levels in teachers
        )

    def forward(self, images: Tensor, targets: tuple[tuple[Tensor, ...], ...]) -> tuple[tuple[Tensor, ...], ...]:
        """What the student makes of images (B, 3, H, W) in the words of each teacher, shaped as `targets`."""
        return self.said(look(self.student, images), targets)

    def said(
        self, characteristics: Characteristics, targets: tuple[tuple[Tensor, ...], ...]
    ) -> tuple[tuple[Tensor, ...], ...]:
        """The same from what the student gave."""
        return tuple(
            tuple(
                translate(characteristics, target.shape[-2], target.shape[-1])
                for translate, target in zip(cast(nn.ModuleList, own), levels, strict=True)
            )
            for own, levels in zip(self.translations, targets, strict=True)
        )


def misunderstood(said: tuple[Tensor, ...], meant: tuple[Tensor, ...]) -> Tensor:
    """How far a student is from a teacher on each image (B,), mean over levels.

    Half cosine, half smooth L1, as in UNIC (arXiv 2408.05088, section 3.1). A single channel has no direction, so there
    it is smooth L1 alone.
    """
    losses = []
    for one, other in zip(said, meant, strict=True):
        far = F.smooth_l1_loss(one, other, reduction="none").mean((1, 2, 3))
        turned = 1 - F.cosine_similarity(one, other, dim=1).mean((1, 2))
        losses.append(far if one.shape[1] == 1 else 0.5 * turned + 0.5 * far)
    return torch.stack(losses).mean(0)


def heard(losses_BT: Tensor, weights_T: Tensor, generator: torch.Generator) -> Tensor:
    """The loss of a batch: on each image the worst understood teacher, and every other with a chance of one in two.

    (Teacher dropping of UNIC, arXiv 2408.05088, section 3.3.) Worst is by the weighted loss: a teacher of which the
    task needs little must not be the one that is always heard.
    """
    weighted = losses_BT * weights_T
    drawn = torch.rand(losses_BT.shape, generator=generator).to(losses_BT.device) >= DROPPED
    worst = F.one_hot(weighted.detach().argmax(1), losses_BT.shape[1]).bool()
    return (weighted * (drawn | worst)).sum(1).mean()


@dataclass(frozen=True)
class Variance:
    """Sums over cells by which explained variance comes; they add over batches. Each is (C,)."""

    count: int
    total: Tensor
    squares: Tensor
    wrong: Tensor

    @staticmethod
    def of(said: Tensor, meant: Tensor) -> Variance:
        """Those of maps (B, C, h, w)."""
        rows, own = (each.double().movedim(1, -1).flatten(0, -2) for each in (meant, said))
        return Variance(len(rows), rows.sum(0), rows.square().sum(0), (rows - own).square().sum(0))

    def __add__(self, other: Variance) -> Variance:
        return Variance(
            self.count + other.count,
            self.total + other.total,
            self.squares + other.squares,
            self.wrong + other.wrong,
        )

    @property
    def explained(self) -> float:
        """Share of the variance that is explained: 1 is all, 0 no more than the mean would; nan where there is none."""
        whole = float((self.squares - self.total.square() / self.count).sum())
        return 1 - float(self.wrong.sum()) / whole if whole > 1e-9 * self.count else float("nan")
