"""Is it a shift: do the masks lie where their images have edges, as stored at native size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unplateau.checks.check import AbstractCheck
from unplateau.data.pictures import choose
from unplateau.data.sources import AbstractSource
from unplateau.experiments.fits import spread
from unplateau.experiments.run import Run
from unplateau.measures.alignment import (
    FLAT_TURNS,
    TURNS,
    ByOffset,
    Planes,
    Spectra,
    agreement,
    binary_digits,
    clearness,
    image_edges,
    mask_edges,
    peaks,
    pooled,
    resampled,
    share_interval,
    strays,
)
from unplateau.measures.intervals import interval
from unplateau.types import Finding, Interval, Size, Verdict

IMAGES = 64
TURNED_IMAGES = 12
"""Images that are also compared turned and mirrored: that shows on few, and costs as much again for each turn."""

LONGEST = 512
"""Side in pixels that images are shrunk to at most; offsets of a pixel there are the finest that can be told."""

REACHES = (6, 24)
"""Least and most pixels that are searched in each direction; an eighth of the short side between them."""

RESAMPLES = 400
FEWEST = 8
"""Images that a part must have to be judged."""
TOLERANCE = 1.0
"""Pixels of the measured grid: edges have a width, and outlines are drawn on one side of it by habit."""

LOCATED = 1.5
"""Half an interval, in pixels: what is located worse has no peak."""

CLEAR, CLUSTER = 0.5, 1.0
"""Standard deviations by which one image's peak must stand out to count; pixels within which images agree."""

LEAST_SHARE, FEWEST_STRAYS = 0.05, 4
"""Share (surely) and number of images that must agree on an offset of their own."""


