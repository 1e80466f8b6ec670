"""Do contours wander: do stretches of them lie off their images, each by an offset of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from unplateau.checks.check import AbstractCheck
from unplateau.data.part import PartSource
from unplateau.data.pictures import read_again
from unplateau.data.sources import AbstractSource
from unplateau.experiments.fits import spread
from unplateau.experiments.run import Run
from unplateau.measures.alignment import resampled
from unplateau.measures.intervals import interval
from unplateau.measures.wandering import Fit, Stretches, bent, fit, put_back, stretches
from unplateau.types import IGNORE, Finding, Interval, Pictures, Verdict

IMAGES = 32
SIDE = 256
"""Long side in pixels at which contours are read: on a coarser grid thin things break up, and a broken line fits its
image nowhere."""

REACH = 5
"""Pixels that are searched in each direction."""

FEWEST, FEWEST_READINGS = 8, 100
"""Images and stretches that must tell anything."""

RESAMPLES = 400

WANDERS = 0.2
"""Gain of agreement from which contours wander: those of seven real sets gain at most .08 (cells, few and faint, cannot
be told), and at least .32 when bent by two pixels."""


@dataclass(frozen=True)
class ContoursMeasured:
    """How much better stretches of contour fit when each is moved as its neighbours say.

    `gain`: agreement gained over agreement in all, from -1 to 1; nan without outlines. `apart`: root mean square of the
    offsets in native pixels, as far as chance does not explain it. `images` and `readings` tell what it rests on.
    """

    gain: Interval
    apart: float
    images: int
    readings: int


@final
class ContoursCheck(AbstractCheck[ContoursMeasured]):
    """Whether the contours of the masks wander about those of the images.

    What it measures: outlines of the masks are cut into stretches, and each is moved by up to five pixels (of images of
        at most 256) to where its direct neighbours fit the edges of the image best; how much better it then fits
        itself. Contours that are in place lose by it; those that wander gain, for neighbours wander together.

    Why it matters: a model cannot learn where a wandering contour will run next: it learns a blur, and is scored
        against another one.

    When it misleads: where other edges run beside the contour, stretches snap to those: parts of cells and of cars gain
        a little without wandering. Contours that are wrong but smooth, each by its whole object, wander too slowly to
        be told from objects that lie elsewhere.

    What to do next: look at some masks over their images; redraw contours at full size, or snap them to the edges and
        look again. What training on contours that were moved back adds is a lower bound of what redrawing would.

    Reference: the agreement is that of Haber and Modersitzki, Intensity gradient based registration and fusion of
        multi-modal images, MICCAI 2006.
    """

    def measure(self, run: Run) -> ContoursMeasured:
        """The gain with its interval over groups."""
        return measure_contours(run.source, run.pictures, run.seed)

    def judge(self, measured: ContoursMeasured) -> Finding:
        """Concern when the gain surely exceeds that of contours in place, sound when that is ruled out."""
        gain = measured.gain
        numbers = {"gain": gain, "apart": measured.apart, "images": measured.images, "readings": measured.readings}
        if measured.images < FEWEST or measured.readings < FEWEST_READINGS:
            claim = f"The outlines of {measured.images} images are too few to tell whether contours wander."
            return Finding("contours", Verdict.UNDETERMINED, claim, None, numbers)
        moved = (
            f"moving stretches of them as their neighbours say changes how well they fit their images by {gain:+.0%}"
        )
        if gain.low > WANDERS:
            claim = f"Contours wander, by about {measured.apart:.1f} native pixels: {moved}."
            return Finding("contours", Verdict.CONCERN, claim, None, numbers)
        if gain.high < WANDERS:
            claim = f"Contours follow the edges of their images: {moved}."
            return Finding("contours", Verdict.SOUND, claim, None, numbers)
        claim = f"Whether contours wander cannot be told: {moved}, which edges beside them may explain."
        return Finding("contours", Verdict.UNDETERMINED, claim, None, numbers)


def measure_contours(source: AbstractSource, pictures: Pictures, seed: int) -> ContoursMeasured:
    """The gain with its interval over groups, of at most `IMAGES` of the pictures."""
    fine = _fine(source, pictures, spread(tuple(range(len(pictures))), IMAGES))
    found = [stretches(image, mask, REACH) for image, mask in _pairs(fine)]
    told = [row for row, each in enumerate(found) if len(each)]
    if not told:
        return ContoursMeasured(Interval(np.nan, np.nan, np.nan), np.nan, 0, 0)
    common = _common([found[row] for row in told])
    fits = [fit(found[row], common) for row in told]
    weights = resampled([fine.groups[row] for row in told], np.random.default_rng(seed), RESAMPLES)
    return _measured(fits, weights, max(fine.native) / max(fine.size))


def share_straightened(source: AbstractSource, pictures: Pictures, measured: ContoursMeasured, seed: int) -> float:
    """Of what is wrong with contours that wander as far as was measured, the share that `straightened` puts right.

    Told by bending straightened masks anew: of the overlap that they lose by it, what they get back. nan where they
    lose none.
    """
    rows = spread(tuple(range(len(pictures))), IMAGES)
    fine = _fine(source, pictures, rows)
    generator = np.random.default_rng(seed)
    pixels = measured.apart * max(fine.size) / max(pictures.native)
    counts = []
    for image, mask in _pairs(fine):
        true = put_back(image, mask, REACH)
        off = bent(true, pixels, generator)
        counts.append([_overlap(true, off), _overlap(true, put_back(image, off, REACH))])
    (hit, either), (again, of) = np.sum(counts, axis=0)
    lost, back = 1 - hit / max(either, 1), again / max(of, 1) - hit / max(either, 1)
    return float(back / lost) if lost > 0 else float("nan")


def straightened(source: AbstractSource, pictures: Pictures) -> Pictures:
    """The same images with each stretch of contour moved to where its surroundings fit the image best."""
    fine = _fine(source, pictures, tuple(range(len(pictures))))
    masks = torch.from_numpy(np.stack([put_back(image, mask, REACH) for image, mask in _pairs(fine)]))
    # The id at the centre of each cell, as masks are read.
    small = F.interpolate(masks[:, None].float(), size=pictures.size, mode="nearest-exact")[:, 0]
    return replace(pictures, masks=small.to(torch.uint8))


def _overlap(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> tuple[int, int]:
    """Pixels of any class but the first that two masks share, and that either has; 255 in one is not counted."""
    counted = (one != IGNORE) & (other != IGNORE)
    shared = counted & (one == other) & (one > 0)
    return int(shared.sum()), int((counted & ((one > 0) | (other > 0))).sum())


def _fine(source: AbstractSource, pictures: Pictures, rows: tuple[int, ...]) -> Pictures:
    """Some of the pictures, read where the grid is coarser than `SIDE` and the images are not."""
    some = pictures.take(rows)
    if min(max(pictures.native), SIDE) <= max(pictures.size):
        return some
    place = {name: index for index, name in enumerate(source.names)}
    return read_again(PartSource(source, [place[name] for name in some.names]), some, size=SIDE)


def _pairs(pictures: Pictures) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    for image, mask in zip(pictures.images, pictures.masks, strict=True):
        yield image.permute(1, 2, 0).numpy(), mask.numpy()


def _common(found: list[Stretches]) -> tuple[int, int]:
    """The offset (indices) that all stretches share: a shift of all masks is not a wandering."""
    total = np.sum([each.total for each in found], axis=0)
    row, column = np.unravel_index(int(total.argmax()), total.shape)
    return int(row), int(column)


def _measured(fits: list[Fit], weights: NDArray[np.float64], cell: float) -> ContoursMeasured:
    sums = np.array([(each.here, each.moved, each.anywhere, each.product, each.count) for each in fits])
    product, count = sums[:, 3:].sum(0)
    gain = interval(float(_gain(sums.sum(0)[None])[0]), _gain(weights @ sums))
    apart = cell * float(np.sqrt(max(0.0, product / count)))
    return ContoursMeasured(gain, apart, len(fits), int(count))


def _gain(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of sums (R, 5): agreement gained by moving, over that before and after; both above what it is anywhere."""
    before, after = sums[:, 0] - sums[:, 2], sums[:, 1] - sums[:, 2]
    return (after - before) / np.maximum(np.abs(after) + np.abs(before), 1e-9)
