"""Where an IoU is lost: the counts after one kind of error alone is repaired (TIDE, arXiv 2008.08115, for pixels).

Every wrong pixel has exactly one kind, so repairs never overlap. An object is a connected component (8 neighbours) of
one class; it is *found* when some pixel of it is both predicted and true. Class 0 of a binary task is the ground on
which objects lie, not an object. In this order:

- confusion: neither the true nor the predicted object of the pixel is found: an object lies there, of another class.
- missed: the true object is not found. spurious: the predicted object is not found.
- boundary: right pixels of both classes, the true and the predicted one, are near: the contour wanders.
- merged or split: the pixel joins true objects that one predicted object covers, or parts predicted objects that
  belong to one true object.
- extent: the rest, in objects that are found.

Axes: C classes, H W pixels, K kinds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label, maximum_filter

from unplateau.errors import DataError
from unplateau.measures.thresholds import Counts, counts_of
from unplateau.types import IGNORE, Size

KINDS = ("boundary", "extent", "missed", "spurious", "merged or split", "confusion")
"""Kinds of error; row 1 + k of the counts has kind k repaired. A binary task has no confusion."""

NEAR = 0.01
"""How near a right pixel is near, as a share of the image's diagonal: the width of beyond-iou's contour band."""

NEIGHBOURS = np.ones((3, 3), bool)


def anatomy_counts(answer: NDArray[np.uint8], mask: NDArray[np.uint8], classes: int, binary: bool) -> Counts:
    """Counts (1 + K, C, 3) of one image: as it was answered, then with each of `KINDS` repaired.

    `answer`: class of each pixel (H, W). `mask`: true class (H, W), 255 = not counted, where nothing is an object
    either. `classes`: their number; a binary task has 2, of which class 1 alone is scored (C = 1). Counts add over
    images and machines.

    Raises:
        DataError: the two differ in shape or hold a class that there is not.
    """
    _refuse(answer, mask, classes)
    kind = error_kinds(answer, mask, binary)
    wrong = kind >= 0
    counted = mask != IGNORE
    base = _counts(answer[counted], mask[counted], classes)
    cell = kind[wrong] * classes
    rows = len(KINDS)
    missing, extra = (
        np.bincount(cell + each[wrong], minlength=rows * classes).reshape(rows, classes) for each in (mask, answer)
    )
    repaired = base + counts_of(missing, missing - extra, np.zeros_like(missing))
    return np.concatenate([base[None], repaired])[:, 1 if binary else 0 :]


def error_kinds(answer: NDArray[np.uint8], mask: NDArray[np.uint8], binary: bool) -> NDArray[np.int8]:
    """Index into `KINDS` of each pixel (H, W); -1 where the answer is right or not counted."""
    kind = np.full(mask.shape, -1, np.int8)
    counted = mask != IGNORE
    wrong, right = counted & (answer != mask), counted & (answer == mask)
    if not wrong.any():
        return kind
    given = np.unique(np.concatenate([mask[wrong], answer[wrong]])).tolist()
    predicted, true = (_objects(each, counted, given, binary) for each in (answer, mask))
    lost, made = ~_found(true, right)[true.index[wrong]], ~_found(predicted, right)[predicted.index[wrong]]
    near = _near_both(answer, mask, wrong, right, given)
    joined = _joined(predicted, true, right)[predicted.index[wrong]]
    parted = _joined(true, predicted, right)[true.index[wrong]]
    choices = [lost & made, lost, made, near, joined | parted]
    of_choice = [KINDS.index(name) for name in ("confusion", "missed", "spurious", "boundary", "merged or split")]
    kind[wrong] = np.select(choices, of_choice, KINDS.index("extent"))
    return kind


@dataclass(frozen=True)
class _Objects:
    """`index` (H, W) of the object of each pixel, 0 = the ground or not counted; `count` of objects and the ground."""

    index: NDArray[np.int64]
    count: int


def _objects(classes: NDArray[np.uint8], counted: NDArray[np.bool_], given: list[int], binary: bool) -> _Objects:
    index, count = np.zeros(classes.shape, np.int64), 1
    for each in given:
        if binary and each == 0:
            continue
        parts, found = label(counted & (classes == each), NEIGHBOURS)
        index += np.where(parts > 0, parts + count - 1, 0)
        count += int(found)
    return _Objects(index, count)


def _found(objects: _Objects, right: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each object holds a right pixel; the ground always counts as found."""
    found = np.bincount(objects.index[right], minlength=objects.count) > 0
    found[0] = True
    return found


def _joined(whole: _Objects, parts: _Objects, right: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which objects of `whole` share right pixels with two or more objects of `parts`."""
    pairs = np.unique(whole.index[right] * parts.count + parts.index[right])
    pairs = pairs[(pairs >= parts.count) & (pairs % parts.count > 0)]
    return np.bincount(pairs // parts.count, minlength=whole.count) > 1


def _near_both(
    answer: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    wrong: NDArray[np.bool_],
    right: NDArray[np.bool_],
    given: list[int],
) -> NDArray[np.bool_]:
    """Which wrong pixels (P,) have right ones of their true and of their predicted class nearby."""
    width = near_width((mask.shape[0], mask.shape[1]))
    true, said = mask[wrong], answer[wrong]
    near_true, near_said = np.zeros(len(true), bool), np.zeros(len(true), bool)
    for each in given:
        near = maximum_filter((right & (mask == each)).view(np.uint8), size=2 * width + 1, mode="constant")[wrong] > 0
        near_true |= near & (true == each)
        near_said |= near & (said == each)
    return near_true & near_said


def near_width(size: Size) -> int:
    """How many pixels are near, at least 1."""
    return max(1, round(NEAR * math.hypot(*size)))


def _counts(answer: NDArray[np.uint8], mask: NDArray[np.uint8], classes: int) -> Counts:
    groups = (mask[answer == mask], answer, mask)
    hit, predicted, true = (np.bincount(each, minlength=classes).astype(np.int64) for each in groups)
    return counts_of(hit, predicted, true)


def _refuse(answer: NDArray[np.uint8], mask: NDArray[np.uint8], classes: int) -> None:
    if answer.ndim != 2 or answer.shape != mask.shape:
        raise DataError(
            f"`answer` and `mask` must be of one (height, width), but are {answer.shape} and {mask.shape}: give the "
            "answer on the grid of the mask."
        )
    highest = max(int(answer.max(initial=0)), int(mask[mask != IGNORE].max(initial=0)))
    if highest >= classes:
        raise DataError(f"`answer` and `mask` must hold indices below {classes}, but hold {highest}: convert them.")
