"""Controls of the ladder: what an image is when only part of it may be used, and how large its objects are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from unplateau.types import IGNORE, Pictures

BATCH = 8
"""Pictures that are smoothed together: few enough to stay in the cache of a core."""

WINDOWS = (9.0, 25.0)
"""Pixels of the windows over which texture is told, at least and at most, and beyond which it is not taken away."""

FLATTENS = math.sqrt(2) / 6
"""Strength of the smoothing for each pixel of thickness and each level of grain. A stripe of width w and contrast a
goes at a w / 2: with waves of that grain those up to a third as wide as objects are thick."""

FULL = 2.0
"""Times the grain from which on a step is drawn in full."""

CORE = 0.2
"""Share of an object that its border must leave for the rest to stand for it: of a disc of seven pixels half is left,
of a wavy stroke of four a tenth, beside which one false pixel elsewhere counts like ten."""

BUSY = 3.0
"""Times what a quarter of the pixels exceed after smoothing, from which on a step is drawn in full at the earliest:
beside thin objects clouds stay, and outlines are few."""

ITERATIONS = 100

LEAST = 0.5
"""Levels of 255 that count as grain at least: as much as rounding makes."""

QUARTER = 1.15
"""What a quarter of normal values of spread one exceed."""

DIRECTIONS = 8
"""In which the extent of an object is measured: what lies between two of them is taken 2 % too short at most."""

AT_MOST = 2.0
"""Diameters that the extent of an object counts as at most: a net of vessels spans the image, and is no shape."""


@dataclass(frozen=True)
class Objects:
    """How large the objects of a task are, in pixels of the working grid: nan when no mask holds one.

    An object is a connected component of one class; for a multi-class task every class counts. `diameter` is that of
    the disc of its area, `extent` the longest way across it; both are medians over area, because the IoU is: half of
    all positive pixels lie in objects at least this large. `thickness` is the diameter of the disc of which
    half of the pixels lie as deep inside as half of all positive ones do; of stripes it is 1.7 times the width.
    """

    diameter: float
    extent: float
    thickness: float

    @property
    def whole(self) -> float:
        """How far the farthest part of an object may lie from a pixel of it."""
        return float(np.clip(self.extent, self.diameter, AT_MOST * self.diameter))

    @staticmethod
    def discs(diameter: float) -> Objects:
        """Objects that are discs."""
        return Objects(diameter, diameter, diameter)


def contours(pictures: Pictures, thickness: float) -> Pictures:
    """The pictures as contour maps: where the colour changes after total-variation smoothing, nothing else.

    Smoothing flattens what is fine beside objects of that thickness, and keeps the outlines of regions; the magnitude
    of the gradient, over the three channels, then drops their colour. Steps twice as high as the grain of the set are
    drawn in full, so that contrast carries little, and higher ones where the ground is full of steps. Nothing is scaled
    image by image: that would tell how much else there is in an image, which is no matter of shape.
    """
    thick = min(thickness, WINDOWS[1]) if math.isfinite(thickness) else 1.0
    with _on_one_core():
        parts = [part.float() for part in pictures.images.split(BATCH)]
        deviation = max(thick, WINDOWS[0]) / 6
        grain = max(float(torch.cat([_grain(part, deviation) for part in parts]).median()), LEAST)
        smooth = [total_variation(part, FLATTENS * thick * grain, ITERATIONS) for part in parts]
        steps = torch.cat([_steps(part) for part in smooth])
        full = max(FULL * grain, BUSY * float(steps.flatten(1).quantile(0.75, dim=1).median()))
        maps = (steps / full).clamp(0, 1).mul(255).round().byte()
    return replace(pictures, images=maps[:, None].expand(-1, 3, -1, -1).contiguous())


def _grain(images: Tensor, deviation: float) -> Tensor:
    """The spread (B,) of what is finer than so wide a Gaussian in images (B, C, H, W): by its upper quarter, which
    outlines, being few, hardly move, and plain ground, being less than three quarters, neither.
    """
    fine = images - gaussian_blur(images, deviation)
    return fine.square().mean(1).sqrt().flatten(1).quantile(0.75, dim=1) / QUARTER


@contextmanager
def _on_one_core() -> Iterator[None]:
    """So small batches are hardly faster on more, and wait a hundred times as long where these are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _steps(images: Tensor) -> Tensor:
    """How much images (B, C, H, W) change at each pixel, over all channels: (B, H, W)."""
    down, right = _gradient(images)
    return (down.square() + right.square()).sum(1).sqrt()


