"""The diagnosis in a terminal: verdict, remedies, families, ladder."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from unplateau.reports import wording
from unplateau.reports.figures_task import reach_said
from unplateau.reports.reading import parse
from unplateau.reports.saved import Saved

BLOCKS = " ▏▎▍▌▋▊▉█"
STYLES = {"textural": "yellow", "geometric": "green", "semantic": "blue"}


SAID = {
    "accuracy": "accuracy {:.3f}",
    "commonest": "{:.3f} for always the commonest answer",
    "average_precision": "average precision {:.3f}",
    "ap50": "AP50 {:.3f}",
    "map": "mAP {:.3f}",
}
"""How the scores of a training are said, besides those of masks."""


def summary(diagnosis: dict[str, Any]) -> RenderableType:
    """What a person needs of a diagnosis at first sight, as something that rich can print."""
    saved = parse(diagnosis)
    parts: list[RenderableType] = [_head(saved), _remedies(saved)]
    if saved.families:
        parts.append(_families(saved))
    if saved.ladder:
        parts.append(_ladder(saved))
    if saved.data.warnings:
        parts.append(Text("\n".join(f"Of the data: {sentence}" for sentence in saved.data.warnings), "yellow"))
    return Group(*(Padding(part, (0, 0, 1, 0)) for part in parts))


def bar(share: float, width: int) -> str:
    """A bar of eighth blocks, `width` cells at 1."""
    eighths = round(max(0.0, min(share, 1.0)) * width * 8)
    return "█" * (eighths // 8) + BLOCKS[eighths % 8].strip()


def _head(saved: Saved) -> Text:
    base = saved.baseline
    head = Text(saved.verdict, style="bold")
    head.append(f"\n{saved.data.name}: IoU {wording.full(base.iou)}", style="not bold")
    if wording.known(base.threshold):
        head.append(f" at threshold {wording.iou(base.threshold)}", style="not bold")
    images, groups = wording.count(saved.data.images), wording.count(saved.data.groups)
    head.append(f", {images} images in {groups} groups, {wording.duration(saved.seconds)}", style="not bold dim")
    return head


def _remedies(saved: Saved) -> RenderableType:
    if not saved.remedies:
        return Text(wording.MISSING["remedies"] if saved.remedies is None else wording.NOTHING)
    table = _table("Remedy", "Gain", "90 %", "Cost", "Evidence")
    table.columns[1].justify = "right"
    for each in saved.remedies:
        style = "bold" if each.gain.above_zero else "dim"
        number, spread = wording.gain(each.gain.mean), wording.spread(each.gain, True)
        first = each.evidence[0] if each.evidence else ""
        table.add_row(Text(each.name, style), Text(number, style), Text(spread, "dim"), Text(each.cost), Text(first))
    return table


def _families(saved: Saved) -> Table:
    table = _table("Family demand", "", "", "90 %")
    table.columns[2].justify = "right"
    for name, share in saved.families:
        style = STYLES.get(name, "")
        spread = Text(wording.percent_spread(share), "dim")
        table.add_row(Text(name), Text(bar(share.mean, 24), style), Text(wording.percent(share.mean)), spread)
    return table


def _ladder(saved: Saved) -> Table:
    table = _table("Ladder", "Reach", "", "IoU", "90 %")
    for column in (1, 3):
        table.columns[column].justify = "right"
    for rung in saved.ladder:
        style = "dim" if rung.control else STYLES.get(rung.family, "")
        name = Text(wording.plain(rung.name) + (" (control)" if rung.control else ""))
        drawn, spread = Text(bar(rung.iou.mean, 24), style), Text(wording.spread(rung.iou), "dim")
        table.add_row(name, reach_said(rung.reach), drawn, wording.iou(rung.iou.mean), spread)
    return table


def _table(*heads: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for head in heads:
        table.add_column(Text(head), no_wrap=head in ("Remedy", "Gain", "90 %"))
    return table


def curve_summary(reading: dict[str, Any]) -> RenderableType:
    """What the curve of a log does, as something that rich can print."""
    said = Text(f"The curve is {reading['type']} over {reading['evaluations']} evaluations. ", style="bold")
    said.append(reading["advice"])
    if wording.known(reading["best"]):
        said.append(f"\nBest IoU {wording.iou(reading['best'])} at step {reading['best_step']}", style="not bold")
    if wording.known(reading["rise"]):
        said.append(f", {wording.gain(reading['rise'])} over the last third", style="not bold")
    if wording.known(reading["explained"]):
        share = wording.share_explained(reading["explained"])
        said.append(f"; the threshold explains {share} of its wobble", style="not bold")
    read = ", ".join(f"{name} from {column!r}" for name, column in reading["columns"].items())
    said.append(f"\nRead: {read}.", style="not bold dim")
    for note in reading["notes"]:
        said.append(f"\n{note}", style="not bold dim")
    return said


def scores_said(facts: dict[str, float]) -> str:
    """What a training scored, in words."""
    native = "native_iou" in facts
    said = {"native_iou": f"IoU {{:.3f}}{_at(facts, 'threshold')} on masks at their own size"}
    said["iou"] = f"{{:.3f}}{_at(facts, 'grid_threshold')} on the grid" if native else f"IoU {{:.3f}}{_at(facts)}"
    said |= SAID
    said |= {name: f"{name.removeprefix('iou ')} {{:.3f}}" for name in facts if name.startswith("iou of ")}
    return ", ".join(words.format(facts[name]) for name, words in said.items() if name in facts)


def _at(facts: dict[str, float], name: str = "threshold") -> str:
    """At which threshold, where one decides."""
    return f" at threshold {facts[name]:.2f}" if math.isfinite(facts.get(name, math.nan)) else ""
