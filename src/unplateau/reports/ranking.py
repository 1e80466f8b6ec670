"""A ranking of extractors: for the terminal and as a page of Markdown, from the content of rank.json."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from unplateau.files import write_bytes
from unplateau.reports.comparison import escaped, interval_said, table_lines

SHOWN = (0, 1, 2, 6, 7, 8)
"""Columns that a terminal has room for."""

HEADS = (
    "place",
    "extractor",
    "predicted gain",
    "in place",
    "rehearsed IoU",
    "learnable",
    "ms",
    "gain per ms",
    "by cost",
)


def ranking_table(content: dict[str, Any]) -> RenderableType:
    """What a person needs of a ranking at first sight."""
    table = Table(box=None, pad_edge=False)
    for place in SHOWN:
        table.add_column(HEADS[place], overflow="fold", no_wrap=HEADS[place] != "extractor")
    for row in _rows(content):
        table.add_row(*(Text(row[place]) for place in SHOWN))
    return Group(table, Text(""), Text(_demand(content)))


def write_ranking(content: dict[str, Any], path: Path) -> None:
    """The page.

    Raises:
        OutputError: it cannot be written.
    """
    data = content["data"]
    height, width = data["size"]
    lines = [
        "# Extractors ranked",
        "",
        escaped(_demand(content)),
        "",
        *table_lines(HEADS, (tuple(map(escaped, row)) for row in _rows(content))),
        "",
        "The gain is over the IoU of colour alone, predicted for a training of the extractor, with its 90 % interval "
        "and the places it takes in 90 % of the resamples. Rehearsed IoU is what it came to in a few small steps on "
        "these images; learnable is supply times demand, the share of what is then missing that the extractor can "
        "learn.",
        "",
        f"{data['images']} images in {data['groups']} groups at {height} x {width} pixels, from "
        f"{escaped(data['path'])}; seed {content['seed']}.",
        "",
    ]
    write_bytes(path, "\n".join(lines).encode())


def _demand(content: dict[str, Any]) -> str:
    demand = content["demand"]
    said = ", ".join(f"{family} {interval_said(each, '.2f')}" for family, each in demand["families"].items())
    return f"Demand in IoU over the {demand['colour']:.3f} of colour alone, {demand['source']}: {said}."


def _rows(content: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for row in content["ranking"]:
        yield (
            str(row["place"]),
            row["extractor"],
            interval_said(row["gain"], "+.3f"),
            f"{row['best']}–{row['worst']}" if row["best"] < row["worst"] else str(row["best"]),
            f"{row['rehearsed']['mean']:.3f}",
            f"{row['learnable']['mean']:.2f}",
            f"{row['milliseconds']:.2f}",
            f"{row['per_millisecond']['mean']:+.3f}",
            str(content["by_cost"].index(row["extractor"]) + 1),
        )
