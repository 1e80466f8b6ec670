"""Images without masks, for pretraining: read once, at one working size, bounded in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unplateau.data.decode import read_image, read_size, white_level
from unplateau.data.folder import list_images
from unplateau.data.grid import fit_image, place, working_grid
from unplateau.errors import DataError
from unplateau.types import Size

FEWEST = 8
"""Fewer images than this cannot be told apart from each other in any useful way."""

MOST_BYTES = 2 << 30
"""Of images in memory; a larger folder is sampled."""

_FINER = 2
"""A JPEG is decoded at no less than this many pixels a grid pixel and side, so that the resize does the smoothing."""


@dataclass(frozen=True)
class Unlabelled:
    """Images at their working size: uint8 (N, 3, H, W), RGB 0..255. `found` counts those of the folder."""

    images: Tensor
    names: tuple[str, ...]
    found: int

    def __len__(self) -> int:
        return len(self.names)

    @property
    def size(self) -> Size:
        """Height and width of the working grid in pixels."""
        return int(self.images.shape[-2]), int(self.images.shape[-1])


def read_unlabelled(folder: Path, *, size: int = 128, seed: int = 0, most_bytes: int = MOST_BYTES) -> Unlabelled:
    """The images of a folder, or of its subfolder images/ where it has one.

    `size` is the long side of the working grid in pixels, see `working_grid`. Where the images of that size would
    need more than `most_bytes`, as many as fit are drawn by `seed`. An image of quite another aspect repeats its edge.

    Raises:
        DataError: no such folder, fewer than 8 images, or one that cannot be read.
    """
    files = list_images(folder / "images" if (folder / "images").is_dir() else folder)
    if len(files) < FEWEST:
        raise DataError(
            f"`images` must hold at least {FEWEST} images to learn from; {folder} holds {len(files)}. Add some."
        )
    grid = working_grid(_in_parallel_sizes(files[:: max(1, len(files) // 1000)]), size)
    kept = _drawn(files, max(FEWEST, most_bytes // (3 * grid[0] * grid[1])), seed)
    images = np.zeros((len(kept), 3, *grid), dtype=np.uint8)
    white = cache(lambda: white_level(kept))

    def work(row: int) -> None:
        box = place(read_size(kept[row]), grid)
        coarse = (_FINER * box.height, _FINER * box.width)
        fitted = fit_image(read_image(kept[row], white, coarse), box)
        below, right = grid[0] - box.height - box.top, grid[1] - box.width - box.left
        images[row] = np.pad(fitted, ((0, 0), (box.top, below), (box.left, right)), mode="edge")

    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        list(pool.map(work, range(len(kept))))
    return Unlabelled(torch.from_numpy(images), tuple(file.name for file in kept), len(files))


def _in_parallel_sizes(files: Sequence[Path]) -> list[Size]:
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        return list(pool.map(read_size, files))


def _drawn(files: list[Path], most: int, seed: int) -> list[Path]:
    if len(files) <= most:
        return files
    chosen = np.random.default_rng(seed).choice(len(files), most, replace=False)
    return [files[index] for index in np.sort(chosen)]
