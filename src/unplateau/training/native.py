"""Answers at the size that the images came in: from scores on the grid to the masks that `predict` writes.

Axes: C outputs, h w cells of the grid, H W pixels of the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from unplateau.data.grid import Box, place
from unplateau.measures.scoring import count_best, score_images, score_layers
from unplateau.measures.thresholds import Counts, ScoreTable, scores_of
from unplateau.model import SegmentationModel
from unplateau.training.scoring import grouped, scored
from unplateau.types import Pictures, Size

Answered = tuple[NDArray[np.float32], NDArray[np.uint8]]
"""Scores (C, H, W) and the mask (H, W), or (C, H, W) where classes may overlap, of one image at its own size."""


def native_scores(scores: Tensor, box: Box, size: Size) -> NDArray[np.float32]:
    """Scores (1, C, h, w) of an image that lies in `box` of the grid, at the image's own `size`: (C, H, W)."""
    return sized(scores[..., box.top : box.top + box.height, box.left : box.left + box.width], size)


def sized(scores: Tensor, size: Size) -> NDArray[np.float32]:
    """Scores (1, C, h, w) at another size, (C, H, W)."""
    native: NDArray[np.float32] = F.interpolate(scores, size=size, mode="bilinear")[0].cpu().numpy()
    return native


def score_native(
    model: SegmentationModel, pictures: Pictures, parts: tuple[tuple[int, ...], ...]
) -> tuple[ScoreTable, ...] | None:
    """As `score`, on masks as they came, a table a part; None where all are of the grid's size, or are not at hand.

    One image is at its own size in memory at a time, and of each only the histograms stay. The images are those that
    the model learnt from, on the grid already; `predict` decodes them anew.
    """
    table = score_layers if pictures.masks.ndim == 4 else score_images
    tables, off = [], False
    for indices in parts:
        found = []
        for scores, mask in _answered(model, pictures, indices):
            found.append(table(scores[None], mask[None]))
            off |= mask.shape[-2:] != pictures.size
        tables.append(grouped(found, pictures, indices) if found else None)
    known = tuple(each for each in tables if each is not None)
    return known if off and len(known) == len(parts) else None


def score_maps(maps: NDArray[np.uint8], pictures: Pictures, indices: tuple[int, ...]) -> ScoreTable | None:
    """Answers (N, C, h, w) in steps of 1 / BINS, on a grid of any size, on the masks of these pictures as they came.

    None where those are not at hand.
    """
    if pictures.native_mask is None or not indices:
        return None
    found = []
    for index, answer in zip(indices, maps, strict=True):
        mask = pictures.native_mask(pictures.names[index])
        size, grid = (int(mask.shape[-2]), int(mask.shape[-1])), (answer.shape[-2], answer.shape[-1])
        scores = torch.from_numpy(scores_of(answer))
        found.append(score_images(native_scores(scores[None], place(size, grid), size)[None], mask[None]))
    return grouped(found, pictures, indices)


def count_native(model: SegmentationModel, pictures: Pictures, indices: tuple[int, ...]) -> Counts | None:
    """Counts (N, C, 3) of each pixel's best-scored class on masks as they came; None as in `score_native`."""
    counts, off = [], False
    for scores, mask in _answered(model, pictures, indices):
        counts.append(count_best(scores, mask))
        off |= mask.shape != pictures.size
    return np.stack(counts) if off else None


def _answered(model: SegmentationModel, pictures: Pictures, indices: tuple[int, ...]) -> Iterator[Answered]:
    """Each of the pictures at its own size; nothing where the masks are not at hand."""
    if pictures.native_mask is None:
        return
    for index, scores in zip(indices, chain.from_iterable(scored(model, pictures, indices)), strict=True):
        mask = pictures.native_mask(pictures.names[index])
        size = (int(mask.shape[-2]), int(mask.shape[-1]))
        yield native_scores(scores[None], place(size, pictures.size), size), mask
