"""Controls of the ladder: what an image is when only part of it may be used, and how large its objects are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from unplateau.types import IGNORE, Pictures

BATCH = 64

SPREAD = 0.2
"""Standard deviation that the grey level of each image is brought to before smoothing; about that of photographs."""


def contours(pictures: Pictures, smoothness: float = 0.12, iterations: int = 30) -> Pictures:
    """The pictures as contour maps: where the grey level changes after total-variation smoothing, nothing else.

    Smoothing flattens texture and keeps the outlines of regions; the magnitude of the gradient then drops their
    colour. Each map is scaled by its own 99th percentile, so that contrast carries nothing either.
    """
    maps = torch.cat([_contours(part, smoothness, iterations) for part in pictures.images.split(BATCH)])
    return replace(pictures, images=maps[:, None].expand(-1, 3, -1, -1).contiguous())


def _contours(images: Tensor, smoothness: float, iterations: int) -> Tensor:
    grey = images.float().mean(1)
    spread = grey.flatten(1).std(dim=1).clamp(min=1.0)
    # Smoothing has an absolute strength: at a fixed spread a faint image is smoothed as much as a strong one.
    grey = SPREAD * (grey - grey.mean((1, 2), keepdim=True)) / spread[:, None, None]
    smooth = total_variation(grey, smoothness, iterations)
    down, right = _gradient(smooth)
    strength = torch.sqrt(down**2 + right**2)
    scale = strength.flatten(1).quantile(0.99, dim=1).clamp(min=1e-4)
    return (strength / scale[:, None, None]).clamp(0, 1).mul(255).round().to(torch.uint8)


def total_variation(images: Tensor, smoothness: float, iterations: int) -> Tensor:
    """Total-variation smoothing of images (B, H, W) by Chambolle's projection (J. Math. Imaging Vis. 20, 2004).

    Minimises |gradient u| + |u - image|^2 / (2 smoothness); step 0.24, below the 1/4 up to which it converges.
    """
    down, right = torch.zeros_like(images), torch.zeros_like(images)
    for _ in range(iterations):
        gradient_down, gradient_right = _gradient(_divergence(down, right) - images / smoothness)
        growth = 1 + 0.24 * torch.sqrt(gradient_down**2 + gradient_right**2)
        down, right = (down + 0.24 * gradient_down) / growth, (right + 0.24 * gradient_right) / growth
    return images - smoothness * _divergence(down, right)


def _gradient(images: Tensor) -> tuple[Tensor, Tensor]:
    """Forward differences, 0 at the far border."""
    return F.pad(images.diff(dim=-2), (0, 0, 0, 1)), F.pad(images.diff(dim=-1), (0, 1))


def _divergence(down: Tensor, right: Tensor) -> Tensor:
    """The negative adjoint of `_gradient`."""
    return F.pad(down[..., :-1, :], (0, 0, 1, 1)).diff(dim=-2) + F.pad(right[..., :-1], (1, 1)).diff(dim=-1)


def object_diameter(pictures: Pictures) -> float:
    """Median diameter of an object in pixels of the working grid: nan when no mask holds one.

    An object is a connected component of one class; its diameter is that of the disc of its area. The median is over
    area, because the IoU is: half of all positive pixels lie in objects at least this large. For a multi-class task
    every class counts.
    """
    areas = np.concatenate([_areas(mask, pictures.task.binary) for mask in pictures.masks.numpy()])
    if not len(areas):
        return float("nan")
    areas.sort()
    middle = np.searchsorted(areas.cumsum(), areas.sum() / 2)
    return float(np.sqrt(4 * areas[min(middle, len(areas) - 1)] / np.pi))


def _areas(mask: NDArray[np.uint8], binary: bool) -> NDArray[np.float64]:
    """Pixels of each component of each class of one mask; of class 0 only when the task has no background."""
    labels = [value for value in np.unique(mask) if value != IGNORE and (value or not binary)]
    parts = [np.bincount(ndimage.label(mask == label)[0].ravel())[1:] for label in labels]
    return np.concatenate(parts).astype(np.float64) if parts else np.zeros(0)
