"""The eye chart, drawn: acuity of each extractor by family, for the terminal and as one self-contained page."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape
from matplotlib.figure import Figure
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from unplateau.files import write_bytes
from unplateau.reports.canvas import FAMILIES, INK, MUTED, VARIABLES, Box, Drawing, axes, draw, rules, whisker
from unplateau.reports.comparison import interval_said

LINE, HEAD = 20, 34
"""Pixels between two readings of one extractor, and above each extractor for its name."""

SAID = (
    "Acuity: what is read of planted scenes that only this family decides, from 0 (no better than colour alone) to 1 "
    "(every pixel), the mean over four grades. Filled: after a short lesson. Hollow: frozen as it came. "
    "Lines are 90 % intervals over scenes and seeds."
)

PAGE = Markup("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Eye chart</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>:root {{ {variables} }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 820px;
margin: 2em auto; padding: 0 1em }}
table {{ border-collapse: collapse }} td, th {{ padding: .15em .8em .15em 0; text-align: left }}
.narrow {{ display: none }} svg {{ width: 100%; height: auto }}
@media (max-width: 600px) {{ .wide {{ display: none }} .narrow {{ display: block }} }}</style></head>
<body><h1>Eye chart</h1><p>{said}</p>
<figure role="img" aria-label="{alt}" style="margin:0"><div class="wide">{wide}</div><div class="narrow">{narrow}</div>
</figure><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></body></html>
""")

HEADS = ("extractor", "", *FAMILIES, "ms")


def eyechart_table(content: dict[str, Any]) -> RenderableType:
    """Acuity of each extractor by family, at rest and taught."""
    table = Table(*HEADS, box=None, pad_edge=False)
    for row in _rows(content):
        table.add_row(*map(Text, row))
    return Group(table, Text(""), Text(SAID, style="dim"))


def write_eyechart(content: dict[str, Any], path: Path) -> None:
    """The chart as one page.

    Raises:
        OutputError: it cannot be written.
    """
    drawing = figure(content)
    page = PAGE.format(
        variables=Markup(" ".join(f"{name}: {color};" for color, name in VARIABLES.items())),
        said=SAID,
        alt=drawing.alt,
        wide=drawing.wide,
        narrow=drawing.narrow,
        heads=_cells(HEADS, "th"),
        rows=Markup("").join(Markup("<tr>{}</tr>").format(_cells(row, "td")) for row in _rows(content)),
    )
    write_bytes(path, page.encode())


def figure(content: dict[str, Any]) -> Drawing:
    """One block an extractor, one line a family: a hollow dot at rest, a filled one taught."""
    charts = content["charts"]
    block = HEAD + LINE * len(FAMILIES)
    best = "; ".join(f"{family}: {_best(charts, family)}" for family in FAMILIES)
    return draw(
        "eyechart",
        f"Acuity of {len(charts)} extractors by family. Highest taught, {best}.",
        lambda _: block * len(charts) + 40,
        partial(_paint, charts, block),
    )


def _paint(charts: list[dict[str, Any]], block: int, sheet: Figure, width: int) -> None:
    made = axes(sheet, Box(left=86, right=16, top=4, bottom=36))
    made.set_ylim(block * len(charts), 0)
    lowest = min(each["acuity"]["low"] for chart in charts for state in ("rest", "taught") for each in chart[state])
    made.set_xlim(min(-0.05, lowest - 0.02), 1.0)
    rules(made, "x")
    made.axvline(0, color=MUTED, linewidth=1)
    labels = []
    for place, chart in enumerate(charts):
        made.text(0.01, block * place + 16, _short(chart["extractor"], width), color=INK, fontweight="bold")
        for line, family in enumerate(FAMILIES):
            y = block * place + HEAD + LINE * line
            labels.append((y, family))
            for state in ("rest", "taught"):
                _dot(made, _of(chart[state], family), y, FAMILIES[family], filled=state == "taught")
    made.set_yticks([y for y, _ in labels], [family for _, family in labels])
    made.set_xlabel("acuity")


def _dot(made: Any, acuity: dict[str, float], y: float, color: str, *, filled: bool) -> None:
    whisker(made, acuity["mean"], y, (acuity["low"], acuity["high"]), color, upright=False)
    made.plot(
        [acuity["mean"]],
        [y],
        marker="o",
        markersize=7,
        markeredgecolor=color,
        markerfacecolor=color if filled else "#fffffe",
        linestyle="",
        zorder=5,
    )


def _short(name: str, width: int) -> str:
    """The end of a long name, which tells files apart."""
    room = width // 9
    return name if len(name) <= room else "…" + name[-room:]


def _of(acuities: list[dict[str, Any]], family: str) -> dict[str, Any]:
    return next(each["acuity"] for each in acuities if each["family"] == family)


def _best(charts: list[dict[str, Any]], family: str) -> str:
    best = max(charts, key=lambda chart: _of(chart["taught"], family)["mean"])
    return f"{best['extractor']} {_of(best['taught'], family)['mean']:.2f}"


def _rows(content: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for chart in content["charts"]:
        for state, name, cost in (("rest", chart["extractor"], f"{chart['milliseconds']:.1f}"), ("taught", "", "")):
            numbers = (interval_said(_of(chart[state], family), ".2f") for family in FAMILIES)
            rows.append((name, state, *numbers, cost))
    return rows


def _cells(row: tuple[str, ...], tag: str) -> Markup:
    return Markup("").join(Markup(f"<{tag}>{{}}</{tag}>").format(escape(cell)) for cell in row)
