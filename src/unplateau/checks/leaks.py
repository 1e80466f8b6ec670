"""Is one picture on both sides of a split: saved again, resized, brightened, cropped or mirrored."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from unplateau.checks.check import AbstractCheck
from unplateau.experiments.run import Run
from unplateau.measures.gallery import Gallery, search
from unplateau.measures.registration import laid_over
from unplateau.measures.similarity import TWIN, Matches
from unplateau.types import IGNORE, Finding, Pictures, Verdict

TOLD = 0.5
"""Share of the pictures that must have detail enough to be compared."""

LABELLED_ALIKE = 0.5
"""IoU below which the masks of one picture contradict each other."""

SPLITS = ("", "train", "val", "test")
"""From what may be given up to what must stay: of two twins the one in the earlier split is set aside."""


@dataclass(frozen=True)
class Twins:
    """Two pictures that must be kept apart and share detail. `across` names the two sides, as "train / val".

    `agreement` is the correlation of their detail that most blocks exceed; `masks` the IoU of their masks once laid
    over each other (share of equal pixels when there are several classes), nan when neither shows anything.
    """

    first: str
    second: str
    agreement: float
    mirrored: bool
    across: str
    masks: float


@dataclass(frozen=True)
class LeaksMeasured:
    """`twins` are one picture; `related` share more detail than unrelated pictures of this set do, as neighbouring
    slices or frames. `shares` is the share of the pictures of the later side ("val" of "train / val") that have a
    twin on the other. `limit` is the agreement that unrelated pictures do not reach; `plain` pictures have no detail
    to compare, of `pictures` in all."""

    twins: tuple[Twins, ...]
    related: tuple[Twins, ...]
    counts: dict[str, int]
    shares: dict[str, float]
    limit: float
    plain: int
    pictures: int


@final
class LeaksCheck(AbstractCheck[LeaksMeasured]):
    """Whether a picture that trains also reports.

    What it measures: for each picture the likeliest others beyond the split that must keep them apart (train, val and
        test where they are given, else different groups) are laid over it, scaled, moved and mirrored; then the
        correlation of fine detail, block by block. Pictures that are merely alike share none, one picture saved twice
        shares nearly all. What repeats, as cloth or waves do, is held down before two pictures are called one. Random
        pairs of the same set show what unrelated pictures reach.

    Why it matters: a model remembers the pictures it trained on, so the IoU on their twins flatters.

    When it misleads: pictures turned by more than a mirror, or cropped by more than about a tenth, are missed, and so
        are blank ones. Two frames of a fixed camera are called one picture, which for a split they are.

    What to do next: keep twins in one group; where their masks differ, settle which is right.

    Reference: Lucas and Kanade, IJCAI 1981 (registration); Barz and Denzler, arXiv 1902.00423 (twins in benchmarks).
    """

    def measure(self, run: Run) -> LeaksMeasured:
        """The pairs, their counts and shares."""
        return find_twins(run.pictures, run.seed, run.gallery)

    def judge(self, measured: LeaksMeasured) -> Finding:
        """Concern at the first twin: a single one is a fact, not an estimate."""
        numbers = {"counts": measured.counts, "shares": measured.shares, "limit": measured.limit}
        examples = tuple(name for each in measured.twins[:8] for name in (each.first, each.second))
        if measured.twins:
            return Finding("leaks", Verdict.CONCERN, _claim(measured), None, numbers, examples)
        if measured.plain > (1 - TOLD) * measured.pictures:
            claim = f"{measured.plain} of {measured.pictures} pictures have too little detail to be told apart."
            return Finding("leaks", Verdict.UNDETERMINED, claim, None, numbers)
        claim = "No picture is on both sides of a split." + _related(measured)
        return Finding("leaks", Verdict.SOUND, claim, None, numbers)


def find_twins(pictures: Pictures, seed: int = 0, gallery: Gallery | None = None) -> LeaksMeasured:
    """What the check measures; it needs no model, so it can be asked before anything is trained. `gallery` is of the
    same pictures, where another check looks at them too.
    """
    apart = kept_apart(pictures)
    if not apart.any():
        return LeaksMeasured((), (), {}, {}, float("nan"), 0, len(pictures))
    found = search(gallery or Gallery(pictures.images.numpy()), apart, np.random.default_rng(seed))
    limit = np.nanmax([found.limit, TWIN])
    every = _pairs(pictures, found.matches, np.nanmin([found.limit, TWIN]))
    twins = tuple(each for each in every if each.agreement >= limit)
    return LeaksMeasured(
        twins=twins,
        related=tuple(each for each in every if each.agreement < limit) if np.isfinite(found.limit) else (),
        counts=dict(Counter(each.across for each in twins)),
        shares=_shares(pictures, twins),
        limit=found.limit,
        plain=int(found.plain.sum()),
        pictures=len(pictures),
    )


def regrouped(pictures: Pictures, measured: LeaksMeasured) -> Pictures:
    """The same pictures, the groups of twins joined, so that no fold cuts them.

    Where splits are given they decide, not the groups: of two twins the one in train (or in val, if the other is in
    test) is then taken out of its split, so that it neither trains nor chooses.
    """
    place = {name: index for index, name in enumerate(pictures.names)}
    pairs = [(place[each.first], place[each.second]) for each in measured.twins]
    splits = list(pictures.splits)
    for pair in pairs:
        if pictures.splits[pair[0]] != pictures.splits[pair[1]]:
            splits[min(pair, key=lambda index: SPLITS.index(pictures.splits[index]))] = ""
    names, groups = np.unique(np.asarray(pictures.groups), return_inverse=True)
    links = np.array([[groups[a], groups[b]] for a, b in pairs]).reshape(-1, 2)
    graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(len(names), len(names)))
    _, joined = connected_components(graph, directed=False)
    # The first name of those that were joined stands for all.
    head = {part: str(names[index]) for index, part in reversed(list(enumerate(joined.tolist())))}
    return replace(pictures, groups=tuple(head[joined[group]] for group in groups), splits=tuple(splits))


def kept_apart(pictures: Pictures) -> NDArray[np.bool_]:
    """Which pairs (N, N) a split must keep apart: other splits where they are given, else other groups."""
    given = bool({"val", "test"} & set(pictures.splits))
    sides = np.asarray(pictures.splits if given else pictures.groups)
    apart = sides[:, None] != sides[None]
    if given:
        taking_part = sides != ""
        apart &= taking_part[:, None] & taking_part[None]
    return np.asarray(apart)


def _pairs(pictures: Pictures, matches: Matches, least: float) -> list[Twins]:
    told = matches.agreement >= least
    rows = zip(matches.pairs[told], matches.agreement[told], matches.found[told], matches.mirrored[told], strict=True)
    return [
        Twins(
            pictures.names[pair[0]],
            pictures.names[pair[1]],
            float(agreement),
            bool(mirrored),
            _across(pictures, pair),
            _mask_agreement(pictures, pair, found, bool(mirrored)),
        )
        for pair, agreement, found, mirrored in rows
    ]


def _across(pictures: Pictures, pair: NDArray[np.int64]) -> str:
    sides = sorted({pictures.splits[index] for index in pair}, key=SPLITS.index)
    return " / ".join(sides) if len(sides) > 1 else "groups"


def _mask_agreement(pictures: Pictures, pair: NDArray[np.int64], found: NDArray[np.float64], mirrored: bool) -> float:
    first = pictures.masks[pair[0]].numpy()
    second = laid_over(pictures.masks[pair[1]].numpy(), found, mirrored)
    counted = (first != IGNORE) & (second != IGNORE)
    if pictures.task.binary:
        counted &= (first == 1) | (second == 1)
    return float((first == second)[counted].mean()) if counted.any() else float("nan")


def _shares(pictures: Pictures, twins: tuple[Twins, ...]) -> dict[str, float]:
    """Of the later side of each pair of splits, or of all pictures, the share that has a twin on the other."""
    place = {name: index for index, name in enumerate(pictures.names)}
    shares = {}
    for across in sorted({each.across for each in twins}):
        seen = {name for each in twins if each.across == across for name in (each.first, each.second)}
        side = across.rpartition(" / ")[2]
        if across == "groups":
            shares[across] = len(seen) / len(pictures)
        else:
            there = [name for name in seen if pictures.splits[place[name]] == side]
            shares[across] = len(there) / pictures.splits.count(side)
    return shares


def _claim(measured: LeaksMeasured) -> str:
    parts = []
    for across, count in measured.counts.items():
        side = across.rpartition(" / ")[2]
        share = f"{measured.shares[across]:.1%} of "
        share += "the pictures have a twin in another group" if across == "groups" else f"{side} is also in "
        parts.append(share + ("" if across == "groups" else across.partition(" / ")[0]) + f" ({_counted(count)})")
    first = measured.twins[0]
    claim = f"The same picture is on both sides of a split: {'; '.join(parts)}, as {first.first} and {first.second}."
    differ = sum(each.masks < LABELLED_ALIKE for each in measured.twins)
    if differ:
        claim += f" The masks of {_counted(differ)} contradict each other."
    return claim


def _counted(count: int) -> str:
    return "1 pair" if count == 1 else f"{count} pairs"


def _related(measured: LeaksMeasured) -> str:
    if not measured.related:
        return ""
    best, count = measured.related[0], len(measured.related)
    claim = f" {_counted(count)} {'shares' if count == 1 else 'share'} more detail than unrelated pictures of this set "
    claim += f"do, most of all {best.first} and {best.second} (correlation {best.agreement:.2f}), as neighbouring "
    return claim + "slices or frames may, or one scene seen twice."
