"""Augmentation of a batch on its own device: one resampling, one colour change, all numbers from one generator.

Axes: B images, C channels, H W pixels that come in, h w pixels that go out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from unplateau.errors import DataError
from unplateau.types import IGNORE, Size


@dataclass(frozen=True)
class Augmentation:
    """How far an image may be changed.

    `scale`: share of each side that is seen, lowest and highest; below 1 magnifies, above 1 shows a margin.
    `aspect`: greatest log of the factor between the sides. `flip`: probability of a mirrored image. `contrast`:
    greatest change of the factor on the distance from the image's mean. `brightness`, `colour`: greatest shift of all
    channels together and of each, where white is 1.
    """

    scale: tuple[float, float] = (0.6, 1.15)
    aspect: float = 0.15
    flip: float = 0.5
    contrast: float = 0.3
    brightness: float = 0.05
    colour: float = 0.025


KEPT = 0.3
"""Share of its area that a box must keep at the border to be one still."""

STANDARD = Augmentation()
"""What served well on photographs, streets and planted scenes alike."""

NONE = Augmentation(scale=(1.0, 1.0), aspect=0.0, flip=0.0, contrast=0.0, brightness=0.0, colour=0.0)
"""No change at all, to the bit."""


def augment(
    images: Tensor,
    masks: Tensor,
    augmentation: Augmentation,
    generator: torch.Generator,
    crop: Size | None = None,
) -> tuple[Tensor, Tensor]:
    """Images float (B, 3, H, W), 0..1, and masks uint8 (B, H, W), changed alike; (B, 3, h, w) and (B, h, w).

    Masks of classes that may overlap are (B, C, H, W), and (B, C, h, w) afterwards.

    `crop` gives windows of that height and width at random places, at the resolution of the whole. Beyond the border
    the image repeats its edge and the mask is 255. The generator is on the CPU and always gives the same count of
    numbers, so a seed means the same images on every device.

    Raises:
        DataError: `crop` is larger than the images.
    """
    height, width = images.shape[-2:]
    size = crop or (height, width)
    if size[0] > height or size[1] > width:
        raise DataError(f"`crop` must fit into the images, {height} x {width}, but is {size[0]} x {size[1]}.")
    draws = torch.rand(len(images), 10, generator=generator).to(images.device)
    if augmentation == NONE:
        return _windows(images, masks, draws, size)
    grid = _grid(_theta(draws, augmentation, size, (height, width)), size)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    # Zeros lie beyond the border, so 255 is made zero for the way.
    shifted = (masks if masks.ndim == 4 else masks[:, None]).float() - IGNORE
    shifted = F.grid_sample(shifted, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    moved = (shifted + IGNORE).round().to(torch.uint8)
    return _recolour(images, draws, augmentation), moved if masks.ndim == 4 else moved[:, 0]


def augment_boxes(
    images: Tensor, boxes_BM5: Tensor, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Images as in `augment`, and boxes (class, then left, top, right and bottom in pixels) moved with them.

    A box is cut at the border; one that loses most of itself there becomes class -1, which is none.
    """
    height, width = images.shape[-2:]
    draws = torch.rand(len(images), 10, generator=generator).to(images.device)
    if augmentation == NONE:
        return images, boxes_BM5
    theta = _theta(draws, augmentation, (height, width), (height, width))
    grid = _grid(theta, (height, width))
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return _recolour(images, draws, augmentation), _moved(boxes_BM5, theta, (height, width))


