"""Looking for one picture twice in a set: which pairs are laid over each other, and what unrelated pictures reach.

Axes: N pictures, P pairs, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from unplateau.measures.registration import Floats
from unplateau.measures.similarity import (
    Bands,
    Matches,
    Pairs,
    agreements,
    bands,
    confirmed,
    matched,
    own_blocks,
    unpadded,
)

SIDE = 16
"""Cells along the long side of the coarse copy that candidates are found by."""

ZOOMS = (1.0, 0.95, 0.9)
"""Shares of the side that the coarse copies keep, so that crops of up to a tenth and more find their whole."""

FEWEST_CANDIDATES, SEARCHED = 2, 1200
"""Candidates of each picture that are laid over it: few in a large set, all in a small one."""

UNRELATED, FEWEST_UNRELATED = 200, 20
"""Random pairs that show what unrelated pictures reach, and how few of them show nothing."""

UPPER, ERROR = float(norm.cdf(1)), 0.01
"""The quantile one deviation above the median, and the chance of a single false pair in a whole search."""

SKEW = 2.0
"""How much longer the upper side may be among unrelated pairs: laying them over each other picks the best."""


# ---- the search ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Search:
    """The likeliest pairs laid over each other, and what to hold them against.

    `limit` is the agreement that unrelated pictures of this set do not reach once in a hundred such searches; nan
    where there are too few pairs to know. `alike` (N, N) is the agreement of all pairs as they lie. `plain` (N,) marks
    pictures without detail to compare.
    """

    matches: Matches
    limit: float
    alike: Floats
    plain: NDArray[np.bool_]


@final
class Gallery:
    """Images uint8 (N, 3, H, W) as they are searched, so that what two searches ask of them is worked out once: their
    detail, their coarse copies, and how pairs lie over each other, each pair by itself.
    """

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.images = images
        self._coarse: dict[tuple[float, bool], Floats] = {}
        self._matched: dict[tuple[int, int, bool], tuple[float, NDArray[np.float64]]] = {}

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def bands(self) -> Bands:
        """Their detail."""
        return bands(self.images)

    @cached_property
    def alike(self) -> Floats:
        """The agreement of all pairs as they lie, (N, N)."""
        return agreements(self.bands)

    def coarse(self, share: float, mirrored: bool = False) -> Floats:
        """Coarse copies of the middle `share` of each, a row each."""
        if (share, mirrored) not in self._coarse:
            turned = self.images[..., ::-1] if mirrored else self.images
            self._coarse[share, mirrored] = np.stack([_coarse(image, share) for image in turned])
        return self._coarse[share, mirrored]

    def matched(self, pairs: Pairs, mirrored: bool = False) -> Matches:
        """As the function of this name, confirmed, of each pair once."""
        keys = [(int(a), int(b), mirrored) for a, b in pairs]
        new = [place for place, key in enumerate(keys) if key not in self._matched]
        found = confirmed(self.bands, matched(self.bands, pairs[new], mirrored))
        self._matched |= {
            keys[place]: (float(agreed), how)
            for place, agreed, how in zip(new, found.agreement, found.found, strict=True)
        }
        agreement = np.array([self._matched[key][0] for key in keys])
        how = np.array([self._matched[key][1] for key in keys]).reshape(-1, 2, 2)
        return Matches(pairs, agreement, how, np.full(len(pairs), mirrored))

    def of(self, chosen: NDArray[np.int64]) -> Gallery:
        """Some of them, ascending; itself where that is all. What was worked out of each image is taken along."""
        if len(chosen) == len(self):
            return self
        some = Gallery(self.images[chosen])
        some._coarse = {key: rows[chosen] for key, rows in self._coarse.items()}
        if "bands" in vars(self):
            levels = tuple(level[chosen] for level in self.bands.levels)
            some.bands = Bands(levels, own_blocks(levels[-1]))
            if np.array_equal(some.bands.own, self.bands.own):
                place = {int(index): new for new, index in enumerate(chosen)}
                some._matched = {
                    (place[a], place[b], turned): found
                    for (a, b, turned), found in self._matched.items()
                    if a in place and b in place
                }
        return some


def search(
    pictures: Gallery, apart: NDArray[np.bool_], generator: np.random.Generator, mirrored: bool = True
) -> Search:
    """Look for one picture twice among the pairs that are `apart` (N, N)."""
    alike = pictures.alike
    most = max(FEWEST_CANDIDATES, SEARCHED // len(pictures))
    close = best_pairs(np.where(apart, alike, np.nan).astype(np.float32), 1)
    straight = np.unique(np.concatenate([close, candidates(pictures, apart, most)]), axis=0)
    found = [pictures.matched(straight)]
    if mirrored:
        turned = candidates(pictures, apart, most, mirrored=True)
        found.append(pictures.matched(turned, mirrored=True))
    matches = _joined(found)
    limit = _limit(pictures, apart, len(matches.pairs), generator)
    return Search(matches, limit, alike, np.isnan(np.diag(alike)))


def _joined(found: list[Matches]) -> Matches:
    """The better of the ways each pair was laid over, best first."""
    pairs = np.concatenate([each.pairs for each in found])
    agreed = np.concatenate([each.agreement for each in found])
    order = np.argsort(-np.nan_to_num(agreed, nan=-1), kind="stable")
    _, first = np.unique(pairs[order], axis=0, return_index=True)
    kept = order[np.sort(first)]
    moved = np.concatenate([each.found for each in found])
    return Matches(pairs[kept], agreed[kept], moved[kept], np.concatenate([each.mirrored for each in found])[kept])


def _limit(pictures: Gallery, apart: NDArray[np.bool_], tests: int, generator: np.random.Generator) -> float:
    """The median of random pairs plus as many of their upper deviations as a normal variable needs for `tests`."""
    pairs = np.argwhere(np.triu(apart, 1))
    picked = pairs[generator.choice(len(pairs), min(len(pairs), UNRELATED), replace=False)]
    null = pictures.matched(picked).agreement
    null = null[np.isfinite(null)]
    if len(null) < FEWEST_UNRELATED:
        return float("nan")
    # Quantiles, because some of the random pairs may be related indeed; those lengthen the upper side alone.
    low, middle, high = np.quantile(null, [1 - UPPER, 0.5, UPPER])
    deviation = min(high - middle, SKEW * (middle - low))
    return float(middle + norm.isf(ERROR / max(tests, 1)) * deviation)


# ---- candidates ----------------------------------------------------------------------------------------------


def candidates(pictures: Gallery, apart: NDArray[np.bool_], most: int, mirrored: bool = False) -> Pairs:
    """For each picture the `most` others that its coarse copies are nearest to, among those it is `apart` (N, N) from.

    The nearest by correlation of coarse grey copies, as they are and with a border cut off on either side.
    """
    plain = _centred(pictures.coarse(1.0))
    nearest = np.full((len(pictures), len(pictures)), -np.inf, np.float32)
    for share in ZOOMS:
        cut = _centred(pictures.coarse(share, mirrored))
        forth = (cut @ plain.T).astype(np.float32)
        nearest = np.maximum(nearest, np.maximum(forth, forth.T))
    nearest[~apart] = -np.inf
    np.fill_diagonal(nearest, -np.inf)
    return best_pairs(nearest, most)


def best_pairs(nearness: Floats, most: int) -> Pairs:
    """The pairs (P, 2), lower index first and each once, of every row's `most` largest finite entries."""
    columns = np.argsort(-np.nan_to_num(nearness, nan=-np.inf), axis=1, kind="stable")[:, :most]
    rows = np.repeat(np.arange(len(nearness)), columns.shape[1])
    pairs = np.stack([rows, columns.ravel()], axis=1)
    pairs = np.sort(pairs[np.isfinite(nearness[pairs[:, 0], pairs[:, 1]])], axis=1)
    return np.unique(pairs, axis=0).reshape(-1, 2)


