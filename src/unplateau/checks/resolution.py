"""Is it the resolution: the exact IoU of a perfect answer on the working grid and on coarser ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from unplateau.checks.check import AbstractCheck
from unplateau.data.tasks import task_mask
from unplateau.experiments.fits import spread
from unplateau.experiments.gains import beside, of_trial
from unplateau.experiments.run import Run, Sums
from unplateau.experiments.trials import FINER, Trial
from unplateau.measures.intervals import bootstrap, interval
from unplateau.measures.resolution import resolution_counts
from unplateau.measures.thresholds import ScoreTable, mean_iou
from unplateau.types import Finding, Interval, Size, Verdict

STRIDES = (1, 2, 4, 8, 16)
COSTLY = 0.05
"""IoU that twice the grid must promise by its ceiling alone before a model is trained there, at four times the cost."""

IMAGES = 60
"""Masks read at native size: the ceiling hardly differs between images of one set."""


@dataclass(frozen=True)
class ResolutionMeasured:
    """Ceilings on the grid by stride, at twice the grid, and the gain expected of the finer one.

    The grid is that on which the answers came: the working grid, or saved maps of `answered` pixels.
    """

    by_stride: dict[int, Interval]
    finer: Interval
    gain: Interval
    answered: Size | None = None


@final
class ResolutionCheck(AbstractCheck[ResolutionMeasured]):
    """What the grid alone costs.

    What it measures: each native mask is brought to the working grid, and to cells of 2 to 16 grid pixels, by the
        class that holds most of each cell, and back; the IoU of the result with the native mask is what a perfect
        model of that stride would score. The same at twice the grid gives what a finer one could add.

    Why it matters: thin objects are lost before the model sees them, and no loss brings them back.

    When it misleads: a finer grid also shows the model finer detail, so the true gain can be larger than this bound
        on masks; masks drawn coarsely have their own floor. Where the bound is large, a model in question is
        therefore trained again on twice the grid, and the gain is that of its answers at native size.

    What to do next: raise `size`, or take a decoder with a finer last stride.

    Reference: exact by construction; mask -> stride -> mask.
    """

    def measure(self, run: Run) -> ResolutionMeasured:
        """Ceilings with intervals over images."""
        height, width = run.answered or run.pictures.size
        *coarse, finer = _ceilings(run, [*(((height, width), stride) for stride in STRIDES), _twice((height, width))])
        by_stride = dict(zip(STRIDES, coarse, strict=True))
        return ResolutionMeasured(by_stride, finer, _gain(run, by_stride[1], finer), run.answered)

    def judge(self, measured: ResolutionMeasured) -> Finding:
        """Concern when the working grid alone costs more than a few points."""
        here = measured.by_stride[1]
        verdict = Verdict.CONCERN if here.high < 0.95 else Verdict.SOUND
        side = measured.answered
        grid = f"maps of {side[0]} x {side[1]} pixels" if side else "the working grid"
        claim = f"A perfect answer on {grid} would score {here:.3f} on the masks as they came; "
        claim += f"at twice the grid {measured.finer:.3f}."
        # Saved maps are scored at the size of the masks already: what a finer model would add takes a training to tell.
        gain = None if side else measured.gain
        return Finding("resolution", verdict, claim, gain, {"ceiling_by_stride": measured.by_stride})


def grid_costs(run: Run) -> bool:
    """Whether there is a finer grid to be had, and its ceiling alone promises a gain that is worth four trainings."""
    if min(run.pictures.native) <= min(run.pictures.size):
        return False
    return finer_gain(run).mean >= COSTLY


def finer_gain(run: Run) -> Interval:
    """What twice the working grid adds: measured where it was trained, else what the ceilings alone promise."""
    return _gain(run, *_ceilings(run, [(run.pictures.size, 1), _twice(run.pictures.size)]))


def _twice(grid: Size) -> tuple[Size, int]:
    """Twice the grid, at stride 1."""
    return (2 * grid[0], 2 * grid[1]), 1


def _ceilings(run: Run, asked: list[tuple[Size, int]]) -> list[Interval]:
    """The IoU of a perfect answer on each grid at each stride; every mask is read once."""
    task = run.pictures.task
    classes = 2 if task.binary else task.outputs
    picked = spread(tuple(range(len(run.source))), IMAGES)
    masks = (task_mask(run.source.mask(index), task) for index in picked)
    rows = [[resolution_counts(mask, grid, stride, classes) for grid, stride in asked] for mask in masks]
    counts = np.array(rows, dtype=np.float64)[..., 1 if task.binary else 0 :, :]
    return [
        bootstrap(counts[:, place], mean_iou, np.random.default_rng(run.seed), resamples=200)
        for place in range(len(asked))
    ]


def _gain(run: Run, here: Interval, finer: Interval) -> Interval:
    return _tried(run, here, finer) or _promised(run, here, finer)


def _promised(run: Run, here: Interval, finer: Interval) -> Interval:
    """What the ceilings alone say of twice the grid: a model that scores b of c now is taken to score b / c there."""
    baseline = run.reading(run.plan.baseline).mean
    gains = [baseline * (high / low - 1) for high, low in ((finer.mean, here.mean), (finer.low, here.high))]
    top = baseline * (finer.high / here.low - 1)
    return Interval(gains[0], min(gains), max(top, gains[0]))


def _tried(run: Run, here: Interval, finer: Interval) -> Interval | None:
    """What twice the grid added where it was trained, at native size: read there, or each IoU times the ceiling of its
    grid.
    """
    trial = run.trial(FINER)
    if trial is None:
        return None
    above, below = of_trial(run, trial), beside(run)
    if read := _read(run, trial):
        # What another seed adds to the model in question is known on the grid alone.
        luck = here.mean * (run.resampler.mean(below) - run.resampler.mean(run.fairly(run.plan.control)))
        return Interval(read.mean - luck, read.low - luck, read.high - luck)
    centre = finer.mean * run.resampler.mean(above) - here.mean * run.resampler.mean(below)
    return interval(centre, finer.mean * run.resampler.draws(above) - here.mean * run.resampler.draws(below))


def _read(run: Run, trial: Trial) -> Interval | None:
    """What a trial adds to the model in question on masks as they came; None where either was not read there."""
    names = (trial.name, run.plan.baseline)
    if run.plan.rehearsal or any(fitted.native is None for name in names for fitted in run.outcomes[name]):
        return None
    above, below = ([fitted.deciding.report for fitted in run.outcomes[name]] for name in names)
    return run.resampler.difference(_decided(run, above), _decided(run, below))


def _decided(run: Run, tables: list[ScoreTable]) -> Sums:
    """Counts at the threshold that is imposed; where none is, of each group at the one that others choose."""
    threshold = run.imposed
    if threshold is None:
        return run.crossfitted(tables, [table.take(np.zeros(0, np.int64)) for table in tables])
    return run.resampler.sums_of(table.at(threshold) for table in tables)
