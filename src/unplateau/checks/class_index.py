"""Does the positive class carry another id in some of the files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import hypergeom

from unplateau.checks.check import AbstractCheck
from unplateau.data.grid import fit_mask, place
from unplateau.data.tasks import task_mask
from unplateau.experiments.run import Run
from unplateau.measures.intervals import bootstrap
from unplateau.measures.thresholds import BINS
from unplateau.types import IGNORE, Finding, Interval, Pictures, Size, Verdict

TOGETHER = 0.1
"""Share of the files of an id that may hold the positive class too: one that was renumbered does so hardly ever."""

LIKENESS = 0.5
"""An id is taken for the positive class when the model answers it at least half as surely."""

LEARNT = 0.05
"""Least lift of the answers on the positive class itself: a model that has not learnt it can name no other."""

ALPHA = 0.05
"""Chance that an id keeps apart from the positive class by accident, over all ids."""

# Axes: F files, H W pixels of the working grid.


@dataclass(frozen=True)
class Suspect:
    """An id that may be the positive class in the `files` that lack it.

    `share` of the files with either hold this id alone; `together` hold both; `chance` is that of so few by accident.
    `likeness` is how much surer the model's unseen answers are inside the id than elsewhere in the same picture, over
    the same for the positive class: 1 when it answers both alike, 0 when it passes the id by.
    """

    id: int
    files: tuple[str, ...]
    share: float
    together: int
    chance: float
    likeness: Interval


@dataclass(frozen=True)
class ClassIndexMeasured:
    """The ids that keep apart from the positive class, the likest first; and the lift of the answers on that class."""

    positive: tuple[int, ...]
    suspects: tuple[Suspect, ...]
    lift: float
    files: int


@final
class ClassIndexCheck(AbstractCheck[ClassIndexMeasured]):
    """Whether the positive class has another number in part of the files.

    What it measures: the ids of each mask file; for every id that is found almost only where the positive id is not,
        how much surer the baseline's answers, from models that did not train on the picture, are inside it than
        elsewhere, as a share of the same on the positive class.

    Why it matters: those objects train and score as background: the model is taught to miss them and punished for
        finding them.

    When it misleads: a class that looks like the positive one and never occurs with it is answered alike by a weak
        model; a model that has not learnt the class names nothing; with several classes nothing is asked.

    What to do next: open a few of the files named, and renumber them.

    Reference: the answers to unseen images as a judge of labels, Northcutt et al., arXiv 1911.00068.
    """

    def measure(self, run: Run) -> ClassIndexMeasured:
        """The ids that keep apart, with their files and their likeness."""
        if not run.binary:
            return ClassIndexMeasured((), (), float("nan"), 0)
        positive = run.pictures.task.positive
        pixels, sure = _by_file(run)
        holds = pixels > 0
        has_positive: NDArray[np.bool_] = np.asarray(holds[:, list(positive)].any(1))
        lifts = _lift(pixels, sure, list(positive))
        known = run.unseen & has_positive & np.isfinite(lifts)
        lift = float(np.mean(lifts[known])) if known.any() else float("nan")
        others = [each for each in np.flatnonzero(holds.any(0)).tolist() if each not in positive]
        apart = [each for each in others if _keeps_apart(holds[:, each], has_positive)]
        suspects = [
            _suspect(run, each, holds[:, each], has_positive, _lift(pixels, sure, [each]), lifts, len(apart))
            for each in apart
        ]
        ranked = sorted(suspects, key=lambda each: -np.nan_to_num(each.likeness.mean))
        return ClassIndexMeasured(positive, tuple(ranked), lift, len(holds))

    def judge(self, measured: ClassIndexMeasured) -> Finding:
        """Concern when an id that keeps apart is surely answered as the positive class is."""
        if not measured.positive:
            return Finding("class index", Verdict.SOUND, "With several classes no id stands for another.")
        found = suspected(measured)
        numbers = {"suspects": measured.suspects, "lift": measured.lift}
        if found:
            first = found[0]
            claim = (
                f"In {len(first.files)} files ({first.share:.0%} of those with either) the id {first.id} marks what "
            )
            claim += (
                f"{_said(measured)} marks elsewhere: the model answers it {first.likeness:.2f} times as surely, and "
            )
            claim += f"{first.together} files hold both."
            return Finding("class index", Verdict.CONCERN, claim, None, numbers, first.files[:8])
        open_ids = [each for each in measured.suspects if not each.likeness.high < LIKENESS]
        if open_ids and (not measured.lift >= LEARNT or any(each.chance <= ALPHA for each in open_ids)):
            listed = ", ".join(str(each.id) for each in open_ids[:5])
            claim = f"The id {listed} keeps apart from {_said(measured)}, but the answers do not tell what it is."
            return Finding("class index", Verdict.UNDETERMINED, claim, None, numbers, open_ids[0].files[:8])
        claim = f"No other id is used in the place of {_said(measured)}."
        return Finding("class index", Verdict.SOUND, claim, None, numbers)


def suspected(measured: ClassIndexMeasured) -> tuple[Suspect, ...]:
    """The ids that `judge` is concerned about."""
    if not measured.lift >= LEARNT:
        return ()
    return tuple(each for each in measured.suspects if each.likeness.low > LIKENESS and each.chance <= ALPHA)


def repaired(run: Run, measured: ClassIndexMeasured) -> Pictures:
    """The pictures with the masks of the suspected files read again, their id taken for the positive class."""
    pictures = run.pictures
    masks = pictures.masks.numpy().copy()
    wrong: dict[str, list[int]] = {}
    for suspect in suspected(measured):
        for name in suspect.files:
            wrong.setdefault(name, []).append(suspect.id)
    at = {name: index for index, name in enumerate(run.source.names)}
    for row, name in enumerate(pictures.names):
        if name in wrong:
            native = run.source.mask(at[name])
            native = np.where(np.isin(native, wrong[name]), np.uint8(pictures.task.positive[0]), native)
            masks[row] = _on_grid(task_mask(native, pictures.task), pictures.size)
    return replace(pictures, masks=torch.from_numpy(masks))


def _on_grid(mask: NDArray[np.uint8], grid: Size) -> NDArray[np.uint8]:
    """A native mask (H, W) on the working grid, 255 where it was padded."""
    box = place((mask.shape[0], mask.shape[1]), grid)
    fitted = np.full(grid, IGNORE, np.uint8)
    fitted[box.top : box.top + box.height, box.left : box.left + box.width] = fit_mask(mask, box)
    return fitted


def _by_file(run: Run) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pixels of each id on the grid, and the sum of the answers on them, both (F, 256). The padding is left out."""
    at = {name: index for index, name in enumerate(run.source.names)}
    pixels = np.zeros((len(run.pictures), 256), np.int64)
    sure = np.zeros((len(run.pictures), 256))
    for row, name in enumerate(run.pictures.names):
        native = run.source.mask(at[name])
        box = place((native.shape[0], native.shape[1]), run.pictures.size)
        ids = fit_mask(native, box).ravel()
        answer = run.answers[row, 0, box.top : box.top + box.height, box.left : box.left + box.width].ravel()
        pixels[row] = np.bincount(ids, minlength=256)
        sure[row] = np.bincount(ids, answer / BINS, minlength=256)
    return pixels, sure


