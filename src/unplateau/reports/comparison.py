"""A comparison of recipes: a table for the terminal and a page of Markdown, both from the content of compare.json."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from unplateau.files import write_bytes

HEADS = ("recipe", "IoU", "over the first", "p", "verdict", "s each")
STYLES = {"better": "green", "worse": "red"}


def comparison_table(content: dict[str, Any]) -> RenderableType:
    """What a person needs of a comparison at first sight."""
    table = Table(box=None, pad_edge=False)
    for head in HEADS:
        table.add_column(head, overflow="fold", no_wrap=head not in (HEADS[0], HEADS[2]))
    for row in _rows(content):
        cells = [Text(cell) for cell in row]
        cells[4].stylize(STYLES.get(row[4], "dim"))
        table.add_row(*cells)
    return Group(table, Text(""), Text(content["conclusion"]))


def write_comparison(content: dict[str, Any], path: Path) -> None:
    """The page.

    Raises:
        OutputError: it cannot be written.
    """
    data, pieces = content["data"], content["pieces"]
    height, width = data["size"]
    lines = [
        "# Recipes compared",
        "",
        escaped(content["conclusion"]),
        "",
        *table_lines(HEADS, ((escaped(name), *numbers) for name, *numbers in _rows(content))),
        "",
        escaped(content["method"]),
        "",
        f"{data['images']} images in {data['groups']} groups at {height} x {width} pixels, from "
        f"{escaped(data['path'])}; extractor {escaped(pieces['extractor'])}"
        f"{' (frozen)' if pieces['frozen'] else ''}, decoder {escaped(pieces['decoder'])}; "
        f"first seed {content['seed']}.",
        "",
        "## Every training",
        "",
        *table_lines(
            ("recipe", *(f"seed {number}" for number in range(1, content["seeds"] + 1))),
            (_trainings(entry) for entry in content["recipes"]),
        ),
        "",
        "IoU by seed; within a seed, fold by fold.",
        "",
    ]
    write_bytes(path, "\n".join(lines).encode())


def _rows(content: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for entry in content["recipes"]:
        gain, p = entry["gain"], entry["p"]
        yield (
            entry["name"],
            interval_said(entry["iou"], ".3f"),
            interval_said(gain, "+.3f") if gain else "",
            "" if p is None else f"{p:.3f}",
            entry["verdict"] or "",
            f"{entry['seconds']:.0f}",
        )


def interval_said(values: dict[str, float | None], spec: str) -> str:
    """A number with its interval, from JSON."""
    mean, low, high = (_number(values[name], spec) for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _number(value: float | None, spec: str) -> str:
    return "–" if value is None else f"{value:{spec}}"


def _trainings(entry: dict[str, Any]) -> tuple[str, ...]:
    cells = (" ".join(_number(value, ".3f") for value in folds) for folds in entry["trainings"])
    return escaped(entry["name"]), *cells


def table_lines(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table of Markdown, line by line; its cells are escaped already."""
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def escaped(text: str) -> str:
    """The text with nothing in it that Markdown or a browser would take for more than letters."""
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " "))
