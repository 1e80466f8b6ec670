"""Views of images for self-supervision: random crops whose place is known, so that one pixel can be found in two.

Axes: B images, H W pixels of an image, h w pixels of a view, K points.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from unplateau.types import Size


@dataclass(frozen=True)
class Look:
    """How views differ. `scale`: share of each side that is seen, lowest and highest. `flip`: of mirrored ones.

    `contrast`, `brightness`, `colour`: as in `Augmentation`. `grey`: share of views without colour. Moderate on
    purpose: what a task of local colour needs (fire) must survive the invariance that is learned.
    """

    scale: tuple[float, float] = (0.5, 1.0)
    flip: float = 0.5
    contrast: float = 0.4
    brightness: float = 0.15
    colour: float = 0.08
    grey: float = 0.1


@dataclass(frozen=True)
class Views:
    """Crops float (B, 3, h, w), RGB 0..1, and where they lie.

    `centre` and `half` (B, 2), x before y, in units in which the image spans -1..1; `half` is negative along x where
    the view is mirrored. Image point = centre + half * view point.
    """

    images: Tensor
    centre: Tensor
    half: Tensor


def views(images: Tensor, size: Size, look: Look, generator: torch.Generator) -> Views:
    """A random view of each image float (B, 3, H, W); the aspect of the image is the view's, up to `size` = (h, w).

    The generator is on the CPU and always gives the same count of numbers.
    """
    draws = torch.rand(len(images), 11, generator=generator).to(images.device)
    low, high = look.scale
    seen = low + (high - low) * draws[:, 0]
    stretch = torch.exp(0.15 * (2 * draws[:, 1] - 1))
    half = torch.stack([seen * stretch, seen / stretch], dim=1).clamp(max=1.0)
    centre = (2 * draws[:, 2:4] - 1) * (1 - half)
    mirror = torch.where(draws[:, 4] < look.flip, -1.0, 1.0)
    half = half * torch.stack([mirror, torch.ones_like(mirror)], dim=1)
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = half[:, 0], half[:, 1], centre
    grid = F.affine_grid(theta, [len(images), 3, *size], align_corners=False)
    crops = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return Views(_recoloured(crops, draws[:, 5:], look), centre, half)


def _recoloured(images: Tensor, draws: Tensor, look: Look) -> Tensor:
    both = 2 * draws[:, :, None, None, None] - 1
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    shift = look.brightness * both[:, 1] + look.colour * both[:, 2:5, 0].reshape(-1, 3, 1, 1)
    changed = (images - mean) * (1 + look.contrast * both[:, 0]) + mean + shift
    grey = (draws[:, 5] < look.grey)[:, None, None, None]
    return torch.where(grey, changed.mean(dim=1, keepdim=True), changed).clamp(0, 1)


def shared_points(first: Views, second: Views, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random points of the image that lie in both views, in the coordinates of each: two (B, K, 2), x before y, -1..1.

    Where the two do not meet, the middle between them is taken, and it lies on their borders.
    """
    low = torch.maximum(first.centre - first.half.abs(), second.centre - second.half.abs())
    high = torch.minimum(first.centre + first.half.abs(), second.centre + second.half.abs())
    draws = torch.rand(len(low), count, 2, generator=generator).to(low.device)
    points = low[:, None] + (high - low)[:, None] * draws
    return _inside(first, points), _inside(second, points)


def _inside(view: Views, points: Tensor) -> Tensor:
    return ((points - view.centre[:, None]) / view.half[:, None]).clamp(-1, 1)


def block_mask(count: int, size: Size, cell: int, share: float, generator: torch.Generator) -> Tensor:
    """Boolean (B, h, w): `share` of the cells of `cell` x `cell` pixels of each view, drawn at random, are True."""
    rows, columns = -(-size[0] // cell), -(-size[1] // cell)
    ranks = torch.rand(count, rows * columns, generator=generator).argsort(dim=1).argsort(dim=1)
    hidden = (ranks < max(1, round(share * rows * columns))).reshape(count, 1, rows, columns).float()
    pixels = F.interpolate(hidden, scale_factor=cell, mode="nearest")[:, 0, : size[0], : size[1]]
    return pixels > 0.5
