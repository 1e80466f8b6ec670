"""How much of the area each class holds, and the weights that make up for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unplateau.errors import DataError
from unplateau.types import Pictures


def class_areas(pictures: Pictures) -> NDArray[np.int64]:
    """Counted pixels of each class in each image, int64 (N, C); C = 2, negative and positive, when binary."""
    classes = 2 if pictures.task.binary else len(pictures.task.classes)
    flat = pictures.masks.flatten(1).numpy()
    counts = (np.bincount(row, minlength=256)[:classes] for row in flat)
    return np.array(list(counts), dtype=np.int64).reshape(len(flat), classes)


def class_shares(pictures: Pictures, indices: Sequence[int]) -> NDArray[np.float64]:
    """Share of the counted area of these images that each class holds, float (C,); nan when nothing is counted."""
    area = class_areas(pictures)[list(indices)].sum(axis=0)
    return area / area.sum() if area.sum() else np.full(area.shape, np.nan)


def positive_share(pictures: Pictures, indices: Sequence[int]) -> float:
    """Share of the counted area of these images that is positive, 0..1.

    Raises:
        DataError: the task is not binary.
    """
    if not pictures.task.binary:
        raise DataError("`positive_share` is for binary tasks, but this one is multi-class: use `class_shares`.")
    return float(class_shares(pictures, indices)[1])


def class_weights(pictures: Pictures, indices: Sequence[int], mode: str | Sequence[float] = "auto") -> Tensor:
    """Loss weights: float (C,) for multi-class, a single positive weight (1,) when binary.

    "none" is all ones. "auto" is the inverse square root of each class's share of the area: the tempering of
    Mahajan et al. 2018 (Exploring the Limits of Weakly Supervised Pretraining), half-way in the exponent between no
    weights and equal say for each class. The full inverse, and the effective number of Cui et al. 2019 at the pixel
    counts of masks, which comes close to it, let a class of a few pixels shout down all others. Multi-class weights
    average 1 over the pixels, so the learning rate keeps its meaning; a class that is absent gets 1. A sequence is
    taken as it is.

    Raises:
        DataError: an unknown mode, a sequence of the wrong length or not positive, or no positive pixel to weigh.
    """
    if isinstance(mode, str):
        return _named(pictures, indices, mode)
    weights, wanted = [float(each) for each in mode], pictures.task.outputs
    if len(weights) != wanted or not all(math.isfinite(each) and each > 0 for each in weights):
        raise DataError(f"The class weights must be {wanted} positive numbers, one a class, but are {weights}.")
    return torch.tensor(weights, dtype=torch.float32)


def _named(pictures: Pictures, indices: Sequence[int], mode: str) -> Tensor:
    if mode == "none":
        return torch.ones(pictures.task.outputs)
    if mode != "auto":
        raise DataError(f"The class weights must be 'none', 'auto' or a sequence of numbers, but are {mode!r}.")
    shares = class_shares(pictures, indices)
    return _odds(shares) if pictures.task.binary else _tempered(shares)


def _odds(shares: NDArray[np.float64]) -> Tensor:
    if not shares[1] > 0:
        raise DataError("The class weights need positive pixels, but the images chosen hold none: choose others.")
    return torch.tensor([math.sqrt(shares[0] / shares[1]) if shares[0] else 1.0], dtype=torch.float32)


def _tempered(shares: NDArray[np.float64]) -> Tensor:
    present = shares > 0
    weights = np.ones_like(shares)
    weights[present] = shares[present] ** -0.5 / np.sqrt(shares[present]).sum()
    return torch.from_numpy(weights).float()
