"""The better extractor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from unplateau.commands.options import Data, Out, show
from unplateau.progress import Bar


def upgrade(
    data: Data,
    diagnosis: Annotated[Path, typer.Option("--from", help="diagnosis.json, or the folder that holds it.")],
    remedy: Annotated[str | None, typer.Option(help="Which to build; the first of the diagnosis by default.")] = None,
    extractor: Annotated[str, typer.Option(help="For richer-pretraining: a timm name or a file.")] = "",
    alone: Annotated[bool, typer.Option(help="That extractor alone, not fused with the baseline's.")] = False,
    force: Annotated[bool, typer.Option(help="Train what the diagnosis advises against.")] = False,
    out: Out = Path("runs/upgrade"),
    seeds: Annotated[int, typer.Option(help="How often each model is trained on each fold.")] = 1,
    folds: Annotated[int | None, typer.Option(help="Parts of the data that report in turn.")] = None,
    seed: Annotated[int | None, typer.Option(help="That of the diagnosis by default.")] = None,
) -> None:
    """Build the remedy that a diagnosis names; say what it gained, against what was predicted."""
    from unplateau import api
    from unplateau.report import upgrade_table

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
