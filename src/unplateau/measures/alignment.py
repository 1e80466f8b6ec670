"""Where masks lie against their images, from the two alone: the edges of a mask belong on edges of its image.

Axes: N images, C channels, H W pixels, O offsets from -reach to reach along rows and along columns. An offset is that
of the mask against its image: positive rows mean that the mask lies too low, positive columns too far to the right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter1d
from scipy.stats import beta

from unplateau.errors import DataError
from unplateau.measures.intervals import COVERAGE
from unplateau.types import Interval

Planes = NDArray[np.float32]
"""(C, H, W)."""

Spectra = NDArray[np.complex64]
"""(C, H, W // 2 + 1): the half of the two-dimensional spectra that real planes have."""

ByOffset = NDArray[np.float64]
"""(N, O, O): agreement of mask and image at each offset, in standard deviations over all offsets of that image."""

TURNS: dict[str, Callable[[Planes], Planes]] = {
    "mirrored left to right": lambda planes: planes[..., :, ::-1],
    "mirrored upside down": lambda planes: planes[..., ::-1, :],
    "turned by 180 degrees": lambda planes: planes[..., ::-1, ::-1],
    "transposed": lambda planes: planes.swapaxes(-1, -2),
    "turned clockwise": lambda planes: np.rot90(planes, 1, (-2, -1)),
    "turned anticlockwise": lambda planes: np.rot90(planes, 3, (-2, -1)),
    "transposed along the other diagonal": lambda planes: planes[..., ::-1, ::-1].swapaxes(-1, -2),
}
"""What may have been done to a mask, by the turn that undoes it. All but the first three need a square."""

FLAT_TURNS = tuple(TURNS)[:3]
"""Turns that keep the shape of any image."""

SHORTEST = 16
"""Pixels of outline below which an image tells nothing: chance edges agree with so short a line anywhere."""

_SMOOTHING = 1.0
"""Standard deviation in pixels of the derivative: the finest at which a pixel's own noise does not decide."""


# ---- one image -----------------------------------------------------------------------------------------------


def image_edges(image_HWC: NDArray[np.uint8]) -> Spectra:
    """Spectra, of 3 planes, of where an image has edges and which way they run.

    The structure tensor of grey and two colour differences, as strength, horizontal against vertical, and diagonal,
    divided by the strength plus its mean over the image: a strong edge counts hardly more than a fair one. A tensor
    has no sign, so dark on bright agrees like bright on dark, and nothing favours one side of a line: a feature with
    a side would move the best offset by itself.

    The idea is that of normalised gradient fields (Haber and Modersitzki, MICCAI 2006).
    """
    red, green, blue = (image_HWC.astype(np.float32) / 255).transpose(2, 0, 1)
    grey = (red + green + blue) / 3
    tensor: Planes = np.sum([_tensor(*_gradient(plane)) for plane in (grey, red - green, blue - green)], axis=0)
    tensor /= tensor[0] + tensor[0].mean() + 1e-9
    tensor -= tensor.mean((1, 2), keepdims=True)
    spectra: Spectra = fft.rfft2(tensor)
    return spectra


def mask_edges(digits: Planes, reach: int) -> Planes:
    """The outlines of a mask and which way they run, as in `image_edges`, (3, H, W).

    `digits`: see `binary_digits`. Outlines within `reach` of the border are left out, so that every offset is judged
    by the same ones and none looks outside the image.
    """
    outlines = np.zeros((3, *digits.shape[1:]), np.float32)
    inside = (slice(None), slice(reach, -reach or None), slice(reach, -reach or None))
    for plane in digits:
        tensor = _tensor(*_gradient(plane))
        outlines += tensor / (np.sqrt(tensor[0]) + 1e-6)
    kept = np.zeros_like(outlines)
    kept[inside] = outlines[inside]
    return kept


def binary_digits(mask: NDArray[np.uint8]) -> Planes:
    """A mask of ids (H, W) as planes of 0 and 1, (C, H, W): the place of each id among them, digit by digit.

    Any two ids differ in a digit, so all outlines are in few planes: one for two ids, four for eleven. 255 is an id
    like any other: where it surrounds objects as a band it hides their outline, and its own two stand for it.
    """
    _, place = np.unique(mask, return_inverse=True)
    place = place.reshape(mask.shape)
    count = max(1, int(place.max(initial=0)).bit_length())
    return np.stack([(place >> digit) & 1 for digit in range(count)]).astype(np.float32)


def agreement(spectra: Spectra, outlines: Planes, reach: int) -> NDArray[np.float64] | None:
    """Agreement (O, O) of outlines with the edges of an image, or None where there is nothing to compare.

    For the outlines moved back by each offset: their mean product with the edges of the image. It is given in
    standard deviations over all offsets, from the median one.
    """
    if outlines[0].sum() < SHORTEST:
        return None
    product = (spectra * np.conj(fft.rfft2(outlines))).sum(0)
    places = -np.arange(-reach, reach + 1)
    scores = fft.irfft2(product, outlines.shape[1:])[places[:, None], places[None, :]].astype(np.float64)
    spread = scores.std()
    return (scores - np.median(scores)) / spread if spread > 1e-9 * outlines[0].sum() else None


def _gradient(plane: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    # A derivative of a Gaussian in both directions is even in strength: it does not shift edges.
    smooth = [gaussian_filter1d(plane, _SMOOTHING, axis=axis, truncate=3) for axis in (1, 0)]
    rows, columns = (
        gaussian_filter1d(each, _SMOOTHING, axis=axis, order=1, truncate=3) for axis, each in enumerate(smooth)
    )
    return rows, columns


def _tensor(rows: NDArray[np.float32], columns: NDArray[np.float32]) -> Planes:
    along, across = columns * columns, rows * rows
    return np.stack([along + across, along - across, 2 * rows * columns])


# ---- many images ---------------------------------------------------------------------------------------------


def peaks(scores: ByOffset) -> NDArray[np.float64]:
    """The offset (N, 2) of the highest score of each, between pixels by a parabola through its neighbours."""
    count, side, _ = scores.shape
    rows, columns = np.divmod(scores.reshape(count, -1).argmax(1), side)
    each = np.arange(count)
    by_row = _between(*(scores[each, np.clip(rows + step, 0, side - 1), columns] for step in (-1, 0, 1)))
    by_column = _between(*(scores[each, rows, np.clip(columns + step, 0, side - 1)] for step in (-1, 0, 1)))
    inner = (rows % (side - 1) > 0, columns % (side - 1) > 0)
    return np.stack([rows + by_row * inner[0], columns + by_column * inner[1]], axis=1) - side // 2


def _between(before: NDArray[np.float64], here: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    bend = before - 2 * here + after
    place = np.divide(0.5 * (before - after), bend, out=np.zeros_like(here), where=bend < 0)
    return np.clip(place, -0.5, 0.5)


def resampled(groups: Sequence[str], generator: np.random.Generator, resamples: int) -> NDArray[np.float64]:
    """How often each image is drawn, (resamples, N): whole groups are drawn, then as many images within each.

    The second draw is for sets of a few groups, whose first draw alone repeats itself; with one image a group it
    changes nothing.
    """
    _, group_N = np.unique(np.asarray(groups), return_inverse=True)
    count = int(group_N.max()) + 1
    weights = np.zeros((resamples, len(groups)))
    drawn = generator.multinomial(count, np.full(count, 1 / count), size=resamples)
    for group in range(count):
        members = np.flatnonzero(group_N == group)
        even = np.full(len(members), 1 / len(members))
        weights[:, members] = generator.multinomial(drawn[:, group] * len(members), even)
    return weights


def pooled(scores: ByOffset, weights: NDArray[np.float64]) -> ByOffset:
    """ByOffset summed over images, once for each row of weights."""
    if weights.shape[1] != len(scores):
        raise DataError(f"`weights` must have a column for each of the {len(scores)} images, but is {weights.shape}.")
    flat: ByOffset = weights @ scores.reshape(len(scores), -1)
    return flat.reshape(len(weights), *scores.shape[1:])


def clearness(scores: ByOffset, places: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """How far the peak (N, 2) of each image stands above the best score more than `radius` pixels from it, (N,)."""
    reach = scores.shape[1] // 2
    offset_O = np.arange(-reach, reach + 1)
    elsewhere = [
        score[np.hypot(offset_O[:, None] - row, offset_O[None] - column) > radius].max()
        for score, (row, column) in zip(scores, places, strict=True)
    ]
    return scores.max((1, 2)) - np.array(elsewhere)


def strays(places: NDArray[np.float64], common: NDArray[np.float64], apart: float, radius: float) -> NDArray[np.bool_]:
    """Which images (N,) share another offset: the largest cluster of `places` (N, 2) away from `common` (2,).

    A cluster is all within `radius` of one of its members, and at least `apart` from the common offset.
    """
    if not len(places):
        return np.zeros(0, bool)
    away = np.hypot(*(places - common).T) >= apart
    distance = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    near = (distance <= radius) & away[None] & away[:, None]
    chosen: NDArray[np.bool_] = near[near.sum(1).argmax()]
    return chosen


def share_interval(found: int, of: int) -> Interval:
    """A share with its exact interval (Clopper and Pearson, 1934); nan when it is of none."""
    if not of:
        return Interval(float("nan"), float("nan"), float("nan"))
    tail = (1 - COVERAGE) / 2
    low = beta.ppf(tail, found, of - found + 1) if found else 0.0
    high = beta.ppf(1 - tail, found + 1, of - found) if found < of else 1.0
    return Interval(found / of, float(low), float(high))