def _centred(copies: Floats) -> Floats:
    """Copies without what all of them share, of unit length."""
    copies = copies - copies.mean(0)
    return copies / (np.linalg.norm(copies, axis=1, keepdims=True) + 1e-6)


def _coarse(image: NDArray[np.uint8], share: float) -> Floats:
    """A coarse grey copy of the middle `share` of the picture, of zero mean and unit length."""
    grey = unpadded(image).astype(np.float32).mean(0)
    cut = [round(side * (1 - share) / 2) for side in grey.shape]
    grey = grey[cut[0] : grey.shape[0] - cut[0], cut[1] : grey.shape[1] - cut[1]]
    height, width = image.shape[-2:]
    cells = [max(4, round(SIDE * side / max(height, width))) for side in (height, width)]
    rows, columns = (_averaging(side, count) for side, count in zip(grey.shape, cells, strict=True))
    small = (rows @ grey @ columns.T).ravel()
    small = small - small.mean()
    return small / (np.linalg.norm(small) + 1e-6)


def _averaging(pixels: int, cells: int) -> Floats:
    """Weights (cells, pixels) that average pixels to cells by a Gaussian as wide as a cell."""
    centres = (np.arange(cells) + 0.5) * pixels / cells - 0.5
    weights = np.exp(-0.5 * ((np.arange(pixels) - centres[:, None]) / (0.6 * pixels / cells)) ** 2)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
