"""Do the images that report come from where the training images come from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import t as student

from unplateau.checks.check import AbstractCheck
from unplateau.experiments.run import Run
from unplateau.measures.intervals import interval
from unplateau.measures.similarity import unpadded
from unplateau.types import Finding, Interval, Pictures, Verdict

# Axes: N images, U units (a group within a side), S statistics, R permutations.

WORDS = {
    "brightness": ("brighter", "darker"),
    "red against blue": ("redder", "bluer"),
    "green": ("greener", "less green"),
    "colour": ("more colourful", "paler"),
    "contrast": ("richer in contrast", "poorer in contrast"),
    "noise": ("noisier", "less noisy"),
    "sharpness": ("sharper", "blurrier"),
    "spectrum": ("finer in texture", "coarser in texture"),
}
"""Statistics of an image, and what one calls more and less of each."""

SEEN = np.array([1.0, 1.0, 1.0, 1.0, 0.02, 0.05, 0.02, 0.02])
"""The least deviation of each statistic that counts: grey levels, then logarithms; less is rounding and compression."""

ALPHA = 0.02
"""Chance that ordinary parts are called different, over all comparisons."""

PERMUTATIONS = 2000
LARGE = 2.0
"""Deviations between groups that a sound verdict must be able to exclude."""

SAID = 3
"""Statistics named of a part that differs."""

WORTH = 0.5
"""Difference in standard deviations between groups that is worth a word: a medium effect."""

FEWEST_GROUPS = 8
"""Groups from which one can be told apart from the rest where no splits are given."""

APART_SHARE = 0.05
"""Share of the images that groups apart must hold to be a concern: an odd picture is no domain."""


@dataclass(frozen=True)
class Difference:
    """One part against the images that train: the statistic that differs most, in standard deviations between groups.

    `p` is the permutation p-value, over all statistics. `detectable` is the effect from which on it would be below
    the level of the test; infinite when so few `groups` (train, part) cannot tell at all. `words` says how the part
    differs, by the statistics that do, the most first; `effects` holds all statistics.
    """

    part: str
    statistic: str
    words: tuple[str, ...]
    effect: Interval
    p: float
    detectable: float
    groups: tuple[int, int]
    effects: dict[str, Interval]


@dataclass(frozen=True)
class Apart:
    """A group that is apart from the rest: by which statistic, how far in standard deviations between groups."""

    group: str
    word: str
    distance: float
    images: int


@dataclass(frozen=True)
class DomainMeasured:
    """`differences` of each given part from train; without given parts, the groups `apart` from the rest."""

    differences: tuple[Difference, ...]
    apart: tuple[Apart, ...]
    groups: int
    images: int


@final
class DomainCheck(AbstractCheck[DomainMeasured]):
    """Whether the images that report look like those that train.

    What it measures: brightness, colour, contrast, noise, sharpness and spectrum of each image, averaged over each
        group; the largest difference of val and of test from train, in standard deviations between groups, against
        what dealing whole groups at random would give. Without given splits, each group against the rest.

    Why it matters: a model is trained on one camera or season and judged on another; more of the same data then does
        not help, but a few images from there do.

    When it misleads: it sees how images look, not what they show; with few groups only a large difference could be
        told from chance; fine noise and blur vanish when a large image is brought to a small working grid.

    What to do next: train on some images from where the others come from, or augment by what differs.

    Reference: Westfall and Young 1993 (max-T permutation); Rabanser et al., Failing loudly, arXiv 1810.11953.
    """

    def measure(self, run: Run) -> DomainMeasured:
        """The largest difference of each part, or the groups apart."""
        pictures = run.pictures
        values = np.stack([image_statistics(image) for image in pictures.images.numpy()])
        parts = [part for part in ("val", "test") if part in pictures.splits and "train" in pictures.splits]
        groups = len(set(pictures.groups))
        if not parts:
            return DomainMeasured((), groups_apart(pictures, values), groups, len(pictures))
        generator = np.random.default_rng(run.seed)
        train = _unit_means(pictures, values, "train")
        there = [(part, _unit_means(pictures, values, part)) for part in parts]
        level = ALPHA / len(parts)
        differences = tuple(difference(part, train, units, generator, level) for part, units in there)
        return DomainMeasured(differences, (), groups, len(pictures))

    def judge(self, measured: DomainMeasured) -> Finding:
        """Concern when a part differs more than chance and more than a little; undetermined with too few groups."""
        if not measured.differences:
            return _judge_groups(measured)
        found = [d for d in measured.differences if d.words and abs(d.effect.mean) >= WORTH]
        silent = [d for d in measured.differences if d.detectable > LARGE]
        numbers = {d.part: {"effects": d.effects, "p": d.p, "groups": d.groups} for d in measured.differences}
        if found:
            claim = " ".join(_sentence(each) for each in found)
            return Finding("domain", Verdict.CONCERN, claim, None, numbers)
        if silent:
            counts = ", ".join(f"{d.groups[0]} groups train and {d.groups[1]} are in {d.part}" for d in silent)
            claim = (
                f"Too few groups to tell whether the parts come from one place, unless they differed vastly: {counts}."
            )
            return Finding("domain", Verdict.UNDETERMINED, claim, None, numbers)
        best = max(measured.differences, key=lambda d: abs(d.effect.mean))
        claim = f"The parts look alike: the largest difference, {best.statistic} of {best.part}, is "
        claim += f"{best.effect:+.2f} standard deviations between groups (p = {best.p:.2f})."
        return Finding("domain", Verdict.SOUND, claim, None, numbers)


def image_statistics(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The statistics (S,) of an image uint8 (3, H, W), in the order of `WORDS`; padding is replaced by its edge."""
    red, green, blue = unpadded(image).astype(np.float32)
    grey = (red + green + blue) / 3
    # The second difference along both axes cancels slopes and edges; its median is that of the noise.
    cross = np.abs(np.diff(np.diff(grey, 2, 0), 2, 1))
    smooth = [gaussian_filter(grey, width) for width in (1.0, 4.0)]
    fine, middle = (grey - smooth[0]).std(), (smooth[0] - smooth[1]).std()
    colour = np.max([red, green, blue], axis=0) - np.min([red, green, blue], axis=0)
    return np.array(
        [
            grey.mean(),
            (red - blue).mean(),
            (green - (red + blue) / 2).mean(),
            colour.mean(),
            np.log(grey.std() + 1),
            np.log(np.median(cross) + 0.5),
            np.log(fine + 0.5) - np.log(middle + 0.5),
            _slope(grey),
        ]
    )


