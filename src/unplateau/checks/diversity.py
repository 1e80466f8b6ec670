"""How many different pictures train: near-duplicates counted once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.stats import t as student

from unplateau.checks.check import AbstractCheck
from unplateau.checks.leaks import TOLD
from unplateau.experiments.run import Run
from unplateau.measures.gallery import Gallery, search
from unplateau.measures.intervals import COVERAGE
from unplateau.measures.similarity import TWIN
from unplateau.types import Finding, Interval, Pictures, Verdict

FAR_FEWER = 0.5
"""Share of the images below which the effective number is far fewer than it seems: half of the work repeats itself."""

FEWEST_UNITS = 5
"""Groups from which the interval is over groups; over fewer it is over images, and too narrow."""


@dataclass(frozen=True)
class DiversityMeasured:
    """`effective` is how many unrelated images hold as much variety as the `images` that train, with its interval
    over groups. `distinct` counts near-duplicates of each other once; `largest` is the most of them that are one
    picture, and `repeats` names them. `groups` train; `plain` images have no detail to compare."""

    images: int
    groups: int
    effective: Interval
    distinct: int
    largest: int
    repeats: tuple[str, ...]
    plain: int


@final
class DiversityCheck(AbstractCheck[DiversityMeasured]):
    """Whether the images that train are as many as they seem.

    What it measures: the share of fine detail r that each two training images have in common, after the nearest were
        laid over each other; agreement that unrelated pictures of the set reach too counts as none. With N images the
        effective number is N^2 / sum r^2, the participation ratio of the spectrum of that matrix: N when all are
        unrelated, one when all are the same.

    Why it matters: a learning curve over frames of the same scenes flattens long before the task is learnt, and more
        of the same frames add nothing.

    When it misleads: images of one kind that share no detail (other cells, other asphalt) count as different, though
        they may teach the same; images without fine detail cannot be compared; a moving object before a fixed
        background counts little, though it may be all that matters.

    What to do next: collect new groups (scenes, patients, drives); thin out the repeats.

    Reference: Friedman and Dieng, The Vendi score, arXiv 2210.02410 (this is its order 2).
    """

    def measure(self, run: Run) -> DiversityMeasured:
        """The effective number, with an interval by leaving out one group at a time."""
        training = trains(run.pictures)
        names, groups = np.unique(np.asarray(run.pictures.groups)[training], return_inverse=True)
        shared, plain = shared_detail(run.gallery.of(training), np.random.default_rng(run.seed))
        count, cluster = connected_components(shared >= TWIN, directed=False)
        sizes = np.bincount(cluster, minlength=count)
        repeats = training[cluster == int(sizes.argmax())] if sizes.max() > 1 else training[:0]
        units = groups if len(names) >= FEWEST_UNITS else np.arange(len(training))
        return DiversityMeasured(
            images=len(training),
            groups=len(names),
            effective=effective_number(shared, units),
            distinct=int(count),
            largest=int(sizes.max()),
            repeats=tuple(run.pictures.names[index] for index in repeats[:8]),
            plain=int(plain.sum()),
        )

    def judge(self, measured: DiversityMeasured) -> Finding:
        """Concern when the effective number is surely less than half of the images."""
        effective, images = measured.effective, measured.images
        claim = f"The {images} images that train, in {measured.groups} groups, are worth {effective:.0f} unrelated "
        claim += f"ones; {measured.distinct} differ in more than half of their detail."
        numbers = {"effective": effective, "distinct": measured.distinct, "images": images, "groups": measured.groups}
        few = FAR_FEWER * images
        verdict = Verdict.SOUND if effective.mean >= few else Verdict.UNDETERMINED
        if measured.plain > (1 - TOLD) * images:
            claim = f"{measured.plain} of the {images} images that train have too little detail to be compared."
            verdict = Verdict.UNDETERMINED
        elif effective.high < few:
            claim += " More images of the same groups would repeat them: more data means new groups."
            verdict = Verdict.CONCERN
        return Finding("diversity", verdict, claim, None, numbers, measured.repeats)


def trains(pictures: Pictures) -> NDArray[np.int64]:
    """Indices of the images that train: the train part where splits are given, else all, each in some fold."""
    given = bool({"val", "test"} & set(pictures.splits))
    return np.flatnonzero(np.asarray(pictures.splits) == "train") if given else np.arange(len(pictures))


def shared_detail(pictures: Gallery, generator: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The share of detail (N, N) of each pair, 0 where unrelated pictures reach it too; and which images are plain."""
    apart = ~np.eye(len(pictures), dtype=bool)
    found = search(pictures, apart, generator, mirrored=False)
    shared = np.nan_to_num(found.alike.astype(np.float64))
    first, second = found.matches.pairs.T
    laid = np.fmax(shared[first, second], np.nan_to_num(found.matches.agreement))
    shared[first, second] = shared[second, first] = laid
    # Where a sixth of all pairs are repeats they would hide behind themselves.
    limit = np.nanmin([found.limit, TWIN])
    shared = np.where(np.maximum(shared, shared.T) >= limit, np.maximum(shared, shared.T), 0.0)
    np.fill_diagonal(shared, 1.0)
    return shared, found.plain


def effective_number(shared: NDArray[np.float64], units: NDArray[np.int64]) -> Interval:
    """N^2 / sum r^2 of shared detail (N, N), with the 90 % interval of the jackknife over units (N,)."""
    members = np.eye(int(units.max()) + 1)[units]
    total = members.T @ np.square(shared) @ members
    counts = members.sum(0)
    whole, count = total.sum(), len(shared)
    value = count**2 / whole
    units_left = len(counts)
    if units_left < 2:
        return Interval(float(value), float("nan"), float("nan"))
    # Shares of the images, because fewer images have a smaller number whatever they show.
    left = (count - counts) / (whole - 2 * total.sum(1) + np.diag(total))
    error = count * np.sqrt((units_left - 1) * left.var())
    reach = float(student.ppf((1 + COVERAGE) / 2, units_left - 1) * error)
    return Interval(float(value), max(1.0, float(value) - reach), min(float(count), float(value) + reach))
