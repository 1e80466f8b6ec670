"""Where images and masks come from: a folder, or samples made in Python. Both are read lazily, at native size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from unplateau.data.checks import refuse_other_size
from unplateau.data.decode import read_image, read_mask, read_palette, read_size, white_level, whole_ids
from unplateau.data.folder import (
    Colours,
    find_images,
    find_pairs,
    known_splits,
    read_class_names,
    read_colours,
    read_groups,
)
from unplateau.errors import DataError
from unplateau.types import Sample, Size


class AbstractSource(ABC):
    """Pairs of image and mask, known by name and read one at a time. Reading must be safe from several threads."""

    names: tuple[str, ...]
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    """"train", "val", "test" or "" for each image."""
    class_names: Mapping[int, str]
    """What the ids are called, as far as the source says."""

    def __len__(self) -> int:
        return len(self.names)

    def sample(self, index: int) -> Sample:
        """The pair at native size.

        Raises:
            DataError: a file cannot be read, or image and mask differ in size.
        """
        mask = self.mask(index)
        refuse_other_size(self.mask_file(index), (mask.shape[0], mask.shape[1]), self.size(index))
        return Sample(self.names[index], self.image(index), mask, self.groups[index], self.splits[index])

    @abstractmethod
    def size(self, index: int) -> Size:
        """Native height and width of the upright image, without decoding it."""

    @abstractmethod
    def image(self, index: int, coarse: Size | None = None) -> NDArray[np.uint8]:
        """uint8 (H, W, 3), RGB; with `coarse`, possibly smaller than native but not below `coarse`."""

    @abstractmethod
    def mask(self, index: int) -> NDArray[np.uint8]:
        """uint8 (H, W), class ids as stored, at native size."""

    @property
    def white(self) -> int | None:
        """The value that is white in images of 16 bits; None as long as none was read."""
        return None

    def palette(self, index: int) -> Mapping[int, tuple[int, int, int]]:
        """The colour in which each id of a mask is shown, where its file says so and the ids are what counts."""
        return {}

    @abstractmethod
    def mask_file(self, index: int) -> str:
        """What a sentence to the user calls this mask."""


@final
class FolderSource(AbstractSource):
    """The pairs of a folder; its layout is that of `unplateau.data.folder`. `masks` is the subfolder of its masks.

    Raises:
        DataError: the layout breaks a rule.
    """

    def __init__(self, folder: Path, colours: Colours | None = None, masks: str = "masks") -> None:
        self._pairs = find_pairs(folder, masks)
        self._colours = read_colours(folder) if colours is None else colours
        self.names = tuple(pair.stem for pair in self._pairs)
        self.groups, self.splits = read_groups(folder, self.names)
        self.class_names = read_class_names(folder)

    def size(self, index: int) -> Size:
        """See `AbstractSource`; reads the header."""
        return read_size(self._pairs[index].image)

    def image(self, index: int, coarse: Size | None = None) -> NDArray[np.uint8]:
        """See `AbstractSource`."""
        return read_image(self._pairs[index].image, lambda: self._white, coarse)

    def mask(self, index: int) -> NDArray[np.uint8]:
        """See `AbstractSource`."""
        return read_mask(self._pairs[index].mask, self._colours)

    def palette(self, index: int) -> Mapping[int, tuple[int, int, int]]:
        """See `AbstractSource`; reads the header."""
        return read_palette(self._pairs[index].mask) if self._colours is None else {}

    def mask_file(self, index: int) -> str:
        """The path of the mask."""
        return str(self._pairs[index].mask)

    @property
    def white(self) -> int | None:
        """See `AbstractSource`."""
        return vars(self).get("_white")

    @cached_property
    def _white(self) -> int:
        return white_level(pair.image for pair in self._pairs)


@final
class ImageFolder(AbstractSource):
    """The images of a folder whose truth is not one mask for each: labels, boxes, or a mask for each class.

    Raises:
        DataError: the layout breaks a rule.
    """

    def __init__(self, folder: Path) -> None:
        files = find_images(folder)
        self.folder = folder
        self.names = tuple(sorted(files))
        self._files = tuple(files[name] for name in self.names)
        self.groups, self.splits = read_groups(folder, self.names)
        self.class_names = read_class_names(folder)

    def size(self, index: int) -> Size:
        """See `AbstractSource`; reads the header."""
        return read_size(self._files[index])

    def image(self, index: int, coarse: Size | None = None) -> NDArray[np.uint8]:
        """See `AbstractSource`."""
        return read_image(self._files[index], lambda: self._white, coarse)

    def mask(self, index: int) -> NDArray[np.uint8]:
        """There is none.

        Raises:
            DataError: always.
        """
        raise DataError(f"{self._files[index]} must have a mask for this, but has none: ask for another task.")

    def mask_file(self, index: int) -> str:
        """The path of the image."""
        return str(self._files[index])

    @property
    def white(self) -> int | None:
        """See `AbstractSource`."""
        return vars(self).get("_white")

    @cached_property
    def _white(self) -> int:
        return white_level(self._files)


@final
class SampleSource(AbstractSource):
    """Samples made in Python.

    A sequence is kept as it is and asked for one item at a time, so it may read lazily; it is walked through once at
    the start for names and sizes. Any other iterable is held in memory. An item is a `Sample`, or a tuple
    (image, mask), (name, image, mask) or (name, image, mask, group): image uint8 (H, W) or (H, W, 3), mask of whole
    numbers or booleans (H, W).

    Raises:
        DataError: an item is none of these, or two have one name.
    """

    def __init__(self, samples: Iterable[Any], colours: Colours | None = None) -> None:
        if colours is not None:
            raise DataError("`colours` is for the masks of a folder, but samples were given: put ids into them.")
        self._items: Sequence[Any] = samples if isinstance(samples, Sequence) else tuple(samples)
        heads = [_head(to_sample(item, index)) for index, item in enumerate(self._items)]
        self.names = tuple(name for name, _, _, _ in heads)
        self.groups = tuple(group for _, group, _, _ in heads)
        self.splits = known_splits((split for _, _, split, _ in heads), "the samples")
        self._sizes = tuple(size for _, _, _, size in heads)
        self.class_names: Mapping[int, str] = {}
        _refuse_twins(self.names)

    def size(self, index: int) -> Size:
        """See `AbstractSource`."""
        return self._sizes[index]

    def image(self, index: int, coarse: Size | None = None) -> NDArray[np.uint8]:
        """See `AbstractSource`; always native."""
        return to_sample(self._items[index], index).image

    def mask(self, index: int) -> NDArray[np.uint8]:
        """See `AbstractSource`."""
        return to_sample(self._items[index], index).mask

    def mask_file(self, index: int) -> str:
        """The name of the sample."""
        return f"The mask of sample {self.names[index]!r}"


def open_data(data: str | Path | AbstractSource | Iterable[Any], *, colours: Colours | None = None) -> AbstractSource:
    """The source behind `data`: the path of a folder, samples, or a source already open.

    `colours` gives the class id of each RGB colour of the masks and goes before the folder's own table.

    Raises:
        DataError: the folder or the samples break a rule.
    """
    if isinstance(data, AbstractSource):
        return data
    if isinstance(data, str | Path):
        return FolderSource(Path(data), colours)
    return SampleSource(data, colours)


# ---- samples -------------------------------------------------------------------------------------------------


def to_sample(item: Any, index: int) -> Sample:
    """One item of the user's samples, checked.

    Raises:
        DataError: it is neither a `Sample` nor a tuple of two to four, or its arrays have the wrong form.
    """
    where = f"Sample {index}"
    if isinstance(item, Sample):
        image, mask = _image_of(item.image, where), _mask_of(item.mask, where)
        return Sample(item.name, image, mask, item.group, item.split)
    if not isinstance(item, tuple) or not 2 <= len(item) <= 4:
        raise DataError(
            f"{where} must be a Sample or a tuple (image, mask), (name, image, mask) or (name, image, mask, group), "
            f"but is a {type(item).__name__}: pass one of these, or the path of a folder."
        )
    name, image, mask, *group = item if len(item) > 2 else (f"{index:05d}", *item)
    return Sample(str(name), _image_of(image, where), _mask_of(mask, where), str(group[0]) if group else str(name))


def _image_of(image: Any, where: str) -> NDArray[np.uint8]:
    array = np.asarray(image)
    if array.ndim == 2:
        array = np.stack([array] * 3, axis=-1)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3:
        raise DataError(
            f"{where}: the image must be uint8 (height, width, 3) or (height, width) from 0 to 255, but is "
            f"{array.dtype} {array.shape}: convert it."
        )
    return array


def _mask_of(mask: Any, where: str) -> NDArray[np.uint8]:
    array = np.asarray(mask)
    if array.ndim != 2:
        raise DataError(f"{where}: the mask must be (height, width) class ids, but is {array.shape}: give one channel.")
    return array.astype(np.uint8) if array.dtype in (np.uint8, np.bool_) else whole_ids(array, f"{where}: the mask")


def _head(sample: Sample) -> tuple[str, str, str, Size]:
    return sample.name, sample.group, sample.split, (sample.image.shape[0], sample.image.shape[1])


def _refuse_twins(names: tuple[str, ...]) -> None:
    twins = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if twins:
        raise DataError(f"Each sample must have its own name, but {sorted(twins)[0]!r} occurs twice: rename one.")
