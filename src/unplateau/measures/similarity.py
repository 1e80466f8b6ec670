"""Whether two pictures are the same one: how much fine detail they share, after they were laid over each other.

Coarse likeness does not tell: all pictures of asphalt are alike. Fine detail does: the grain of two pieces of asphalt
is unrelated, while a picture that was saved again, resized, brightened or cropped keeps its own.

Axes: N pictures, P pairs, K blocks of a picture, D pixels of a block, H W pixels, h w pixels of a coarser level.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from unplateau.measures.registration import LEVELS, Floats, registration, warped

Pairs = NDArray[np.int64]
"""(P, 2) indices of pictures."""

FINE, COARSE = 1.0, 3.0
"""Standard deviations in pixels of the two Gaussians whose difference is detail: finer is lost to compression, coarser
is shared by pictures that are merely alike."""

BLOCK = 16
"""Side of a block in pixels: a few times the coarsest detail, so that a block holds dozens of independent values."""

NOISE = 0.5
"""Grey levels of detail that rounding and compression make up on the working grid."""

SHARED = 0.5
"""A block is not the pictures' own when the mean of the set holds more than this share of its detail."""

BLACK = 8
"""Grey levels up to which a bar at the border is black, compression included."""

RICH = 2.0
"""A block counts when its detail is this many times the noise in either picture."""

MOST = 2 / 3
"""Share of the blocks that must agree: straight lines alone may be laid over each other in half of them."""

FEWEST_BLOCKS = 6
"""Blocks that this needs; a picture with fewer rich ones is plain, and nothing can be said of it."""

STRIP = 64
"""Pictures or pairs worked on at once: bounds the memory."""

TWIN = 0.5**0.5
"""Agreement from which two pictures are one: more than half of the variance of their fine detail is shared."""

REPEATING = 2.0
"""Times the median amplitude of a picture's detail above which a frequency is a pattern's, as of cloth or waves."""

BESIDE_PATTERNS = 0.3
"""Agreement of two pictures that are one once their patterns are held down. Waves of one turn and length laid over each
other agree at .86, and at .2 then; pictures saved again at .64 and more."""

PROMISING = 0.15
"""Agreement after the coarse levels from which the finest is worth its time; twins have far more."""


@dataclass(frozen=True)
class Bands:
    """What is compared: levels (N, h, w) of detail in the order of `LEVELS`, and the blocks (K,) that are a picture's
    own: not those in which the mean of the set holds most of the detail, as the rim of a microscope does."""

    levels: tuple[Floats, ...]
    own: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.detail)

    @property
    def detail(self) -> Floats:
        """The finest level (N, H, W), in grey levels."""
        return self.levels[-1]


@dataclass(frozen=True)
class Matches:
    """Agreement (P,) of pairs once laid over each other, and the scale and shift (P, 2, 2) that did it, in half sides;
    `mirrored` (P,) where the second picture was mirrored first."""

    pairs: Pairs
    agreement: NDArray[np.float64]
    found: NDArray[np.float64]
    mirrored: NDArray[np.bool_]


def bands(images: NDArray[np.uint8]) -> Bands:
    """Detail of images uint8 (N, 3, H, W): differences of Gaussians of the grey picture, in grey levels."""
    made: list[list[Floats]] = [[] for _ in LEVELS]
    for image in images:
        grey = unpadded(image).astype(np.float32).mean(0)
        for place, (stride, _) in enumerate(LEVELS):
            band = gaussian_filter(grey, FINE * stride) - gaussian_filter(grey, COARSE * stride)
            made[place].append(_decimated(band, stride))
    levels = tuple(np.stack(each).astype(np.float32) for each in made)
    return Bands(levels, own_blocks(levels[-1]))


def own_blocks(detail: Floats) -> NDArray[np.bool_]:
    """Which blocks (K,) of pictures (N, H, W) are their own, see `Bands`."""
    shared = np.square(_blocks(detail.mean(0, keepdims=True))).mean(-1)[0]
    whole = sum(np.square(_blocks(each[None])).mean(-1)[0] for each in detail) / len(detail)
    return np.asarray(shared <= SHARED * whole)


