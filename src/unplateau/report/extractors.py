"""The catalogue of extractors for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

COMMERCIAL = {True: "yes", False: "NO", None: "see its terms"}


def extractors_table(rows: Sequence[dict[str, Any]]) -> Table:
    """A row an extractor; the time an image where it was measured."""
    measured = any(row["milliseconds"] is not None for row in rows)
    table = Table(title=None, header_style="bold")
    for name in ("extractor", "pretraining", "parameters", "strides", "images", "licence", "commercial use", "weights"):
        table.add_column(name, justify="right" if name == "parameters" else "left", overflow="fold")
    if measured:
        table.add_column("ms an image", justify="right")
    for row in rows:
        cells = [
            row["name"],
            row["kind"],
            f"{row['parameters']:,}",
            "/".join(map(str, row["strides"])),
            row["preprocessing"],
            row["licence"] or "not stated",
            COMMERCIAL[row["commercial"]],
            row["weights"],
        ]
        time = row["milliseconds"]
        table.add_row(*map(escape, cells), *([f"{time:.1f}" if time is not None else "-"] if measured else []))
    return table
