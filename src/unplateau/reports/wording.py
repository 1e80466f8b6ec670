"""How numbers are written, and the standing sentences of the page. A number that does not exist is an en dash."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from unplateau.types import Interval

ABSENT = "–"
MINUS = "−"

QUESTIONS = {
    "data": "Too few images?",
    "labels": "Labels too rough?",
    "model": "Model too small?",
    "pretraining": "Pretraining too poor, in size or modality?",
    "bug": "A bug?",
}
"""The rows of the "is it scale?" table, said in full."""

MISSING = {
    "remedies": "No remedy was priced: the diagnosis stopped before its verdict.",
    "scale": "No scale question was answered: the diagnosis stopped before its verdict.",
    "waterfall": "No waterfall: it needs the ladder, which was not climbed.",
    "ladder": "No ladder: no bounded-reach network was trained.",
    "families": "No family demand: it needs the ladder, which was not climbed.",
    "learning_curve": "No learning curve: it needs training on several nested parts of the data.",
    "operating_point": "No threshold curve: it exists only for a binary task with scores at hand.",
    "training": "No training curve: no epoch was logged.",
    "findings": "No finding: no check ran.",
    "worst": "No image is shown: no overlay was saved.",
    "semantics": "No semantics rung: no extractor candidate was given.",
}
"""Why a section is empty, where the diagnosis itself does not say."""

GLOSSARY = (
    ("IoU", "Intersection over union of predicted and true area: 0 is no overlap, 1 is perfect."),
    ("Interval", "The range that holds the number nine times in ten. Whiskers and square brackets both show it."),
    ("Gain", "Predicted change of the validation IoU if only this one thing is changed. It can be negative."),
    ("Extractor, decoder", "The two pieces of a model: image to characteristics, characteristics to mask."),
    ("Reach", "How far from a pixel a network may look when it decides about that pixel, in pixels."),
    ("D", "Object diameter: the median diameter of a connected object in the masks, on the working grid."),
    (
        "Rung, ladder",
        "One small network of bounded reach, and the series of them from a single pixel to the whole image.",
    ),
    ("Family", "Textural: local patterns. Geometric: ordered shape. Semantic: what the thing is, given the scene."),
    ("Demand", "Share of the attainable area, hits less false alarms, that is lost without the family."),
    ("Ceiling", "The IoU that a setup approaches and does not pass."),
    ("Coverage", "Predicted area over true area; 1 is right, below 1 too little is marked."),
    ("Regret", "IoU lost by the chosen threshold against the best one."),
    ("Undetermined", "The data could not tell. It is a result, not a failure."),
)
"""Words of the page, each in one sentence."""


NOTHING = "Nothing measured here would lift the IoU."
"""What an empty list of remedies means."""


def known(value: float) -> bool:
    """Whether the number exists."""
    return not math.isnan(value)


def iou(value: float) -> str:
    """An IoU or a threshold: three decimals."""
    return f"{value:.3f}".replace("-", MINUS) if known(value) else ABSENT


def gain(value: float) -> str:
    """A difference of IoU: three decimals and always a sign."""
    return f"{value:+.3f}".replace("-", MINUS) if known(value) else ABSENT


def spread(interval: Interval, signed: bool = False) -> str:
    """The interval in square brackets, or nothing where it is unknown."""
    if not (known(interval.low) and known(interval.high)):
        return ""
    write = gain if signed else iou
    return f"[{write(interval.low)}, {write(interval.high)}]"


def full(interval: Interval, signed: bool = False) -> str:
    """A number followed by its interval."""
    write = gain if signed else iou
    return f"{write(interval.mean)} {spread(interval, signed)}".rstrip()


def percent(value: float) -> str:
    """A share as a percentage; small shares keep a decimal."""
    if not known(value):
        return ABSENT
    return f"{100 * value:.{1 if abs(value) < 0.02 and value else 0}f} %".replace("-", MINUS)


def share_explained(value: float) -> str:
    """How much of a variance is explained; a covariance over it can leave 0..1, where no percentage means anything."""
    if value > 1:
        return "all"
    return "nothing" if value <= 0 else percent(value)


def percent_spread(interval: Interval) -> str:
    """The interval of a share, in percent."""
    if not (known(interval.low) and known(interval.high)):
        return ""
    return f"[{percent(interval.low)}, {percent(interval.high)}]".replace(" %", "")


def count(value: float) -> str:
    """A whole number with thousands apart."""
    return f"{value:,.0f}" if known(value) else ABSENT


def compact(value: float) -> str:
    """A measured number of unknown unit: as short as it goes without losing what matters."""
    if not known(value):
        return ABSENT
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace("-", MINUS)
    return f"{value:.4g}".replace("-", MINUS)


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if not known(seconds):
        return ABSENT
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(sides: tuple[float, ...]) -> str:
    """Height by width in pixels."""
    return " × ".join(count(side) for side in sides) + " px" if sides else ABSENT


def plain(name: str) -> str:
    """A key of the file as words."""
    return name.replace("_", " ")


def shortened(words: str, letters: int) -> str:
    """At most `letters` letters, for a label in a figure."""
    return words if len(words) <= letters else words[: letters - 1].rstrip() + "…"


def measured(source: Mapping[str, Any], limit: int = 60) -> list[tuple[str, str]]:
    """The numbers of a finding as pairs of words, nested names joined by a middle dot, long lists cut."""
    pairs = list(_flat(source, ""))
    if len(pairs) > limit:
        pairs = [*pairs[:limit], ("…", f"{len(pairs) - limit} more in diagnosis.json")]
    return pairs


def _flat(source: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in source.items():
        name = f"{prefix}{plain(str(key))}"
        if isinstance(value, dict) and set(value) == {"mean", "low", "high"}:
            yield name, f"{_said(value['mean'])} [{_said(value['low'])}, {_said(value['high'])}]"
        elif isinstance(value, dict) and prefix.count("·") < 3:
            yield from _flat(value, f"{name} · ")
        else:
            yield name, _said(value)


def _said(value: object) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return compact(float(value)) if abs(value) < 1e300 else ABSENT
    if isinstance(value, list):
        return _listed(value)
    words = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return shortened(words, 300)


def _listed(values: list[Any], limit: int = 8) -> str:
    head = ", ".join(_said(each) for each in values[:limit]) or "none"
    return head if len(values) <= limit else f"{head}, … ({len(values)} values)"