def _slope(grey: NDArray[np.float32]) -> float:
    """Slope of the logarithm of the power spectrum over that of the frequency, below half the finest."""
    window = np.outer(np.hanning(grey.shape[0]), np.hanning(grey.shape[1]))
    power = np.abs(np.fft.rfft2((grey - grey.mean()) * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(grey.shape[0])[:, None], np.fft.rfftfreq(grey.shape[1])[None])
    used = (frequency > 2 / min(grey.shape)) & (frequency < 0.25)
    if used.sum() < 4:
        return 0.0
    return float(np.polyfit(np.log(frequency[used]), np.log(power[used] + 1), 1)[0])


# ---- parts ---------------------------------------------------------------------------------------------------


def difference(
    part: str,
    train: NDArray[np.float64],
    there: NDArray[np.float64],
    generator: np.random.Generator,
    level: float = ALPHA,
) -> Difference:
    """The largest difference between units (U, S) that train and units of another part, tested by permuting units."""
    joined, count = np.concatenate([train, there]), len(there)
    seen = _effects(joined, np.arange(len(train), len(joined))[None])[0]
    possible = comb(len(joined), count)
    largest = np.abs(_effects(joined, _draws(len(joined), count, possible, generator))).max(1)
    # All permutations hold the one seen; a sample does not, so it is added.
    if possible > PERMUTATIONS:
        largest = np.append(largest, np.abs(seen).max())
    p_S = np.array([(largest >= abs(value) - 1e-9).mean() for value in seen])
    draws = _resampled(train, there, generator)
    effects = {n: interval(float(value), draws[:, i]) for i, (n, value) in enumerate(zip(WORDS, seen, strict=True))}
    ranked = np.argsort(-np.abs(seen))
    names = list(WORDS)
    return Difference(
        part=part,
        statistic=names[ranked[0]],
        words=tuple(WORDS[names[i]][int(seen[i] < 0)] for i in ranked[:SAID] if p_S[i] <= level),
        effect=effects[names[ranked[0]]],
        p=float(p_S[ranked[0]]),
        detectable=_detectable(largest, level),
        groups=(len(train), count),
        effects=effects,
    )


def _detectable(largest: NDArray[np.float64], level: float) -> float:
    """The least effect that a share `level` of the permutations does not exceed; infinite with too few of them."""
    allowed = int(level * len(largest) + 1e-9)
    return float(np.sort(largest)[-allowed]) if allowed else float("inf")


def _draws(units: int, count: int, possible: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Which units (R, count) make up the part: all ways where they are few, else a sample."""
    if possible <= PERMUTATIONS:
        return np.array(list(combinations(range(units), count)))
    return np.argsort(generator.random((PERMUTATIONS, units)), axis=1)[:, :count]


def _effects(units: NDArray[np.float64], there: NDArray[np.int64]) -> NDArray[np.float64]:
    """Difference (R, S) of the mean of units `there` (R, count) from that of the rest, over the deviation within."""
    chosen = np.zeros((len(there), len(units)))
    np.put_along_axis(chosen, there, 1.0, axis=1)
    sides = [chosen, 1 - chosen]
    means = [side @ units / side.sum(1, keepdims=True) for side in sides]
    squares = [
        side @ np.square(units) - side.sum(1, keepdims=True) * mean**2 for side, mean in zip(sides, means, strict=True)
    ]
    freedom = max(1, len(units) - 2)
    spread = np.maximum(np.sqrt((squares[0] + squares[1]).clip(0) / freedom), SEEN)
    return np.asarray((means[0] - means[1]) / spread)


def _resampled(
    train: NDArray[np.float64], there: NDArray[np.float64], generator: np.random.Generator, resamples: int = 500
) -> NDArray[np.float64]:
    """Effects (resamples, S) with the units of each side drawn again, over the deviation within as it was seen."""
    within = np.concatenate([train - train.mean(0), there - there.mean(0)])
    spread = np.maximum(np.sqrt(np.square(within).sum(0) / max(1, len(within) - 2)), SEEN)
    means = [side[generator.integers(0, len(side), (resamples, len(side)))].mean(1) for side in (there, train)]
    return np.asarray((means[0] - means[1]) / spread)


def _unit_means(pictures: Pictures, values: NDArray[np.float64], part: str) -> NDArray[np.float64]:
    """Means (U, S) over the images of each group in one part."""
    inside = np.asarray(pictures.splits) == part
    groups = np.asarray(pictures.groups)
    return np.stack([values[inside & (groups == group)].mean(0) for group in sorted(set(groups[inside]))])


def _sentence(found: Difference) -> str:
    words = found.words[0] if len(found.words) == 1 else ", ".join(found.words[:-1]) + f" and {found.words[-1]}"
    claim = f"The images of {found.part} are {words} than those that train: {found.statistic} by {found.effect:+.2f} "
    return claim + f"standard deviations between groups (p = {found.p:.4f})."


# ---- groups without parts ------------------------------------------------------------------------------------


def groups_apart(pictures: Pictures, values: NDArray[np.float64]) -> tuple[Apart, ...]:
    """Groups whose mean is further from that of the others than chance allows, over all groups and statistics.

    Each against the others by a t-test on the means of groups (externally studentised), Bonferroni over all.
    """
    names, groups = np.unique(np.asarray(pictures.groups), return_inverse=True)
    count = len(names)
    if count < FEWEST_GROUPS:
        return ()
    sizes = np.bincount(groups)
    means = np.stack([values[groups == group].mean(0) for group in range(count)])
    from_mean = means - means.mean(0)
    square = np.square(from_mean).sum(0)
    rest = ((square - np.square(from_mean) * count / (count - 1)) / (count - 2)).clip(0)
    distance = from_mean * np.sqrt(count / (count - 1)) / np.maximum(np.sqrt(rest), SEEN)
    bound = student.isf(ALPHA / (2 * count * means.shape[1]), count - 2)
    found = []
    for group in np.flatnonzero(np.abs(distance).max(1) > bound).tolist():
        place = int(np.abs(distance[group]).argmax())
        word = list(WORDS.values())[place][0 if distance[group, place] > 0 else 1]
        found.append(Apart(str(names[group]), word, float(distance[group, place]), int(sizes[group])))
    return tuple(sorted(found, key=lambda each: -abs(each.distance)))


def _judge_groups(measured: DomainMeasured) -> Finding:
    if measured.groups < FEWEST_GROUPS:
        claim = f"Only {measured.groups} groups: too few to tell whether one of them is from elsewhere."
        return Finding("domain", Verdict.UNDETERMINED, claim)
    held = sum(each.images for each in measured.apart) / measured.images
    numbers = {"apart": measured.apart, "share": held}
    examples = tuple(each.group for each in measured.apart[:8])
    said = "; ".join(f"{each.group} is {each.word} ({each.distance:+.1f})" for each in measured.apart[:5])
    if held >= APART_SHARE:
        claim = f"Groups with {held:.0%} of the images look unlike the rest: {said}."
        return Finding("domain", Verdict.CONCERN, claim, None, numbers, examples)
    claim = "No part is given, and folds deal the groups evenly."
    claim += f" Single groups are apart: {said}." if said else " No group is apart from the rest."
    return Finding("domain", Verdict.SOUND, claim, None, numbers, examples)
