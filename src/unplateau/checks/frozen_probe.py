"""What a linear reading of frozen feature maps scores: seconds where a training takes minutes.

Axes: N images, K channels of all levels, P cells of all images, O outputs, h w cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.normalise import Normalise
from unplateau.measures.scoring import score_images
from unplateau.measures.thresholds import Counts, best_threshold, counts_at
from unplateau.model import pad_to
from unplateau.types import IGNORE, Pictures

GRID = 8
"""Input pixels of a cell: fine enough for objects, and a thousand channels are read in a second."""

RIDGE = 1.0
"""Penalty beside standardised channels: a few dozen images have fewer unrelated cells than there are channels."""

BATCH = 16


@contextmanager
def normalised(own: Normalise, other: Normalise) -> Iterator[None]:
    """Within it, images are normalised by `other` where the network has `own`."""
    hook = own.register_forward_hook(lambda _, given, __: other(given[0]))
    try:
        yield
    finally:
        hook.remove()


def probe(extractor: AbstractExtractor, pictures: Pictures, fit: tuple[int, ...], asked: tuple[int, ...]) -> Counts:
    """Counts (N, C, 3) on the images `asked` of a ridge regression on the frozen maps of the images `fit`.

    The threshold of a binary task is the best one on `fit`.
    """
    known, others = (_cells(extractor, pictures.images[list(part)]) for part in (fit, asked))
    masks = [_small(pictures.masks[list(part)], known.shape[-2:]) for part in (fit, asked)]
    read = _ridge(known, masks[0], pictures.task.outputs)
    tables = [score_images(read(maps), mask) for maps, mask in zip((known, others), masks, strict=True)]
    return counts_at(tables[1], best_threshold(tables[0]) if pictures.task.binary else np.nan)


def _cells(extractor: AbstractExtractor, images: Tensor) -> Tensor:
    """Every level on one grid (N, K, h, w), finer ones averaged, coarser ones interpolated."""
    extractor.eval()
    stride = max(level.stride for level in extractor.gives)
    with torch.inference_mode():
        return torch.cat([_grid(extractor, pad_to(part.float() / 255, stride)) for part in images.split(BATCH)])


def _grid(extractor: AbstractExtractor, images: Tensor) -> Tensor:
    size = (images.shape[-2] // GRID, images.shape[-1] // GRID)
    maps = [
        F.adaptive_avg_pool2d(each, size) if each.shape[-1] > size[1] else F.interpolate(each, size, mode="bilinear")
        for each in extractor(images).levels
    ]
    return torch.cat(maps, dim=1).float()


def _small(masks: Tensor, size: torch.Size) -> NDArray[np.uint8]:
    """Masks (N, H, W) at the centres of h x w cells."""
    small = F.interpolate(masks[:, None].float(), (size[0], size[1]), mode="nearest-exact")
    return small[:, 0].byte().numpy()


def _ridge(maps: Tensor, masks: NDArray[np.uint8], outputs: int) -> Callable[[Tensor], NDArray[np.float32]]:
    """The regression of the masks on standardised maps, as a function from maps to scores (N, O, h, w) in 0..1."""
    labels = torch.from_numpy(masks).flatten()
    counted = labels != IGNORE
    given_PK = maps.permute(0, 2, 3, 1).flatten(0, 2)[counted].double()
    wanted = (labels[counted, None] == torch.arange(1 if outputs == 1 else 0, max(outputs, 2))).double()
    mean, spread = given_PK.mean(0), given_PK.std(0).clamp(min=1e-12)
    standard_PK, share = (given_PK - mean) / spread, wanted.mean(0)
    squares = standard_PK.T @ standard_PK / len(standard_PK) + RIDGE * torch.eye(len(mean), dtype=torch.float64)
    weights = torch.linalg.solve(squares, standard_PK.T @ (wanted - share) / len(standard_PK))

    def read(others: Tensor) -> NDArray[np.float32]:
        scores = (others.permute(0, 2, 3, 1).double() - mean) / spread @ weights + share
        return scores.clamp(0, 1).permute(0, 3, 1, 2).float().numpy()

    return read