def _moved(boxes_BM5: Tensor, theta: Tensor, size: Size) -> Tensor:
    """The boxes where a window `theta` onto the image shows them, (B, M, 5)."""
    sides = boxes_BM5.new_tensor([size[1], size[0]])
    looks, middle = torch.stack([theta[:, 0, 0], theta[:, 1, 1]], 1)[:, None, None], theta[:, None, None, :, 2]
    corners = boxes_BM5[..., 1:].unflatten(-1, (2, 2))
    # The window looks at `looks` * place + `middle`, both in -1..1, so a thing is seen where that equals its place.
    seen = ((2 * corners / sides - 1 - middle) / looks + 1) / 2 * sides
    first, last = seen.amin(-2), seen.amax(-2)
    zero = torch.zeros_like(sides)
    cut_first, cut_last = (torch.minimum(torch.maximum(each, zero), sides) for each in (first, last))
    kept = (cut_last - cut_first).prod(-1) / (last - first).prod(-1).clamp(min=1e-6)
    lost = (kept < KEPT) | ((cut_last - cut_first).amin(-1) < 1)
    classes = boxes_BM5[..., :1].masked_fill(lost[..., None], -1)
    return torch.cat([classes, cut_first, cut_last], dim=-1)


def _theta(draws_BR: Tensor, augmentation: Augmentation, size: Size, whole: Size) -> Tensor:
    """Where the output looks, as a matrix (B, 2, 3), in units in which the image spans -1..1."""
    low, high = augmentation.scale
    scale = low + (high - low) * draws_BR[:, 0]
    stretch = torch.exp(augmentation.aspect * _both_ways(draws_BR[:, 1]) / 2)
    flip = 1 - 2 * (draws_BR[:, 2] < augmentation.flip).float()
    seen_x, seen_y = scale * stretch * size[1] / whole[1], scale / stretch * size[0] / whole[0]
    theta = torch.zeros(len(draws_BR), 2, 3, device=draws_BR.device)
    theta[:, 0, 0], theta[:, 1, 1] = seen_x * flip, seen_y
    # The window stays inside the image, or, if it is larger, the image inside the window.
    theta[:, 0, 2] = _both_ways(draws_BR[:, 3]) * (1 - seen_x).abs()
    theta[:, 1, 2] = _both_ways(draws_BR[:, 4]) * (1 - seen_y).abs()
    return theta


def _grid(theta: Tensor, size: Size) -> Tensor:
    """Where each output pixel looks, (B, h, w, 2), in units in which the image spans -1..1."""
    return F.affine_grid(theta, [len(theta), 1, *size], align_corners=False)


def _recolour(images: Tensor, draws_BR: Tensor, augmentation: Augmentation) -> Tensor:
    contrast = 1 + augmentation.contrast * _both_ways(draws_BR[:, 5, None, None, None])
    brightness = augmentation.brightness * _both_ways(draws_BR[:, 6, None, None, None])
    colour = augmentation.colour * _both_ways(draws_BR[:, 7:10, None, None])
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return ((images - mean) * contrast + mean + brightness + colour).clamp(0, 1)


def _both_ways(draws: Tensor) -> Tensor:
    """From 0..1 to -1..1."""
    return 2 * draws - 1


def _windows(images: Tensor, masks: Tensor, draws_BR: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Windows cut out at whole pixels: nothing is resampled."""
    if size == tuple(images.shape[-2:]):
        return images, masks
    top, left = (
        (draws_BR[:, column] * (whole - part + 1)).long().clamp(max=whole - part)
        for column, whole, part in zip((4, 3), images.shape[-2:], size, strict=True)
    )
    rows_Bh1 = (top[:, None] + torch.arange(size[0], device=images.device))[:, :, None]
    columns_B1w = (left[:, None] + torch.arange(size[1], device=images.device))[:, None, :]
    batch_B11 = torch.arange(len(images), device=images.device)[:, None, None]
    cut_BhwC = images.permute(0, 2, 3, 1)[batch_B11, rows_Bh1, columns_B1w]
    if masks.ndim == 4:
        cut_masks = masks.permute(0, 2, 3, 1)[batch_B11, rows_Bh1, columns_B1w].permute(0, 3, 1, 2)
    else:
        cut_masks = masks[batch_B11, rows_Bh1, columns_B1w]
    return cut_BhwC.permute(0, 3, 1, 2), cut_masks
