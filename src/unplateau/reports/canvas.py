"""The drawing surface: matplotlib objects in, one inline SVG out. The only file that imports matplotlib.

A figure is drawn in CSS pixels (one SVG unit is one pixel), its text stays text, and its colours become the CSS
variables of the page, so that the same drawing is read in light, in dark and on paper.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

WIDE, NARROW = 800, 350
"""Widths in pixels: beside a column of words, and on a phone."""

PAPER, INK, MUTED, RULE = "#fffffe", "#1d2329", "#68717a", "#dfe3e8"
TEXTURAL, GEOMETRIC, SEMANTIC, NEUTRAL = "#d98a00", "#00916b", "#0068ae", "#8d969f"
ALARM = "#c8500a"

VARIABLES = {
    PAPER: "--paper",
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    TEXTURAL: "--textural",
    GEOMETRIC: "--geometric",
    SEMANTIC: "--semantic",
    NEUTRAL: "--neutral",
    ALARM: "--alarm",
}
"""The colour of each role on a white page (Okabe and Ito's, darkened to be read as text), and its CSS variable."""

FAMILIES = {"textural": TEXTURAL, "geometric": GEOMETRIC, "semantic": SEMANTIC}

SETTINGS = {
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 12,
    "text.parse_math": False,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.unicode_minus": True,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "path.simplify": False,
}


@dataclass(frozen=True)
class Drawing:
    """One figure at both widths, with the sentence that stands for it where it cannot be seen."""

    wide: Markup
    narrow: Markup
    alt: str


@dataclass(frozen=True)
class Box:
    """Margins of a set of axes in pixels of its figure."""

    left: float
    right: float
    top: float
    bottom: float


def draw(name: str, alt: str, height: Callable[[int], float], paint: Callable[[Figure, int], None]) -> Drawing:
    """Call `paint` once for each width, on an empty figure of that width."""
    wide, narrow = (_svg(f"{name}-{width}", width, height(width), paint) for width in (WIDE, NARROW))
    return Drawing(wide, narrow, alt)


def axes(figure: Figure, box: Box, **shared: Any) -> Any:
    """Bare axes inside the margins: no frame but the base line, ticks without marks."""
    width, height = figure.get_size_inches() * 72
    inside = (box.left / width, box.bottom / height)
    extent = ((width - box.left - box.right) / width, (height - box.top - box.bottom) / height)
    made = figure.add_axes((*inside, *extent), **shared)
    made.patch.set_visible(False)
    for side in ("top", "right", "left"):
        made.spines[side].set_visible(False)
    made.tick_params(length=0, pad=6, labelsize=11)
    made.set_axisbelow(True)
    return made


def rules(made: Any, axis: str) -> None:
    """Faint lines at the ticks of one axis."""
    made.grid(axis=axis, color=RULE, linewidth=1)


def name_upright(made: Any, words: str, above: float) -> None:
    """The unit of the upright axis, above its numbers and flush with them, `above` pixels over the axes."""
    made.annotate(
        words,
        (0, 1),
        xytext=(-6, above),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=11,
        color=MUTED,
    )


def whisker(made: Any, x: float, y: float, bounds: tuple[float, float], color: str, upright: bool = True) -> None:
    """The 90 % interval of a point, cased in paper to be seen on a bar; nothing where a bound is unknown."""
    if any(bound != bound for bound in bounds):
        return
    xs, ys = ((x, x), bounds) if upright else (bounds, (y, y))
    made.plot(xs, ys, color=PAPER, linewidth=3.6, solid_capstyle="butt", zorder=3)
    made.plot(xs, ys, color=color, linewidth=1.4, solid_capstyle="butt", zorder=4)


def apart(values: Sequence[float], gap: float) -> list[float]:
    """Positions for labels at `values`, in the same order, moved as little as it takes to stand `gap` apart."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    blocks: list[list[int]] = []
    for index in order:
        blocks.append([index])
        while len(blocks) > 1 and _bottom(blocks[-1], values, gap) - _top(blocks[-2], values, gap) < gap:
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    placed = list(values)
    for block in blocks:
        for rank, index in enumerate(block):
            placed[index] = _bottom(block, values, gap) + rank * gap
    return placed


def _bottom(block: list[int], values: Sequence[float], gap: float) -> float:
    return sum(values[index] for index in block) / len(block) - gap * (len(block) - 1) / 2


def _top(block: list[int], values: Sequence[float], gap: float) -> float:
    return _bottom(block, values, gap) + gap * (len(block) - 1)


def _svg(name: str, width: int, height: float, paint: Callable[[Figure, int], None]) -> Markup:
    with mpl.rc_context({**SETTINGS, "svg.hashsalt": name}), warnings.catch_warnings():
        # Text stays text, so a letter that the measuring font lacks is drawn by the reader's own fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(width / 72, height / 72))
        canvas = FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        paint(figure, width)
        sheet = io.StringIO()
        canvas.print_svg(sheet, metadata={"Date": None})
    # Safe as it is: matplotlib escapes the text that it writes.
    return Markup(_inline(sheet.getvalue(), name, width))


def _inline(svg: str, name: str, width: int) -> str:
    """Strip what a page does not need, keep ids of one figure from those of another, colours to variables."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    box = re.search(r'viewBox="([^"]+)"', svg)
    opening = f'<svg viewBox="{box.group(1) if box else ""}" style="max-width:{width}px" aria-hidden="true">'
    svg = re.sub(r"^<svg[^>]*>", opening, svg)
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    # The page's own font: an inline family would win over its style sheet.
    svg = re.sub(r" font-family: [^;\"]*;|font-family: [^;\"]*; ?| transform=\"rotate\(-0 [^\"]*\"", "", svg)
    for color, variable in VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    return re.sub(r"\s*\n\s*", "\n", svg)
