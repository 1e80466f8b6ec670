"""Batches from pictures in memory. Batch k depends on the seed and k alone, so a resumed run sees the same ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from unplateau.data.balance import class_holders
from unplateau.data.transforms import Augmentation, augment
from unplateau.errors import DataError
from unplateau.types import IGNORE, Pictures, Size

Batch = tuple[Tensor, Tensor, int, Tensor]
"""Images uint8 (B, 3, H, W), masks uint8 (B, H, W) or what else is true of them, the number of the batch, and uint8
(B,) the class that each was drawn to hold; 255 where it was not drawn for any."""


@final
class BatchStream(IterableDataset[Batch]):
    """Random batches, `first` .. `steps` - 1: each pass over the indices in a new random order.

    At a `positive_rate` above 0, that share of the images of a batch is drawn anew instead: a class, as often one as
    any other, then an image that holds it.

    Raises:
        DataError: there is a `positive_rate`, and no positive pixel.
    """

    def __init__(
        self,
        pictures: Pictures,
        indices: tuple[int, ...],
        batch: int,
        steps: int,
        seed: int,
        positive_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.pictures = pictures
        self.indices = torch.tensor(indices)
        self.batch = batch
        self.steps = steps
        self.seed = seed
        self.first = 0
        self.positive_rate = positive_rate
        self.holders = class_holders(pictures, indices) if positive_rate else {}
        if positive_rate and not self.holders:
            raise DataError(
                "`positive_rate` needs a positive pixel, but the images to train on hold none: leave it out."
            )

    def __iter__(self) -> Iterator[Batch]:
        for step in range(self.first, self.steps):
            picked, wanted = self._picked(step)
            yield self.pictures.images[picked], self.pictures.truth[picked], step, wanted

    def names(self, step: int) -> tuple[str, ...]:
        """The names of the images of one batch."""
        return tuple(self.pictures.names[index] for index in self._picked(step)[0].tolist())

    def _picked(self, step: int) -> tuple[Tensor, Tensor]:
        """Which pictures (B,) a batch shows, and for which class each was drawn."""
        positions, wanted = self._positions(step), torch.full((self.batch,), IGNORE, dtype=torch.uint8)
        if count := self._positives(step):
            positions[-count:], wanted[-count:] = self._drawn(step, count)
        return self.indices[positions], wanted

    def _positives(self, step: int) -> int:
        """How many of step's images are drawn for a class, so that the share over all steps is the rate."""
        done, due = (math.floor(each * self.positive_rate * self.batch) for each in (step, step + 1))
        return due - done

    def _drawn(self, step: int, count: int) -> tuple[Tensor, Tensor]:
        """Positions of `count` images (count,), and the class for which each was drawn."""
        # Far from the seeds of the augmentation: a class must not go with a scale.
        generator = torch.Generator().manual_seed(2**40 + self.seed * 15_485_863 + step)
        first, second = torch.rand(2, count, generator=generator).tolist()
        classes = [list(self.holders)[int(share * len(self.holders))] for share in first]
        places = [
            self.holders[index][int(share * len(self.holders[index]))]
            for index, share in zip(classes, second, strict=True)
        ]
        return torch.tensor(places), torch.tensor(classes, dtype=torch.uint8)

    def _positions(self, step: int) -> Tensor:
        return positions(len(self.indices), self.batch, step, self.seed)


def positions(size: int, batch: int, step: int, seed: int) -> Tensor:
    """Positions (B,) of a step's images in an endless row of shuffled passes over `size` images."""
    wanted = torch.arange(step * batch, (step + 1) * batch)
    passes = {int(number): _shuffled(size, seed, int(number)) for number in (wanted // size).unique()}
    return torch.stack([passes[int(place // size)][place % size] for place in wanted])


def batches(stream: BatchStream) -> DataLoader[Batch]:
    """The stream as a loader: the pictures are in memory, so worker processes would only copy them."""
    return DataLoader(stream, batch_size=None, num_workers=0)


def in_order(pictures: Pictures, indices: tuple[int, ...], batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The pictures of `indices` in that order with what is true of them, `batch` at a time."""
    for start in range(0, len(indices), batch):
        picked = list(indices[start : start + batch])
        yield pictures.images[picked], pictures.truth[picked]


def crops(
    images: Tensor,
    masks: Tensor,
    wanted: Tensor,
    augmentation: Augmentation,
    generator: torch.Generator,
    crop: Size,
) -> tuple[Tensor, Tensor]:
    """Augmented windows of the size `crop`: where a class is wanted and there, around a random pixel of it.

    Images float (B, 3, H, W), masks uint8 (B, H, W), wanted uint8 (B,). Others lie anywhere. A window that lost its
    class to the augmentation is taken without.
    """
    cut, cut_masks = augment(images, masks, augmentation, generator, crop)
    held = (masks == wanted[:, None, None]) & (wanted != IGNORE)[:, None, None]
    chosen = held.flatten(1).any(1)
    if not chosen.any():
        return cut, cut_masks
    centres = _random_pixels(held[chosen], generator)
    # As much around the window as the augmentation may look at, so that it sees the image there and no made-up edge.
    wide = _wide(crop, augmentation, (masks.shape[-2], masks.shape[-1]))
    moved, moved_masks = augment(*_around(images[chosen], masks[chosen], centres, wide), augmentation, generator, crop)
    still, still_masks = _around(images[chosen], masks[chosen], centres, crop)
    kept = (moved_masks == wanted[chosen, None, None]).flatten(1).any(1)
    cut[chosen] = torch.where(kept[:, None, None, None], moved, still)
    cut_masks[chosen] = torch.where(kept[:, None, None], moved_masks, still_masks)
    return cut, cut_masks


def _random_pixels(held: Tensor, generator: torch.Generator) -> list[tuple[int, int]]:
    """Row and column of one pixel of each map (B, H, W) that holds at least one, all as likely."""
    ranks = held.flatten(1).cumsum(1)
    drawn = (torch.rand(len(held), 1, generator=generator).to(held.device) * ranks[:, -1:]).long()
    return [divmod(place, held.shape[-1]) for place in (ranks > drawn).int().argmax(1).tolist()]


def _wide(crop: Size, augmentation: Augmentation, whole: Size) -> Size:
    reach = max(1.0, augmentation.scale[1] * math.exp(augmentation.aspect / 2))
    return min(whole[0], math.ceil(crop[0] * reach)), min(whole[1], math.ceil(crop[1] * reach))


def _around(images: Tensor, masks: Tensor, centres: list[tuple[int, int]], size: Size) -> tuple[Tensor, Tensor]:
    """Windows of that size with these pixels in their middle, or as near to it as the border lets them."""
    corners = [
        tuple(
            min(max(0, middle - side // 2), whole - side)
            for middle, side, whole in zip(centre, size, masks.shape[-2:], strict=True)
        )
        for centre in centres
    ]
    cut = [(..., slice(top, top + size[0]), slice(left, left + size[1])) for top, left in corners]
    return (
        torch.stack([image[window] for image, window in zip(images, cut, strict=True)]),
        torch.stack([mask[window] for mask, window in zip(masks, cut, strict=True)]),
    )


def step_generator(seed: int, step: int) -> torch.Generator:
    """The generator of all random numbers of one step."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def _shuffled(size: int, seed: int, number: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed * 7_368_787 + number))
