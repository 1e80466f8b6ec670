"""The catalogue of extractors for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

COMMERCIAL = {True: "yes", False: "NO", None: "?"}

CAPTION = (
    "use: whether the licence allows commercial use; ? = not stated, or its terms must be read. 'pretrained:NAME' "
    "fetches published weights; without a network it says which file to place, named then as timm/NAME@FILE. A "
    "language-aligned model is a folder: clip/FOLDER."
)
"""What the columns mean, and how weights are come by; the rows of the Python verb name each repository."""


def extractors_table(rows: Sequence[dict[str, Any]]) -> Table:
    """A row an extractor, in 80 columns; the time an image where it was measured."""
    measured = any(row["milliseconds"] is not None for row in rows)
    table = Table(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0), caption=CAPTION, caption_justify="left")
    for place, name in enumerate(("extractor", "size", "strides", "licence", "use")):
        widest = max((len(_cells(row)[place]) for row in rows), default=0)
        table.add_column(name, no_wrap=True, min_width=0 if name == "licence" else max(len(name), widest))
    if measured:
        table.add_column("ms", justify="right")
    kind = ""
    for row in rows:
        if row["kind"] != kind:
            kind = row["kind"]
            table.add_row(f"[bold]{escape(kind)}[/bold]")
        time = row["milliseconds"]
        own = [f"{time:.1f}" if time is not None else "-"] if measured else []
        table.add_row(*map(escape, _cells(row)), *own)
    return table


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    strides = sorted(set(row["strides"]))
    return (
        row["name"],
        _count(row["parameters"]),
        f"{strides[0]}-{strides[-1]}" if len(strides) > 1 else "".join(map(str, strides)),
        row["licence"] or "-",
        COMMERCIAL[row["commercial"]],
    )


def _count(parameters: int) -> str:
    if parameters >= 1e5:
        return f"{parameters / 1e6:.1f} M"
    return f"{parameters / 1e3:.1f} k" if parameters else "-"
