"""The verbs. The command line says the same words with the same names."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unplateau._version import VERSION
from unplateau.data.pictures import read_pictures
from unplateau.data.sources import open_data
from unplateau.diagnosis.diagnose import RECIPE, Told, measure_all, train_all
from unplateau.diagnosis.document import document
from unplateau.diagnosis.examples import draw_worst
from unplateau.extractors.catalogue import build_extractor
from unplateau.files import writable_folder, write_json
from unplateau.report import write_report
from unplateau.types import Sample

DIAGNOSIS, REPORT, CACHE = "diagnosis.json", "report.html", "fits"


def diagnose(
    data: str | Path | Iterable[Sample],
    *,
    positive: Sequence[int] | None = None,
    extractor: str | Path | None = None,
    out: str | Path = "runs/diagnosis",
    baseline: str = "unet",
    size: int = 112,
    steps: int = RECIPE.steps,
    folds: int = 3,
    limit: int | None = 600,
    seed: int = 0,
    colours: Mapping[tuple[int, int, int], int] | None = None,
    told: Told | None = None,
) -> dict[str, Any]:
    """Say why the IoU stopped and what each remedy would gain; write `diagnosis.json` and `report.html` to `out`.

    Args:
        data: a folder with `images/` and `masks/`, or any iterable of samples.
        positive: class ids that make the positive class; None = multi-class, or 1 when the masks hold 0 and 1.
        extractor: a pretrained candidate, by timm name or as a file; measured frozen against training from scratch.
        out: where the results go. What an interrupted run finished is there and is not computed again.
        baseline: the extractor whose ceiling is in question, trained from scratch: "unet", "reach-33", any timm name.
        size: long side of the working grid in pixels.
        steps: optimiser steps of each training.
        folds: how often everything is trained, each time with another seed and another part held out.
        limit: at most so many images take part, spread over the groups; None = all.
        seed: the same seed gives the same diagnosis.
        colours: class id of each RGB colour, for masks saved as colours.
        told: called after each training with how many are done, of how many, and the name of the last.

    Returns:
        The content of `diagnosis.json`.

    Raises:
        DataError: the data break a rule.
        PieceError: no such extractor, or a checkpoint that does not fit.
        OutputError: `out` cannot be written.
    """
    start = time.perf_counter()
    folder = writable_folder(Path(out))
    build_extractor(baseline)
    if extractor:
        build_extractor(extractor, pretrained=True)
    source = open_data(data, colours=colours)
    pictures = read_pictures(source, positive=positive, size=size, limit=limit, seed=seed)
    run = train_all(
        source,
        pictures,
        baseline=baseline,
        candidate=str(extractor) if extractor else None,
        recipe=replace(RECIPE, steps=steps),
        folds=folds,
        seed=seed,
        cache=folder / CACHE,
        told=told or _silent,
    )
    measured = measure_all(run)
    worst = draw_worst(run, folder)
    path = str(data) if isinstance(data, (str, Path)) else "samples"
    seconds = time.perf_counter() - start
    content = document(run, measured, worst, path=path, version=VERSION, seconds=seconds)
    write_json(folder / DIAGNOSIS, content)
    write_report(folder / DIAGNOSIS, folder / REPORT)
    return content


def _silent(_done: int, _total: int, _name: str) -> None:
    """Say nothing."""
