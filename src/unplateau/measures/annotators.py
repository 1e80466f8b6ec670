"""What a second annotator would draw, judged from one annotation: a redrawer that sees the image and a hint.

The hint is the label after its contour was displaced at random, by about the half-width of its own objects, so that
it says which object is meant but not where it ends. A redrawer learns from other images where the label's contour
lies, given the image around the hint. Two redrawers learn on disjoint images. With a the label and A, B the two:

    |a - A|^2 = annotator + shared error + own error        |A - B|^2 = 2 own error

where |x - y| is the area of the difference over the mean area of the two, which grows with the offset of the
contours, so that its square adds like a variance. Hence annotator + shared error = |a - A|^2 - |A - B|^2 / 2. Two
annotators then differ by twice the annotator's `share` of it. The share is not known from one annotation: at 1 the
redrawers have no error in common, at 1/2 they err as much as a person. See `SHARES`.

The hint h tells where the label is, to its known displacement, and the redrawers use that: as two measurements of one
place combine by 1 / variance, what they would get wrong without it is 1 / (1 / v - 1 / |a - h|^2).

Axes: N images, H W pixels, P pixels near the hint, F clues.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unplateau.errors import DataError
from unplateau.measures.intervals import RESAMPLES, interval
from unplateau.measures.thresholds import counts_of, iou
from unplateau.types import Interval

Floats = NDArray[np.float32]
Bits = NDArray[np.bool_]

SHARES = (1.0, 0.5)
"""Part of what both redrawers get wrong alike that is the annotator's: for the low end, the middle.

One annotation does not tell it, and at 0 two annotators agree perfectly. The middle is a convention, not a measurement;
only the low end rests on something, since the annotator cannot have deviated by more than all of it."""

DISPLACED = 0.7
"""Root mean square of the hint's displacement along each axis, in half-widths: one half-width in all."""

BAND = 3.0
"""How far from the hint's contour a pixel is redrawn, in half-widths: four times the displacement."""

SCALES = (0.35, 0.7, 1.4)
"""Gaussians of the clues, in half-widths."""

SAMPLED = 1000
"""Pixels of an image that a redrawer learns from; its neighbours would say the same."""

UNITS = 400
"""Random features of a redrawer."""

HELD = 2**28
"""Bytes of clues that are kept from learning to redrawing; those of further images are computed again."""

QUARTERS = 4
"""Parts that groups are dealt to, or images where there are fewer groups: two redrawers learn, each from one part, for
each half."""

FEWEST = 8
"""Images from which two redrawers can be trained on disjoint quarters."""


@dataclass(frozen=True)
class Drawing:
    """An image uint8 (H, W, 3), the label of one class (H, W), and which pixels count (H, W)."""

    image: NDArray[np.uint8]
    label: Bits
    counted: Bits


@dataclass(frozen=True)
class Redrawn:
    """What was drawn again of the drawing `index`: twice, and the hint that both drew from, all (H, W)."""

    index: int
    first: Bits
    second: Bits
    hint: Bits


@dataclass(frozen=True)
class Redrawer:
    """Ridge regression on random rectified features (Rahimi and Recht, NIPS 2007) of standardised clues (P, F)."""

    centre: Floats
    spread: Floats
    weights: Floats
    offsets: Floats
    answer: Floats

    def scores(self, clues: Floats) -> Floats:
        """About -1 outside and 1 inside, (P,)."""
        scores: Floats = _features(clues, self.centre, self.spread, self.weights, self.offsets) @ self.answer
        return scores


# ---- the hint ------------------------------------------------------------------------------------------------


def half_width(label: Bits) -> float:
    """Area over length of contour, in pixels, at least 1: half the width of a long object, half the radius of a disc.

    The length counts sides of pixels between the two classes, times pi / 4 (Crofton).
    """
    sides = int((label[1:] != label[:-1]).sum() + (label[:, 1:] != label[:, :-1]).sum())
    return max(1.0, float(label.sum()) / max(1.0, sides * np.pi / 4))


