"""What extractors supply, and which to take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from unplateau.commands.options import Data, Out, Positive, Seed, Size, class_ids, show
from unplateau.progress import Bar

Extractors = Annotated[
    list[str], typer.Argument(help="Names as for train, checkpoint files, or 'pretrained:NAME'; one or more.")
]
ChartSize = Annotated[int, typer.Option(help="Side of the largest planted scenes in pixels, at least 32.")]


def eyechart(
    extractors: Extractors,
    out: Out = Path("runs/eyechart"),
    size: ChartSize = 64,
    seed: Seed = 0,
) -> None:
    """Measure what extractors supply of each family, on planted scenes."""
    from unplateau import api
    from unplateau.reports import eyechart_table

    with Bar(Console(stderr=True)) as told:
        content = api.eyechart(extractors, out=out, size=size, seed=seed, told=told)
    show(eyechart_table(content), "Chart", out / api.CHART_PAGE)


def rank(
    data: Data,
    extractors: Extractors,
    diagnosis: Annotated[
        Path | None, typer.Option("--from", help="diagnosis.json, or the folder that holds it: the demand.")
    ] = None,
    positive: Positive = "",
    out: Out = Path("runs/rank"),
    charts: Annotated[Path, typer.Option(help="Folder of eyechart, whose charts are used and added to.")] = Path(
        "runs/eyechart"
    ),
    size: Size = 128,
    chart_size: ChartSize = 64,
    limit: Annotated[int, typer.Option(help="At most this many images.")] = 200,
    seed: Seed = 0,
) -> None:
    """Rank extractors for a task by a short rehearsal of each and its eye chart."""
    from unplateau import api
    from unplateau.reports import ranking_table

    with Bar(Console(stderr=True)) as told:
        content = api.rank(
            data,
            extractors,
            diagnosis=diagnosis,
            positive=class_ids(positive),
            out=out,
            charts=charts,
            size=size,
            chart_size=chart_size,
            limit=limit,
            seed=seed,
            told=told,
        )
    show(ranking_table(content), "Page", out / api.RANK_PAGE)
