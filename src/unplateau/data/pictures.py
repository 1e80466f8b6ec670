"""From a source to `Pictures`: every pair read once, checked, and brought to one working grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from unplateau.data.checks import (
    Scan,
    encoding_warnings,
    palette_warning,
    refuse_damaged,
    refuse_other_size,
    refuse_too_few,
    scan_mask,
)
from unplateau.data.grid import Box, fit_image, fit_mask, native_size, place, working_grid
from unplateau.data.parallel import in_parallel
from unplateau.data.sources import AbstractSource
from unplateau.data.splits import leaking_groups
from unplateau.data.tasks import find_task, task_mask, task_table
from unplateau.data.truths import AbstractTruth
from unplateau.errors import DataError
from unplateau.types import IGNORE, NativeMask, Pictures, Size, Task

_FINER = 2
"""A JPEG is decoded at no less than this many pixels a grid pixel and side, so that the resize does the smoothing."""


@dataclass(frozen=True)
class _Read:
    """All kept pairs on the grid: images uint8 (N, 3, H, W), masks uint8 (N, H, W) with the source's ids."""

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    padded: int
    scans: tuple[Scan, ...]


def read_pictures(
    source: AbstractSource,
    *,
    positive: Sequence[int] | None = None,
    size: int = 128,
    limit: int | None = None,
    seed: int = 0,
) -> Pictures:
    """The data set of `source` at its working size, in memory.

    `positive`: the ids that make up the positive class, see `find_task`. `size`: long side of the working grid in
    pixels. `limit`: at most this many images, drawn by `seed` in proportion from every group of every split.

    Images shrink by area, masks by the id at each cell's centre; what is padded is 255 in the mask. Native images
    are held only while they are read. What is odd but not wrong is said in `Pictures.warnings`.

    Raises:
        DataError: fewer than 8 images, a file that cannot be read, image and mask of different size, damaged masks,
            a positive class that is nowhere, or one that the grid is too coarse for.
    """
    refuse_too_few(len(source), "The number of images")
    kept = choose(source, limit, seed)
    natives = in_parallel(source.size, kept)
    grid = working_grid(natives, size)
    read = _read(source, kept, natives, grid)
    files = tuple(source.mask_file(index) for index in kept)
    refuse_damaged(read.scans, files)
    task = find_task(_ids(source, kept, read.scans, positive), positive, source.class_names)
    masks = task_table(task)[read.masks]
    _refuse_vanished(masks, task, read.scans, size)
    odd = encoding_warnings(read.scans, files, source.class_names, task.positive)
    odd += palette_warning(read.scans, in_parallel(source.palette, kept), files)
    pictures = Pictures(
        task=task,
        images=torch.from_numpy(read.images),
        masks=torch.from_numpy(masks),
        names=tuple(source.names[index] for index in kept),
        groups=tuple(source.groups[index] for index in kept),
        splits=tuple(source.splits[index] for index in kept),
        native=native_size(natives),
        warnings=odd + _padding_warning(read),
        native_mask=_native_mask(source, lambda index: task_mask(source.mask(index), task)),
        white=source.white,
    )
    return _with_leaks(pictures)


def read_again(source: AbstractSource, pictures: Pictures, *, size: int) -> Pictures:
    """The same images and masks, in the same order, on a grid whose long side is `size` pixels.

    Raises:
        DataError: a file that can no longer be read.
    """
    kept = [source.names.index(name) for name in pictures.names]
    natives = in_parallel(source.size, kept)
    read = _read(source, kept, natives, working_grid(natives, size))
    masks = torch.from_numpy(task_table(pictures.task)[read.masks])
    return replace(pictures, images=torch.from_numpy(read.images), masks=masks)


def read_targets(source: AbstractSource, truth: AbstractTruth, *, size: int = 128) -> Pictures:
    """The images of `source` at their working size, with what is true of each: a task of another kind than a mask.

    Raises:
        DataError: fewer than 8 images, a file that cannot be read, or nothing to be found at this size.
    """
    refuse_too_few(len(source), "The number of images")
    everything = range(len(source))
    natives = in_parallel(source.size, everything)
    grid = working_grid(natives, size)
    images = np.zeros((len(source), 3, *grid), dtype=np.uint8)

    def work(row: int) -> NDArray[np.generic]:
        box = place(natives[row], grid)
        inside = (slice(box.top, box.top + box.height), slice(box.left, box.left + box.width))
        images[(row, slice(None), *inside)] = fit_image(
            source.image(row, coarse=(_FINER * box.height, _FINER * box.width)), box
        )
        return truth.on_grid(row, natives[row], box, grid)

    masks, targets, warnings = truth.packed(in_parallel(work, everything))
    pictures = Pictures(
        task=truth.task,
        images=torch.from_numpy(images),
        masks=torch.from_numpy(masks),
        names=source.names,
        groups=source.groups,
        splits=source.splits,
        native=native_size(natives),
        warnings=(*truth.warnings, *warnings),
        targets=None if targets is None else torch.from_numpy(targets),
        native_mask=None if targets is not None else _native_mask(source, lambda index: _whole(source, truth, index)),
        white=source.white,
    )
    return _with_leaks(pictures)


