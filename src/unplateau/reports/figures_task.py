"""What the task needs: the waterfall, the ladder, the families. Numbers in, drawings out; None where nothing is."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from unplateau.reports import wording
from unplateau.reports.canvas import (
    ALARM,
    FAMILIES,
    INK,
    MUTED,
    NEUTRAL,
    PAPER,
    RULE,
    WIDE,
    Box,
    Drawing,
    apart,
    axes,
    draw,
    name_upright,
    rules,
    whisker,
)
from unplateau.reports.saved import Saved, Share
from unplateau.types import Interval, Rung

FOOT = 44
"""Pixels below the axes for tick labels and the unit."""

STEPS = {
    "colour": "textural",
    "texture": "textural",
    "geometry": "geometric",
    "context": "semantic",
    "semantics": "semantic",
    "textural": "textural",
    "geometric": "geometric",
    "semantic": "semantic",
}
"""Family of a step of the waterfall whose name is no rung of this ladder."""


DIAMETERS = {-2: "D/4", -1: "D/2", 0: "D", 1: "2D", 2: "4D"}
"""Marks of reach in object diameters, by power of two."""

BAR = 13
"""Thickness of a bar in pixels."""


# ---- rows of bars: the waterfall and the families --------------------------------------------------------------


def waterfall(saved: Saved) -> Drawing | None:
    """Where the IoU comes from, then what is missing up to 1.0, each bar starting where the last one ended."""
    shares = saved.waterfall
    if not shares:
        return None
    family = STEPS | {rung.name: rung.family for rung in saved.ladder}
    alt = "Waterfall of IoU. " + "; ".join(f"{each.name} {wording.full(each.gain, True)}" for each in shares) + "."

    def paint(figure: Figure, width: int) -> None:
        made = _rows(figure, width, [(each.name, wording.full(each.gain, True)) for each in shares])
        ends = [end for each in shares for end in (each.start, each.start + each.gain.mean, *_moved(each))]
        made.set_xlim(min(0.0, *_finite(ends)), max(1.0, *_finite(ends)))
        made.set_xlabel("IoU", fontsize=11)
        for row, share in enumerate(shares):
            _step(made, row, share, BAR / _row(width), FAMILIES.get(family.get(share.name, ""), NEUTRAL))
            if row + 1 < len(shares):
                end = share.start + share.gain.mean
                made.plot((end, end), (row, row + 1), color=RULE, linewidth=1, zorder=1)

    return draw("waterfall", alt, lambda width: _rows_height(width, len(shares)), paint)


def families(saved: Saved) -> Drawing | None:
    """Share of the attainable area that needs each family."""
    found = saved.families
    if not found:
        return None
    said = [(name, f"{wording.percent(each.mean)} {wording.percent_spread(each)}".rstrip()) for name, each in found]
    alt = "Family demand. " + "; ".join(f"{name} {words}" for name, words in said) + "."

    def paint(figure: Figure, width: int) -> None:
        made = _rows(figure, width, said)
        ends = [end for _, each in found for end in (each.mean, each.low, each.high)]
        made.set_xlim(min(0.0, *_finite(ends)), max(1.0, *_finite(ends)))
        made.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        made.set_xlabel("share of the attainable area that needs the family", fontsize=11)
        made.axvline(0, color=MUTED, linewidth=1, zorder=5)
        for row, (name, each) in enumerate(found):
            made.barh(row, each.mean, height=BAR / _row(width), zorder=2, **_fill(each, FAMILIES.get(name, NEUTRAL)))
            whisker(made, each.mean, row, (each.low, each.high), INK, upright=False)

    return draw("families", alt, lambda width: _rows_height(width, len(found)), paint)


def _row(width: int) -> int:
    """Height of a row in pixels; on a phone it also holds the words."""
    return 30 if width == WIDE else 46


def _rows_height(width: int, rows: int) -> float:
    return rows * _row(width) + FOOT + 6


def _rows(figure: Figure, width: int, said: list[tuple[str, str]]) -> Any:
    """Axes with one row an entry: the name at the left, its number at the right; above the bar on a phone."""
    wide = width == WIDE
    made = axes(figure, Box(180, 180, 6, FOOT) if wide else Box(12, 16, 6, FOOT))
    made.set_ylim(len(said) - 0.5, -0.5)
    made.set_yticks([])
    made.xaxis.set_major_locator(MaxNLocator(5))
    rules(made, "x")
    made.tick_params(pad=8)
    for row, (name, words) in enumerate(said):
        at = row if wide else row - 0.34
        where: dict[str, Any] = {"xycoords": ("figure points", "data"), "va": "center", "annotation_clip": False}
        where["bbox"] = {"facecolor": PAPER, "edgecolor": "none", "pad": 1}
        made.annotate(wording.shortened(wording.plain(name), 26), (0 if wide else 12, at), ha="left", **where)
        made.annotate(words, (width if wide else width - 12, at), ha="right", color=MUTED, fontsize=11, **where)
    return made


def _step(made: Any, row: int, share: Share, height: float, color: str) -> None:
    """One bar of the waterfall; what is missing is pale."""
    paint = _fill(share.gain, color, 0.45 if share.kind == "remainder" else 1.0)
    made.barh(row, share.gain.mean, left=share.start, height=height, zorder=2, **paint)
    whisker(made, 0, row, _moved(share), INK, upright=False)


def _fill(gain: Interval, color: str, alpha: float = 1.0) -> dict[str, Any]:
    """A gain is filled, a loss is an open bar in the colour of alarm."""
    if gain.mean < 0:
        return {"facecolor": "none", "edgecolor": ALARM, "linewidth": 1.4}
    return {"color": color, "alpha": alpha}


def _moved(share: Share) -> tuple[float, float]:
    return share.start + share.gain.low, share.start + share.gain.high


def _finite(values: list[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)] or [0.0]


# ---- the ladder ------------------------------------------------------------------------------------------------


def ladder(saved: Saved) -> Drawing | None:
    """IoU against reach; controls and the pretrained rung stand apart, the baseline runs through both."""
    if not saved.ladder:
        return None
    alt = "Ladder: IoU against reach. " + "; ".join(_rung_said(rung) for rung in saved.ladder) + "."
    alt += f" Baseline {wording.full(saved.baseline.iou)}." if wording.known(saved.baseline.iou.mean) else ""

    def paint(figure: Figure, width: int) -> None:
        _paint_ladder(figure, width, saved)

    return draw("ladder", alt, lambda width: 400 if width == WIDE else 340, paint)


def reach_said(reach: float) -> str:
    """How far a rung may look, in words."""
    if math.isinf(reach):
        return "whole image"
    return "position only" if reach == 0 else f"{wording.compact(reach)} px"


def stands_apart(rung: Rung) -> bool:
    """Whether a rung is no step of reach: a control, or a pretrained extractor."""
    return rung.control or rung.name.lower().startswith("semantic")


def _rung_said(rung: Rung) -> str:
    return f"{wording.plain(rung.name)} ({reach_said(rung.reach)}) {wording.full(rung.iou)}"


def _paint_ladder(figure: Figure, width: int, saved: Saved) -> None:
    wide = width == WIDE
    chain = sorted((rung for rung in saved.ladder if not stands_apart(rung)), key=lambda rung: rung.reach)
    others = [rung for rung in saved.ladder if stands_apart(rung)]
    column = 210 if wide else 132
    main = axes(figure, Box(40, column, 40, FOOT))
    side = axes(figure, Box(width - column + 14, column - (66 if wide else 40), 40, FOOT), sharey=main)
    _set_heights(main, [*saved.ladder], saved.baseline.iou.mean)
    _paint_chain(main, chain, width, column)
    _mark_objects(main, saved.data.object_diameter, width - 40 - column)
    _paint_side(side, others, saved.baseline.iou, 16 if wide else 9)
    main.axhline(saved.baseline.iou.mean, color=ALARM, linewidth=1.4, linestyle=(0, (5, 3)), zorder=3)
    side.axhline(saved.baseline.iou.mean, color=ALARM, linewidth=1.4, linestyle=(0, (5, 3)), zorder=3)


def _set_heights(made: Any, rungs: list[Rung], baseline: float) -> None:
    values = _finite([end for rung in rungs for end in (rung.iou.mean, rung.iou.low, rung.iou.high)] + [baseline])
    pad = max(0.08 * (max(values) - min(values)), 0.02)
    made.set_ylim(min(values) - pad, max(values) + 1.6 * pad)
    made.yaxis.set_major_locator(MaxNLocator(6))
    rules(made, "y")
    name_upright(made, "IoU", 11)


def _paint_chain(made: Any, chain: list[Rung], width: int, column: int) -> None:
    places, low, high = _places(chain)
    made.set_xlim(low - 0.5, high + 0.5)
    made.plot(places, [rung.iou.mean for rung in chain], color=NEUTRAL, linewidth=1.4, zorder=2)
    for place, rung in zip(places, chain, strict=True):
        _dot(made, place, rung)
    _reach_ticks(made, chain, places, (width - 40 - column) / (high - low + 1))
    made.set_xlabel("reach in pixels of the working grid, log scale", fontsize=11)
    if width == WIDE:
        _dot_numbers(made, chain, places, (width - 40 - column) / (high - low + 1))


def _places(chain: list[Rung]) -> tuple[list[float], float, float]:
    """Octaves of reach; "position only" and "whole image" have none and stand beside the ends of the axis."""
    octaves = [math.log2(rung.reach) for rung in chain if 0 < rung.reach < math.inf] or [0.0, 1.0]
    low, high = min(octaves), max(octaves)
    beside = {0.0: low - 1.25, math.inf: high + 1.25}
    places = [beside[rung.reach] if rung.reach in beside else math.log2(rung.reach) for rung in chain]
    return places, min([low, *places]), max([high, *places])


def _dot(made: Any, place: float, rung: Rung) -> None:
    color = FAMILIES.get(rung.family, NEUTRAL)
    whisker(made, place, 0, (rung.iou.low, rung.iou.high), color)
    fill = "none" if rung.control else color
    made.plot([place], [rung.iou.mean], "o", markersize=8, mfc=fill, mec=color, mew=1.6, zorder=5)


def _dot_numbers(made: Any, chain: list[Rung], places: list[float], pixels: float) -> None:
    """The IoU above each dot, left out where the one before it stands too near."""
    last = -math.inf
    for place, rung in zip(places, chain, strict=True):
        if (place - last) * pixels < 40:
            continue
        top = rung.iou.high if wording.known(rung.iou.high) else rung.iou.mean
        shift = (0, 4 if wording.known(rung.iou.high) else 8)
        made.annotate(
            wording.iou(rung.iou.mean),
            (place, top),
            xytext=shift,
            textcoords="offset points",
            ha="center",
            fontsize=11,
            color=MUTED,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1},
            zorder=3,
        )
        last = place


def _reach_ticks(made: Any, chain: list[Rung], places: list[float], pixels: float) -> None:
    octaves = [place for place, rung in zip(places, chain, strict=True) if 0 < rung.reach < math.inf] or [0.0]
    stride = max(1, math.ceil(26 / pixels))
    whole = range(math.ceil(min(octaves)), math.floor(max(octaves)) + 1, stride)
    ticks = {float(each): f"{2.0**each:g}" for each in whole}
    for place, rung in zip(places, chain, strict=True):
        if rung.reach == 0 or math.isinf(rung.reach):
            ticks = {at: words for at, words in ticks.items() if abs(at - place) * pixels > 40}
            ticks[place] = "position\nonly" if rung.reach == 0 else "whole\nimage"
    made.set_xticks(list(ticks), list(ticks.values()))


def _mark_objects(made: Any, diameter: float, width: float) -> None:
    """Marks at D/4 to 4D along the top, a line at D itself."""
    if not diameter > 0:
        return
    low, high = made.get_xlim()
    top, width_of_octave = made.get_xaxis_transform(), width / (high - low)
    powers = (-2, 0, 2) if width_of_octave < 30 else range(-2, 3)
    for power in powers:
        place = math.log2(diameter) + power
        if low <= place <= high:
            made.plot((place, place), (1, 1.02), transform=top, color=MUTED, linewidth=1, clip_on=False)
            words = f"D = {diameter:.3g} px" if power == 0 and width_of_octave >= 30 else DIAMETERS[power]
            made.text(place, 1.035, words, transform=top, ha="center", va="bottom", fontsize=11, color=MUTED)
    made.axvline(math.log2(diameter), color=MUTED, linewidth=1, linestyle=(0, (1, 2)), zorder=1)


def _paint_side(side: Any, others: list[Rung], baseline: Interval, letters: int) -> None:
    """Rungs without a place on the axis of reach, and the names of all horizontal marks, kept apart."""
    side.tick_params(labelleft=False)
    side.set_xticks([])
    side.spines["bottom"].set_visible(False)
    side.set_xlim(-0.7, max(len(others), 1) - 0.1)
    rules(side, "y")
    for place, rung in enumerate(others):
        _dot(side, place, rung)
    marks = [(rung.iou.mean, wording.plain(rung.name), FAMILIES.get(rung.family, MUTED)) for rung in others]
    if wording.known(baseline.mean):
        marks.append((baseline.mean, "baseline", ALARM))
    low, high = side.get_ylim()
    placed = apart([value for value, _, _ in marks], 17 * (high - low) / 310)
    for (value, name, color), at in zip(marks, placed, strict=True):
        where: dict[str, Any] = {"xycoords": side.get_yaxis_transform(), "va": "center", "annotation_clip": False}
        side.annotate(
            f"{wording.shortened(name, letters)} {wording.iou(value)}", (1.08, at), color=color, fontsize=11, **where
        )