def _lift(pixels: NDArray[np.int64], sure: NDArray[np.float64], ids: list[int]) -> NDArray[np.float64]:
    """Mean answer inside some ids minus that elsewhere in each file (F,); nan where either has no pixel."""
    inside, within = pixels[:, ids].sum(1), sure[:, ids].sum(1)
    outside, without = pixels.sum(1) - inside, sure.sum(1) - within
    told = (inside > 0) & (outside > 0)
    lift = within / np.maximum(inside, 1) - without / np.maximum(outside, 1)
    return np.where(told, lift, np.nan)


def _keeps_apart(holds: NDArray[np.bool_], has_positive: NDArray[np.bool_]) -> bool:
    return bool((holds & has_positive).sum() <= TOGETHER * holds.sum())


def _suspect(
    run: Run,
    id_: int,
    holds: NDArray[np.bool_],
    has_positive: NDArray[np.bool_],
    lifts: NDArray[np.float64],
    of_positive: NDArray[np.float64],
    tests: int,
) -> Suspect:
    alone = holds & ~has_positive
    together = int((holds & has_positive).sum())
    chance = hypergeom.cdf(together, len(holds), int(has_positive.sum()), int(holds.sum())) * tests
    names = np.asarray(run.pictures.names)[alone].tolist()
    share = float(alone.sum() / max(1, (holds | has_positive).sum()))
    likeness = _likeness(run, np.where(alone, lifts, np.nan), np.where(has_positive, of_positive, np.nan))
    return Suspect(id_, tuple(names), share, together, float(min(chance, 1.0)), likeness)


def _likeness(run: Run, lifts: NDArray[np.float64], of_positive: NDArray[np.float64]) -> Interval:
    """Mean lift of one id over that of the positive class, with its interval over groups; only unseen answers."""
    groups = run.resampler.groups
    rows = np.zeros((int(groups.max()) + 1, 4))
    for column, values in ((0, lifts), (2, of_positive)):
        told = np.isfinite(values) & run.unseen
        np.add.at(rows[:, column], groups[told], values[told])
        np.add.at(rows[:, column + 1], groups[told], 1)
    generator = np.random.default_rng(run.seed)
    return bootstrap(rows[rows.any(1)], _ratio, generator) if rows.any() else Interval(*[float("nan")] * 3)


def _ratio(rows: NDArray[np.float64]) -> float:
    other, others, positive, positives = rows.sum(0)
    if not others or not positives or positive <= 0:
        return float("nan")
    return float((other / others) / (positive / positives))


def _said(measured: ClassIndexMeasured) -> str:
    ids = ", ".join(map(str, measured.positive))
    return f"the positive id {ids}" if len(measured.positive) == 1 else f"the positive ids {ids}"