UNKNOWN = Interval(np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Placement:
    """Where the masks of some images lie: offset in native pixels, positive is too low and too far right.

    `length` is the offset along its own direction: its lower end tells whether there surely is one. nan without images.
    """

    rows: Interval
    columns: Interval
    length: Interval
    images: int

    @property
    def offset(self) -> tuple[float, float]:
        """Rows and columns."""
        return self.rows.mean, self.columns.mean


@dataclass(frozen=True)
class AlignmentMeasured:
    """The offset of all masks, of each split, and of images that share another one; and the best turn.

    `pixel`: native pixels per pixel of the measured grid. `strays`: names of the images that share the offset
    `strays_at` (rows, columns), and `stray_share` their share of the `clear` images that can tell alone. `turn`: the
    turn or mirroring that fits best, "" when there were no images; `turn_gain`: by how many standard deviations of
    agreement an image on average it beats the masks as they are; `turn_placement`: the offset that remains.
    """

    whole: Placement
    by_split: dict[str, Placement]
    strays: tuple[str, ...]
    strays_at: tuple[float, float]
    stray_share: Interval
    clear: int
    turn: str
    turn_gain: Interval
    turn_placement: Placement
    pixel: float


@final
class AlignmentCheck(AbstractCheck[AlignmentMeasured]):
    """Whether masks are shifted against their images, mirrored or turned.

    What it measures: how well the outlines of the masks agree with the edges of the images, in place and direction,
        with the masks moved by every offset up to an eighth of the image; the place of the peak, with an interval
        from resampled groups. The same for each split, for each image alone, and with the masks mirrored and turned.

    Why it matters: a model trained on shifted masks predicts shifted masks, so no score of its own shows the shift;
        where only a part has it, the two parts contradict each other.

    When it misleads: outlines drawn on one side of soft edges look like a shift, so up to a pixel is not called one;
        a shift that grows across the image, or differs from file to file, is not sought.

    What to do next: look at a few masks over their images; export them again without the crop, padding or half-pixel
        that moved them, or move them back by the offset.

    Reference: Haber and Modersitzki, Intensity gradient based registration and fusion of multi-modal images,
        MICCAI 2006.
    """

    def measure(self, run: Run) -> AlignmentMeasured:
        """Offsets with intervals, at native resolution."""
        return measure_alignment(read_scores(run.source, run.seed), run.seed)

    def judge(self, measured: AlignmentMeasured) -> Finding:
        """Concern when an offset surely exceeds the tolerance, sound when twice that is ruled out."""
        numbers = {
            "offset_rows": measured.whole.rows,
            "offset_columns": measured.whole.columns,
            "images": measured.whole.images,
            "by_split": measured.by_split,
            "stray_share": measured.stray_share,
            "stray_offset": measured.strays_at,
            "turn": measured.turn,
            "turn_gain": measured.turn_gain,
        }
        if said := list(_trouble(measured)):
            examples = measured.strays if strayed(measured) else ()
            return Finding("alignment", Verdict.CONCERN, " ".join(said), None, numbers, examples)
        excluded = measured.whole.length.high < 2 * TOLERANCE * measured.pixel
        if not (located(measured.whole, measured.pixel) and excluded):
            claim = f"These {measured.whole.images} images cannot tell whether the masks are shifted: no place surely "
            claim += "fits their outlines better than places two pixels away."
            return Finding("alignment", Verdict.UNDETERMINED, claim, None, numbers)
        claim = f"The masks lie on the edges of their images to within {TOLERANCE * measured.pixel:.1f} pixels: they "
        claim += f"are off by {measured.whole.rows:+.1f} rows and {measured.whole.columns:+.1f} columns."
        return Finding("alignment", Verdict.SOUND, claim, None, numbers)


# ---- what is wrong -------------------------------------------------------------------------------------------


def located(placement: Placement, pixel: float) -> bool:
    """Whether there is a peak, known to within `LOCATED` pixels of the measured grid."""
    halves = [(each.high - each.low) / 2 for each in (placement.rows, placement.columns)]
    return placement.images >= FEWEST and max(halves) <= LOCATED * pixel


def shifted(placement: Placement, pixel: float) -> bool:
    """Whether these masks surely lie farther off than the tolerance."""
    return located(placement, pixel) and placement.length.low > TOLERANCE * pixel


def shifted_splits(measured: AlignmentMeasured) -> dict[str, Placement]:
    """The splits that are off by themselves while the whole is not."""
    found = {name: each for name, each in measured.by_split.items() if shifted(each, measured.pixel)}
    alike = shifted(measured.whole, measured.pixel) and len(found) == len(measured.by_split)
    return {} if alike else found


def turned(measured: AlignmentMeasured) -> bool:
    """Whether the masks surely fit better turned."""
    return measured.turn_gain.low > 0 and located(measured.turn_placement, measured.pixel)


def strayed(measured: AlignmentMeasured) -> bool:
    """Whether surely more than a few images share an offset of their own."""
    return len(measured.strays) >= FEWEST_STRAYS and measured.stray_share.low > LEAST_SHARE


def _trouble(measured: AlignmentMeasured) -> Iterator[str]:
    """A sentence for each thing that is wrong; what the first explains is not said again."""
    if turned(measured):
        yield f"The masks fit their images better as if they had been {measured.turn}."
        return
    if splits := shifted_splits(measured):
        yield from (f"The masks of {name!r} are shifted {_placed(placement)}." for name, placement in splits.items())
        return
    if shifted(measured.whole, measured.pixel):
        yield f"The masks are shifted {_placed(measured.whole)}."
    if strayed(measured):
        rows, columns = measured.strays_at
        yield (
            f"Of the {measured.clear} masks whose own place can be told, {measured.stray_share:.0%} are off by "
            f"{rows:+.1f} rows and {columns:+.1f} columns while most are not."
        )


def _placed(placement: Placement) -> str:
    rows, columns = placement.rows, placement.columns
    return f"against their images by {rows:+.1f} rows (down) and {columns:+.1f} columns (right), in native pixels"


# ---- measuring -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scores:
    """Agreement of mask and image by offset, (N, O, O), for the images that can tell anything.

    `turned` holds the same for the images `turned_rows` with the masks turned, by name of the turn. `scale` is pixels
    of the measured grid per native pixel.
    """

    by_offset: ByOffset
    names: tuple[str, ...]
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    turned: dict[str, ByOffset]
    turned_rows: tuple[int, ...]
    scale: float

    def only(self, rows: Sequence[int]) -> Scores:
        """Those of some of the images."""
        kept = [place for place, row in enumerate(self.turned_rows) if row in set(rows)]
        names, groups, splits = (tuple(each[row] for row in rows) for each in (self.names, self.groups, self.splits))
        turned = {name: scores[kept] for name, scores in self.turned.items()} if kept else {}
        turned_rows = tuple(list(rows).index(self.turned_rows[place]) for place in kept)
        return Scores(self.by_offset[list(rows)], names, groups, splits, turned, turned_rows, self.scale)

    def under(self, turn: str) -> Scores:
        """Those of the turned images, turned; with `turn` empty as they are."""
        same = self.only(self.turned_rows)
        return replace(same, by_offset=self.turned[turn]) if turn else same


def read_scores(source: AbstractSource, seed: int, turned_images: int = TURNED_IMAGES) -> Scores:
    """Scores of at most `IMAGES` pairs of a source, read at native size, one in memory at a time."""
    picked = choose(source, IMAGES, seed)
    scale, reach = _frame([source.size(index) for index in picked])
    also = set(spread(tuple(picked), turned_images))
    kept, turned_rows = [], []
    scores: list[NDArray[np.float64]] = []
    turned: list[dict[str, NDArray[np.float64]]] = []
    for index in picked:
        sample = source.sample(index)
        image, digits = _at_scale(sample.image, sample.mask, scale)
        if min(image.shape[:2]) < 4 * reach:
            continue
        spectra = image_edges(image)
        score = agreement(spectra, mask_edges(digits, reach), reach)
        if score is None:
            continue
        if index in also:
            turned_rows.append(len(scores))
            turned.append(_turned_scores(spectra, digits, reach))
        kept.append(index)
        scores.append(score)
    common = [name for name in TURNS if turned and all(name in each for each in turned)]
    names, groups, splits = (
        tuple(each[index] for index in kept) for each in (source.names, source.groups, source.splits)
    )
    return Scores(
        np.reshape(scores, (len(scores), 2 * reach + 1, 2 * reach + 1)),
        names,
        groups,
        splits,
        {name: np.stack([each[name] for each in turned]) for name in common},
        tuple(turned_rows),
        scale,
    )


def measure_alignment(scores: Scores, seed: int) -> AlignmentMeasured:
    """The offset of all masks, of each split, of those that share another one, and under the best turn."""
    generator = np.random.default_rng(seed)
    whole = _place(scores, generator)
    parts = {name: [row for row, part in enumerate(scores.splits) if part == name] for name in set(scores.splits)}
    by_split = {
        name: _place(scores.only(rows), generator)
        for name, rows in sorted(parts.items())
        if len(rows) >= FEWEST and len(parts) > 1
    }
    turn, gain = _turn(scores, generator)
    under = _place(scores.under(turn), generator)
    return AlignmentMeasured(whole, by_split, *_strays(scores), turn, gain, under, 1 / scores.scale)


def _frame(natives: Sequence[Size]) -> tuple[float, int]:
    """At which scale images are read, and how many pixels of that scale are searched in each direction."""
    scale = min(1.0, LONGEST / float(np.median([max(size) for size in natives])))
    # The smaller images decide, so that few are left out: those smaller than four reaches.
    short = scale * float(np.quantile([min(size) for size in natives], 0.1))
    return scale, int(np.clip(short // 8, *REACHES))


def _turned_scores(spectra: Spectra, digits: Planes, reach: int) -> dict[str, NDArray[np.float64]]:
    names = tuple(TURNS) if digits.shape[1] == digits.shape[2] else FLAT_TURNS
    scores = {name: agreement(spectra, mask_edges(TURNS[name](digits), reach), reach) for name in names}
    return {name: score for name, score in scores.items() if score is not None}


def _at_scale(image: NDArray[np.uint8], mask: NDArray[np.uint8], scale: float) -> tuple[NDArray[np.uint8], Planes]:
    """Image and mask digits at the scale, both by the same area mean, cut in the middle to at most `LONGEST`."""
    digits = binary_digits(mask)
    if scale < 1:
        size = round(mask.shape[1] * scale), round(mask.shape[0] * scale)
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.HAMMING))
        planes = [Image.fromarray(plane).resize(size, Image.Resampling.HAMMING) for plane in digits]
        digits = np.stack([np.asarray(plane) for plane in planes])
    top, left = (max(0, (side - LONGEST) // 2) for side in image.shape[:2])
    inside = (slice(top, top + LONGEST), slice(left, left + LONGEST))
    return image[inside], digits[(slice(None), *inside)]


def _place(scores: Scores, generator: np.random.Generator) -> Placement:
    if not scores.names:
        return Placement(UNKNOWN, UNKNOWN, UNKNOWN, 0)
    here = peaks(scores.by_offset.sum(0)[None])[0] / scores.scale
    weights = resampled(scores.groups, generator, RESAMPLES)
    draws = peaks(pooled(scores.by_offset, weights)) / scores.scale
    length = float(np.hypot(*here))
    along = draws @ (here / length) if length else np.hypot(*draws.T)
    rows, columns = (interval(float(here[axis]), draws[:, axis]) for axis in (0, 1))
    return Placement(rows, columns, interval(length, along), len(scores.names))


def _strays(scores: Scores) -> tuple[tuple[str, ...], tuple[float, float], Interval, int]:
    """Images that share an offset of their own, the offset, and their share of those that can tell alone."""
    if not scores.names:
        return (), (np.nan, np.nan), UNKNOWN, 0
    own, common = peaks(scores.by_offset), peaks(scores.by_offset.sum(0)[None])[0]
    clear = np.flatnonzero(clearness(scores.by_offset, own, 3 * CLUSTER) > CLEAR)
    found = clear[strays(own[clear], common, LOCATED, CLUSTER)]
    at = own[found].mean(0) / scores.scale if len(found) else (np.nan, np.nan)
    share = share_interval(len(found), len(clear))
    return tuple(scores.names[row] for row in found), (float(at[0]), float(at[1])), share, len(clear)


def _turn(scores: Scores, generator: np.random.Generator) -> tuple[str, Interval]:
    """The turn with the highest peak, and by how much it beats the masks as they are."""
    if not scores.turned:
        return "", UNKNOWN
    best = max(scores.turned, key=lambda name: float(scores.turned[name].sum(0).max()))
    straight, turned = scores.under(""), scores.under(best)
    count = len(straight.names)
    gain, draws = (
        (pooled(turned.by_offset, each).max((1, 2)) - pooled(straight.by_offset, each).max((1, 2))) / count
        for each in (np.ones((1, count)), resampled(straight.groups, generator, RESAMPLES))
    )
    return best, interval(float(gain[0]), draws)