def gaussian_blur(images: Tensor, deviation: float) -> Tensor:
    """Images (B, C, H, W) under a Gaussian of so many pixels, the border repeated."""
    reach = max(1, math.ceil(3 * deviation))
    offsets = torch.arange(-reach, reach + 1, dtype=images.dtype)
    weights = torch.exp(-(offsets**2) / (2 * deviation**2))
    weights = (weights / weights.sum())[None, None, None]
    flat = F.pad(images.flatten(0, 1)[:, None], (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(flat, weights), weights.mT).view_as(images)


def total_variation(images: Tensor, smoothness: float, iterations: int) -> Tensor:
    """Total-variation smoothing of images (..., H, W) by the fast gradient projection of Beck and Teboulle (IEEE Trans.
    Image Process. 18, 2009) on the dual of Chambolle (J. Math. Imaging Vis. 20, 2004).

    Minimises |gradient u| + |u - image|^2 / (2 smoothness); step 1/8, the inverse of the gradient's squared norm.
    """
    ahead = flow = torch.zeros((2, *images.shape), dtype=images.dtype)
    pace = 1.0
    for _ in range(iterations):
        moved = ahead + torch.stack(_gradient(_divergence(ahead[0], ahead[1]) - images / smoothness)) / 8
        moved = moved / torch.hypot(moved[0], moved[1]).clamp(min=1)
        faster = (1 + math.sqrt(1 + 4 * pace**2)) / 2
        ahead = moved + (pace - 1) / faster * (moved - flow)
        flow, pace = moved, faster
    return images - smoothness * _divergence(flow[0], flow[1])


def _gradient(images: Tensor) -> tuple[Tensor, Tensor]:
    """Forward differences, 0 at the far border."""
    return F.pad(images.diff(dim=-2), (0, 0, 0, 1)), F.pad(images.diff(dim=-1), (0, 1))


def _divergence(down: Tensor, right: Tensor) -> Tensor:
    """The negative adjoint of `_gradient`."""
    return F.pad(down[..., :-1, :], (0, 0, 1, 1)).diff(dim=-2) + F.pad(right[..., :-1], (1, 1)).diff(dim=-1)


def without_borders(pictures: Pictures, indices: tuple[int, ...]) -> Pictures:
    """The pictures with `core_masks` for those of `indices`."""
    masks, places = pictures.masks.clone(), list(indices)
    masks[places] = core_masks(masks[places])
    return replace(pictures, masks=masks)


def core_masks(masks: Tensor) -> Tensor:
    """Masks (N, H, W) whose pixels beside another class, on either side, do not count.

    Smoothed contours lie a pixel off. Objects of which less than `CORE` would be left, being thin, are kept, and lose
    what surrounds them.
    """
    found = masks.clone()
    padded = F.pad(masks[:, None].float(), (1, 1, 1, 1), mode="replicate")
    border = F.max_pool2d(padded, 3, 1)[:, 0] != -F.max_pool2d(-padded, 3, 1)[:, 0]
    found[border] = IGNORE
    for mask, core in zip(masks.numpy(), found.numpy(), strict=True):
        for label in set(np.unique(mask).tolist()) - {0, IGNORE}:
            number, _ = ndimage.label(mask == label)
            area, left = (
                np.bincount(each, minlength=number.max() + 1) for each in (number.ravel(), number[core == label])
            )
            thin = left < CORE * area
            thin[0] = False
            core[thin[number]] = label
    return found


def measure_objects(pictures: Pictures) -> Objects:
    """How large the objects in the masks of these pictures are."""
    found = [_measured(mask, pictures.task.binary) for mask in pictures.masks.numpy()]
    areas, extents, depths = (np.concatenate(each) for each in zip(*found, strict=True))
    if not len(areas):
        return Objects(math.nan, math.nan, math.nan)
    diameters = np.sqrt(4 * areas / np.pi)
    # Half of a disc of diameter d lies deeper than d / 2 (1 - 1 / sqrt 2).
    thickness = float(np.median(depths)) * 2 / (1 - math.sqrt(0.5))
    return Objects(_median(diameters, areas), _median(extents, areas), thickness)


def _median(values: NDArray[np.float64], areas: NDArray[np.float64]) -> float:
    """The value at which half of the area is reached."""
    order = np.argsort(values)
    reached = areas[order].cumsum()
    return float(values[order[min(np.searchsorted(reached, reached[-1] / 2), len(order) - 1)]])


def _measured(mask: NDArray[np.uint8], binary: bool) -> tuple[NDArray[np.float64], ...]:
    """Area, extent and the depths of all pixels of each component of each class of one mask; of class 0 only when the
    task has no background.
    """
    labels = [value for value in np.unique(mask) if value != IGNORE and (value or not binary)]
    parts = [_components(mask == label) for label in labels]
    return tuple(np.concatenate([np.zeros(0), *each]) for each in (zip(*parts, strict=True) if parts else [()] * 3))


def _components(region: NDArray[np.bool_]) -> tuple[NDArray[np.float64], ...]:
    number = ndimage.label(region)[0]
    depth = ndimage.distance_transform_edt(np.pad(region, 1, mode="edge")) - 0.5
    places = np.flatnonzero(region)
    places = places[np.argsort(number.ravel()[places], kind="stable")]
    y, x = np.unravel_index(places, region.shape)
    starts = np.flatnonzero(np.diff(number.ravel()[places], prepend=0))
    turns = np.arange(DIRECTIONS) * np.pi / DIRECTIONS
    along = np.outer(np.cos(turns), y) + np.outer(np.sin(turns), x)
    across = np.maximum.reduceat(along, starts, axis=1) - np.minimum.reduceat(along, starts, axis=1)
    areas = np.diff(np.append(starts, len(places)))
    return areas.astype(np.float64), across.max(0) + 1, depth[1:-1, 1:-1].ravel()[places]
