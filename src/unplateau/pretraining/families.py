"""Pretraining with a term for each family: what surrounds a cell, told from that cell alone, at three reaches.

Axes: B images, M rows, C channels, D channels of an embedding, h w cells, i j cells of the far grid, r c bins of
offsets, W words, K points.
"""

from __future__ import annotations

import copy
import math
from typing import cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.families import GIVEN, FamiliesExtractor
from unplateau.pretraining.base import (
    VIEW,
    AbstractMethod,
    Outcome,
    at_points,
    cells,
    channels_of,
    coarsest,
    look,
    multiple_of,
    spread_of,
)
from unplateau.pretraining.heads import balanced, contrast_loss, dense_head, follow
from unplateau.pretraining.targets import FAR_BINS, GEOMETRIC, TEXTURAL, far_words, outlines, statistics_of
from unplateau.pretraining.views import Look, block_mask, shared_points, views
from unplateau.types import Characteristics, Size

FAMILIES = ("textural", "geometric", "contextual")

FAR, MOST_FAR = 8, 12
"""Side in pixels of a cell of the far grid, and the most cells a side: beyond that they grow."""

WORDS, SHARPNESS, WORDS_KEPT = 16, 0.1, 0.98
"""Kinds of cell that are told apart, the temperature of their likeness, and how slowly they move."""


