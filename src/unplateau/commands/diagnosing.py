"""Why it stopped."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from unplateau.commands.options import Data, Out, PieceOf, Positive, Seed, class_ids, show
from unplateau.errors import UnplateauError
from unplateau.progress import Bar


def diagnose(
    data: Data,
    positive: Positive = "",
    extractor: Annotated[str, typer.Option(help="A pretrained candidate: a timm name or a file.")] = "",
    model: Annotated[Path | None, typer.Option(help="Folder written by train: the model that is stuck.")] = None,
    out: Out = Path("runs/diagnosis"),
    baseline: PieceOf = "unet",
    size: Annotated[int | None, typer.Option(help="Long side of the working grid in pixels.")] = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps of each training.")] = 230,
    folds: Annotated[int, typer.Option(help="How often everything is trained, each time on other images.")] = 3,
    limit: Annotated[int, typer.Option(help="At most so many images take part; 0 = all.")] = 600,
    thorough: Annotated[bool, typer.Option(help="Measure all, also when what comes first is clear.")] = False,
    seed: Seed = 0,
    predictions: Annotated[Path | None, typer.Option(help="Folder of probability maps: no model, no training.")] = None,
    threshold: Annotated[float, typer.Option(help="At which predictions are decided so far.")] = 0.5,
    reported: Annotated[float | None, typer.Option(help="IoU that the predictions are said to have.")] = None,
    log: Annotated[Path | None, typer.Option(help="Log of the training that made the predictions.")] = None,
) -> None:
    """Say why the IoU stopped; write diagnosis.json and report.html."""
    ids = class_ids(positive)
    from unplateau import api
    from unplateau.reports import summary

    # Nothing is trained on saved predictions, so that no bar has anything to show.
    with nullcontext() if predictions else Bar(Console(stderr=True)) as told:
        content = api.diagnose(
            data,
            positive=ids,
            extractor=extractor or None,
            model=model,
            out=out,
            baseline=baseline,
            size=size,
            steps=steps,
            folds=folds,
            limit=limit or None,
            thorough=thorough,
            seed=seed,
            told=told,
            predictions=predictions,
            threshold=threshold,
            reported=reported,
            log=log,
        )
    show(summary(content), "Report", out / api.REPORT)


def curve(
    log: Annotated[Path, typer.Argument(help="CSV, JSON, TensorBoard events, an MLflow run, or a folder of these.")],
    columns: Annotated[list[str] | None, typer.Option(help="A number and its column, as iou=val/jac.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the log as train writes its own.")] = None,
) -> None:
    """Say what the training curve of a log from elsewhere does."""
    from unplateau import api
    from unplateau.reports import curve_summary

    Console().print(curve_summary(api.curve(log, columns=_columns(columns or []), out=out)), soft_wrap=True)


def report(
    diagnosis: Annotated[Path, typer.Argument(help="diagnosis.json, or the folder that holds it.")],
    out: Annotated[Path | None, typer.Option(help="The page; beside the diagnosis by default.")] = None,
) -> None:
    """Draw the page of a saved diagnosis again."""
    from unplateau import api

    typer.echo(f"Report: {api.report(diagnosis, out=out)}")


def _columns(pairs: list[str]) -> dict[str, str]:
    """Numbers and their columns from words such as "iou=val/jac"."""
    split = [pair.partition("=") for pair in pairs]
    for field, equals, column in split:
        if not (field and equals and column):
            raise UnplateauError(f"`columns` must look like iou=val/jac; got {field + equals!r}. Name both.")
    return {field: column for field, _, column in split}
