"""Boundary IoU (arXiv 2103.16562): IoU of the parts of two masks that lie close to their own contours."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter

from unplateau.measures.thresholds import Counts, counts_of
from unplateau.types import Size

WIDTH = 0.02
"""Width of the band as a share of the image's diagonal, the paper's choice."""


def boundary_counts(chosen: NDArray[np.bool_], true: NDArray[np.bool_], counted: NDArray[np.bool_]) -> Counts:
    """Counts (N, C, 3) of the boundary bands of masks (N, C, H, W), over pixels with `counted` (N, H, W)."""
    width = band_width((chosen.shape[-2], chosen.shape[-1]))
    bands = [(_band(mask, width) & counted[:, None]) for mask in (chosen, true)]
    hit = (bands[0] & bands[1]).sum((-2, -1))
    return counts_of(hit, bands[0].sum((-2, -1)), bands[1].sum((-2, -1)))


def band_width(size: Size) -> int:
    """Width of the band in pixels, at least 1."""
    return max(1, round(WIDTH * math.hypot(*size)))


def _band(masks: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    # Outside the image counts as background: a mask cut by the border has a contour there, as in the paper's code.
    window = (1, 1, 2 * width + 1, 2 * width + 1)
    eroded = minimum_filter(masks.astype(np.uint8), size=window, mode="constant", cval=0)
    return masks & (eroded == 0)
