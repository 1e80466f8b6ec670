"""The ternary decision: P where a score reaches alpha, not-P where it stays below beta, U between them.

alpha and beta come from images that took no part in training or choosing, by conformal risk control (Angelopoulos et
al., arXiv 2208.02814, theorem 1). For a threshold t and an image, let the loss L(t) be the share of its true pixels
scored below t (missed), or the share of its other pixels scored t or more (spurious). Both are at most 1 and monotone
in t. With n exchangeable calibration images of mean loss R(t), the most permissive t with

    n / (n + 1) R(t) + 1 / (n + 1) <= eps

has an expected loss of at most eps on the next image, over the draw of both. Each side takes the most permissive
threshold, so no other pair under this rule leaves less to U. Nothing is allowed unless (n + 1) eps >= 1: then the
answer is that calibration is infeasible and how many units it lacks, never a threshold.

An image without the class says nothing about missed pixels and does not count for them, so the promise is about images
that have it. Frames of one video are not exchangeable with those of another: give `groups`, and the unit is the group,
whose loss is the mean over its images. The promise is on average, not for each image; and it is void when the images
to come differ from those of the calibration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unplateau.errors import DataError
from unplateau.measures.thresholds import BINS, THRESHOLDS, ScoreTable, counts_of, iou, iou_by_threshold
from unplateau.types import IGNORE

NOT_P, P, U = 0, 1, 2
"""Values of a decision."""

GRID: NDArray[np.float64] = np.append(THRESHOLDS, np.inf)
"""Thresholds for score maps: none reaches the last."""

ROUNDING = 1e-12
"""Slack of the comparison with eps, for thresholds that meet it exactly."""

Floats = NDArray[np.float64]
Groups = Sequence[str] | NDArray[Any] | None


@dataclass(frozen=True)
class Limit:
    """One threshold and what stands behind it.

    `risk` is the mean loss on the calibration units, `bound` what conformal risk control makes of it, at most
    `tolerance`. `threshold` is 0 (beta) or inf (alpha) when nothing but U is safe on this side, and nan when `lacking`,
    the number of units that calibration still needs, is not 0.
    """

    threshold: float
    tolerance: float
    risk: float
    bound: float
    units: int
    lacking: int


@dataclass(frozen=True)
class Ternary:
    """P from `alpha` on, not-P below `beta`, U between.

    `overlap` is None, or (alpha, beta) as each risk alone would have it when alpha < beta. Any one threshold between
    them then keeps both promises, since moving beta down and alpha up only lowers the losses: there is no U, and both
    are the threshold between them with the highest IoU on the calibration images (the middle of those that tie).
    `unit` is what was taken as exchangeable: "image" or "group".
    """

    alpha: Limit
    beta: Limit
    overlap: tuple[float, float] | None = None
    unit: str = "image"

    @property
    def feasible(self) -> bool:
        """Whether there was enough to calibrate both thresholds on."""
        return self.alpha.lacking == 0 and self.beta.lacking == 0

    @property
    def shortage(self) -> str:
        """What calibration lacks, in one sentence; "" when it lacks nothing."""
        sides = [
            f"{limit.lacking} more {self.unit}(s) {what} (a tolerance of {limit.tolerance:g} needs "
            f"{limit.units + limit.lacking}; its {limit.units} allow {1 / (limit.units + 1):.3g})"
            for limit, what in ((self.beta, "with the class"), (self.alpha, "with anything but the class"))
            if limit.lacking
        ]
        return f"Calibration needs {' and '.join(sides)}: add them or tolerate more." if sides else ""


@dataclass(frozen=True)
class Achieved:
    """What a decision does on a table: losses and share of U, means over units; nan where none counts.

    `unknown` is the share of all counted pixels in U, `unknown_true` of the true ones, `unknown_other` of the others.
    `units` are the numbers of units behind `missed`, `spurious` and `unknown`.
    """

    missed: float
    spurious: float
    unknown: float
    unknown_true: float
    unknown_other: float
    units: tuple[int, int, int]


# ---- calibrating ---------------------------------------------------------------------------------------------


def calibrate(table: ScoreTable, missed: float, spurious: float, groups: Groups = None) -> tuple[Ternary, ...]:
    """The decision for each class of a table of calibration images.

    `missed` bounds the expected share of an image's true pixels declared not-P, `spurious` that of its other pixels
    declared P, both in 0..1. `groups` (N,) names the group of each image.

    Raises:
        DataError: a tolerance outside 0..1, or groups that are not one for each image.
    """
    _check(missed, spurious, len(table), groups)
    curves = iou_by_threshold(table)
    return tuple(
        _calibrated(GRID, _pixel_risks(table.histograms[:, index], groups), (missed, spurious), curves[index], groups)
        for index in range(table.histograms.shape[1])
    )


def calibrate_labels(
    scores: NDArray[np.floating], truth: NDArray[Any], missed: float, spurious: float, groups: Groups = None
) -> Ternary:
    """The decision for labels of whole images, from scores (N,) and truth (N,): 1 true, 0 not, 255 or nan not counted.

    Thresholds are scores of the calibration images themselves, so nothing is lost to rounding.

    Raises:
        DataError: a tolerance outside 0..1, lengths that differ, a score that is no number, or truth of another kind.
    """
    scores, truth = np.asarray(scores, np.float64), np.asarray(truth, np.float64)
    if scores.ndim != 1 or scores.shape != truth.shape:
        raise DataError(
            f"`scores` and `truth` must be one number an image; got {scores.shape} and {truth.shape}. Give both (N,)."
        )
    _check(missed, spurious, len(scores), groups)
    counted = np.isfinite(truth) & (truth != IGNORE)
    if not np.isin(truth[counted], (0, 1)).all():
        raise DataError(
            f"`truth` must be 0, 1 or {IGNORE}; got {np.unique(truth[counted])[:5]}. Take one class a time."
        )
    if not np.isfinite(scores[counted]).all():
        unusable = int((~np.isfinite(scores[counted])).sum())
        raise DataError(f"`scores` must be finite numbers; {unusable} are not. Find out why the model gave them.")
    grid, place = np.unique(np.where(counted, scores, np.inf), return_inverse=True)
    grid = grid if len(grid) and np.isinf(grid[-1]) else np.append(grid, np.inf)
    risks = _label_risks(place, len(grid), truth == 1, truth == 0, groups)
    true, every = (np.bincount(place, each, len(grid)) for each in (truth == 1, counted))
    hit, predicted = (each[::-1].cumsum()[::-1] for each in (true, every))
    curve = iou(counts_of(hit, predicted, np.full_like(hit, true.sum())))
    return _calibrated(grid, risks, (missed, spurious), curve, groups)


Risks = tuple[tuple[Floats, int], tuple[Floats, int]]
"""Mean loss at each threshold and number of units, of missed and of spurious."""


def _calibrated(grid: Floats, risks: Risks, tolerances: tuple[float, float], curve: Floats, groups: Groups) -> Ternary:
    """The last threshold that misses little enough, the first that is spurious little enough, and one if they cross."""
    (missed, had), (spurious, others) = risks
    low, high = _allowed(missed, had, tolerances[0]), _allowed(spurious, others, tolerances[1])
    below, above = (int(low[-1]) if len(low) else None), (int(high[0]) if len(high) else None)
    overlap = None
    if below is not None and above is not None and above < below:
        overlap = (float(grid[above]), float(grid[below]))
        between = np.nan_to_num(curve[above : below + 1])
        ties = np.flatnonzero(between >= between.max() - ROUNDING)
        below = above = above + int(ties[len(ties) // 2])
    return Ternary(
        alpha=_limit(grid, above, spurious, others, tolerances[1]),
        beta=_limit(grid, below, missed, had, tolerances[0]),
        overlap=overlap,
        unit="image" if groups is None else "group",
    )


def _allowed(risk: Floats, units: int, tolerance: float) -> NDArray[np.int64]:
    """Thresholds at which conformal risk control promises `tolerance`; none when there are too few units."""
    return np.flatnonzero(_bound(risk, units) <= tolerance + ROUNDING) if units else np.zeros(0, np.int64)


def _bound(risk: Floats, units: int) -> Floats:
    return (units * risk + 1) / (units + 1)


def _limit(grid: Floats, place: int | None, risk: Floats, units: int, tolerance: float) -> Limit:
    if place is None:
        lacking = max(1, math.ceil(1 / tolerance - 1e-9) - 1 - units)
        return Limit(math.nan, tolerance, math.nan, math.nan, units, lacking)
    bound = float(_bound(risk[place : place + 1], units)[0])
    return Limit(float(grid[place]), tolerance, float(risk[place]), bound, units, 0)


# ---- risks ---------------------------------------------------------------------------------------------------


def _pixel_risks(histograms: NDArray[np.int64], groups: Groups) -> Risks:
    """Risks of histograms (N, 2, BINS) at each threshold of `GRID`."""
    below = np.zeros((len(histograms), 2, BINS + 1))
    np.cumsum(histograms, axis=-1, out=below[..., 1:])
    total = below[..., -1]
    share = np.divide(below, total[..., None], out=np.zeros_like(below), where=total[..., None] > 0)
    true, others = weights(total[:, 1] > 0, groups), weights(total[:, 0] > 0, groups)
    return (true[0] @ share[:, 1], true[1]), (others[0] @ (1 - share[:, 0]), others[1])


def _label_risks(
    place: NDArray[np.int64], thresholds: int, true: NDArray[np.bool_], others: NDArray[np.bool_], groups: Groups
) -> Risks:
    """Risks of image labels, whose scores are the thresholds at `place` (N,)."""
    (had, units), (rest, other_units) = weights(true, groups), weights(others, groups)
    missed = np.bincount(place, had, thresholds).cumsum()
    spurious = np.bincount(place, rest, thresholds)[::-1].cumsum()[::-1]
    return (np.append(0.0, missed[:-1]), units), (spurious, other_units)


def weights(counted: NDArray[np.bool_], groups: Groups) -> tuple[Floats, int]:
    """What each image adds to a mean over units, and the number of units: images, or groups of counted images."""
    if groups is None:
        units = int(counted.sum())
        return counted / max(units, 1), units
    _, place = np.unique(np.asarray(groups), return_inverse=True)
    sizes = np.bincount(place, counted)
    units = int((sizes > 0).sum())
    return counted / np.maximum(sizes[place], 1) / max(units, 1), units


def _check(missed: float, spurious: float, images: int, groups: Groups) -> None:
    for name, value in (("missed", missed), ("spurious", spurious)):
        if not 0 < value < 1:  # also refuses nan
            raise DataError(f"`{name}` must be a share between 0 and 1, such as 0.05; got {value}. Give another.")
    if groups is not None and len(groups) != images:
        raise DataError(f"`groups` must name one group an image; got {len(groups)} for {images}. Give one for each.")


# ---- deciding ------------------------------------------------------------------------------------------------


def decide(scores: NDArray[np.floating], ternary: Ternary) -> NDArray[np.uint8]:
    """`NOT_P`, `P` or `U` for each score of a map of one class; a score that is no number is U.

    Scores are rounded down to steps of 1 / BINS first, as in the tables that alpha and beta come from.

    Raises:
        DataError: the calibration was infeasible.
    """
    _refuse_infeasible(ternary)
    known = np.isfinite(scores)
    bins = np.minimum((np.where(known, scores, 0) * BINS).astype(np.int64), BINS - 1)
    return _decided(bins, known, _place(ternary.beta.threshold), _place(ternary.alpha.threshold))


def decide_labels(scores: NDArray[np.floating], ternary: Ternary) -> NDArray[np.uint8]:
    """`NOT_P`, `P` or `U` for the score of each image; a score that is no number is U.

    Raises:
        DataError: the calibration was infeasible.
    """
    _refuse_infeasible(ternary)
    scores = np.asarray(scores, np.float64)
    return _decided(scores, np.isfinite(scores), ternary.beta.threshold, ternary.alpha.threshold)


def _decided(scores: NDArray[Any], known: NDArray[np.bool_], beta: float, alpha: float) -> NDArray[np.uint8]:
    decision = np.full(scores.shape, U, np.uint8)
    decision[known & (scores < beta)] = NOT_P
    decision[known & (scores >= alpha)] = P
    return decision


def _place(threshold: float) -> int:
    """The index of a threshold in `GRID`."""
    return BINS if math.isinf(threshold) else round(threshold * BINS)


def _refuse_infeasible(ternary: Ternary) -> None:
    if not ternary.feasible:
        raise DataError(f"A ternary decision must be calibrated. {ternary.shortage}")


# ---- reading what came of it ---------------------------------------------------------------------------------


def achieved(table: ScoreTable, ternaries: Sequence[Ternary], groups: Groups = None) -> tuple[Achieved, ...]:
    """Losses and share of U of each class's decision on a table, as a rule of other images than the calibration's.

    Raises:
        DataError: a calibration was infeasible, or decisions or groups that are not one for each class or image.
    """
    classes = table.histograms.shape[1]
    if len(ternaries) != classes:
        raise DataError(f"`ternaries` must be one a class; got {len(ternaries)} for {classes}. Calibrate each class.")
    _check(0.5, 0.5, len(table), groups)
    return tuple(_achieved(table.histograms[:, index], ternaries[index], groups) for index in range(classes))


def _achieved(histograms: NDArray[np.int64], ternary: Ternary, groups: Groups) -> Achieved:
    _refuse_infeasible(ternary)
    below, above = _place(ternary.beta.threshold), _place(ternary.alpha.threshold)
    parts = np.stack([histograms[..., :below].sum(-1), histograms[..., above:].sum(-1)], axis=-1)
    total = histograms.sum(-1)
    unsure = total - parts.sum(-1)
    missed, had = _mean_share(parts[:, 1, 0], total[:, 1], groups)
    spurious, others = _mean_share(parts[:, 0, 1], total[:, 0], groups)
    unknown, every = _mean_share(unsure.sum(-1), total.sum(-1), groups)
    unknown_true, _ = _mean_share(unsure[:, 1], total[:, 1], groups)
    unknown_other, _ = _mean_share(unsure[:, 0], total[:, 0], groups)
    return Achieved(missed, spurious, unknown, unknown_true, unknown_other, (had, others, every))


def _mean_share(part: NDArray[np.int64], total: NDArray[np.int64], groups: Groups) -> tuple[float, int]:
    share = np.divide(part, total, out=np.zeros(len(total)), where=total > 0)
    weight, units = weights(total > 0, groups)
    return (float(weight @ share) if units else math.nan), units


def restored(saved: Mapping[str, Any]) -> Ternary:
    """A decision from what JSON keeps of it, where numbers that do not exist are null.

    Raises:
        DataError: it is not what was saved.
    """
    try:
        beta, alpha = (_restored_limit(saved[name], absent) for name, absent in (("beta", 0.0), ("alpha", math.inf)))
        overlap = None if saved["overlap"] is None else (float(saved["overlap"][0]), float(saved["overlap"][1]))
        return Ternary(alpha, beta, overlap, str(saved["unit"]))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"A saved decision must be whole; {error!r} is wrong with this one. Calibrate again."
        ) from error


def _restored_limit(saved: Mapping[str, Any], absent: float) -> Limit:
    lacking = int(saved["lacking"])
    numbers = {name: math.nan if saved[name] is None else float(saved[name]) for name in ("risk", "bound")}
    threshold = saved["threshold"]
    if threshold is None:
        threshold = math.nan if lacking else absent
    return Limit(float(threshold), float(saved["tolerance"]), units=int(saved["units"]), lacking=lacking, **numbers)
