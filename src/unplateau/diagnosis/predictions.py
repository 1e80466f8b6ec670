"""The model in question when only its answers are here: saved probability maps, no weights, and nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unplateau.checks.alignment import AlignmentCheck
from unplateau.checks.check import AbstractCheck, unmeasured
from unplateau.checks.class_index import ClassIndexCheck
from unplateau.checks.diversity import DiversityCheck
from unplateau.checks.domain import DomainCheck
from unplateau.checks.labels import LabelsCheck
from unplateau.checks.leaks import LeaksCheck
from unplateau.checks.metric import MetricCheck, MetricMeasured, definitions
from unplateau.data.answers import Answers, find_answers, on_grid, read_answer, read_answers
from unplateau.data.grid import SMALLEST
from unplateau.data.part import PartSource
from unplateau.data.pictures import choose, read_pictures
from unplateau.data.sources import AbstractSource
from unplateau.data.tasks import task_mask
from unplateau.diagnosis.faults import Faults, concluded, leaked, misreported
from unplateau.diagnosis.repairs import Fault
from unplateau.errors import DataError
from unplateau.experiments.fits import SEEN, Fitted, spread
from unplateau.experiments.plan import Plan, RungPlan, mapped
from unplateau.experiments.run import Run
from unplateau.experiments.views import measure_objects
from unplateau.measures.scoring import score_images
from unplateau.measures.thresholds import BINS, ScoreTable, counts_at, ranking
from unplateau.types import IGNORE, Epoch, Finding, Fold, Pictures, Verdict

PIXELS = 40_000_000
"""Pixels of all images together up to which maps are scored at the size they came in; above it the grid shrinks."""

BASELINE = "baseline"

OF_TRAININGS = ("one-batch overfit", "shuffled labels", "normalisation")
"""Checks of how a model was trained and fed, of which saved answers say nothing."""

INVERTED = 0.2
"""Chance that a true pixel scores more than a false one under which maps are of the background: guesses have a half."""

NAMELESS = "saved predictions"
"""What stands for the name of an extractor that nobody said."""


@dataclass(frozen=True)
class Saved:
    """What is known of saved answers: where they are, the threshold in force, the IoU they are said to have (nan when
    none was said), and the record of the training when there is a log of it.
    """

    folder: Path
    threshold: float = 0.5
    reported: float = math.nan
    epochs: tuple[Epoch, ...] = ()


def answers_given(
    source: AbstractSource,
    said: Saved,
    *,
    positive: Sequence[int] | None = None,
    size: int | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> tuple[Run, Faults]:
    """Saved answers as a `Run` whose only outcome is theirs, and the faults of the data that no training prices.

    The images that have a map are scored; where splits are given, those of train are not but show what was learnt.
    `size` is the long side of the grid that all is scored on: None = as the images came, or what `PIXELS` allows.

    Raises:
        DataError: the data or the maps break a rule, fewer than two groups of images have a map, or the maps are those
            of the background.
    """
    found = find_answers(said.folder, source.names)
    part = PartSource(source, taking_part(source, set(found), limit, seed))
    whole = read_pictures(part, positive=positive, size=size or scoring_size(part), seed=seed)
    indices = [index for index, name in enumerate(whole.names) if name in found]
    pictures = taken(whole, indices)
    at = {name: index for index, name in enumerate(source.names)}
    natives = [source.size(at[name]) for name in pictures.names]
    answers = read_answers([found[name] for name in pictures.names], pictures, natives)
    fold, odd = scored_part(pictures, len(whole))
    pictures = replace(pictures, warnings=(*pictures.warnings, *answers.warnings, *odd))
    run = Run(
        source,
        pictures,
        (fold,),
        measure_objects(pictures),
        Plan((RungPlan(BASELINE, "baseline", "baseline", math.inf, NAMELESS, ""),), BASELINE, ()),
        {BASELINE: (_fitted(answers, pictures, fold, said),)},
        seed,
        said.reported,
        answered=answers.size,
    )
    _refuse_inverted(run)
    exact = None
    if math.isfinite(said.reported):
        exact = metric_at_native(run, {name: found[name] for name in pictures.names}, said.threshold)
    return run, find_untrained(run, whole, exact)


def taking_part(source: AbstractSource, named: set[str], limit: int | None, seed: int) -> tuple[int, ...]:
    """Indices of at most `limit` images with a map and, where there are splits, of as many without, ascending.

    The others are for the questions about the split, and for what classes there are.
    """
    having = [index for index, name in enumerate(source.names) if name in named]
    others = [index for index, name in enumerate(source.names) if name not in named]
    kept = [part[place] for part in (having, others) for place in choose(PartSource(source, part), limit, seed)]
    return tuple(sorted(kept))


def scoring_size(source: AbstractSource) -> int:
    """Long side in pixels of the grid to score on: as the images came, or what `PIXELS` leaves for so many."""
    sizes = np.array([source.size(index) for index in range(len(source))], dtype=float)
    longest = float(np.median(sizes.max(1)))
    shrink = math.sqrt(min(1.0, PIXELS / max(1.0, float(sizes.prod(1).sum()))))
    return max(SMALLEST, round(longest * shrink))


def taken(pictures: Pictures, indices: list[int]) -> Pictures:
    """Some of the pictures, in that order."""

    def of(values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(values[index] for index in indices)

    return replace(
        pictures,
        images=pictures.images[indices],
        masks=pictures.masks[indices],
        names=of(pictures.names),
        groups=of(pictures.groups),
        splits=of(pictures.splits),
    )


def scored_part(pictures: Pictures, images: int) -> tuple[Fold, tuple[str, ...]]:
    """Which pictures report, which only show what was learnt, and what is to be said of it; none chooses.

    Raises:
        DataError: fewer than two groups report, or none of their pixels is of the positive class.
    """
    held = tuple(index for index, split in enumerate(pictures.splits) if split != "train")
    report, fit, said = held, tuple(sorted(set(range(len(pictures))) - set(held))), []
    if not held:
        report, fit = fit, ()
        said.append("Only images of the train part have a map: the IoU says what the model remembers.")
    if len(pictures) < images:
        said.append(f"{len(pictures)} of {images} images have a saved map; the others are not scored.")
    groups = {pictures.groups[index] for index in report}
    if len(groups) < 2:
        raise DataError(
            f"`predictions` must answer images of at least two groups, to choose on one and report on the other; the "
            f"{len(report)} that report are of {len(groups)}. Add maps, or name the groups in groups.csv."
        )
    if pictures.task.binary and not (pictures.masks[list(report)] == 1).any():
        raise DataError(
            f"`predictions` must answer images that hold the positive class; the {len(report)} that report hold none. "
            "Add maps of other images, or check `positive`."
        )
    return Fold(fit, (), report), tuple(said)


def _refuse_inverted(run: Run) -> None:
    table = run.outcomes[BASELINE][0].report
    if not run.binary or not (right := ranking(table)) < INVERTED:
        return
    raise DataError(
        f"`predictions` must hold the probability of the positive class; one of its pixels scores more than another "
        f"in {right:.0%} of all pairs, as if they were of the background. Save 1 - p, or check `positive`."
    )


def metric_at_native(run: Run, files: Mapping[str, Path], threshold: float) -> MetricMeasured:
    """The reported number beside the IoU of the maps on the masks as they came: a grid moves the third decimal."""
    at, task = {name: index for index, name in enumerate(run.source.names)}, run.pictures.task
    counts, pixels = [], []
    for index in run.folds[0].report:
        name = run.pictures.names[index]
        mask = task_mask(run.source.mask(at[name]), task)
        size = (mask.shape[0], mask.shape[1])
        scores = on_grid(read_answer(files[name], task, size).values, size, size)
        counts.append(counts_at(score_images(scores[None], mask[None]), threshold))
        pixels.append(int((mask != IGNORE).sum()))
    joined = np.concatenate(counts)
    iou = run.resampler.interval(run.resampler.sums_of([joined]))
    return MetricMeasured(run.reported, iou, definitions(joined, np.array(pixels)))


def find_untrained(run: Run, whole: Pictures, exact: MetricMeasured | None = None) -> Faults:
    """Every question about the data and the number, and those faults that need no training to price.

    `whole` are the pictures with and without a map: the questions about the split are asked of all. `exact` is the
    metric measured at native size, where a number was reported.
    """
    everything = replace(run, pictures=whole)
    found = [_finding(run, check) for check in (AlignmentCheck(), ClassIndexCheck(), LabelsCheck())]
    leaks, leak = _leaks(run, everything)
    metric, wrong = concluded(run, MetricCheck(), exact or MetricCheck().measure(run), misreported)
    found += [leaks, metric, _finding(everything, DomainCheck()), _diversity(everything)]
    found += [unmeasured(check) for check in OF_TRAININGS]
    return Faults(tuple(found), tuple(fault for fault in (leak, wrong) if fault))


# ---- the one outcome -----------------------------------------------------------------------------------------


def _fitted(answers: Answers, pictures: Pictures, fold: Fold, said: Saved) -> Fitted:
    outputs = pictures.task.outputs
    nothing = ScoreTable(np.zeros((0, outputs, 2, BINS), np.int64), np.zeros((0, outputs, 3), np.int64))
    seen = spread(fold.fit, SEEN) if fold.fit else ()
    return Fitted(
        inner=nothing,
        report=answers.table.take(np.array(fold.report)),
        seen=answers.table.take(np.array(seen)) if seen else nothing,
        epochs=said.epochs,
        seconds=0.0,
        maps=answers.maps[list(mapped((fold,), 0, len(pictures)))],
        fixed=said.threshold if pictures.task.binary else None,
    )


# ---- what can be asked ---------------------------------------------------------------------------------------


def _finding(run: Run, check: AbstractCheck[Any]) -> Finding:
    return check.judge(check.measure(run))


def _leaks(run: Run, everything: Run) -> tuple[Finding, Fault | None]:
    if not _knows_training(everything.pictures):
        claim = "Not asked: no image is named as of the train part, so that none can be in both."
        return Finding("leaks", Verdict.UNDETERMINED, claim), None
    return concluded(run, LeaksCheck(), LeaksCheck().measure(everything), leaked)


def _diversity(everything: Run) -> Finding:
    if _knows_training(everything.pictures):
        return _finding(everything, DiversityCheck())
    claim = "Not asked: no image is named as of the train part, so that how diverse it is cannot be said."
    return Finding("diversity", Verdict.UNDETERMINED, claim)


def _knows_training(pictures: Pictures) -> bool:
    return pictures.splits.count("train") > 1 and len(set(pictures.splits)) > 1
