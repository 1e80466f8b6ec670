"""An upgrade, predicted against achieved: for the terminal and as a page, from the content of upgrade.json."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from unplateau.files import write_bytes
from unplateau.reports.comparison import escaped, interval_said, table_lines

HEADS = ("model", "extractor", "decoder", "IoU", "s each")
COVERED = {True: "the prediction holds it", False: "the prediction does not hold it", None: "nothing was predicted"}


def upgrade_table(content: dict[str, Any]) -> RenderableType:
    """What a person needs of an upgrade at first sight."""
    table = Table(*HEADS, box=None, pad_edge=False)
    for row in _models(content):
        table.add_row(*map(Text, row))
    lines = (f"{name}: {value}" for name, value in _gains(content))
    return Group(table, Text(""), *map(Text, lines), Text(""), Text(content["conclusion"]))


def write_upgrade(content: dict[str, Any], path: Path) -> None:
    """The page.

    Raises:
        OutputError: it cannot be written.
    """
    data = content["data"]
    height, width = data["size"]
    lines = [
        f"# Upgrade: {escaped(content['remedy'])}",
        "",
        escaped(content["conclusion"]),
        "",
        *table_lines(("gain", "IoU, 90 % interval"), ((name, escaped(value)) for name, value in _gains(content))),
        "",
        *table_lines(HEADS, (tuple(map(escaped, row)) for row in _models(content))),
        "",
        escaped(content["method"]),
        "",
        f"{data['images']} images in {data['groups']} groups at {height} x {width} pixels, from "
        f"{escaped(data['path'])}; {content['folds']} folds, {content['seeds']} seeds from {content['seed']}; "
        f"{content['recipe']['steps']} steps.",
        "",
    ]
    write_bytes(path, "\n".join(lines).encode())


def _gains(content: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    predicted = content["predicted"]
    return (
        ("predicted", interval_said(predicted, "+.3f") if predicted else "–"),
        ("achieved", f"{interval_said(content['achieved'], '+.3f')} ({COVERED[content['covered']]})"),
    )


def _models(content: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for model in content["models"]:
        extractor = f"{model['extractor']}{' (frozen)' if model['frozen'] else ''}"
        seconds = f"{model['seconds']:.0f}"
        yield model["name"], extractor, model["decoder"], interval_said(model["iou"], ".3f"), seconds