def displaced(label: Bits, pixels: float, generator: np.random.Generator) -> Bits:
    """The label warped by a smooth random field with a root mean square of `pixels` along each axis."""
    reach = min(3 * pixels, min(label.shape) / 8)
    fields = []
    for _ in range(2):
        # A field wider than the image would be a shift of unbounded size: its mean is no part of its spread.
        smooth = ndimage.gaussian_filter(generator.normal(size=label.shape), reach, mode="wrap")
        smooth -= smooth.mean()
        fields.append(pixels * smooth / max(float(smooth.std()), 1e-12))
    rows, columns = np.indices(label.shape)
    places = (rows + fields[0], columns + fields[1])
    warped: Bits = ndimage.map_coordinates(label.astype(np.float32), places, order=1, mode="nearest") >= 0.5
    return warped


def signed_distance(mask: Bits) -> Floats:
    """Pixels to the contour (H, W), negative inside; infinite where there is no contour."""
    if mask.all() or not mask.any():
        return np.full(mask.shape, -np.inf if mask.any() else np.inf, np.float32)
    outside, inside = ndimage.distance_transform_edt(~mask), ndimage.distance_transform_edt(mask)
    distance: Floats = np.where(mask, 0.5 - inside, outside - 0.5).astype(np.float32)
    return distance


# ---- the clues -----------------------------------------------------------------------------------------------


def clues(image: NDArray[np.uint8], hint: Bits, band: Bits, width: float, colours: int) -> Floats:
    """What a redrawer sees of each pixel of `band`, (P, F): the hint's shape, and the image across its contour.

    The image enters by its first `colours` principal colours, relative to the hint's inside and outside; lengths are
    in half-widths, so that objects of different size look alike.
    """
    distance = signed_distance(hint)
    across = ndimage.gaussian_filter(distance, max(0.7, width / 2))
    normal = np.stack(np.gradient(across))
    normal = (normal / (np.linalg.norm(normal, axis=0) + 1e-6))[:, band]
    shape = [distance[band], across[band], ndimage.gaussian_filter(distance, 2 * width)[band]]
    seen = [each / width for each in shape]
    for channel in _channels(image, colours):
        middle = (channel[hint].mean() + channel[band & ~hint].mean()) / 2 if (band & ~hint).any() else 0.0
        for scale in SCALES:
            seen += _around(channel - middle, band, normal, max(0.7, scale * width))
    return np.stack(seen, axis=-1).astype(np.float32)


def _channels(image: NDArray[np.uint8], colours: int) -> list[Floats]:
    """Principal colours, the brighter end positive, each in units of its own spread."""
    pixels = image.reshape(-1, 3).astype(np.float32)
    pixels = pixels - pixels.mean(0)
    _, vectors = np.linalg.eigh(pixels.T @ pixels / len(pixels))
    vectors = vectors * np.where(vectors.sum(0) < 0, -1, 1)
    planes = [(pixels @ vectors[:, -1 - each]).reshape(image.shape[:2]) for each in range(colours)]
    # One grey level is added: a colour that the image does not have stays flat instead of becoming rounding noise.
    return [plane / (plane.std() + 1) for plane in planes]


def _around(channel: Floats, band: Bits, normal: Floats, scale: float) -> list[Floats]:
    """One channel at one scale: level, slope along and across, curvatures, roughness, and the profile along."""
    smooth = ndimage.gaussian_filter(channel, scale)
    slope = np.stack(np.gradient(smooth))[:, band] * scale
    orders = ((2, 0), (0, 2), (1, 1))
    down, right, mixed = (ndimage.gaussian_filter(channel, scale, order=each)[band] * scale**2 for each in orders)
    half, turn = (down + right) / 2, np.sqrt((down - right) ** 2 / 4 + mixed**2)
    rough = np.sqrt(ndimage.gaussian_filter((channel - smooth) ** 2, 2 * scale)[band])
    places = np.argwhere(band).T
    at = partial(ndimage.map_coordinates, smooth, order=1, mode="nearest")
    profile = [at(places + step * 1.5 * scale * normal) for step in (-2, -1, 1, 2)]
    along = (slope * normal).sum(0)
    return [smooth[band], along, np.linalg.norm(slope, axis=0), half + turn, half - turn, rough, *profile]


# ---- the redrawer --------------------------------------------------------------------------------------------


