"""Batches from pictures in memory. Batch k depends on the seed and k alone, so a resumed run sees the same ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from unplateau.types import Pictures

Batch = tuple[Tensor, Tensor, int]
"""Images uint8 (B, 3, H, W), masks uint8 (B, H, W), and the number of the step."""


@final
class BatchStream(IterableDataset[Batch]):
    """Random batches, for the steps `first` .. `steps` - 1: each pass over the indices in a new random order."""

    def __init__(self, pictures: Pictures, indices: tuple[int, ...], batch: int, steps: int, seed: int) -> None:
        super().__init__()
        self.pictures = pictures
        self.indices = torch.tensor(indices)
        self.batch = batch
        self.steps = steps
        self.seed = seed
        self.first = 0

    def __iter__(self) -> Iterator[Batch]:
        for step in range(self.first, self.steps):
            picked = self.indices[self._positions(step)]
            yield self.pictures.images[picked], self.pictures.masks[picked], step

    def _positions(self, step: int) -> Tensor:
        """Positions (B,) of step's images in an endless row of shuffled passes."""
        size = len(self.indices)
        wanted = torch.arange(step * self.batch, (step + 1) * self.batch)
        passes = {int(number): _shuffled(size, self.seed, int(number)) for number in (wanted // size).unique()}
        return torch.stack([passes[int(place // size)][place % size] for place in wanted])


def batches(stream: BatchStream) -> DataLoader[Batch]:
    """The stream as a loader: the pictures are in memory, so worker processes would only copy them."""
    return DataLoader(stream, batch_size=None, num_workers=0)


def in_order(pictures: Pictures, indices: tuple[int, ...], batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The pictures of `indices` in that order, `batch` at a time."""
    for start in range(0, len(indices), batch):
        picked = list(indices[start : start + batch])
        yield pictures.images[picked], pictures.masks[picked]


def step_generator(seed: int, step: int) -> torch.Generator:
    """The generator of all random numbers of one step."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def _shuffled(size: int, seed: int, number: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed * 7_368_787 + number))
