"""Are the labels wrong: objects that masks lack or invent, masks of other images, contours that wander."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt, label
from scipy.stats import beta

from unplateau.checks.anatomy import thresholds
from unplateau.checks.check import AbstractCheck
from unplateau.experiments.run import Run
from unplateau.measures.intervals import COVERAGE, bootstrap
from unplateau.measures.label_scores import (
    NEIGHBOURS,
    Objects,
    calibrated,
    foreign_masks,
    join_objects,
    large_from,
    objects,
    score_labels,
)
from unplateau.measures.omissions import draw_lots
from unplateau.types import IGNORE, Finding, Interval, Pictures, Verdict

EXAMPLES = 20

USUAL_SHARE = 0.03
"""Share of large objects on which a sound model and a sound mask differ outright: only more than that is excess."""

KNOWN = 3.0
"""How many times the odds of any pixel the usual object must have for a model to know it (Jeffreys: substantial)."""

FEWEST = 10
"""Large objects under which a share of them says nothing."""


@dataclass(frozen=True)
class Spot:
    """An object of one picture, by a pixel of it and the class index it has (in the answer or in the mask)."""

    picture: int
    row: int
    column: int
    value: int


@dataclass(frozen=True)
class LabelsMeasured:
    """What looks wrong in the masks, of the large objects, which hold half of all object area.

    `omitted` is the share of large objects of the answers that no mask has, `invented` the share of large objects of
    the masks that no answer has and that the model believes in no more than in any pixel; `counts` how many large
    objects those are shares of. `foreign` is the share of pictures whose mask surely belongs to another one.
    `wander` is the mean distance, in pixels, of the masks' contours from those of the answers; `beyond` what of it
    exceeds the median picture's, which is taken for the model's own. `likely` is the share of pictures with an
    omitted object, an invented one or a foreign mask. `spots`, `denied` and `partners` (picture, whose mask fits it)
    say where; `by_lot` whether labels fell by lot; `cuts` the threshold of each answer in steps of 1 / BINS; `worst`
    the lowest scores, worst first.
    """

    omitted: Interval
    invented: Interval
    foreign: Interval
    wander: Interval
    beyond: Interval
    likely: Interval
    counts: tuple[int, int]
    spots: tuple[Spot, ...]
    denied: tuple[Spot, ...]
    partners: tuple[tuple[int, int], ...]
    by_lot: bool
    cuts: tuple[int, ...]
    worst: tuple[str, ...]


@final
class LabelsCheck(AbstractCheck[LabelsMeasured]):
    """Whether masks are wrong, and which.

    What it measures: scores of models that did not train on a picture, calibrated on the masks they are held against.
        Large confident objects of the answers that the mask lacks; whether labels fell among like objects by lot; large
        objects of the mask that the model sees nothing of; masks that fit another picture's answer far better than
        their own picture's; the distance between contours. Every picture gets a score that compares it with the set
        and with the model's own doubt.

    Why it matters: no model scores above its masks, and a wrong mask also teaches the wrong thing.

    When it misleads: where splits are given, pictures that train are answered by a model that has seen their masks, and
        an error that it learnt by heart does not show; a weak model has few confident objects, and then the shares rest
        on few or none; wandering contours are measured but not judged, since a model's own contours wander too; an
        object that is seldom labelled on purpose looks omitted.

    What to do next: look at the pictures named; correct them or set them to 255, and train again.

    Reference: Rottmann and Reese, WACV 2023 (components); Zadrozny and Elkan, KDD 2002 (calibration).
    """

    def measure(self, run: Run) -> LabelsMeasured:
        """Shares with intervals over objects or pictures."""
        shown = np.arange(len(run.pictures))
        masks, answers = run.pictures.masks.numpy(), run.answers_of(run.witness)
        models, cuts = _models(run), thresholds(run, run.witness)
        found, given, wander = _compared(run, shown, models, cuts)
        # Less likely labelled than not: whatever it is, it is no confident object.
        likely = found.belief >= 0.5
        large = likely & (found.evidence >= large_from(found.evidence[likely & ~found.alone]))
        claimed = given.pixels >= large_from(given.pixels.astype(np.float64))
        decisive = found.evidence >= large_from(found.evidence[~found.alone]) / 2
        seen = ~run.unseen[found.image]
        by_lot = _by_lot(run, found.those(decisive & run.unseen[found.image]), found.those(decisive & seen))
        # Where labels were left out by lot no object is confident, and yet what the mask lacks is what it should have.
        large = decisive if by_lot else large
        lacking = large & found.alone
        base = _base_rate(masks[shown], run.pictures.task.outputs)
        claimed &= _knowing(given, claimed, models, base)
        denied = claimed & given.alone & (given.belief <= base)
        pairs = foreign_masks(masks[shown], answers[shown], run.resampler.groups[shown], models[shown])
        partners = tuple((int(shown[one]), int(shown[other])) for one, other in pairs)
        bad = {*found.image[lacking].tolist(), *given.image[denied].tolist(), *(picture for picture, _ in partners)}
        scores = score_labels(masks[shown], answers[shown], models[shown])
        generator = np.random.default_rng(run.seed)
        finite = wander[np.isfinite(wander)]
        return LabelsMeasured(
            omitted=share(int(lacking.sum()), int(large.sum())),
            invented=share(int(denied.sum()), int(claimed.sum())),
            foreign=share(len(partners), len(shown)),
            wander=_resampled(finite, _mean, generator),
            beyond=_resampled(finite, _mean_beyond_median, generator),
            likely=share(len(bad), len(shown)),
            counts=(int(large.sum()), int(claimed.sum())),
            spots=_spots(found, lacking, answers, cuts),
            denied=_spots(given, denied, masks, None),
            partners=partners,
            by_lot=by_lot,
            cuts=tuple(cuts.tolist()),
            worst=tuple(run.pictures.names[shown[place]] for place in np.argsort(scores)[:EXAMPLES].tolist()),
        )

    def judge(self, measured: LabelsMeasured) -> Finding:
        """Concern when more is wrong than differs in a sound set; undetermined when there was too little to look at."""
        numbers = {name: getattr(measured, name) for name in ("omitted", "invented", "foreign", "beyond", "likely")}
        said = {
            "objects that masks lack": measured.omitted,
            "objects that masks invent": measured.invented,
        }
        excess = [
            f"{name}: {value:.1%} of the large ones"
            for (name, value), count in zip(said.items(), measured.counts, strict=True)
            if count >= FEWEST and value.low > USUAL_SHARE
        ]
        # A mask in the wrong place leaves two pictures wrong: one alone is rather a likeness.
        if len(measured.partners) > 1:
            excess.append(f"masks of another picture: {len(measured.partners)} surely")
        if excess:
            claim = "Masks look wrong: " + "; ".join(excess) + "."
            return Finding("labels", Verdict.CONCERN, claim, None, numbers, measured.worst)
        if measured.counts[0] < FEWEST:
            claim = f"Only {measured.counts[0]} large objects were answered, too few to tell omissions from errors."
            return Finding("labels", Verdict.UNDETERMINED, claim, None, numbers, measured.worst)
        claim = f"Of {measured.counts[0]} large objects of the answers the masks lack {measured.omitted.mean:.1%}, no "
        claim += "more than a sound set shows. Contours may still wander: that cannot be told from the model's own."
        return Finding("labels", Verdict.SOUND, claim, None, numbers, measured.worst)


def share(part: int, whole: int) -> Interval:
    """A share with its exact interval (Clopper and Pearson); nan of nothing."""
    if not whole:
        return Interval(float("nan"), float("nan"), float("nan"))
    tail = (1 - COVERAGE) / 2
    low = float(beta.ppf(tail, part, whole - part + 1)) if part else 0.0
    high = float(beta.ppf(1 - tail, part + 1, whole - part)) if part < whole else 1.0
    return Interval(part / whole, low, high)


def repaired(pictures: Pictures, answers: NDArray[np.uint8], measured: LabelsMeasured) -> Pictures:
    """The pictures with what was surely wrong in their masks put right: same images, same order.

    Omitted objects are added as the answers (N, C, H, W) have them, or set to 255 where labels fell by lot: an answer
    in such doubt has not their shape, and would be scored on itself. Invented ones become 255; where pictures surely
    carry each other's masks these go back, and a mask that is surely foreign but whose own is not known becomes 255.
    """
    given = pictures.masks.numpy()
    masks = given.copy()
    for spot in measured.spots:
        answer = _answer(answers[spot.picture], measured.cuts[spot.picture])
        lacking = _part(answer == spot.value, spot)
        if measured.by_lot:
            lacking = binary_dilation(lacking, NEIGHBOURS) & (given[spot.picture] != spot.value)
        lacking &= given[spot.picture] != IGNORE
        masks[spot.picture][lacking] = IGNORE if measured.by_lot else spot.value
    for spot in measured.denied:
        masks[spot.picture][_part(given[spot.picture] == spot.value, spot)] = IGNORE
    fits = dict(measured.partners)
    for picture, partner in fits.items():
        # A mask goes back only if the picture that carries it has another to take in its turn.
        masks[picture] = given[partner] if partner in fits else IGNORE
    return replace(pictures, masks=torch.from_numpy(masks))


def _part(chosen: NDArray[np.bool_], spot: Spot) -> NDArray[np.bool_]:
    index, _ = label(chosen, NEIGHBOURS)
    part: NDArray[np.bool_] = (index == index[spot.row, spot.column]) & chosen
    return part


def _answer(said: NDArray[np.uint8], cut: int) -> NDArray[np.uint8]:
    return (said[0] >= cut).astype(np.uint8) if len(said) == 1 else said.argmax(0).astype(np.uint8)


def _by_lot(run: Run, unseen: Objects, seen: Objects) -> bool:
    """Whether labels fell by lot among the decisive objects of the answers.

    What a model invents on new images it does not invent on those it was trained on; what masks lack, they lack there.
    """
    lots = draw_lots(unseen, np.random.default_rng(run.seed))
    there_too = not len(seen.image) or float(seen.alone.mean()) >= lots.share / 2
    return lots.random and there_too


def _models(run: Run) -> NDArray[np.int64]:
    """The fold (N,) whose model answers each picture."""
    models = np.zeros(len(run.pictures), np.int64)
    for number in reversed(range(len(run.folds))):
        models[list(run.folds[number].report)] = number
    return models


def _compared(
    run: Run, shown: NDArray[np.int64], models: NDArray[np.int64], cuts: NDArray[np.int64]
) -> tuple[Objects, Objects, NDArray[np.float64]]:
    """Objects of the answers, objects of the masks, and the distance of contours (n,), picture by picture."""
    masks, answers = run.pictures.masks.numpy(), run.answers_of(run.witness)
    probability = {each: calibrated(masks, answers, shown[models[shown] == each]) for each in set(models[shown])}
    found, given, wander = [], [], []
    for place in shown.tolist():
        answer, mask = _answer(answers[place], cuts[place]), masks[place]
        counted, distances = mask != IGNORE, []
        for each, value in enumerate(_values(run)):
            believed = np.where(counted, probability[models[place]][each].take(answers[place, each], mode="clip"), 0)
            ours, theirs = (answer == value) & counted, mask == value
            found.append(objects(place, ours, theirs, believed))
            given.append(objects(place, theirs, ours, believed))
            distances.append(contour_distance(theirs, ours))
        finite = [distance for distance in distances if np.isfinite(distance)]
        wander.append(float(np.mean(finite)) if finite else float("nan"))
    return join_objects(found), join_objects(given), np.array(wander)


def _values(run: Run) -> list[int]:
    return [1] if run.binary else list(range(run.pictures.task.outputs))


def contour_distance(given: NDArray[np.bool_], said: NDArray[np.bool_]) -> float:
    """Median distance in pixels from the contour of `given` to that of `said` (H, W); nan if either has none."""
    ours, theirs = (mask & ~binary_erosion(mask, border_value=1) for mask in (given, said))
    if not ours.any() or not theirs.any():
        return float("nan")
    return float(np.median(distance_transform_edt(~theirs)[ours]))


def _base_rate(masks: NDArray[np.uint8], outputs: int) -> float:
    """How much a model believes that knows nothing: the share of the positive class, or an even guess of several."""
    if outputs > 1:
        return 1 / outputs
    return float((masks == 1).sum() / max(1, (masks != IGNORE).sum()))


def _knowing(given: Objects, claimed: NDArray[np.bool_], models: NDArray[np.int64], base: float) -> NDArray[np.bool_]:
    """Which objects (K,) were answered by a model that knows the usual large one: who knows none denies them all."""
    odds = given.belief * (1 - base) / np.maximum((1 - given.belief) * base, 1e-6)
    of_model = models[given.image]
    knows = [each for each in np.unique(of_model[claimed]) if np.median(odds[claimed & (of_model == each)]) >= KNOWN]
    return np.isin(of_model, knows)


def _spots(
    found: Objects, which: NDArray[np.bool_], of: NDArray[np.uint8], cuts: NDArray[np.int64] | None
) -> tuple[Spot, ...]:
    spots = []
    for place in np.flatnonzero(which).tolist():
        picture, row, column = (int(each[place]) for each in (found.image, found.row, found.column))
        values = of[picture] if cuts is None else _answer(of[picture], int(cuts[picture]))
        spots.append(Spot(picture, row, column, int(values[row, column])))
    return tuple(spots)


def _resampled(
    values: NDArray[np.float64], statistic: Callable[[NDArray[np.float64]], float], generator: np.random.Generator
) -> Interval:
    if not len(values):
        return Interval(float("nan"), float("nan"), float("nan"))
    return bootstrap(values, statistic, generator, resamples=200)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean())


def _mean_beyond_median(values: NDArray[np.float64]) -> float:
    return float(values.mean() - np.median(values))
