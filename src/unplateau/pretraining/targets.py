"""What each family's term of pretraining guesses, computed from images and words: nothing here learns.

Axes: B images, C channels, h w cells, i j cells of the far grid, r c bins of offsets, W words.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from unplateau.extractors.families import contours

CELL = 4
"""Side in pixels of the cells whose surroundings are guessed by the textural and the geometric term."""

STRENGTHS = (0.1, 0.3, 0.9, 2.7)
"""Contour strengths that the histogram of the textural term is about."""

ORIENTATIONS, NEAR = 8, 5
"""Orientations of a contour that are told apart; cells a side, around a cell, whose contours are guessed."""

TEXTURAL = 6 + len(STRENGTHS) + 4
GEOMETRIC = ORIENTATIONS * NEAR**2
"""Numbers that are guessed of each cell."""

FAR_EDGES = (0.5, 1.5, 2.5, 4.5)
"""Offsets in cells between which the bins of the contextual term lie, to either side: finer where it is near."""

FAR_BINS = 2 * len(FAR_EDGES) + 1


def statistics_of(images: Tensor) -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W), 0..1, to orderless statistics around each cell (B, h, w, TEXTURAL); all of them exist.

    Mean and spread of each colour, how often contours of each strength occur, and at two scales the log of the energy
    and the coherence of the structure tensor (Bigun and Granlund, 1987): whether what is there has one direction.
    """
    mean = _pooled(images)
    spread = (_pooled(images.square()) - mean.square()).clamp_min(0).add(1e-4).sqrt()
    fine = contours(images)
    strengths = [
        (-(fine[:, :1].clamp_min(1e-3) / each).log().square() / (2 * math.log(3) ** 2 / 4)).exp() for each in STRENGTHS
    ]
    parts = [mean, spread, _pooled(torch.cat(strengths, dim=1))]
    coarse = contours(F.interpolate(F.avg_pool2d(images, 2), size=images.shape[-2:], mode="bilinear"))
    for maps in (fine, coarse):
        energy = _pooled(maps[:, :1].square())
        double = _pooled(maps[:, 1:] * maps[:, :1])
        parts += [(energy + 1e-3).log(), double.norm(dim=1, keepdim=True) / (energy + 1e-3)]
    found = torch.cat(parts, dim=1).permute(0, 2, 3, 1)
    return found, torch.ones_like(found[..., :1])


def outlines(images: Tensor) -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W), 0..1, to the contours of the cells around each cell (B, h, w, GEOMETRIC), and which exist.

    The square root of each cell's histogram of orientations, weighed by strength and relative to the contours around
    the cell (after HOG, Dalal and Triggs, 2005).
    """
    maps = contours(images)
    strength = maps[:, :1]
    angle = torch.atan2(maps[:, 2:], maps[:, 1:2])
    middle = torch.arange(ORIENTATIONS, device=images.device).reshape(1, -1, 1, 1) * (2 * math.pi / ORIENTATIONS)
    apart = torch.remainder(angle - middle + math.pi, 2 * math.pi) - math.pi
    share = (1 - apart.abs() * ORIENTATIONS / (2 * math.pi)).clamp_min(0)
    grid = _grid(images)
    histogram = F.adaptive_avg_pool2d(share * strength, grid)
    around = F.avg_pool2d(histogram.sum(1, keepdim=True), NEAR, 1, NEAR // 2, count_include_pad=False)
    found = _surroundings((histogram / (around + 0.05)).sqrt())
    there = _surroundings(torch.ones_like(histogram))
    return found, there


def far_words(words: Tensor) -> tuple[Tensor, Tensor]:
    """Words (B, h, w, W) of each cell to those in each bin of offsets around each cell, and which bins exist.

    Both (B, h, w, FAR_BINS^2 W): the mean over the cells in a bin; a bin wholly outside the image does not exist.
    """
    down_rhi, across_cwj = _bins(words.shape[1], words), _bins(words.shape[2], words)
    rows = torch.einsum("rhi,bijk->brhjk", down_rhi, words)
    found = torch.einsum("cwj,brhjk->bhwrck", across_cwj, rows)
    count = torch.einsum("rh,cw->hwrc", down_rhi.sum(2), across_cwj.sum(2))[None, ..., None]
    there = (count > 0).to(words.dtype).expand_as(found)
    return (found / count.clamp_min(1)).flatten(3), there.flatten(3)


def _bins(cells: int, like: Tensor) -> Tensor:
    """Which cells (FAR_BINS, cells, cells) lie in each bin of offsets from each cell, along one side."""
    place = torch.arange(cells, device=like.device)
    offset = (place[None] - place[:, None]).to(like.dtype)
    edges = torch.tensor([*(-edge for edge in reversed(FAR_EDGES)), *FAR_EDGES], device=like.device)
    return F.one_hot(torch.bucketize(offset, edges), FAR_BINS).permute(2, 0, 1).to(like.dtype)


def _grid(images: Tensor) -> tuple[int, int]:
    return images.shape[-2] // CELL, images.shape[-1] // CELL


def _pooled(maps: Tensor) -> Tensor:
    """Mean over windows of three cells around each cell."""
    return F.avg_pool2d(F.adaptive_avg_pool2d(maps, _grid(maps)), 3, 1, 1, count_include_pad=False)


def _surroundings(maps: Tensor) -> Tensor:
    """Maps (B, C, h, w) to what each cell has around it (B, h, w, C NEAR^2)."""
    height, width = maps.shape[-2:]
    return F.unfold(maps, NEAR, padding=NEAR // 2).unflatten(2, (height, width)).permute(0, 2, 3, 1)
