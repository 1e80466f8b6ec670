"""Which images train, which choose and which report: whole groups, balanced, the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from unplateau.data.balance import class_areas
from unplateau.errors import DataError
from unplateau.types import Fold, Pictures

# Axes: N images, G groups, K parts, F features that are to be balanced.


@dataclass(frozen=True)
class Leak:
    """A group that is in more than one split."""

    group: str
    splits: tuple[str, ...]


def leaking_groups(pictures: Pictures) -> tuple[Leak, ...]:
    """The groups that the given splits cut, by name: near-duplicates on both sides make a score look better."""
    seen: dict[str, set[str]] = {}
    for group, split in zip(pictures.groups, pictures.splits, strict=True):
        seen.setdefault(group, set()).add(split)
    order = ("train", "val", "test", "")
    return tuple(
        Leak(group, tuple(sorted(splits, key=order.index))) for group, splits in sorted(seen.items()) if len(splits) > 1
    )


def split(pictures: Pictures, *, folds: int = 3, inner: float = 0.2, seed: int = 0) -> tuple[Fold, ...]:
    """Up to `folds` ways to divide the images into fit, inner (about `inner` of what does not report) and report.

    With splits given in the data they are kept in every fold: fit = train, inner = val, report = test. If val is
    missing, inner is carved out of train; if test is missing, val reports and inner is carved. Then `folds` folds
    are returned that differ in what is carved, or, if nothing is, in nothing at all: they are repeats for seeds.

    Otherwise groups are dealt whole to the folds, so that images, groups and the area of each class are spread
    evenly, and every image reports in exactly one fold. There are fewer folds than asked for when there are fewer
    groups, or fewer that hold the positive class. `folds=1` is the first of three.

    inner is whole groups too. Only when fewer than two groups (of those that hold the positive class) are left to
    choose from is it the last part of each group instead: it then chooses on near-duplicates of what trained, but
    the report part stays clean.

    Raises:
        DataError: `folds` or `inner` out of range; one group only; the positive class in one group only; splits
            given without a train part.
    """
    if folds < 1 or not 0 < inner < 1:
        raise DataError(f"`folds` must be at least 1 and `inner` between 0 and 1, but are {folds} and {inner}.")
    dealer = _Dealer(pictures, inner)
    given = {name: _where(pictures, name) for name in ("train", "val", "test")}
    if given["val"] or given["test"]:
        return tuple(_given(dealer, given, seed + index) for index in range(folds))
    return _dealt(dealer, folds, seed)


def refuse_no_inner(folds: Sequence[Fold]) -> None:
    """Refuse, before anything is trained, folds of which one has nothing to choose on.

    Raises:
        DataError: an inner part is empty.
    """
    if not all(fold.inner for fold in folds):
        raise DataError(
            "An image must be left to choose the threshold on, but the positive class is in too few images to train, "
            "to choose and to report on: add images of it, best from other groups."
        )


def nested(pictures: Pictures, fold: Fold, fractions: Sequence[float], seed: int = 0) -> tuple[tuple[int, ...], ...]:
    """For each fraction, indices of about that share of the groups of `fold.fit`; smaller ones lie in larger ones.

    Whole groups in one random order by `seed`, at least one, beginning with one that holds the positive class.
    With few groups two fractions may give the same subset. If fit is a single group, its images are drawn instead.

    Raises:
        DataError: a fraction outside 0 < f <= 1.
    """
    if not all(0 < each <= 1 for each in fractions):
        raise DataError(f"`fractions` must lie above 0 and at most at 1, but are {list(fractions)}.")
    groups = _members(pictures, fold.fit)
    units = list(groups.values()) if len(groups) > 1 else [[index] for index in fold.fit]
    positive = _positive_area(pictures)
    order = [units[i] for i in np.random.default_rng(seed).permutation(len(units))]
    first = next((i for i, unit in enumerate(order) if positive[unit].any()), 0)
    order.insert(0, order.pop(first))
    counts = (max(1, round(fraction * len(order))) for fraction in fractions)
    return tuple(tuple(sorted(index for unit in order[:count] for index in unit)) for count in counts)


# ---- the two ways --------------------------------------------------------------------------------------------


def _given(dealer: _Dealer, given: dict[str, tuple[int, ...]], seed: int) -> Fold:
    if not given["train"]:
        raise DataError("The splits must include train, but only val or test are given: name a train part.")
    if given["val"] and given["test"]:
        return Fold(given["train"], given["val"], given["test"])
    fit, inner = dealer.carve(given["train"], seed)
    return Fold(fit, inner, given["test"] or given["val"])


def _dealt(dealer: _Dealer, folds: int, seed: int) -> tuple[Fold, ...]:
    everything = tuple(range(len(dealer.pictures)))
    groups = _members(dealer.pictures, everything)
    _refuse_one_group(groups, dealer)
    count = min(folds if folds > 1 else 3, len(groups), dealer.holders(groups))
    reports = dealer.deal(everything, np.full(count, 1 / count), seed)
    made = []
    for index, report in enumerate(reports[:folds]):
        rest = tuple(sorted(set(everything) - set(report)))
        made.append(Fold(*dealer.carve(rest, seed + index), report))
    return tuple(made)


def _refuse_one_group(groups: dict[str, list[int]], dealer: _Dealer) -> None:
    if len(groups) == 1:
        raise DataError(
            f"There is one group only: all {len(dealer.pictures)} images belong to {next(iter(groups))!r}, so none "
            "can report on a model that has not seen their group; name more groups, or give train, val and test."
        )
    if dealer.holders(groups) < 2:
        raise DataError(
            f"The positive class must be in at least two of the {len(groups)} groups, one to train and one to report "
            "on, but is in one only: add images of it from other groups."
        )


# ---- dealing groups ------------------------------------------------------------------------------------------


@final
class _Dealer:
    """Deals groups to parts. Holds what of each image is to be spread evenly."""

    def __init__(self, pictures: Pictures, inner: float) -> None:
        self.pictures = pictures
        self.inner = inner
        areas_NC = class_areas(pictures)[:, 1:] if pictures.task.binary else class_areas(pictures)
        self.areas_NC = areas_NC.astype(float)
        self.positive_N = _positive_area(pictures)

    def holders(self, groups: dict[str, list[int]]) -> int:
        """How many of these groups hold the positive class."""
        return sum(bool(self.positive_N[members].any()) for members in groups.values())

    def carve(self, pool: tuple[int, ...], seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(fit, inner) out of `pool`: whole groups, or else the tail of each group."""
        groups = _members(self.pictures, pool)
        if self.holders(groups) < 2:
            return self._tails(groups)
        fit, inner = self.deal(pool, np.array([1 - self.inner, self.inner]), seed)
        return fit, inner

    def deal(self, pool: tuple[int, ...], shares_K: NDArray[np.float64], seed: int) -> tuple[tuple[int, ...], ...]:
        """The groups of `pool` in K parts that come near `shares_K` in images, groups and area of each class.

        Large groups first, each to the part it disturbs least (the longest-processing-time rule). Sizes are compared
        only to a factor of two, so that the seed has a say.
        """
        members = list(_members(self.pictures, pool).values())
        load_GF, weight_F = self._load(members)
        generator = np.random.default_rng(seed)
        shuffled = generator.permutation(len(members))
        magnitude = np.floor(np.log2(load_GF.max(axis=1)))
        parts: list[list[int]] = [[] for _ in shares_K]
        held_KF = np.zeros((len(shares_K), load_GF.shape[1]))
        for group in shuffled[np.argsort(-magnitude[shuffled], kind="stable")].tolist():
            added_KF = load_GF[group] * (2 * held_KF + load_GF[group])
            part = int(np.argmin(added_KF @ weight_F / shares_K))
            held_KF[part] += load_GF[group]
            parts[part].append(group)
        _fill(parts, np.array([self.positive_N[each].sum() for each in members]))
        return tuple(tuple(sorted(index for group in part for index in members[group])) for part in parts)

    def _load(self, members: list[list[int]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Each group's share (G, F) of images, groups and class areas, and the weight (F,) of each feature."""
        areas_GC = np.array([self.areas_NC[each].sum(axis=0) for each in members])
        total_C = areas_GC.sum(axis=0)
        areas_GC = areas_GC[:, total_C > 0] / total_C[total_C > 0]
        counts = np.array([len(each) for each in members], dtype=float)
        load_GF = np.column_stack([counts / counts.sum(), np.full(len(members), 1 / len(members)), areas_GC])
        classes = areas_GC.shape[1]
        return load_GF, np.array([1.0, 1.0, *[2 / max(classes, 1)] * classes])

    def _tails(self, groups: dict[str, list[int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The last part of each group, in the order of the source: neighbouring frames fall on the same side."""
        fit: list[int] = []
        inner: list[int] = []
        for members in groups.values():
            positive = np.flatnonzero(self.positive_N[members])
            last = int(positive[-1]) if positive.size else len(members)
            cut = max(1, min(round(len(members) * (1 - self.inner)), last))
            fit += members[:cut]
            inner += members[cut:]
        return tuple(sorted(fit)), tuple(sorted(inner))


def _fill(parts: list[list[int]], positive_G: NDArray[np.float64]) -> None:
    """Move the smallest suitable group to each part that has none, or none with the positive class, in place."""
    for part in parts:
        holders = [[group for group in each if positive_G[group] > 0] for each in parts]
        giver = max(range(len(parts)), key=lambda k: len(holders[k]))
        if any(positive_G[group] > 0 for group in part) or len(holders[giver]) < 2:
            continue
        moved = min(holders[giver], key=lambda group: positive_G[group])
        parts[giver].remove(moved)
        part.append(moved)


def _members(pictures: Pictures, pool: Sequence[int]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for index in pool:
        groups.setdefault(pictures.groups[index], []).append(index)
    return groups


def _positive_area(pictures: Pictures) -> NDArray[np.int64]:
    """Positive pixels of each image (N,); for multi-class all counted pixels, as each class is one to be found."""
    areas_NC = class_areas(pictures)
    return areas_NC[:, 1] if pictures.task.binary else areas_NC.sum(axis=1)


def _where(pictures: Pictures, name: str) -> tuple[int, ...]:
    return tuple(index for index, each in enumerate(pictures.splits) if each == name)
