"""Say why the IoU stopped: of data, of a model, of saved answers, of a log."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unplateau._version import VERSION
from unplateau.checks.operating_point import variance_explained
from unplateau.data.pictures import read_pictures
from unplateau.data.sources import open_data
from unplateau.diagnosis.diagnose import RECIPE, Order, measure_all, train_all, train_given
from unplateau.diagnosis.document import document
from unplateau.diagnosis.examples import draw_worst
from unplateau.diagnosis.predictions import Saved, answers_given
from unplateau.errors import PieceError
from unplateau.experiments.given import load_given
from unplateau.extractors.catalogue import build_extractor
from unplateau.files import writable_folder, write_json
from unplateau.measures.curves import ADVICE, read_curve
from unplateau.progress import Told
from unplateau.reports import write_report
from unplateau.training.logs import read_epochs
from unplateau.training.train import LOG, save_log
from unplateau.types import Sample
from unplateau.verbs.arguments import LOWEST, refuse_alone, refuse_numbers, refuse_shares, silent

SIZE = 112
"""Long side in pixels of the grid that a diagnosis trains on, where none is asked for."""

THRESHOLD = 0.5
"""At which saved answers are decided, where no other is said."""

DIAGNOSIS, REPORT, CACHE = "diagnosis.json", "report.html", "fits"


def diagnose(
    data: str | Path | Iterable[Sample],
    *,
    positive: Sequence[int] | None = None,
    extractor: str | Path | None = None,
    model: str | Path | None = None,
    out: str | Path = "runs/diagnosis",
    baseline: str = "unet",
    size: int | None = None,
    steps: int = RECIPE.steps,
    folds: int = 3,
    limit: int | None = 600,
    thorough: bool = False,
    seed: int = 0,
    colours: Mapping[tuple[int, int, int], int] | None = None,
    told: Told | None = None,
    predictions: str | Path | None = None,
    threshold: float = THRESHOLD,
    reported: float | None = None,
    log: str | Path | None = None,
) -> dict[str, Any]:
    """Say why the IoU stopped and what each remedy would gain; write `diagnosis.json` and `report.html` to `out`.

    Args:
        data: a folder with `images/` and `masks/`, or any iterable of samples.
        positive: class ids that make the positive class; None = multi-class, or 1 when the masks hold 0 and 1.
        extractor: a pretrained candidate, by timm name or as a file; measured frozen against training from scratch.
        model: a folder written by `train`: the model whose ceiling is in question, which is then not trained again but
            scored where it was scored; `baseline`, `size`, `folds` and `limit` then do not matter.
        out: where the results go. What an interrupted run finished is there and is not computed again.
        baseline: the extractor whose ceiling is in question, trained from scratch: "unet", "reach-33", any timm name.
        size: long side of the working grid in pixels; None = 112, and for `predictions` as large as the images are.
        steps: optimiser steps of each training.
        folds: how often everything is trained, each time with another seed and another part held out.
        limit: at most so many images take part, spread over the groups; None = all.
        thorough: measure everything, also when what comes first is clear before.
        seed: the same seed gives the same diagnosis.
        colours: class id of each RGB colour, for masks saved as colours.
        told: called after each training with how many are done, of how many, and the name of the last.
        predictions: a folder with a probability map for each image to score, by stem: .npy, .npz, 8- or 16-bit PNG.
            They are diagnosed in the place of a model, and nothing is trained.
        threshold: at which `predictions` of one class are decided so far.
        reported: the IoU that `predictions` are said to have; None = not said.
        log: the log of the training that made `predictions`, as `curve` reads it; None = not at hand.

    Returns:
        The content of `diagnosis.json`.

    Raises:
        DataError: the data break a rule.
        PieceError: no such extractor, or a checkpoint that does not fit.
        OutputError: `out` cannot be written.
    """
    start = time.perf_counter()
    # A single step has a single evaluation, which has no course to look at.
    refuse_numbers({"size": size, "steps": steps, "folds": folds, "limit": limit, "seed": seed}, LOWEST | {"steps": 2})
    said = {"log": log, "reported": reported, "threshold": None if threshold == THRESHOLD else threshold}
    if predictions is None:
        refuse_alone(said)
    else:
        refuse_shares({"threshold": threshold, "reported": reported}, {"extractor": extractor, "model": model})
    build_extractor(baseline)
    if extractor and not build_extractor(extractor, pretrained=True).pretrained:
        raise PieceError(
            f"`extractor` must bring weights, which are measured frozen; {str(extractor)!r} names a network with "
            "random ones. Name a file of weights, or leave it out."
        )
    given = load_given(Path(model)) if model else None
    folder = writable_folder(Path(out))
    source = open_data(data, colours=colours)
    candidate = str(extractor) if extractor else None
    order = Order(candidate, replace(RECIPE, steps=steps), seed, folder / CACHE, told or silent, thorough)
    if predictions is not None:
        epochs = read_epochs(Path(log)).epochs if log else ()
        saved = Saved(Path(predictions), threshold, math.nan if reported is None else reported, epochs)
        run, faults = answers_given(source, saved, positive=positive, size=size, limit=limit, seed=seed)
    elif given is None:
        pictures = read_pictures(source, positive=positive, size=size or SIZE, limit=limit, seed=seed)
        run, faults = train_all(source, pictures, order, baseline=baseline, folds=folds)
    else:
        asked = positive or given.saved.task.positive or None
        pictures = read_pictures(source, positive=asked, size=max(given.saved.size), seed=seed)
        run, faults = train_given(source, pictures, order, given)
    measured = measure_all(run, faults)
    worst = draw_worst(run, folder)
    path = str(data) if isinstance(data, (str, Path)) else "samples"
    seconds = time.perf_counter() - start
    content = document(run, measured, worst, path=path, version=VERSION, seconds=seconds)
    write_json(folder / DIAGNOSIS, content)
    write_report(folder / DIAGNOSIS, folder / REPORT)
    return content


def curve(
    log: str | Path, *, columns: Mapping[str, str] | None = None, out: str | Path | None = None
) -> dict[str, Any]:
    """Say what the training curve of a log from elsewhere does: still rising, converged, overfitting, diverging, or
    moved by its threshold alone.

    Args:
        log: a CSV or JSON file, TensorBoard events, an MLflow run, or the folder that holds one of these.
        columns: the column of a number where the usual names do not find it, as {"iou": "val/jac"}; the numbers are
            the fields of `types.Epoch`.
        out: a folder to which the log is written as `train` writes its own (`log.csv`); None = nowhere.

    Returns:
        `type`, `advice`, `evaluations`, `rise` (change of the IoU over the last third), `wobble` (of the IoU at 0.5
        from one evaluation to the next), `settled_wobble` (at the best threshold), `best`, `best_step`, `explained` and
        `by_coverage` (shares of the wobble that threshold and coverage explain), `columns` and `notes`. nan where the
        log does not tell.

    Raises:
        DataError: no log there, no validation IoU in it, or words among its numbers.
        MissingExtra: TensorBoard events without the package `tensorboard`.
        OutputError: `out` cannot be written.
    """
    read = read_epochs(Path(log), columns)
    reading = read_curve(read.epochs)
    explained, by_coverage = variance_explained([read.epochs])
    if out is not None:
        save_log(read.epochs, writable_folder(Path(out)) / LOG)
    return {
        **vars(reading),
        "type": reading.type.value,
        "advice": ADVICE[reading.type],
        "explained": explained,
        "by_coverage": by_coverage,
        "columns": read.columns,
        "notes": read.notes,
    }


def report(diagnosis: str | Path, *, out: str | Path | None = None) -> Path:
    """Draw the page of a saved diagnosis again.

    Args:
        diagnosis: a `diagnosis.json`, or the folder that holds it.
        out: where the page goes; None = `report.html` beside the diagnosis.

    Raises:
        DataError: no diagnosis there, or a damaged one.
        OutputError: `out` cannot be written.
    """
    return write_report(Path(diagnosis), Path(out) if out else None)