def fit_redrawer(clues_PF: Floats, inside_P: Bits, generator: np.random.Generator) -> Redrawer:
    """Learn to tell inside from outside."""
    count = clues_PF.shape[1]
    centre, spread = clues_PF.mean(0), clues_PF.std(0) + 1e-6
    weights = (generator.normal(size=(count, UNITS)) / np.sqrt(count)).astype(np.float32)
    offsets = generator.normal(size=UNITS).astype(np.float32)
    features = _features(clues_PF, centre, spread, weights, offsets)
    square = (features.T @ features).astype(np.float64)
    square += 3e-4 * np.trace(square) / len(square) * np.eye(len(square))
    answer = np.linalg.solve(square, features.T @ np.where(inside_P, 1.0, -1.0)).astype(np.float32)
    return Redrawer(centre, spread, weights, offsets, answer)


def _features(clues_PF: Floats, centre: Floats, spread: Floats, weights: Floats, offsets: Floats) -> Floats:
    # A clue far outside what was learned from would be extrapolated without limit.
    plain = np.clip((clues_PF - centre) / spread, -4, 4)
    ones = np.ones((len(plain), 1), np.float32)
    return np.concatenate([np.maximum(plain @ weights + offsets, 0), plain, ones], axis=1)


@dataclass(frozen=True)
class _Hinted:
    """A window of a drawing, its hint and the pixels to redraw."""

    drawing: Drawing
    hint: Bits
    band: Bits
    width: float
    colours: int

    @staticmethod
    def of(drawing: Drawing, colours: int, generator: np.random.Generator) -> _Hinted | None:
        """None where the label or the hint holds nothing, or no pixel to redraw counts."""
        label = drawing.label & drawing.counted
        width = half_width(label)
        hint = displaced(label, DISPLACED * width, generator)
        band = (np.abs(signed_distance(hint)) < BAND * width) & drawing.counted
        found = label.any() and hint.any() and band.any()
        return _Hinted(drawing, hint, band, width, colours) if found else None

    def clues(self) -> Floats:
        """Clues (P, F), from the window that they need: the band and the reach of the widest Gaussian."""
        window = _window(self.band, round(8 * self.width))
        image = self.drawing.image[window]
        return clues(image, self.hint[window], self.band[window], self.width, self.colours)

    def redrawn(self, redrawer: Redrawer, seen: Floats) -> Bits:
        """The contour that the redrawer draws; smoothed by a quarter half-width, as no contour is rougher."""
        scores = np.where(self.hint, 1.0, -1.0).astype(np.float32)
        scores[self.band] = np.clip(redrawer.scores(seen), -1, 1)
        drawn: Bits = ndimage.gaussian_filter(scores, self.width / 4 if self.width > 3 else 0) > 0
        return drawn


def _window(band: Bits, margin: int) -> tuple[slice, slice]:
    found = (np.flatnonzero(band.any(1)), np.flatnonzero(band.any(0)))
    rows, columns = (slice(max(0, int(each[0]) - margin), int(each[-1]) + margin + 1) for each in found)
    return rows, columns


def redraw(drawings: Sequence[Drawing], groups: Sequence[str], generator: np.random.Generator) -> Iterator[Redrawn]:
    """Two redrawings of each drawing that holds anything, by redrawers that never saw it.

    Groups are kept whole: each half of them is redrawn by two redrawers that learned from one quarter each. With
    fewer than four groups, single images are dealt instead.

    Raises:
        DataError: fewer than 8 drawings hold the class.
    """
    colours = 2 if any(np.ptp(each.image, axis=-1).any() for each in drawings) else 1
    hinted = {index: made for index, each in enumerate(drawings) if (made := _Hinted.of(each, colours, generator))}
    if len(hinted) < FEWEST:
        raise DataError(f"At least {FEWEST} images must hold the class, but {len(hinted)} do: label more images.")
    quarter = _quarters([groups[index] for index in hinted], generator)
    learned: list[list[tuple[Floats, Bits]]] = [[] for _ in range(QUARTERS)]
    kept: dict[int, Floats] = {}
    for (index, each), part in zip(hinted.items(), quarter, strict=True):
        seen = each.clues()
        learned[part].append(_sampled(each, seen, generator))
        if sum(held.nbytes for held in kept.values()) + seen.nbytes <= HELD:
            kept[index] = seen
    redrawers = [_learned(part, generator) for part in learned]
    for (index, each), part in zip(hinted.items(), quarter, strict=True):
        seen = kept.pop(index) if index in kept else each.clues()
        others = (2, 3) if part < 2 else (0, 1)
        first, second = (each.redrawn(redrawers[other], seen) for other in others)
        yield Redrawn(index, first, second, each.hint)


