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

WEIGHTINGS = ("none", "auto", "effective")
"""Ways to weigh the classes that have a name."""


def class_areas(pictures: Pictures) -> NDArray[np.int64]:
    """Counted pixels of each class in each image, int64 (N, C); C = 2, negative and positive, when binary.

    Of image labels whether the image has the class, 0 or 1; of boxes how many.
    """
    if pictures.task.kind != "mask":
        return _held(pictures)
    classes = 2 if pictures.task.binary else len(pictures.task.classes)
    flat = pictures.masks.flatten(1).numpy()
    counts = (np.bincount(row, minlength=256)[:classes] for row in flat)
    return np.array(list(counts), dtype=np.int64).reshape(len(flat), classes)


def _held(pictures: Pictures) -> NDArray[np.int64]:
    """How much of each class an image holds, int64 (N, C), where it does not hold one class a pixel."""
    truth = pictures.truth
    if pictures.task.kind == "boxes":
        classes = torch.arange(pictures.task.outputs)
        return (truth[:, :, :1] == classes).sum(1).numpy()
    return (truth == 1).flatten(2).sum(2).numpy() if truth.ndim == 4 else (truth == 1).long().numpy()


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


def class_holders(pictures: Pictures, indices: Sequence[int]) -> dict[int, NDArray[np.int64]]:
    """For each class, the places in `indices` of the images that hold it; the positive class alone when binary.

    Classes that no image holds are left out.
    """
    areas = class_areas(pictures)[list(indices)]
    wanted = [1] if pictures.task.binary else range(areas.shape[1])
    return {index: np.flatnonzero(areas[:, index]) for index in wanted if areas[:, index].any()}


def class_weights(pictures: Pictures, indices: Sequence[int], mode: str | Sequence[float] = "auto") -> Tensor:
    """Loss weights: float (C,) for multi-class, a single positive weight (1,) when binary.

    "none" is all ones. "auto" is the inverse square root of each class's share of the area: the tempering of
    Mahajan et al. 2018 (Exploring the Limits of Weakly Supervised Pretraining), half-way in the exponent between no
    weights and equal say for each class. "effective" is the inverse of the effective number of pixels, which comes
    close to the full inverse and lets a class of a few pixels shout down all others. Multi-class weights average 1 over
    the pixels, so the learning rate keeps its meaning; a class that is absent gets 1. A sequence is taken as it is.

    Raises:
        DataError: an unknown mode, a sequence of the wrong length or not positive, or no positive pixel to weigh; or
            a weight other than 1 for a class that these images do not hold.
    """
    if isinstance(mode, str):
        return _named(pictures, indices, mode)
    weights, names = [float(each) for each in mode], pictures.task.names
    if len(weights) != len(names) or not all(math.isfinite(each) and each > 0 for each in weights):
        raise DataError(
            f"The class weights must be {len(names)} positive numbers, one for each of {_listed(names)}, but are "
            f"{weights}: change `class_weights`."
        )
    shares = class_shares(pictures, indices)[-len(names) :]
    if absent := [
        name for name, each, share in zip(names, weights, shares, strict=True) if each != 1 and not share > 0
    ]:
        raise DataError(
            f"The class weights must weigh classes that the images to train on hold, but no pixel there is "
            f"{_listed(absent)}: give it the weight 1, or add images of it."
        )
    return torch.tensor(weights, dtype=torch.float32)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:12])) + (" ..." if len(names) > 12 else "")


def _named(pictures: Pictures, indices: Sequence[int], mode: str) -> Tensor:
    if mode not in WEIGHTINGS:
        known = ", ".join(map(repr, WEIGHTINGS))
        raise DataError(f"The class weights must be {known} or a sequence of numbers, but are {mode!r}.")
    if mode == "none":
        return torch.ones(pictures.task.outputs)
    if not pictures.task.exclusive:
        return _each(pictures, indices, mode)
    shares = class_shares(pictures, indices)
    if pictures.task.binary and not shares[1] > 0:
        raise DataError("The class weights need positive pixels, but the images chosen hold none: choose others.")
    if pictures.task.binary:
        odds = math.sqrt(shares[0] / shares[1]) if mode == "auto" else np.divide(*_effective(shares))
        return torch.tensor([odds if shares[0] else 1.0], dtype=torch.float32)
    return _averaging_one(np.sqrt(shares) if mode == "auto" else _effective(shares), shares)


def _each(pictures: Pictures, indices: Sequence[int], mode: str) -> Tensor:
    """Factor (C,) of each class's positives where each holds or not by itself; 1 for a class that nothing has."""
    truth = pictures.truth[list(indices)].transpose(0, 1).flatten(1)
    counts = np.array([[int((row == value).sum()) for value in (0, 1)] for row in truth])
    weights = np.ones(len(counts))
    for place, (no, yes) in enumerate(counts):
        if no and yes:
            shares = np.array([no, yes]) / (no + yes)
            weights[place] = math.sqrt(no / yes) if mode == "auto" else float(np.divide(*_effective(shares)))
    return torch.from_numpy(weights).float()


def _effective(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Effective numbers of pixels (Cui et al. 2019, Class-Balanced Loss), as shares of the area.

    They are (1 - beta^n) / (1 - beta) for n pixels. The beta of that paper, up to .9999, is for counts of images: all
    classes of over a few ten thousand pixels would weigh the same. Here 1 - beta is C classes / all pixels, so that
    pixels begin to repeat each other where a class holds its equal share, and n C / all pixels is the exponent.
    """
    return -np.expm1(-len(shares) * shares) / len(shares)


def _averaging_one(sizes: NDArray[np.float64], shares: NDArray[np.float64]) -> Tensor:
    """One over each class's size, times what makes them average 1 over the pixels."""
    present = shares > 0
    weights = np.ones_like(shares)
    weights[present] = 1 / sizes[present]
    weights[present] /= (weights * shares)[present].sum()
    return torch.from_numpy(weights).float()
