"""Say which extractor to train for a task, without training each in full."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unplateau.data.pictures import read_pictures
from unplateau.data.sources import open_data
from unplateau.errors import DataError
from unplateau.files import plain, writable_folder, write_json
from unplateau.progress import Told
from unplateau.reports import load_diagnosis, write_ranking
from unplateau.reports.saved import Saved
from unplateau.types import Pictures, Sample
from unplateau.upgrades.choice import Candidate, ranked
from unplateau.upgrades.demand import (
    FAMILIES,
    Supply,
    demand_of_shares,
    iou_draws,
    measured_demand,
    references_beside,
    spread_over,
    truth_of,
)
from unplateau.upgrades.demand import trivial_counts as counts_of_colour
from unplateau.upgrades.eyechart import cost
from unplateau.upgrades.rehearsal import rehearsed
from unplateau.verbs.arguments import doubted, refuse_numbers, silent
from unplateau.verbs.diagnose import DIAGNOSIS
from unplateau.verbs.eyechart import Named, charted, named_extractors, supply_of

RANKED, RANK_PAGE = "rank.json", "rank.md"

READ = 96
"""Images, at most, that colour alone is read on: what a linear rule of 27 numbers says shows on few."""

TIMED = 4
"""Images at a time that an extractor's cost is timed on: more would cost as much as the rehearsal."""


def rank(
    data: str | Path | Iterable[Sample],
    extractors: Sequence[str | Path],
    *,
    diagnosis: str | Path | None = None,
    positive: Sequence[int] | None = None,
    out: str | Path = "runs/rank",
    charts: str | Path = "runs/eyechart",
    size: int = 128,
    chart_size: int = 64,
    limit: int = 200,
    seed: int = 0,
    colours: Mapping[tuple[int, int, int], int] | None = None,
    told: Told | None = None,
) -> dict[str, Any]:
    """Rank extractors for a task by the IoU that training them would bring; `rank.json` and `rank.md` to `out`.

    Predicted is what the extractor comes to in a rehearsal on the task, a training of a few small steps that is the
    same for all, and, of what is then missing, supply times demand: what the extractor showed on the eye chart that it
    can learn of each family, as far as the task demands the family.

    Args:
        data, positive, colours: as in `diagnose`.
        extractors: as in `eyechart`.
        diagnosis: a `diagnosis.json` or its folder, whose shares of the families are the demand, and whose classes,
            size and seed hold instead of `positive`, `size` and `seed`; None = demand is what explains the rehearsals
            by the charts, beside three or fewer extractors with those of three reference networks.
        out: where the results go.
        charts: the folder of `eyechart`, whose charts are used; what is missing there is measured and added.
        size: long side of the working grid in pixels.
        chart_size: side of the chart's largest scenes in pixels.
        limit: at most this many images.
        seed: the same seed gives the same ranking.
        told: called after each extractor with how many are done, of how many, and which.

    Returns:
        The content of `rank.json`: `data`, `demand` with its source, `ranking` (best first: `extractor`, `place`,
        `best` and `worst` place in 90 % of the resamples, `gain` over the IoU of colour alone, `per_millisecond`,
        `milliseconds` an image, `rehearsed` IoU, `learnable` share of the rest), `by_cost` (names by gain per
        millisecond) and `seconds`.

    Raises:
        UnplateauError, PieceError, OutputError: as in `eyechart`.
        DataError: the data break a rule, or the diagnosis is unreadable, without shares, or of other classes.
    """
    refuse_numbers({"size": size, "limit": limit, "seed": seed})
    saved = None if diagnosis is None else _diagnosed(Path(diagnosis))
    named = named_extractors(extractors, seed)
    folder, own_seed = writable_folder(Path(out)), seed if saved is None else int(saved.seed)
    pictures = doubted(
        _pictures(data, saved, positive=positive, size=size, limit=limit, seed=own_seed, colours=colours)
    )
    start = time.perf_counter()
    supplies = supplies_of(named, Path(charts), size=chart_size, seed=seed, told=told or silent)
    # A diagnosis has said what is demanded.
    references = {} if saved else references_of(references_beside(len(named)), Path(charts), chart_size, seed)
    charted_at = time.perf_counter()
    content = task_ranking(pictures, named, supplies, references, saved, own_seed)
    content["data"]["path"] = str(data) if isinstance(data, (str, Path)) else "samples"
    content["seconds"] = {"charts": charted_at - start, "task": time.perf_counter() - charted_at}
    written: dict[str, Any] = plain(content)
    write_json(folder / RANKED, written)
    write_ranking(written, folder / RANK_PAGE)
    return written


