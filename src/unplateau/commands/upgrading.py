"""The better extractor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from unplateau.commands.options import Data, Out, Seed, Size, show
from unplateau.progress import Bar


def upgrade(
    data: Data,
    diagnosis: Annotated[Path, typer.Option("--from", help="diagnosis.json, or the folder that holds it.")],
    remedy: Annotated[str | None, typer.Option(help="Which to build; the first of the diagnosis by default.")] = None,
    extractor: Annotated[
        str, typer.Option(help="For richer-pretraining: a timm name or a file; 'frozen:FILE' to fuse it frozen.")
    ] = "",
    alone: Annotated[bool, typer.Option(help="That extractor alone, not fused with the baseline's.")] = False,
    force: Annotated[bool, typer.Option(help="Train what the diagnosis advises against.")] = False,
    out: Out = Path("runs/upgrade"),
    seeds: Annotated[int, typer.Option(help="How often each model is trained on each fold.")] = 1,
    folds: Annotated[int | None, typer.Option(help="Parts of the data that report in turn.")] = None,
    seed: Annotated[int | None, typer.Option(help="That of the diagnosis by default.")] = None,
) -> None:
    """Build the remedy that a diagnosis names; say what it gained, against what was predicted."""
    from unplateau import api
    from unplateau.reports import upgrade_table

    with Bar(Console(stderr=True)) as told:
        content = api.upgrade(
            data,
            diagnosis=diagnosis,
            remedy=remedy,
            extractor=extractor or None,
            alone=alone,
            force=force,
            out=out,
            seeds=seeds,
            folds=folds,
            seed=seed,
            told=told,
        )
    show(upgrade_table(content), "Page", out / api.PAGE)


def distil(
    images: Annotated[Path, typer.Argument(help="Folder of images, or one with images/; masks are not looked at.")],
    teachers: Annotated[
        list[str], typer.Option(help="Files of weights, 'pretrained:NAME', or folders that train wrote.")
    ],
    student: Annotated[
        str,
        typer.Option(help="A file to go on from, best the smallest teacher's weights, or a network with random ones."),
    ] = "unet",
    out: Out = Path("runs/distilled"),
    diagnosis: Annotated[
        Path | None, typer.Option("--from", help="diagnosis.json: what the task demands, to weigh the teachers by.")
    ] = None,
    eyechart: Annotated[
        Path | None, typer.Option(help="eyechart.json of the teachers: what they supply, to weigh them by.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 400,
    size: Size = 128,
    seed: Seed = 0,
) -> None:
    """Let several extractors teach a smaller one; go on where an interrupted run stopped.

    Weights that a student brings are worth more to it than any teacher: begin with a file. Fine-tune what this writes
    by "train DATA --extractor OUT/extractor.safetensors", beside a trained model with "--teacher FOLDER", and compare
    it with the same file as it was before.
    """
    from unplateau import api

    with Bar(Console(stderr=True)) as told:
        kept = api.distil(
            images,
            teachers=teachers,
            student=student,
            out=out,
            diagnosis=diagnosis,
            eyechart=eyechart,
            steps=steps,
            size=size,
            seed=seed,
            told=told,
        )
    for each in kept["teachers"]:
        typer.echo(f"{each['name']}: {each['explained']:.0%} of its variance explained, weight {each['weight']:.2f}.")
    typer.echo(f"Kept: step {kept['kept_step']} of {steps}.")
    typer.echo(f"Extractor: {kept['extractor']}")


def extractors(
    kind: Annotated[str, typer.Option(help="Of pretraining, such as 'self-supervised'; all by default.")] = "",
    commercial: Annotated[bool, typer.Option(help="Only those known to allow commercial use.")] = False,
    folder: Annotated[Path | None, typer.Option(help="List the files of weights in this folder instead.")] = None,
    measure: Annotated[bool, typer.Option(help="Build each and measure its time an image.")] = False,
    size: Size = 128,
) -> None:
    """List extractors by pretraining and size; their strides, parameters, licences, and what must be fetched."""
    from unplateau import api
    from unplateau.reports import extractors_table

    console = Console()
    console.print(
        extractors_table(api.extractors(kind=kind, commercial=commercial, folder=folder, measure=measure, size=size))
    )