@final
class FamilyTerms(AbstractMethod):
    """One term for each family, each a linear guess of what surrounds a cell from that cell's features alone.

    **textural**: statistics of a small window, whatever their arrangement: colours, contour strengths, coherence.
    **geometric**: the histograms of contour orientation (HOG, as in MaskFeat, arXiv 2112.09133) of the cells around
    it, each at its offset. **contextual**: which visual words stand how far in which direction, over the whole image:
    a shape context (Belongie et al., 2002) in latent space. The words are clusters, balanced across the images of a
    batch (arXiv 2006.09882), of what a moving average of the student sees in the unmasked image (arXiv 2202.03555), so
    hidden cells and far ones are guessed alike (arXiv 2301.08243). An image holds few things and many places: to tell
    what stands where from *its own* point of view, each cell must learn where it lies towards them.

    A fourth term joins the families: points of the student's view are told from all others by the teacher's answer in
    another crop, as in "dense". Every term is a share of what is left unexplained by knowing nothing, so none drowns
    the others. Where the extractor has a path for the family, the guess is made from the path and, apart, from the
    mixed levels; else from the levels alone.
    """

    WHOLE, CROP = Look(scale=(1.0, 1.0), contrast=0.3, brightness=0.1, colour=0.05), Look(scale=(0.35, 0.8))
    MASKED, POINTS, TEMPERATURE = 0.2, 48, 0.2

    def __init__(self, student: AbstractExtractor) -> None:
        super().__init__()
        self.student = student
        self.teacher = copy.deepcopy(student).requires_grad_(False)
        channels = channels_of(student)
        widths = {"textural": TEXTURAL, "geometric": GEOMETRIC, "contextual": FAR_BINS**2 * WORDS}
        self.guesses = nn.ModuleDict(
            {
                f"{family}-{own}": _guess(count, widths[family])
                for family in FAMILIES
                for own, count in _readers(student, family)
            }
        )
        self.head = dense_head(channels)
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)
        self.contrast = contrast_loss(self.TEMPERATURE)
        self.token = nn.Parameter(torch.full((1, 3, 1, 1), 0.5))
        local = _local_channels(student)
        self.standard = nn.BatchNorm1d(local, affine=False)
        self.register_buffer("words", F.normalize(torch.randn(WORDS, local), dim=1))
        self.cell = coarsest(student)
        self.told: dict[str, float] = {}

    def forward(self, images: Tensor, generator: torch.Generator) -> Outcome:
        """See `AbstractMethod`."""
        whole = (images.shape[-2], images.shape[-1])
        first = views(images, multiple_of(whole, 1.0, self.cell), self.WHOLE, generator)
        second = views(images, multiple_of(whole, VIEW, self.cell), self.CROP, generator)
        points = shared_points(first, second, self.POINTS, generator)
        size = (first.images.shape[-2], first.images.shape[-1])
        hidden = block_mask(len(images), size, FAR, self.MASKED, generator).to(images.device)
        with torch.no_grad():
            targets = self._targets(first.images)
            told = self.teacher_head(at_points(look(self.teacher, second.images), points[1]).flatten(0, 1))
        seen = self._seen(self.student, torch.where(hidden[:, None], self.token, first.images))
        asked = self.head(at_points(seen["mixed"], points[0]).flatten(0, 1))
        terms = {family: self._unexplained(family, seen, *targets[family]) for family in FAMILIES}
        terms["joint"] = self.contrast(asked, told) / math.log(2 * len(asked) - 1)
        self.told = {name: float(term.detach()) for name, term in terms.items()}
        return Outcome(torch.stack(list(terms.values())).sum(), spread_of(told))

    def _seen(self, extractor: AbstractExtractor, images: Tensor) -> dict[str, Characteristics]:
        """What each path saw, where there are paths, and the mixed levels."""
        if isinstance(extractor, FamiliesExtractor):
            return dict(vars(look(extractor.seen, images)))
        return {"mixed": look(extractor, images)}

    def _targets(self, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """For each family what is to be guessed (B, h, w, C), and what of it exists, of the same shape or less."""
        grid = _far_grid(images)
        latent = torch.cat([cells(each, grid) for each in _local(self._seen(self.teacher, images))], dim=-1)
        words = self._words(latent)
        return {"textural": statistics_of(images), "geometric": outlines(images), "contextual": far_words(words)}

    def _words(self, latent: Tensor) -> Tensor:
        """Latents (B, h, w, D) to how much they are like each word (B, h, w, W); the words move towards them."""
        rows = F.normalize(self.standard(latent.flatten(0, 2)), dim=1)
        words = cast(Tensor, self.words)
        likeness = rows @ words.T
        if self.training:
            given = balanced(likeness)
            moved = F.normalize(given.T @ rows, dim=1)
            words.copy_(F.normalize(WORDS_KEPT * words + (1 - WORDS_KEPT) * moved, dim=1))
        return (likeness / SHARPNESS).softmax(1).reshape(*latent.shape[:3], WORDS)

    def _unexplained(self, family: str, seen: dict[str, Characteristics], target: Tensor, there: Tensor) -> Tensor:
        """Share of the variance of the targets that is not guessed, over path and mixed levels."""
        grid = (target.shape[1], target.shape[2])
        wanted = _standard(target, there)
        owns = [own for own in (family, "mixed") if own in seen]
        lost = []
        for own in owns:
            rows = cells(seen[own], grid).flatten(0, 2)
            guessed = self.guesses[f"{family}-{own}"](rows).reshape(wanted.shape)
            lost.append(((guessed - wanted).square() * there).sum() / there.expand_as(wanted).sum())
        return torch.stack(lost).mean()

    def advance(self, step: int) -> None:
        """The teacher follows."""
        follow(step, (self.teacher, self.student), (self.teacher_head, self.head))

    @property
    def kept(self) -> AbstractExtractor:
        """The teacher."""
        return self.teacher


def _readers(student: AbstractExtractor, family: str) -> list[tuple[str, int]]:
    """From what a family is guessed, and how many channels that has."""
    mixed = [("mixed", channels_of(student))]
    if not isinstance(student, FamiliesExtractor):
        return mixed
    return [(family, sum(level.channels for level in GIVEN[family])), *mixed]


def _guess(channels: int, width: int) -> nn.Module:
    """A linear guess of standardised channels: what it needs must lie open in the features."""
    return nn.Sequential(nn.BatchNorm1d(channels, affine=False), nn.Linear(channels, width))


def _local(seen: dict[str, Characteristics]) -> list[Characteristics]:
    """What words are made of: the paths that see what a cell holds, not what is around it; else all there is."""
    return [seen[own] for own in ("textural", "geometric") if own in seen] or [seen["mixed"]]


def _local_channels(student: AbstractExtractor) -> int:
    if not isinstance(student, FamiliesExtractor):
        return channels_of(student)
    return sum(level.channels for own in ("textural", "geometric") for level in GIVEN[own])


def _far_grid(images: Tensor) -> Size:
    height, width = (min(MOST_FAR, max(2, side // FAR)) for side in images.shape[-2:])
    return height, width


def _standard(target: Tensor, there: Tensor) -> Tensor:
    """Targets (B, h, w, C) without their mean and in units of their spread, over what is there."""
    kept = there.expand_as(target)
    count = kept.sum((0, 1, 2)).clamp_min(1)
    mean = (target * kept).sum((0, 1, 2)) / count
    spread = (((target - mean) * kept).square().sum((0, 1, 2)) / count).sqrt()
    return torch.where(spread > 1e-4, (target - mean) / spread.clamp_min(1e-4), 0.0).clamp(-5, 5)