def unpadded(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image (3, H, W) with black bars and padding at its borders replaced by the nearest row or column.

    The edge of a bar is strong detail that pictures of one shape share.
    """
    lit = image.max(0) > BLACK
    rows, columns = (np.flatnonzero(lit.any(axis)) for axis in (1, 0))
    if not len(rows):
        return image
    row = np.arange(lit.shape[0]).clip(rows[0], rows[-1])
    column = np.arange(lit.shape[1]).clip(columns[0], columns[-1])
    return image[:, row[:, None], column[None]]


def _decimated(band: Floats, stride: int) -> Floats:
    # Symmetric about the centre, so that a mirrored picture has the mirrored level.
    return band if stride == 1 else zoom(band, 1 / stride, order=1, mode="nearest", grid_mode=True)


# ---- agreement -----------------------------------------------------------------------------------------------


def agreement(detail_a: Floats, detail_b: Floats, own: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The share of detail that pairs (P, H, W) have in common: the correlation that `MOST` blocks exceed, -1..1.

    Most, because a caption, a wall or a rim that several pictures share fills some blocks, but seldom as many. Only
    blocks in `own` (K,) count. nan where fewer than `FEWEST_BLOCKS` of them are rich in detail.
    """
    unit_a, energy_a = _unit_blocks(detail_a)
    unit_b, energy_b = _unit_blocks(detail_b)
    return _most_share(np.einsum("pkd,pkd->pk", unit_a, unit_b), np.maximum(energy_a, energy_b) * own)


def without_patterns(detail: Floats) -> Floats:
    """Detail (P, H, W) with no frequency above `REPEATING` times the median amplitude, and the energy it had.

    A pattern that repeats has few independent values, however many blocks it fills.
    """
    spectrum = np.fft.fft2(detail)
    amplitude = np.abs(spectrum)
    usual = np.median(amplitude, axis=(-2, -1), keepdims=True)
    held = np.fft.ifft2(spectrum * np.minimum(1, REPEATING * usual / np.maximum(amplitude, 1e-9))).real
    energy, left = (np.square(each).mean((-2, -1), keepdims=True) for each in (detail, held))
    return np.asarray(held * np.sqrt(energy / np.maximum(left, 1e-9)), np.float32)


def agreements(pictures: Bands) -> Floats:
    """`agreement` of all pairs of pictures as they lie, (N, N); nan where it cannot be told."""
    unit, energy = _unit_blocks(pictures.detail)
    energy, by_block = energy * pictures.own, np.ascontiguousarray(unit.transpose(1, 0, 2))
    result = np.empty((len(unit), len(unit)), np.float32)
    for start in range(0, len(unit), STRIP):
        rows = slice(start, start + STRIP)
        shared = np.matmul(by_block[:, rows], by_block.transpose(0, 2, 1)).transpose(1, 2, 0)
        result[rows] = _most_share(shared, np.maximum(energy[rows, None], energy[None]))
    return result


def _unit_blocks(detail: Floats) -> tuple[Floats, Floats]:
    """Blocks (N, K, D) whose scalar products are correlations damped by the noise, and their energy (N, K)."""
    blocks = _blocks(detail)
    energy = np.square(blocks).mean(-1)
    return blocks / np.sqrt((energy + NOISE**2) * blocks.shape[-1])[..., None], energy


def _blocks(detail: Floats) -> Floats:
    """The picture (N, H, W) in blocks (N, K, D) of about `BLOCK` a side, each of zero mean."""
    count, height, width = detail.shape
    rows, columns = max(1, height // BLOCK), max(1, width // BLOCK)
    tall, wide = height // rows, width // columns
    cut = detail[:, (height - rows * tall) // 2 :, (width - columns * wide) // 2 :][:, : rows * tall, : columns * wide]
    blocks = cut.reshape(count, rows, tall, columns, wide).transpose(0, 1, 3, 2, 4).reshape(count, rows * columns, -1)
    return blocks - blocks.mean(-1, keepdims=True)


def _most_share(shared: Floats, energy: Floats) -> NDArray[np.float64]:
    """What `MOST` of the blocks (..., K) that are rich in detail exceed, nan where too few are rich."""
    rich = energy >= (RICH * NOISE) ** 2
    ranked = np.sort(np.where(rich, shared, np.inf), axis=-1)
    count = rich.sum(-1)
    place = np.floor((1 - MOST) * count).astype(np.int64).clip(0, shared.shape[-1] - 1)
    reached = np.take_along_axis(ranked, place[..., None], -1)[..., 0]
    return np.where(count >= min(FEWEST_BLOCKS, shared.shape[-1]), reached, np.nan).astype(np.float64)


# ---- registration --------------------------------------------------------------------------------------------


def matched(pictures: Bands, pairs: Pairs, mirrored: bool = False) -> Matches:
    """Agreement of pairs once the second picture was scaled and moved, each way on its own, onto the first."""
    agreed, found = np.empty(len(pairs)), np.zeros((len(pairs), 2, 2))
    for start in range(0, len(pairs), STRIP):
        part = slice(start, start + STRIP)
        fixed = tuple(level[pairs[part, 0]] for level in pictures.levels)
        moving = tuple(level[pairs[part, 1]][..., :: -1 if mirrored else 1] for level in pictures.levels)
        agreed[part], found[part] = _laid_over(fixed, moving, pictures.own)
    return Matches(pairs, agreed, found, np.full(len(pairs), mirrored))


def confirmed(pictures: Bands, matches: Matches) -> Matches:
    """The matches, each `TWIN` that agrees in a pattern alone with what it agrees at beside that."""
    agreed = matches.agreement.copy()
    twins = np.flatnonzero(agreed >= TWIN)
    for start in range(0, len(twins), STRIP):
        part = twins[start : start + STRIP]
        fixed, moving = (pictures.detail[matches.pairs[part, side]] for side in (0, 1))
        moving = np.where(matches.mirrored[part][:, None, None], moving[..., ::-1], moving)
        moved, inside = warped(moving, matches.found[part])
        beside = agreement(
            without_patterns(np.where(inside, fixed, 0)), without_patterns(np.where(inside, moved, 0)), pictures.own
        )
        agreed[part] = np.where(beside < BESIDE_PATTERNS, beside, agreed[part])
    return replace(matches, agreement=agreed)


def _laid_over(
    fixed: tuple[Floats, ...], moving: tuple[Floats, ...], own: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The best agreement (P,) among: as they lie, after the coarse levels, after all; and its scale and shift."""
    best, at = agreement(fixed[-1], moving[-1], own), np.zeros((len(fixed[-1]), 2, 2))
    last = len(LEVELS) - 1
    found = registration(fixed[:last], moving[:last], LEVELS[:last])
    best, at = _better(best, at, fixed[-1], moving[-1], found, own)
    # The finest level costs most and matters only to pairs that the coarser ones brought together.
    near = np.flatnonzero(best >= PROMISING)
    if len(near):
        still, moved = fixed[-1][near], moving[-1][near]
        finest = registration((still,), (moved,), LEVELS[last:], found[near])
        best[near], at[near] = _better(best[near], at[near], still, moved, finest, own)
    return best, at


def _better(
    best: NDArray[np.float64],
    at: NDArray[np.float64],
    fixed: Floats,
    moving: Floats,
    found: NDArray[np.float64],
    own: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    moved, inside = warped(moving, found)
    over = agreement(np.where(inside, fixed, 0), np.where(inside, moved, 0), own)
    gains = np.nan_to_num(over, nan=-1) > np.nan_to_num(best, nan=-1)
    return np.where(gains, over, best), np.where(gains[:, None, None], found, at)
