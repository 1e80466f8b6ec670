"""How likely a mask is wrong, from scores of a model that did not train on it. Low = look at it.

A model far from perfect disagrees with right masks too. So nothing here is judged by the disagreement itself: the
scores are first calibrated on the masks of the same model, the agreement is compared with what the model's own doubt
leads to expect, and the result with what is usual in the set.

Axes: N images, C classes, H W pixels, S sums, B = BINS + 1 score values.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label
from scipy.optimize import isotonic_regression
from scipy.special import log_ndtr

from unplateau.errors import DataError
from unplateau.measures.thresholds import BINS
from unplateau.types import IGNORE

LAG = 3
"""Pixels over which contours are compared."""

ROWS = 3
"""Every third row is compared: over the lag, each row kept meets the next one kept."""

EVERY = 4
"""Calibration looks at every fourth row and column: 200 numbers do not need them all."""

CHUNK = 2**18
"""Pixels of each class in memory at a time: of small images many, as each call costs as much as a few of them."""

SMALL = 0.05
"""Share of the usual labelled area under which a difference in area does not speak."""

TOUCHED = 0.1
"""Share of an object that the other side must cover to count as found there."""

CHANCE = 0.05
"""Chance, over the whole set, that one mask is called foreign which is not."""

FALSE = 0.1
"""Share of the masks called foreign that are not, on average at most, where ten and more are."""

NEIGHBOURS = np.ones((3, 3), bool)

Sums = NDArray[np.float64]
"""(..., S): labelled, expected, both, expected twice; then contour products: both, labelled, expected."""


def score_labels(
    masks: NDArray[np.uint8], answers: NDArray[np.uint8], models: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """A score for each image (N,), low = its mask is likely wrong; nan where no pixel is counted.

    `masks` (N, H, W): class index, 255 = not counted. `answers` (N, C, H, W): scores in steps of 1 / BINS, of models
    that did not train on the image; C = 1 is binary, the score of class 1. `models` (N,): which model answered; each
    is calibrated alone. Arrays may be mapped from disk: `CHUNK` pixels are in memory at a time.

    Raises:
        DataError: the arrays are of different images.
    """
    _refuse(masks, answers)
    models = np.zeros(len(masks), np.int64) if models is None else models
    sums = np.empty((len(masks), answers.shape[1], 7))
    for model in np.unique(models).tolist():
        places = np.flatnonzero(models == model)
        probability = calibrated(masks, answers, places)
        for part in _chunks(places, masks):
            sums[part] = agreement(masks[part, ::ROWS], answers[part, :, ::ROWS], probability)
    scores = np.stack([image_scores(sums[:, each]) for each in range(answers.shape[1])])
    # Of several classes the one that looks worst speaks for the image.
    worst: NDArray[np.float64] = np.fmin.reduce(scores)
    return worst


def calibrated(
    masks: NDArray[np.uint8], answers: NDArray[np.uint8], places: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """Share of labelled pixels by score (C, B), never falling: isotonic regression (Zadrozny and Elkan, KDD 2002)."""
    classes = answers.shape[1]
    counts = np.zeros((classes, 2, 256), np.int64)
    for part in _chunks(np.arange(len(masks)) if places is None else places, masks):
        mask, said = masks[part, ::EVERY, ::EVERY], answers[part, :, ::EVERY, ::EVERY]
        counted = mask != IGNORE
        for each in range(classes):
            code = said[:, each] + np.uint16(256) * (mask == _class(each, classes))
            counts[each] += np.bincount(code[counted], minlength=512).reshape(2, 256)
    weight = counts.sum(1)[:, : BINS + 1]
    share = counts[:, 1, : BINS + 1] / np.maximum(weight, 1)
    # A score that never occurred weighs next to nothing and takes the value of its neighbours.
    fits = [isotonic_regression(of_class, weights=many + 1e-3).x for of_class, many in zip(share, weight, strict=True)]
    return np.stack(fits).astype(np.float32)


def agreement(masks: NDArray[np.uint8], answers: NDArray[np.uint8], probability: NDArray[np.float32]) -> Sums:
    """Sums (N, C, S) of a few images, masks (N, h, W) and answers (N, C, h, W) thinned to every `ROWS`-th row."""
    images, classes = answers.shape[:2]
    ignored = masks == IGNORE if masks.max(initial=0) == IGNORE else None
    sums = np.empty((images, classes, 7))
    for each in range(classes):
        given = (masks == _class(each, classes)).astype(np.float32)
        said = probability[each].take(answers[:, each], mode="clip")
        if ignored is not None:
            np.putmask(said, ignored, 0)
        sums[:, each] = _products(given.reshape(images, -1), said.reshape(images, -1), masks.shape[2])
    return sums


def _chunks(places: NDArray[np.int64], masks: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    many = max(1, CHUNK // max(1, masks[0].size)) if len(masks) else 1
    return [places[start : start + many] for start in range(0, len(places), many)]


def image_scores(sums: Sums) -> NDArray[np.float64]:
    """Scores (N,) of one class from its sums (N, S): log tail probabilities of area and of contour, added (Fisher).

    Area: the soft Dice of mask and probabilities, minus the Dice that masks drawn from those probabilities would have
    on average. Contour: the correlation of their differences, which blur and doubt lower in both terms alike. Each is
    measured in spreads of the better half of the set, since errors lie in the other half.
    """
    labelled, expected, both, twice, edges, edges_given, edges_said = sums.T
    held = labelled[labelled > 0]
    usual = 1 + SMALL * (float(np.median(held)) if len(held) else 0.0)
    area = (2 * both + usual) / (labelled + expected + usual) - (twice + usual) / (expected + usual)
    product = edges_given * edges_said
    contour = np.divide(edges, np.sqrt(product), out=np.full(len(sums), np.nan), where=product > 0)
    # A mask without contour has nothing to say about it.
    added: NDArray[np.float64] = log_ndtr(_spreads(area)) + np.nan_to_num(log_ndtr(_spreads(contour)), nan=-np.log(2))
    return added


def _products(given: NDArray[np.float32], said: NDArray[np.float32], width: int) -> Sums:
    """The sums (N, S) of images (N, P) whose rows of `width` are strung together.

    The differences themselves are never made: sum (a' - a)(b' - b) = 2 sum ab - sum a'b - sum ab' with nothing outside
    the image, as Boundary IoU has it. Strung rows compare the last columns with the next row's first: no row is cut.
    """
    ones = np.ones(given.shape[1], np.float32)  # a product with ones takes a third of the time of a sum
    labelled, expected, both, twice = given @ ones, said @ ones, _dot(given, said), _dot(said, said)
    edges, edges_given, edges_said = 4 * both, 4 * labelled, 4 * twice
    for step in (LAG, LAG // ROWS * width):
        late, early, late_said, early_said = given[:, step:], given[:, :-step], said[:, step:], said[:, :-step]
        edges -= _dot(late, early_said) + _dot(early, late_said)
        edges_given -= 2 * _dot(late, early)
        edges_said -= 2 * _dot(late_said, early_said)
    contours = (edges, edges_given.clip(0), edges_said.clip(0))
    return np.stack([labelled, expected, both, twice, *contours], axis=-1).astype(np.float64)


def _dot(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    return (left[:, None, :] @ right[:, :, None])[:, 0, 0]


def _spreads(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance from the median in standard deviations, which the upper quartile tells."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return values
    middle, upper = np.quantile(finite, [0.5, 0.75])
    return np.asarray((values - middle) / max((upper - middle) / 0.6745, 1e-3))


def _class(place: int, classes: int) -> int:
    return 1 if classes == 1 else place


# ---- one object ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Objects:
    """Connected components of one side of one image or of many.

    `image` (K,) index; `row`, `column` (K,) a pixel of it; `pixels` (K,) its area; `belief` (K,) mean calibrated
    probability over it; `covered` (K,) the share that the other side covers; `fill` (K,) its share of its box.
    """

    image: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    pixels: NDArray[np.int64]
    belief: NDArray[np.float64]
    covered: NDArray[np.float64]
    fill: NDArray[np.float64]

    @property
    def evidence(self) -> NDArray[np.float64]:
        """Expected labelled pixels (K,)."""
        return self.belief * self.pixels

    @property
    def alone(self) -> NDArray[np.bool_]:
        """Which (K,) the other side does not know."""
        return self.covered < TOUCHED

    def those(self, chosen: NDArray[np.bool_]) -> Objects:
        """Some of them, by a mask (K,)."""
        return Objects(*(getattr(self, each.name)[chosen] for each in fields(self)))


def objects(
    image: int, chosen: NDArray[np.bool_], other: NDArray[np.bool_], probability: NDArray[np.float32]
) -> Objects:
    """Components of `chosen` (H, W), with what `other` and `probability` (H, W) say of them."""
    index, count = label(chosen, NEIGHBOURS)
    where = index[chosen]
    pixels = np.bincount(where, minlength=count + 1)[1:]
    belief = np.bincount(where, probability[chosen], minlength=count + 1)[1:] / np.maximum(pixels, 1)
    covered = np.bincount(where, other[chosen], minlength=count + 1)[1:] / np.maximum(pixels, 1)
    boxes = find_objects(index)
    corners = [(part[0].start, part[1]) for part in boxes]
    around = [(part[0].stop - part[0].start) * (part[1].stop - part[1].start) for part in boxes]
    columns = [
        part.start + int(np.flatnonzero(index[row, part] == place + 1)[0]) for place, (row, part) in enumerate(corners)
    ]
    rows = np.array([row for row, _ in corners], np.int64)
    fill = pixels / np.maximum(np.array(around, np.float64), 1)
    return Objects(np.full(count, image), rows, np.array(columns, np.int64), pixels, belief, covered, fill)


def join_objects(parts: list[Objects]) -> Objects:
    """The components of many images as one table."""
    return Objects(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in [each.name for each in fields(Objects)])
    )


def large_from(sizes: NDArray[np.float64]) -> float:
    """The size from which on components hold half of all: above it are those that decide an IoU; inf without any."""
    if not sizes.sum() > 0:
        return float("inf")
    falling = np.sort(sizes)[::-1]
    return float(falling[np.searchsorted(falling.cumsum(), falling.sum() / 2)])


def omission_scores(found: Objects) -> NDArray[np.float64]:
    """For each component of the answers (K,): low = the mask lacks it; 1 where the mask has it.

    The share that has at least its evidence, of all components without a label: mostly errors of the model, and weak.
    """
    alone = np.sort(found.evidence[found.alone])
    stronger = len(alone) - np.searchsorted(alone, found.evidence)
    return np.where(found.alone, stronger / max(1, len(alone)), 1.0)


def denial_scores(given: Objects) -> NDArray[np.float64]:
    """For each component of the masks (K,): low = the model denies it, as it does few of at least half its size."""
    order = np.argsort(given.pixels, kind="stable")
    first = np.searchsorted(given.pixels[order], given.pixels / 2)
    return np.array(
        [
            float((given.belief[order[start:]] <= belief).mean())
            for start, belief in zip(first, given.belief, strict=True)
        ]
    )


# ---- whose mask ----------------------------------------------------------------------------------------------


def foreign_masks(
    masks: NDArray[np.uint8], answers: NDArray[np.uint8], groups: NDArray[np.int64], models: NDArray[np.int64]
) -> tuple[tuple[int, int], ...]:
    """Images whose mask surely belongs elsewhere: (image, the one whose mask fits it), arrays as in `score_labels`.

    Contours of answers and masks, less those of the set's mean, are correlated each with each, and with each mask
    mirrored: a decoy, which fits an answer as well by chance as a stranger's mask does. A mask of another group may be
    an image's own when both prefer each other to all others, decoys too; its lead is over the masks that both lie with
    and over the best of all third groups, mirrored or not. It is taken for it from the lead on at which decoys that
    pass the same are at most `FALSE` of what is named (Elias and Gygi, Nature Methods 2007; Barber and Candes, Annals
    of Statistics 2015), or where no stranger leads others so by chance: leads are taken as exponential with the median
    of the set, and the chance of a single such lead anywhere in the set is `CHANCE`. Memory grows with the images, by
    half of their pixels; the time with their square.
    """
    if len(np.unique(groups)) < 3:
        return ()
    fits, mirrored = _fits(masks, answers, models)
    own, images, count = fits.diagonal().copy(), np.arange(len(fits)), len(fits)
    same = groups[:, None] == groups
    # Decoys first: what fits as well as a stranger's mask, as of things that are their own mirror image, counts as one.
    every = np.concatenate([np.where(same, -np.inf, each) for each in (mirrored, fits)], axis=1)
    found, best = every.argmax(1), every.max(1)
    partner = found % count
    # Frames of one video look alike: the lead is over the next group, not over the next frame.
    third = np.where(np.tile(groups[partner][:, None] == groups, 2), -np.inf, every).max(1)
    lead = best - np.maximum(third, np.maximum(own, own[partner]))
    passes = (every.argmax(0)[found] == images) & (lead > 0)
    real = found >= count
    least = min(_by_decoys(lead[passes], real[passes]), _by_chance(np.where(same, -np.inf, fits), groups))
    return tuple((int(image), int(partner[image])) for image in np.flatnonzero(passes & real & (lead >= least)))


def _by_decoys(lead: NDArray[np.float64], real: NDArray[np.bool_]) -> float:
    """The least lead (P,) at which decoys are at most `FALSE` of those that are `real`, one counted more; or inf."""
    for least in np.sort(lead).tolist():
        beyond = lead >= least
        if 1 + (beyond & ~real).sum() <= FALSE * (beyond & real).sum():
            return float(least)
    return float("inf")


def _by_chance(strangers: NDArray[np.float64], groups: NDArray[np.int64]) -> float:
    """The lead of a stranger's mask over those of third groups that no image of fits (N, N) has by chance."""
    best = strangers.max(1)
    second = np.where(groups[strangers.argmax(1)][:, None] == groups, -np.inf, strangers).max(1)
    return max(float(np.median(best - second)), 1e-3) * float(np.log2(len(strangers) / CHANCE))


