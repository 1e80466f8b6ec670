"""Four ways to learn from images without masks, each for any extractor.

Axes: B images, M rows, C channels, D channels of an embedding, h w cells, K points.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from unplateau.errors import UnplateauError, nearest
from unplateau.extractors.base import AbstractExtractor
from unplateau.pretraining.base import (
    VIEW,
    AbstractMethod,
    Outcome,
    at_points,
    cells,
    channels_of,
    coarsest,
    information_of,
    look,
    multiple_of,
    pooled,
    spread_of,
    twin_of,
)
from unplateau.pretraining.families import FamilyTerms
from unplateau.pretraining.heads import (
    centred,
    contrast_loss,
    dense_head,
    follow,
    patch_loss,
    prototype_head,
    view_loss,
)
from unplateau.pretraining.views import Look, Views, block_mask, shared_points, views
from unplateau.types import Characteristics, Level

# ---- self-distillation ---------------------------------------------------------------------------------------


@final
class SelfDistillation(AbstractMethod):
    """DINO with iBOT's masked cells: a student agrees with its moving average (arXiv 2104.14294, arXiv 2111.07832).

    Two global views, of which the student sees the masked form, and four small ones that the student alone sees.
    """

    GLOBAL, LOCAL = Look(scale=(0.35, 0.9)), Look(scale=(0.15, 0.35))
    SMALL_VIEWS, MASKED = 4, 0.3

    def __init__(self, student: AbstractExtractor) -> None:
        super().__init__()
        self.student = student
        self.teacher = copy.deepcopy(student).requires_grad_(False)
        channels = channels_of(student)
        self.head, self.patch_head = prototype_head(2 * channels), prototype_head(channels)
        self.teacher_head = twin_of(self.head, lambda: prototype_head(2 * channels))
        self.teacher_patch_head = twin_of(self.patch_head, lambda: prototype_head(channels))
        self.view_loss, self.patch_loss = view_loss(), patch_loss()
        self.token = nn.Parameter(torch.full((1, 3, 1, 1), 0.5))
        self.cell = coarsest(student)

    def forward(self, images: Tensor, generator: torch.Generator) -> Outcome:
        """See `AbstractMethod`."""
        whole = (images.shape[-2], images.shape[-1])
        large, small = multiple_of(whole, VIEW, self.cell), multiple_of(whole, VIEW / 2, self.cell)
        seen = torch.cat([views(images, large, self.GLOBAL, generator).images for _ in range(2)])
        little = torch.cat([views(images, small, self.LOCAL, generator).images for _ in range(self.SMALL_VIEWS)])
        hidden = block_mask(len(seen), large, self.cell, self.MASKED, generator).to(images.device)
        with torch.no_grad():
            told = look(self.teacher, seen)
            targets = self.teacher_head(pooled(told))
        answered = look(self.student, torch.where(hidden[:, None], self.token, seen))
        answers = [self.head(pooled(answered)), self.head(pooled(look(self.student, little)))]
        said = [*answers[0].chunk(2), *answers[1].chunk(self.SMALL_VIEWS)]
        spread = information_of(centred(self.view_loss, targets))
        loss = self.view_loss(list(targets.chunk(2)), said) + self._masked_loss(told, answered, hidden)
        return Outcome(loss, spread)

    def _masked_loss(self, told: Characteristics, answered: Characteristics, hidden: Tensor) -> Tensor:
        mask = hidden[:, :: self.cell, :: self.cell]
        grid = (mask.shape[-2], mask.shape[-1])
        with torch.no_grad():
            targets = self.teacher_patch_head(cells(told, grid)[mask])
        loss: Tensor = self.patch_loss(targets, self.patch_head(cells(answered, grid)[mask]), mask)
        return loss

    def advance(self, step: int) -> None:
        """The teacher follows."""
        follow(
            step,
            (self.teacher, self.student),
            (self.teacher_head, self.head),
            (self.teacher_patch_head, self.patch_head),
        )

    @property
    def kept(self) -> AbstractExtractor:
        """The teacher, which is the better of the two throughout."""
        return self.teacher


# ---- masked images -------------------------------------------------------------------------------------------


@final
class MaskedImages(AbstractMethod):
    """SimMIM: cells of the image are hidden, and a linear head gives their pixels back (arXiv 2111.09886).

    What hides them is a learned colour in the image and no token, so that convolutional networks learn by it too.
    From maps finer than `PATCH` pixels only each cell that begins a patch is read, and must tell all of the patch: a
    head that asked each cell for its own pixel would leave colours in the features and nothing else.
    """

    LOOK = Look(scale=(0.5, 1.0), contrast=0.2, brightness=0.1, colour=0.04, grey=0.0)
    MASKED, PATCH = 0.5, 8

    def __init__(self, student: AbstractExtractor) -> None:
        super().__init__()
        self.student = student
        self.token = nn.Parameter(torch.full((1, 3, 1, 1), 0.5))
        self.heads = nn.ModuleList(_painter(level, self.PATCH) for level in student.gives)
        self.cell = coarsest(student)

    def forward(self, images: Tensor, generator: torch.Generator) -> Outcome:
        """See `AbstractMethod`."""
        size = multiple_of((images.shape[-2], images.shape[-1]), 0.75, self.cell)
        seen = views(images, size, self.LOOK, generator).images
        hidden = block_mask(len(seen), size, max(self.PATCH, self.cell // 2), self.MASKED, generator).to(images.device)
        characteristics = look(self.student, torch.where(hidden[:, None], self.token, seen))
        painted = [head(maps.float()) for head, maps in zip(self.heads, characteristics.levels, strict=True)]
        wrong = (torch.stack(painted).sum(0) - (seen - 0.45) / 0.25).abs().mean(1)
        rows = cells(characteristics, (4, 4)).flatten(0, 2)
        return Outcome(wrong[hidden].mean(), spread_of(rows))

    def advance(self, step: int) -> None:
        """Nothing follows."""

    @property
    def kept(self) -> AbstractExtractor:
        """The only network there is."""
        return self.student


def _painter(level: Level, patch: int) -> nn.Module:
    """From features (B, C, h, w) to an image (B, 3, H, W), each cell a patch of it."""
    step = max(1, patch // level.stride)
    side = step * level.stride
    return nn.Sequential(nn.Conv2d(level.channels, 3 * side**2, 1, stride=step), nn.PixelShuffle(side))


# ---- dense contrast ------------------------------------------------------------------------------------------


@final
class DenseContrast(AbstractMethod):
    """One pixel in two crops is told from all other pixels, by a moving average of the student.

    Pixels are paired by the known geometry of the crops, as in VADeR (arXiv 2011.05499), with the head of DenseCL
    (arXiv 2011.09157).
    """

    LOOK = Look(scale=(0.35, 0.8))
    POINTS, TEMPERATURE = 48, 0.2

    def __init__(self, student: AbstractExtractor) -> None:
        super().__init__()
        self.student = student
        self.teacher = copy.deepcopy(student).requires_grad_(False)
        self.head = dense_head(channels_of(student))
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)
        self.loss = contrast_loss(self.TEMPERATURE)
        self.cell = coarsest(student)

    def forward(self, images: Tensor, generator: torch.Generator) -> Outcome:
        """See `AbstractMethod`."""
        size = multiple_of((images.shape[-2], images.shape[-1]), VIEW, self.cell)
        first, second = (views(images, size, self.LOOK, generator) for _ in range(2))
        points = shared_points(first, second, self.POINTS, generator)
        asked = self._embedded(self.student, self.head, (first, second), points)
        with torch.no_grad():
            told = self._embedded(self.teacher, self.teacher_head, (first, second), points)
        loss = self.loss(asked[0], told[1]) + self.loss(asked[1], told[0])
        return Outcome(loss / 2, spread_of(told[0]))

    def _embedded(
        self, extractor: AbstractExtractor, head: nn.Module, pair: tuple[Views, Views], points: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Embeddings (B K, D) of the points in each of the two views."""
        characteristics = look(extractor, torch.cat([each.images for each in pair]))
        rows: Tensor = head(at_points(characteristics, torch.cat(points)).flatten(0, 1))
        first, second = rows.chunk(2)
        return first, second

    def advance(self, step: int) -> None:
        """The teacher follows."""
        follow(step, (self.teacher, self.student), (self.teacher_head, self.head))

    @property
    def kept(self) -> AbstractExtractor:
        """The teacher."""
        return self.teacher


METHODS: dict[str, Callable[[AbstractExtractor], AbstractMethod]] = {
    "dense": DenseContrast,
    "dino": SelfDistillation,
    "simmim": MaskedImages,
    "families": FamilyTerms,
}
"""The methods by name."""

RATES = {"dense": 2e-3, "dino": 5e-4, "simmim": 2e-3, "families": 2e-3}
"""Learning rates that suit them. At 2e-3 self-distillation loses nearly all it knew of its images at first."""


def build_method(name: str, student: AbstractExtractor) -> AbstractMethod:
    """The method `name` of `METHODS` around an extractor, which it trains.

    Raises:
        UnplateauError: no such name.
    """
    refuse_unknown_method(name)
    return METHODS[name](student)


def refuse_unknown_method(name: str) -> None:
    """Refuse a name that is not in `METHODS`, before anything is read.

    Raises:
        UnplateauError: it is not.
    """
    if name not in METHODS:
        raise UnplateauError(f"`method` must be one of {', '.join(METHODS)}; got {name!r}: {nearest(name, METHODS)}")
