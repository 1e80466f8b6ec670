"""How the run behaved: learning curve, thresholds, training. Numbers in, drawings out; None where nothing is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from unplateau.reports import wording
from unplateau.reports.canvas import (
    ALARM,
    INK,
    MUTED,
    NEUTRAL,
    PAPER,
    SEMANTIC,
    WIDE,
    Box,
    Drawing,
    axes,
    draw,
    name_upright,
    rules,
    whisker,
)
from unplateau.reports.saved import Law, LearningCurve, OperatingPoint, Point, Saved
from unplateau.types import Epoch

FOOT = 44
"""Pixels below the axes for tick labels and the unit."""


# ---- the learning curve ----------------------------------------------------------------------------------------


def learning_curve(saved: Saved) -> Drawing | None:
    """Measured IoU against training images, the fitted law, and what it predicts for more of them."""
    curve = saved.learning_curve
    if not curve.points:
        return None
    alt = "Learning curve: IoU against training images. "
    alt += "; ".join(f"{wording.count(each.images)} images {wording.full(each.iou)}" for each in curve.points)
    alt += "".join(f"; predicted at {_factor(each)} {wording.full(each.iou)}" for each in curve.predicted) + "."

    def paint(figure: Figure, width: int) -> None:
        _paint_curve(axes(figure, Box(44, 34, 30, FOOT)), width, curve)

    return draw("learning", alt, lambda width: 330 if width == WIDE else 290, paint)


def _paint_curve(made: Any, width: int, curve: LearningCurve) -> None:
    everything = (*curve.points, *curve.predicted)
    today = max(each.images for each in curve.points)
    made.set_xscale("log")
    for each in curve.points:
        whisker(made, each.images, 0, (each.iou.low, each.iou.high), INK)
        made.plot([each.images], [each.iou.mean], "o", color=INK, markersize=7, zorder=5)
    for each in curve.predicted:
        _predicted(made, each)
    low, high = min(each.images for each in everything), max(each.images for each in everything)
    made.set_xlim(low / 1.15, high * 1.15)
    _fit_heights(made, [each.iou for each in everything])
    if curve.law:
        _paint_law(made, curve, curve.law, (low, today, high))
    made.axvline(today, color=MUTED, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
    _note(made, today, "today")
    _image_ticks(made, [each.images for each in everything], width)
    made.set_xlabel("training images, log scale", fontsize=11)
    name_upright(made, "IoU", 8)


def _predicted(made: Any, each: Point) -> None:
    whisker(made, each.images, 0, (each.iou.low, each.iou.high), SEMANTIC)
    made.plot([each.images], [each.iou.mean], "o", mfc="none", mec=SEMANTIC, mew=1.6, markersize=7, zorder=5)
    top = each.iou.high if wording.known(each.iou.high) else each.iou.mean
    words = f"{_factor(each)}\n{wording.iou(each.iou.mean)}"
    place: dict[str, Any] = {"xytext": (0, 6), "textcoords": "offset points", "annotation_clip": False}
    place["bbox"] = {"facecolor": PAPER, "edgecolor": "none", "pad": 1}
    made.annotate(words, (each.images, top), ha="center", va="bottom", fontsize=11, color=SEMANTIC, **place)


def _factor(point: Point) -> str:
    return f"{point.factor:g}×" if wording.known(point.factor) else f"{wording.count(point.images)} images"


def _fit_heights(made: Any, found: Sequence[Any]) -> None:
    values = [end for each in found for end in (each.mean, each.low, each.high) if wording.known(end)]
    pad = max(0.1 * (max(values) - min(values)), 0.02)
    # Headroom for the two lines of words above the highest prediction.
    made.set_ylim(min(values) - pad, max(values) + 3.2 * pad)
    made.yaxis.set_major_locator(MaxNLocator(6))
    rules(made, "y")


def _paint_law(made: Any, curve: LearningCurve, law: Law, span: tuple[float, float, float]) -> None:
    low, today, high = span
    unit = law_unit(curve, law)
    for start, end, style, color in ((low, today, "-", NEUTRAL), (today, high, (0, (4, 3)), SEMANTIC)):
        if end > start:
            images = np.geomspace(start, end, 60)
            with np.errstate(over="ignore"):
                iou = law.ceiling - law.scale * (images / unit) ** -law.exponent
            made.plot(images, iou, linestyle=style, color=color, linewidth=1.4)
    bottom, top = made.get_ylim()
    if bottom < law.ceiling < top:
        made.axhline(law.ceiling, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
        place: dict[str, Any] = {"xytext": (0, 3), "textcoords": "offset points", "xycoords": ("axes fraction", "data")}
        made.annotate(
            f"ceiling of the law {wording.iou(law.ceiling)}", (0, law.ceiling), fontsize=11, color=MUTED, **place
        )


def law_unit(curve: LearningCurve, law: Law) -> float:
    """Images in one unit of the law: 1, or images a group where the law was fitted over groups.

    The file does not say which; the unit whose curve runs nearer to the measured points is the one that was fitted.
    """
    grouped = [each for each in curve.points if each.groups > 0]
    if not grouped:
        return 1.0
    ratio = float(np.median([each.images / each.groups for each in grouped]))
    with np.errstate(over="ignore"):
        images, groups = (_miss(law, grouped, unit) for unit in (1.0, ratio))
    return ratio if groups < images else 1.0


def _miss(law: Law, points: Sequence[Point], unit: float) -> float:
    n = np.array([each.images for each in points]) / unit
    iou = np.array([each.iou.mean for each in points])
    return float(np.abs(law.ceiling - law.scale * n**-law.exponent - iou).sum())


def _image_ticks(made: Any, images: Sequence[float], width: int) -> None:
    """A tick at each number of images that was used, left out where the one before it stands too near."""
    low, high = (math.log(end) for end in made.get_xlim())
    pixels = (width - 78) / (high - low)
    ticks: list[float] = []
    for each in sorted(set(images)):
        if not ticks or (math.log(each) - math.log(ticks[-1])) * pixels > 42:
            ticks.append(each)
    made.xaxis.set_minor_locator(NullLocator())
    made.set_xticks(ticks, [wording.count(tick) for tick in ticks])


def _note(made: Any, x: float, words: str) -> None:
    """A word above the axes at `x`."""
    made.text(x, 1.02, words, transform=made.get_xaxis_transform(), ha="center", va="bottom", fontsize=11, color=MUTED)


# ---- thresholds ------------------------------------------------------------------------------------------------


def threshold_curve(saved: Saved) -> Drawing | None:
    """IoU against the threshold, with the chosen and the best one marked."""
    point = saved.operating_point
    if not any(map(wording.known, point.iou)):
        return None
    size = " at native size" if point.native else ""
    alt = (
        f"IoU{size} against threshold. Chosen threshold {wording.iou(point.chosen)}, best {wording.iou(point.best)}, "
        f"regret {wording.full(point.regret)} IoU."
    )

    def paint(figure: Figure, width: int) -> None:
        _paint_thresholds(axes(figure, Box(44, 20, 30, FOOT)), point, width == WIDE)

    return draw("threshold", alt, lambda width: 270 if width == WIDE else 250, paint)


@dataclass(frozen=True)
class Mark:
    """A marked threshold: its IoU, its words, which side of its line they stand on, and how high."""

    x: float
    y: float
    words: str
    color: str
    leftward: bool
    level: float


def _paint_thresholds(made: Any, point: OperatingPoint, wide: bool) -> None:
    order = np.argsort(point.thresholds)
    thresholds, values = np.asarray(point.thresholds)[order], np.asarray(point.iou)[order]
    made.plot(thresholds, values, color=INK, linewidth=1.6, zorder=3)
    made.set_xlim(min(0.0, np.nanmin(thresholds)), max(1.0, np.nanmax(thresholds)))
    made.set_ylim(0, 1.4 * max(float(np.nanmax(values)), 0.05))
    made.yaxis.set_major_locator(MaxNLocator(5))
    rules(made, "y")
    made.set_xlabel("threshold on the predicted probability", fontsize=11)
    name_upright(made, "IoU at native size" if point.native else "IoU", 8)
    usable = np.isfinite(values) & np.isfinite(thresholds)
    for mark in _marks(point, thresholds[usable], values[usable], wide):
        _paint_mark(made, mark)


def _marks(point: OperatingPoint, thresholds: Any, values: Any, wide: bool) -> list[Mark]:
    """The chosen and the best threshold, words turned away from each other; one mark where they are the same."""
    named = [(point.chosen, "chosen", ALARM), (point.best, "best", SEMANTIC)]
    if point.chosen == point.best:
        named = [(point.best, "chosen and best", SEMANTIC)]
    marks = []
    for rank, (x, name, color) in enumerate(sorted(each for each in named if wording.known(each[0]))):
        y = float(np.interp(x, thresholds, values))
        words = f"{name} {wording.iou(x)}" + (f": IoU {wording.iou(y)}" if wide else "")
        leftward = x > 0.65 if rank else x > 0.35
        marks.append(Mark(x, y, words, color, leftward, 0.97 if leftward == bool(rank) else 0.86))
    return marks


def _paint_mark(made: Any, mark: Mark) -> None:
    height = mark.level * made.get_ylim()[1]
    made.plot((mark.x, mark.x), (0, height), color=mark.color, linewidth=1, linestyle=(0, (1, 2)), zorder=2)
    made.plot([mark.x], [mark.y], "o", color=mark.color, markersize=7, zorder=5)
    made.annotate(
        mark.words,
        (mark.x, height),
        xytext=(-6 if mark.leftward else 6, 0),
        textcoords="offset points",
        ha="right" if mark.leftward else "left",
        va="center",
        fontsize=11,
        color=mark.color,
    )


# ---- training --------------------------------------------------------------------------------------------------

PANELS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    ("loss", (("train_loss", NEUTRAL, "--"), ("val_loss", INK, "-"))),
    ("IoU, validation part", (("iou", NEUTRAL, "--"), ("best_iou", INK, "-"))),
    ("coverage, predicted / true area", (("coverage", INK, "-"),)),
)
"""Panels of the training figure: title, then field of `Epoch`, colour and dash of each line."""


def training(saved: Saved) -> Drawing | None:
    """Loss, IoU and coverage over the steps of the baseline's training."""
    epochs = sorted(saved.baseline.epochs, key=lambda epoch: epoch.step)
    if not epochs:
        return None
    last = epochs[-1]
    alt = (
        f"Training over {wording.count(last.step)} steps. At the end: "
        f"training loss {wording.compact(last.train_loss)}, "
        f"validation loss {wording.compact(last.val_loss)}, IoU {wording.iou(last.iou)} at 0.5 and "
        f"{wording.iou(last.best_iou)} at the best threshold, coverage {wording.compact(last.coverage)}."
    )

    def paint(figure: Figure, width: int) -> None:
        for index, (title, lines) in enumerate(PANELS):
            made = axes(figure, _panel(index, width))
            _paint_panel(made, title, [(_series(epochs, name), color, dash) for name, color, dash in lines], epochs)

    return draw("training", alt, lambda width: 250 if width == WIDE else 600, paint)


