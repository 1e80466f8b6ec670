"""Masks that lie off their images, moved back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from unplateau.checks.alignment import AlignmentMeasured, shifted, shifted_splits, strayed, turned
from unplateau.measures.alignment import FLAT_TURNS, TURNS
from unplateau.types import IGNORE, Pictures


def realigned(pictures: Pictures, measured: AlignmentMeasured) -> Pictures:
    """The same images with the masks that are off moved back, to the nearest pixel of the working grid.

    What comes in from outside is 255. Of images that share an offset of their own only those that were read are
    known. When masks are turned that alone is undone, where the grid allows it.
    """
    masks = pictures.masks.clone()
    if turned(measured):
        height, width = pictures.size
        if measured.turn in FLAT_TURNS or height == width:
            masks = torch.from_numpy(np.ascontiguousarray(TURNS[measured.turn](masks.numpy())))
        return replace(pictures, masks=masks)
    cell = [native / side for native, side in zip(pictures.native, pictures.size, strict=True)]
    for index, (rows, columns) in enumerate(_offsets(pictures, measured)):
        down, right = (round(off / each) for off, each in zip((rows, columns), cell, strict=True))
        masks[index] = _moved(masks[index], -down, -right)
    return replace(pictures, masks=masks)


def _offsets(pictures: Pictures, measured: AlignmentMeasured) -> list[tuple[float, float]]:
    """The offset in native pixels that the mask of each picture is found to have; 0 where it is within tolerance."""
    splits = shifted_splits(measured)
    if splits:
        return [splits[part].offset if part in splits else (0.0, 0.0) for part in pictures.splits]
    whole = measured.whole.offset if shifted(measured.whole, measured.pixel) else (0.0, 0.0)
    own = set(measured.strays) if strayed(measured) else set()
    return [measured.strays_at if name in own else whole for name in pictures.names]


def _moved(mask_HW: torch.Tensor, down: int, right: int) -> torch.Tensor:
    height, width = mask_HW.shape
    moved = torch.full_like(mask_HW, IGNORE)
    if abs(down) < height and abs(right) < width:
        target = moved[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
        target.copy_(mask_HW[max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)])
    return moved