def supplies_of(named: Sequence[Named], charts: Path, *, size: int, seed: int, told: Told) -> list[Supply]:
    """What each extractor supplies, from its chart."""
    entries = charted(named, charts, size=size, seed=seed, told=told, at_rest=False)
    return [supply_of(entry) for entry in entries]


def references_of(names: Sequence[str], charts: Path, size: int, seed: int) -> dict[Named, Supply]:
    """The networks beside which a demand is measured, and what they supply, from charts that every task shares."""
    named = named_extractors(names, seed) if names else ()
    return dict(zip(named, supplies_of(named, charts, size=size, seed=seed, told=silent), strict=True))


def task_ranking(
    pictures: Pictures,
    named: Sequence[Named],
    supplies: Sequence[Supply],
    references: Mapping[Named, Supply],
    saved: Saved | None,
    seed: int,
) -> dict[str, Any]:
    """The ranking of extractors whose supply is known, as values."""
    few = spread_over(pictures, READ)
    colour = counts_of_colour(few, truth_of(few, seed), seed)
    trivial, _ = iou_draws(colour, list(few.groups), np.random.default_rng(seed))
    reached = [rehearsed(each.extractor, pictures, seed) for each in named]
    if saved is None:
        beside = [rehearsed(each.extractor, pictures, seed) for each in references]
        demand = measured_demand(trivial, [*supplies, *references.values()], [*reached, *beside], seed)
    else:
        demand = demand_of_shares(dict(saved.families), trivial, "the shares of the diagnosis", seed)
    candidates = [
        Candidate(each.name, supply, *own, cost(each.extractor, pictures.size, TIMED))
        for each, supply, own in zip(named, supplies, reached, strict=True)
    ]
    rows = ranked(candidates, demand, seed=seed)
    by_cost = sorted(rows, key=lambda row: -row.per_millisecond.mean)
    height, width = pictures.size
    return {
        "version": 2,
        "data": {"images": len(pictures), "groups": len(set(pictures.groups)), "size": [height, width]},
        "demand": {"colour": demand.trivial, "families": demand.families, "source": demand.source},
        "ranking": list(rows),
        "by_cost": [row.extractor for row in by_cost],
        "seed": seed,
    }


def _diagnosed(path: Path) -> Saved:
    """A diagnosis that measured the families."""
    file = path / DIAGNOSIS if path.is_dir() else path
    saved = load_diagnosis(file)
    if set(FAMILIES) - {name for name, _ in saved.families} or not saved.seed.isdecimal():
        raise DataError(
            f"{str(file)!r} must hold the share of each family; it does not: the measuring ended before. Diagnose with "
            "`thorough`, or leave the diagnosis out."
        )
    return saved


def _pictures(
    data: str | Path | Iterable[Sample],
    saved: Saved | None,
    *,
    positive: Sequence[int] | None,
    size: int,
    limit: int,
    seed: int,
    colours: Mapping[tuple[int, int, int], int] | None,
) -> Pictures:
    """The pictures to rank for, of the classes and the size that were diagnosed.

    Raises:
        DataError: the data break a rule, or have other classes.
    """
    if saved is not None:
        positive = [int(each) for each in saved.setup.positive] or None if saved.setup else positive
        size = int(max(saved.data.size, default=size))
    source = open_data(data, colours=colours)
    pictures = read_pictures(source, positive=positive, size=size, limit=limit, seed=seed)
    if saved is not None and pictures.task.names != saved.data.classes:
        raise DataError(
            f"`diagnosis` must be of these data; it has the classes {saved.data.classes}, here are "
            f"{pictures.task.names}. Give the data that were diagnosed, or leave the diagnosis out."
        )
    return pictures