def _panel(index: int, width: int) -> Box:
    """Three panels side by side, one above the other on a phone."""
    if width != WIDE:
        return Box(44, 14, 26 + index * 200, FOOT + (2 - index) * 200)
    left = index * 272
    return Box(left + 40, width - left - 256, 26, FOOT)


def _series(epochs: Sequence[Epoch], name: str) -> list[float]:
    return [float(getattr(epoch, name)) for epoch in epochs]


def _paint_panel(made: Any, title: str, lines: list[tuple[list[float], str, str]], epochs: Sequence[Epoch]) -> None:
    made.set_title(title, loc="left", fontsize=11, color=MUTED, x=-0.12, pad=10)
    made.set_xlabel("training step", fontsize=11)
    steps = [epoch.step for epoch in epochs]
    values = [value for series, _, _ in lines for value in series if wording.known(value)]
    if not values:
        made.set_yticks([])
        made.text(0.5, 0.5, "not logged", transform=made.transAxes, ha="center", fontsize=11, color=MUTED)
        return
    marker = "o" if len(steps) == 1 else ""
    for series, color, dash in lines:
        made.plot(steps, series, color=color, linestyle=dash, linewidth=1.6, marker=marker, zorder=3)
    if "coverage" in title:
        made.axhline(1.0, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
    made.set_ylim(min(0.0, *values), 1.08 * max(*values, 1.0 if "coverage" in title else 0.0))
    made.set_xlim(left=0)
    made.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    made.yaxis.set_major_locator(MaxNLocator(5))
    rules(made, "y")
