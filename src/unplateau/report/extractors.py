"""The catalogue of extractors for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

COMMERCIAL = {True: "yes", False: "NO", None: "?"}

FETCHED = "to fetch: "
"""How the place of weights begins that are not here; it is told in full under the table."""


def extractors_table(rows: Sequence[dict[str, Any]]) -> Table:
    """A row an extractor, in 80 columns; the time an image where it was measured."""
    measured = any(row["milliseconds"] is not None for row in rows)
    table = Table(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0), caption=_notes(rows))
    table.caption_justify = "left"
    table.add_column("extractor", no_wrap=True, overflow="fold")
    table.add_column("weights", justify="right", no_wrap=True)
    for name in ("strides", "licence", "use"):
        table.add_column(name)
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


def _notes(rows: Sequence[dict[str, Any]]) -> str:
    """What the columns mean, and where weights come from that are not here."""
    said = ["use: whether the licence allows commercial use; ? = it is not stated, or its terms must be read."]
    if any(row["weights"].startswith(FETCHED) for row in rows):
        said.append("Weights are fetched on first use; without a network place them yourself: 'timm/NAME@FILE'.")
    said += [f"{row['name']}: {row['weights']}." for row in rows if not row["weights"].startswith((FETCHED, "none"))]
    return escape("\n".join(said))
