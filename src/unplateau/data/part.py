"""Some of the pairs of a source, as a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from unplateau.data.sources import AbstractSource
from unplateau.types import Size


@final
class PartSource(AbstractSource):
    """The pairs of `whole` at `indices`, in that order; nothing is read before it is asked for."""

    def __init__(self, whole: AbstractSource, indices: Sequence[int]) -> None:
        self._whole = whole
        self._indices = tuple(indices)
        self.names = tuple(whole.names[index] for index in self._indices)
        self.groups = tuple(whole.groups[index] for index in self._indices)
        self.splits = tuple(whole.splits[index] for index in self._indices)
        self.class_names = whole.class_names

    def size(self, index: int) -> Size:
        """See `AbstractSource`."""
        return self._whole.size(self._indices[index])

    def image(self, index: int, coarse: Size | None = None) -> NDArray[np.uint8]:
        """See `AbstractSource`."""
        return self._whole.image(self._indices[index], coarse)

    def mask(self, index: int) -> NDArray[np.uint8]:
        """See `AbstractSource`."""
        return self._whole.mask(self._indices[index])

    @property
    def white(self) -> int | None:
        """See `AbstractSource`."""
        return self._whole.white

    def palette(self, index: int) -> Mapping[int, tuple[int, int, int]]:
        """See `AbstractSource`."""
        return self._whole.palette(self._indices[index])

    def mask_file(self, index: int) -> str:
        """See `AbstractSource`."""
        return self._whole.mask_file(self._indices[index])