def _fits(
    masks: NDArray[np.uint8], answers: NDArray[np.uint8], models: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correlation of the contours of each answer with those of each mask (N, N), and of each mask mirrored, all classes
    together."""
    classes, images = answers.shape[1], len(masks)
    probability = {each: calibrated(masks, answers, np.flatnonzero(models == each)) for each in set(models.tolist())}
    products, given_squared = np.zeros((2, images, images)), np.zeros((2, images))
    said_squared = np.zeros(images)
    for each in range(classes):
        said = _from_mean(
            [
                _outline(probability[model][each].take(answer[each], mode="clip") * (mask != IGNORE))
                for answer, mask, model in zip(answers, masks, models.tolist(), strict=True)
            ]
        )
        said_squared += (said**2).sum(1)
        for side, turn in enumerate((1, -1)):
            given = _from_mean(
                [_outline((mask == _class(each, classes))[:, ::turn].astype(np.float32)) for mask in masks]
            )
            products[side] += said @ given.T
            given_squared[side] += (given**2).sum(1)
    straight, mirrored = products / np.sqrt(said_squared[:, None] * given_squared[:, None, :] + 1e-6)
    return straight, mirrored


def _from_mean(outlines: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    stacked = np.stack(outlines)
    return np.asarray(stacked - stacked.mean(0))


def _outline(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Differences down and across, at half the resolution: a vector of one image (H, W)."""
    height, width = (side // 2 * 2 for side in values.shape)
    half = values[:height, :width].reshape(height // 2, 2, width // 2, 2).mean((1, 3))
    return np.concatenate([np.diff(half, axis=0).ravel(), np.diff(half, axis=1).ravel()])


def _refuse(masks: NDArray[np.uint8], answers: NDArray[np.uint8]) -> None:
    if masks.ndim != 3 or answers.ndim != 4 or (len(masks), *masks.shape[1:]) != (len(answers), *answers.shape[2:]):
        raise DataError(
            "`masks` must be (images, height, width) and `answers` (images, classes, height, width) of the same "
            f"images, but are {masks.shape} and {answers.shape}: give one answer for each mask."
        )