def choose(source: AbstractSource, limit: int | None, seed: int) -> tuple[int, ...]:
    """Indices of at most `limit` images, ascending: one of every group of every split first, then in proportion.

    Raises:
        DataError: `limit` is below 8.
    """
    if limit is None or limit >= len(source):
        return tuple(range(len(source)))
    refuse_too_few(limit, "`limit`")
    generator = np.random.default_rng(seed)
    strata: dict[tuple[str, str], list[int]] = {}
    for index, key in enumerate(zip(source.splits, source.groups, strict=True)):
        strata.setdefault(key, []).append(index)
    ranked = [entry for members in strata.values() for entry in _ranked(members, generator)]
    return tuple(sorted(index for _, _, index in sorted(ranked)[:limit]))


def _ranked(members: list[int], generator: np.random.Generator) -> list[tuple[bool, float, int]]:
    """Members in random order, the r-th of n at (r + u) / n: cutting such lists at one place takes equal shares."""
    start = generator.random()
    order = generator.permutation(members).tolist()
    return [(rank > 0, (rank + start) / len(members), index) for rank, index in enumerate(order)]


# ---- reading -------------------------------------------------------------------------------------------------


def _native_mask(source: AbstractSource, read: Callable[[int], NDArray[np.uint8]]) -> NativeMask:
    """How the mask of an image is read, by the name of the image."""
    at = {name: index for index, name in enumerate(source.names)}
    return lambda name: read(at[name])


def _whole(source: AbstractSource, truth: AbstractTruth, index: int) -> NDArray[np.uint8]:
    """What is true of each pixel of an image, (C, H, W): as on a grid that is the image itself."""
    native = source.size(index)
    return np.asarray(truth.on_grid(index, native, Box(0, 0, *native), native), np.uint8)


def _read(source: AbstractSource, kept: Sequence[int], natives: Sequence[Size], grid: Size) -> _Read:
    images = np.zeros((len(kept), 3, *grid), dtype=np.uint8)
    masks = np.full((len(kept), *grid), IGNORE, dtype=np.uint8)
    boxes = [place(native, grid) for native in natives]

    def work(row: int) -> Scan:
        box = boxes[row]
        inside = (slice(box.top, box.top + box.height), slice(box.left, box.left + box.width))
        image, mask, scan = _fitted(source, kept[row], natives[row], box)
        images[(row, slice(None), *inside)] = image
        masks[(row, *inside)] = mask
        return scan

    scans = tuple(in_parallel(work, range(len(kept))))
    return _Read(images, masks, sum((box.height, box.width) != grid for box in boxes), scans)


def _fitted(
    source: AbstractSource, index: int, native: Size, box: Box
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Scan]:
    mask = source.mask(index)
    refuse_other_size(source.mask_file(index), (mask.shape[0], mask.shape[1]), native)
    image = source.image(index, coarse=(_FINER * box.height, _FINER * box.width))
    return fit_image(image, box), fit_mask(mask, box), scan_mask(mask)


# ---- ids and warnings ----------------------------------------------------------------------------------------


def _ids(
    source: AbstractSource, kept: Sequence[int], scans: Sequence[Scan], positive: Sequence[int] | None
) -> set[int]:
    """The ids in the masks; those that `limit` left out are asked only when their answer would change the task.

    0 and 255 alone mean white on black, but only if they are alone in the whole data set; and a positive id that
    the kept masks lack may be in the others, which is another mistake than a wrong id.
    """
    found = {each for scan in scans for each in scan.ids}
    if len(kept) == len(source) or not (found <= {0, IGNORE} or set(positive or ()) - found):
        return found
    others = sorted(set(range(len(source))) - set(kept))
    return found.union(*in_parallel(lambda index: np.unique(source.mask(index)).tolist(), others))


def _refuse_vanished(masks: NDArray[np.uint8], task: Task, scans: Sequence[Scan], size: int) -> None:
    if not task.binary or (masks == 1).any():
        return
    listed = ", ".join(map(str, task.positive))
    if any(set(task.positive) & set(scan.ids) for scan in scans):
        raise DataError(
            f"The positive class ({listed}) must be seen on the working grid, but is too small for `size`={size}: "
            "raise `size`."
        )
    raise DataError(f"The positive class ({listed}) is only in masks that `limit` left out: raise `limit`.")


def _padding_warning(read: _Read) -> tuple[str, ...]:
    if not read.padded:
        return ()
    height, width = read.masks.shape[1:]
    return (
        f"{read.padded} of {len(read.masks)} images have quite another aspect than the {height} x {width} working "
        "grid and were padded; the padding is not counted.",
    )


def _with_leaks(pictures: Pictures) -> Pictures:
    leaks = leaking_groups(pictures)
    if not leaks:
        return pictures
    said = ", ".join(f"{leak.group} ({' and '.join(leak.splits)})" for leak in leaks[:5])
    sentence = f"{len(leaks)} groups appear in more than one split, so its scores flatter: {said}."
    return replace(pictures, warnings=(*pictures.warnings, sentence))
