"""The two pieces are trained."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from unplateau.commands.options import (
    LOSSES,
    RECIPE,
    RECIPE_HELP,
    RECIPES_HELP,
    Data,
    Out,
    PieceOf,
    Positive,
    Seed,
    Size,
    class_ids,
    show,
)
from unplateau.progress import Bar


def train(
    data: Data,
    task: Annotated[str, typer.Option(help="'mask', 'multi-label', 'label' or 'boxes'.")] = "mask",
    positive: Positive = "",
    extractor: PieceOf = "unet",
    decoder: Annotated[
        str, typer.Option(help="For masks 'linear', 'conv', 'unet', 'fpn', 'queries(NAME, NAME)'.")
    ] = "",
    teacher: Annotated[
        Path | None, typer.Option(help="Folder of a trained model, whose answers are imitated beside the masks.")
    ] = None,
    out: Out = Path("runs/model"),
    frozen: Annotated[bool, typer.Option(help="Train the decoder only.")] = False,
    size: Size = 128,
    recipe: Annotated[str | None, typer.Option(help=RECIPE_HELP, rich_help_panel=RECIPE)] = None,
    loss: Annotated[
        str | None,
        typer.Option(help="Such as 'ce + 0.5*dice', its default 'ce + dice'; " + LOSSES, rich_help_panel=RECIPE),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps; 400 by default.", rich_help_panel=RECIPE)] = None,
    class_weights: Annotated[
        str | None,
        typer.Option(help="'none', 'auto', 'effective', or a factor for each output: 1,5.", rich_help_panel=RECIPE),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="Evaluations without a better one before it stops; 0 = never.", rich_help_panel=RECIPE),
    ] = None,
    devices: Annotated[int, typer.Option(help="Processes that share every batch.")] = 1,
    seed: Seed = 0,
) -> None:
    """Train one model; go on where an interrupted run stopped."""
    ids = class_ids(positive)
    from unplateau import api
    from unplateau.reports import scores_said

    if said := api.loaded(extractor):
        typer.echo(said)
    facts = api.train(
        data,
        task=task,
        positive=ids,
        extractor=extractor,
        decoder=decoder or None,
        teacher=teacher,
        out=out,
        frozen=frozen,
        size=size,
        recipe=recipe,
        loss=loss,
        steps=steps,
        class_weights=class_weights,
        patience=patience,
        devices=devices,
        seed=seed,
        progress=sys.stderr.isatty(),
    )
    typer.echo(f"{scores_said(facts)}, on images that chose nothing.")
    typer.echo(f"Model: {out}")


def compare(
    data: Data,
    recipes: Annotated[list[str], typer.Option(help=RECIPES_HELP)],
    positive: Positive = "",
    extractor: PieceOf = "unet",
    decoder: Annotated[str, typer.Option(help="'linear', 'conv', 'unet' or 'fpn'.")] = "linear",
    out: Out = Path("runs/compare"),
    frozen: Annotated[bool, typer.Option(help="Train the decoder only.")] = False,
    size: Size = 112,
    steps: Annotated[int, typer.Option(help="Optimiser steps of a recipe that does not say.")] = 230,
    seeds: Annotated[int, typer.Option(help="How often each recipe is trained on each fold.")] = 3,
    folds: Annotated[int, typer.Option(help="Parts of the data that report in turn.")] = 3,
    limit: Annotated[int, typer.Option(help="At most so many images take part; 0 = all.")] = 600,
    seed: Seed = 0,
) -> None:
    """Train recipes on the same folds and seeds; say which differences are real."""
    ids = class_ids(positive)
    from unplateau import api
    from unplateau.reports import comparison_table

    with Bar(Console(stderr=True)) as told:
        content = api.compare(
            data,
            recipes,
            positive=ids,
            extractor=extractor,
            decoder=decoder,
            out=out,
            frozen=frozen,
            size=size,
            steps=steps,
            seeds=seeds,
            folds=folds,
            limit=limit or None,
            seed=seed,
            told=told,
        )
    show(comparison_table(content), "Table", out / api.TABLE)


def pretrain(
    images: Annotated[Path, typer.Argument(help="Folder of images, or one with images/; masks are not looked at.")],
    method: Annotated[str, typer.Option(help="'families', 'dense', 'dino' or 'simmim'.")] = "families",
    extractor: PieceOf = "families",
    out: Out = Path("runs/pretrained"),
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 400,
    size: Size = 128,
    seed: Seed = 0,
) -> None:
    """Let an extractor learn from images without masks; go on where an interrupted run stopped."""
    from unplateau import api

    with Bar(Console(stderr=True)) as told:
        kept = api.pretrain(
            images, method=method, extractor=extractor, out=out, steps=steps, size=size, seed=seed, told=told
        )
    typer.echo(f"Kept: step {kept['kept_step']} of {steps}, dense quality {kept['score']:.3f}.")
    typer.echo(f"Extractor: {kept['extractor']}")