def _quarters(groups: list[str], generator: np.random.Generator) -> list[int]:
    """Which of four parts each image is in; evenly many groups, or images where there are few groups, in each."""
    _, unit = np.unique(groups, return_inverse=True)
    if unit.max() + 1 < QUARTERS:
        unit = np.arange(len(groups))
    count = int(unit.max()) + 1
    part: NDArray[np.int64] = generator.permutation(np.arange(count) % QUARTERS)
    return [int(each) for each in part[unit]]


def _sampled(hinted: _Hinted, seen: Floats, generator: np.random.Generator) -> tuple[Floats, Bits]:
    inside = hinted.drawing.label[hinted.band]
    picked = generator.choice(len(seen), min(len(seen), SAMPLED), replace=False)
    return seen[picked], inside[picked]


def _learned(part: list[tuple[Floats, Bits]], generator: np.random.Generator) -> Redrawer:
    seen, inside = (np.concatenate(each) for each in zip(*part, strict=True))
    return fit_redrawer(seen, inside, generator)


# ---- the estimate --------------------------------------------------------------------------------------------


def agreement_counts(label: Bits, redrawn: Redrawn, counted: Bits) -> NDArray[np.int64]:
    """Counts (3, 3): the label against both redrawings, summed; the redrawings against each other; label and hint."""
    with_label = _pair(label, redrawn.first, counted) + _pair(label, redrawn.second, counted)
    between = _pair(redrawn.first, redrawn.second, counted)
    return np.stack([with_label, between, _pair(label, redrawn.hint, counted)])


def _pair(first: Bits, second: Bits, counted: Bits) -> NDArray[np.int64]:
    parts = [(each & counted).sum() for each in (first & second, first, second)]
    return counts_of(*(np.array(part, dtype=np.int64) for part in parts))


def mismatch(overlap: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area of the difference over the mean area of two masks, 0..2, from their IoU."""
    return 2 * (1 - overlap) / (1 + overlap)


def overlap(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of two masks from their `mismatch`; 0 where they have nothing in common."""
    bounded = np.clip(difference, 0, 2)
    return (2 - bounded) / (2 + bounded)


def annotator_iou(counts: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """IoU (...,) of two annotators, from counts (..., 3, 3) of `agreement_counts` summed over images.

    0 where the redrawers know no more than the hint told them.
    """
    with_label, between, hinted = np.moveaxis(mismatch(iou(counts)), -1, 0) ** 2
    common = np.maximum(with_label - between / 2, 0)
    left = np.maximum(hinted - common, 0)
    alone = np.divide(common * hinted, left, out=np.where(common > 0, np.inf, 0.0), where=left > 0)
    return overlap(np.sqrt(2 * share * alone))


def undone(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Part of the hint's displacement, as a variance, that both redrawers undo alike (...,), from counts (..., 3, 3).

    0 where they know no more than the hint told them, 1 where the image tells them exactly where the label lies, and
    1/2 where the image alone tells as much of it as the hint, whose own offset is about half the objects' width.
    """
    with_label, between, hinted = np.moveaxis(mismatch(iou(counts)), -1, 0) ** 2
    common = np.maximum(with_label - between / 2, 0)
    return np.asarray(1 - np.divide(common, hinted, out=np.ones_like(common), where=hinted > 0))


def label_ceiling(
    counts: NDArray[np.int64], groups: Sequence[str], generator: np.random.Generator
) -> tuple[Interval, Interval]:
    """The estimate and what was `undone`, from counts (N, 3, 3), one group a row's own; groups are resampled whole.

    The interval of the estimate holds the chance of the images and every share from 1 down to 0: it is a bound from
    below, and its high end is always 1.
    """
    _, unit = np.unique(np.asarray(groups), return_inverse=True)
    summed = np.zeros((int(unit.max()) + 1, 3, 3))
    np.add.at(summed, unit, counts)
    even = np.full(len(summed), 1 / len(summed))
    drawn = np.einsum("rg,gpx->rpx", generator.multinomial(len(summed), even, size=RESAMPLES), summed)
    low, middle = (
        interval(float(annotator_iou(summed.sum(0), share)), annotator_iou(drawn, share)) for share in SHARES
    )
    told = interval(float(undone(summed.sum(0))), undone(drawn))
    return Interval(middle.mean, low.low, 1.0), told
