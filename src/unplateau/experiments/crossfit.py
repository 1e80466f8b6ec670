"""Answers read at thresholds that other groups choose: what a training attains, the luck of its threshold apart."""

from __future__ import annotations

import numpy as np

from unplateau.experiments.run import Run, Sums
from unplateau.measures.thresholds import ScoreTable, best_threshold

PARTS = 10
"""Parts that the groups are dealt to where they choose for each other: each threshold then rests on nine tenths."""


def fairly(run: Run, name: str) -> Sums:
    """Counts of a training as trials are compared: each group at the threshold that the inner images and the other
    groups choose for it.

    What few inner images choose moves thin things by several points, and another training would have another. Where
    one is imposed, because it is stale, all stay at that one; of several classes each pixel takes its best.
    """
    fits = run.outcomes[name]
    if not run.binary or any(fitted.imposed is not None for fitted in (*fits, *run.outcomes[run.plan.baseline])):
        return run.sums(name)
    return crossfitted(run, [fitted.report for fitted in fits], [fitted.inner for fitted in fits])


def crossfitted(run: Run, tables: list[ScoreTable], inner: list[ScoreTable]) -> Sums:
    """Counts of report images (one table a fold), each group at the threshold that inner images and others choose.

    The groups are dealt to at most `PARTS` parts by the seed; where the others hold no such class the threshold is 0.5.
    """
    compare, generator = run.resampler, np.random.default_rng(run.seed)
    reported = np.unique(np.concatenate([compare.groups[report] for report in compare.reports]))
    part_of = np.zeros(len(compare.groups), np.int64)
    part_of[generator.permutation(reported)] = np.arange(len(reported)) % PARTS
    found = []
    for number, (table, choosing) in enumerate(zip(tables, inner, strict=True)):
        parts = part_of[compare.groups[compare.reports[number]]]
        whole = table.histograms.sum(0) + choosing.histograms.sum(0)
        counts = np.zeros_like(table.argmax)
        for part in np.unique(parts):
            own = table.take(np.flatnonzero(parts == part))
            others = ScoreTable((whole - own.histograms.sum(0))[None], np.zeros((1, *table.argmax.shape[1:]), np.int64))
            chosen = best_threshold(others)
            counts[parts == part] = own.at(chosen if np.isfinite(chosen) else 0.5)
        found.append(compare.sums(number, counts))
    return np.stack(found)
