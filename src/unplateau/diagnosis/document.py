"""A diagnosis as the plain values of `diagnosis.json` (docs/diagnosis_json.md)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from unplateau.checks.ladder import EITHER, FAMILIES, PRIOR
from unplateau.data.balance import positive_share
from unplateau.diagnosis.diagnose import Measurements, folds_said
from unplateau.diagnosis.examples import Example
from unplateau.diagnosis.verdict import calibrated, consider_remedies, find_remedies, say, scale_table
from unplateau.experiments.fits import Fitted
from unplateau.experiments.plan import CANDIDATE
from unplateau.experiments.run import Run
from unplateau.files import plain
from unplateau.measures.thresholds import iou, mean_over_classes
from unplateau.types import Epoch, Interval

LAYOUT = 1

COMPARISONS = (
    "local",
    "attainable",
    "local_share",
    "local_to_context",
    "scratch",
    "pretraining",
    "baseline_shortfall",
)
"""The paired intervals of the ladder that are written as they are."""


def document(
    run: Run, measured: Measurements, worst: tuple[Example, ...], *, path: str, version: str, seconds: float
) -> dict[str, Any]:
    """The whole of it. Everything but `seconds` depends on the data, the arguments and the seed alone."""
    considered = consider_remedies(run, measured)
    remedies = calibrated(find_remedies(considered), run)
    content = {
        "version": LAYOUT,
        "unplateau": version,
        "verdict": say(run, measured, remedies),
        "seconds": round(seconds, 1),
        "seed": run.seed,
        "data": _data(run, path),
        "setup": _setup(run),
        "baseline": _baseline(run),
        "remedies": remedies,
        "considered": calibrated(considered, run),
        "complete": measured.ladder is not None,
        "families": measured.ladder.families if measured.ladder else None,
        "waterfall": _waterfall(run, measured),
        "ladder": measured.ladder.rungs if measured.ladder else (),
        "comparisons": _comparisons(measured),
        "learning_curve": _learning_curve(measured),
        "operating_point": _operating_point(measured),
        "scale": scale_table(run, measured),
        "findings": measured.findings,
        "worst": worst,
    }
    values: dict[str, Any] = plain(content)
    return values


def _data(run: Run, path: str) -> dict[str, Any]:
    pictures = run.pictures
    return {
        "path": path,
        "images": len(pictures),
        "groups": len(set(pictures.groups)),
        "size": pictures.size,
        "native": pictures.native,
        "classes": pictures.task.names,
        "binary": pictures.task.binary,
        "positive_share": positive_share(pictures, range(len(pictures))) if pictures.task.binary else None,
        "object_diameter": run.diameter,
        "split": folds_said(run),
        "warnings": pictures.warnings,
    }


def _setup(run: Run) -> dict[str, Any]:
    """What it takes to train the baseline again, beside another, as it was trained here."""
    candidates = [rung.extractor for rung in run.plan.rungs if rung.name == CANDIDATE]
    return {
        "positive": run.pictures.task.positive,
        "folds": len(run.folds),
        "ladder_folds": len(run.shared(run.plan.ladder).folds),
        "frozen": run.plan.rung(run.plan.baseline).frozen,
        "candidate": candidates[0] if candidates else None,
        "recipe": run.recipe,
    }


def _baseline(run: Run) -> dict[str, Any]:
    plan = run.plan.rung(run.plan.baseline)
    fits = run.outcomes[run.plan.baseline]
    sums = run.sums(run.plan.baseline)
    classes = iou(sums.sum((0, 1)))
    at_half = run.resampler.sums_of(fitted.report.argmax for fitted in fits)
    thresholds = [fitted.threshold for fitted in fits]
    reading = run.reading(run.plan.baseline)
    return {
        "extractor": plan.extractor,
        "decoder": plan.decoder,
        "iou": reading.mean,
        "interval": reading,
        "threshold": float(np.nanmean(thresholds)) if run.binary else None,
        "iou_at_half": run.resampler.mean(at_half),
        "best_iou": _best_iou(fits),
        "class_iou": dict(zip(run.pictures.task.names, classes.tolist(), strict=True)),
        "epochs": [_mean_epoch([fitted.epochs[place] for fitted in fits]) for place in range(_evaluations(run))],
    }


def _best_iou(fits: tuple[Fitted, ...]) -> float:
    """Mean over folds of the best evaluation; nan where a log lacks it."""
    return float(np.mean([np.fmax.reduce([math.nan, *(epoch.best_iou for epoch in each.epochs)]) for each in fits]))


def _evaluations(run: Run) -> int:
    return min(len(fitted.epochs) for fitted in run.outcomes[run.plan.baseline])


def _mean_epoch(epochs: list[Epoch]) -> Epoch:
    """One record of several folds at the same moment: the mean of each number that exists."""
    numbers = {
        name: float(np.mean(values))
        for name in vars(epochs[0])
        if name not in ("step", "class_iou") and len(values := [getattr(epoch, name) for epoch in epochs])
    }
    classes = np.array([epoch.class_iou for epoch in epochs])
    return Epoch(step=epochs[0].step, class_iou=tuple(_finite_mean(column) for column in classes.T), **numbers)


def _finite_mean(values: np.ndarray[Any, Any]) -> float:
    return float(mean_over_classes(values))


OWN = "the model's own training"
"""What a model that is given scores beyond the ladder, which trains by a recipe of its own."""


def _waterfall(run: Run, measured: Measurements) -> list[dict[str, Any]]:
    """From 0 to 1: position, the families, then what is missing, as far as it can be named."""
    ladder, scaled = measured.ladder, measured.data
    if ladder is None or scaled is None:
        return []
    run = run.shared(run.plan.ladder)
    prior = run.reading(PRIOR)
    steps = [("position", prior, "family"), *((name, ladder.gains[name], "family") for name in (EITHER, *FAMILIES))]
    reached = prior.mean + sum(gain.mean for gain in ladder.gains.values())
    if run.plan.given:
        baseline = run.reading(run.plan.baseline)
        steps.append(
            (OWN, Interval(baseline.mean - reached, baseline.low - reached, baseline.high - reached), "family")
        )
        reached = baseline.mean
    missing = 1 - reached
    resolution = _capped(_complement(measured.resolution.by_stride[1]), missing)
    data = _capped(scaled.gains["4x"], missing - resolution.mean)
    rest = missing - resolution.mean - data.mean
    steps += [
        ("shortage of data (to four times)", data, "remainder"),
        ("unexplained", Interval(rest, rest, rest), "remainder"),
        ("resolution of the grid", resolution, "remainder"),
    ]
    rows, start = [], 0.0
    for name, gain, kind in steps:
        rows.append({"name": name, "start": start, "gain": gain, "kind": kind})
        start += gain.mean
    return rows


def _complement(ceiling: Interval) -> Interval:
    return Interval(1 - ceiling.mean, 1 - ceiling.high, 1 - ceiling.low)


def _capped(gain: Interval, most: float) -> Interval:
    """The gain, but no more than what is missing: two causes may claim the same part of it."""
    mean = min(max(gain.mean, 0.0), max(most, 0.0))
    return Interval(mean, min(gain.low, mean), max(gain.high, mean))


def _comparisons(measured: Measurements) -> dict[str, Any] | None:
    return {name: getattr(measured.ladder, name) for name in COMPARISONS} if measured.ladder else None


def _learning_curve(measured: Measurements) -> dict[str, Any]:
    data = measured.data
    if data is None:
        return {"points": (), "predicted": [], "law": None}
    groups = data.points[-1].groups
    law = {
        "ceiling": data.law.ceiling,
        "scale": data.law.scale * groups**data.law.exponent,
        "exponent": data.law.exponent,
    }
    predicted = [
        {"factor": float(name[:-1]), "images": float(name[:-1]) * data.points[-1].images, "iou": value}
        for name, value in data.predicted.items()
    ]
    return {"points": data.points, "predicted": predicted, "law": law}


def _operating_point(measured: Measurements) -> dict[str, Any]:
    operating = measured.operating
    return {
        "thresholds": operating.thresholds,
        "iou": operating.iou,
        "chosen": operating.chosen,
        "best": operating.best,
        "regret": operating.regret,
        "explained": operating.explained,
        "by_coverage": operating.by_coverage,
        "native": operating.native,
    }
