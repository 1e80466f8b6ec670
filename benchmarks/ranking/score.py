"""How well each way of ranking orders the extractors of a task, and what it costs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from benchmarks.ranking.logme import logme
from unplateau.files import plain, write_json
from unplateau.types import Pictures
from unplateau.upgrades.cache import features
from unplateau.upgrades.demand import FAMILIES, iou_draws, truth_of
from unplateau.upgrades.probe import probe
from unplateau.verbs.eyechart import Named, charted, supply_of
from unplateau.verbs.rank import task_ranking

OURS, REHEARSED, SUPPLIED = "supply x demand, rehearsed", "rehearsal alone", "supply alone"
LOGME, PROBE = "LogME", "frozen probe"

SIZE = 48
"""Of the chart, near the grids of the tasks."""

TIE = 0.02
"""IoU below which two trainings are not told apart: other seeds would turn them round."""


@dataclass(frozen=True)
class Scored:
    """What each way says of every extractor of a task, by name, and the CPU seconds that ours took for the task."""

    predicted: dict[str, dict[str, float]]
    demand: dict[str, float]
    seconds: float


def charts_of(named: Mapping[str, Named], folder: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """The chart of every extractor, and the CPU seconds that each took when it was measured."""
    path = folder / "charts" / "cpu.json"
    cost = json.loads(path.read_text()) if path.is_file() else {}
    found = {}
    for name, each in named.items():
        start = time.process_time()
        entry = charted([each], folder / "charts", size=SIZE, seed=0, told=lambda *_: None, at_rest=False)
        found[name] = entry[0]
        cost.setdefault(name, time.process_time() - start)
        write_json(path, cost)
    return found, cost


def scored(
    problem: str, named: Mapping[str, Named], charts: Mapping[str, Any], pictures: Pictures, folder: Path
) -> Scored:
    """Every way's word on one task."""
    start = time.process_time()
    supplies = [supply_of(charts[name]) for name in named]
    content = task_ranking(pictures, list(named.values()), supplies, {}, None, 0)
    seconds = time.process_time() - start
    by_spelling = {row.extractor: row for row in content["ranking"]}
    rows = {name: by_spelling[each.name] for name, each in named.items()}
    predicted = {
        OURS: {name: row.gain.mean for name, row in rows.items()},
        REHEARSED: {name: row.rehearsed.mean for name, row in rows.items()},
        # What is left of supply times demand where no training says what is demanded.
        SUPPLIED: {
            name: float(np.mean([own[family].mean for family in FAMILIES]))
            for name, own in zip(named, supplies, strict=True)
        },
        PROBE: {name: frozen_probe(each, pictures, folder / "probe" / problem / name) for name, each in named.items()},
        LOGME: {name: logme(each.extractor, pictures) for name, each in named.items()},
    }
    demand = {family: each.mean for family, each in content["demand"]["families"].items()}
    kept = Scored(predicted, demand, seconds)
    write_json(folder / "rank" / f"{problem}.json", plain(kept))
    return kept


def frozen_probe(each: Named, pictures: Pictures, folder: Path) -> float:
    """IoU of a linear rule on the frozen extractor alone."""
    counts = probe(partial(features, each.extractor, pictures.images, folder), truth_of(pictures, 0))
    return iou_draws(counts, list(pictures.groups), np.random.default_rng(0))[0]


def tau(predicted: Mapping[str, float], true: Mapping[str, float]) -> float:
    """Kendall's tau-b of all pairs."""
    names = list(true)
    return float(kendalltau([predicted[name] for name in names], [true[name] for name in names]).statistic)


def tau_decided(predicted: Mapping[str, float], true: Mapping[str, float]) -> float:
    """Concordant less discordant pairs, of those whose trainings differ by more than `TIE`."""
    names = list(true)
    signs = [
        np.sign((predicted[one] - predicted[other]) * (true[one] - true[other]))
        for place, one in enumerate(names)
        for other in names[:place]
        if abs(true[one] - true[other]) > TIE
    ]
    return float(np.mean(signs)) if signs else float("nan")
