"""A saved diagnosis as frozen values, ready to be written out. A missing number is nan, a missing section empty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unplateau.types import Epoch, Finding, Interval, Remedy, Rung


@dataclass(frozen=True)
class DataFacts:
    """What the diagnosis knew of the data; sizes are height and width in pixels, () where unknown."""

    path: str
    images: float
    groups: float
    size: tuple[float, ...]
    native: tuple[float, ...]
    classes: tuple[str, ...]
    binary: bool | None
    positive_share: float
    object_diameter: float
    split: str
    warnings: tuple[str, ...]

    @property
    def name(self) -> str:
        """The last part of the path, of either kind of slash."""
        return self.path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] or "unnamed data"


@dataclass(frozen=True)
class Setup:
    """What it takes to train the baseline again. `recipe` are its fields as they were written."""

    positive: tuple[float, ...]
    folds: float
    frozen: bool
    candidate: str
    recipe: dict[str, Any]


@dataclass(frozen=True)
class Baseline:
    """The setup that got stuck, as it was reproduced."""

    extractor: str
    decoder: str
    iou: Interval
    threshold: float
    iou_at_half: float
    best_iou: float
    class_iou: tuple[tuple[str, float], ...]
    epochs: tuple[Epoch, ...]


@dataclass(frozen=True)
class Share:
    """One bar of the waterfall: it starts at `start` and adds `gain`."""

    name: str
    start: float
    gain: Interval
    kind: str


@dataclass(frozen=True)
class Point:
    """An IoU at a number of training images; `factor` is the multiple of today's data, nan where measured."""

    images: float
    groups: float
    factor: float
    iou: Interval


@dataclass(frozen=True)
class Law:
    """IoU(n) = ceiling - scale * n ** -exponent."""

    ceiling: float
    scale: float
    exponent: float

    def at(self, n: float) -> float:
        """The IoU that the law gives for `n`."""
        return self.ceiling - self.scale * n**-self.exponent


@dataclass(frozen=True)
class LearningCurve:
    """Measured points, predictions past them, and the law that joins them."""

    points: tuple[Point, ...]
    predicted: tuple[Point, ...]
    law: Law | None


@dataclass(frozen=True)
class OperatingPoint:
    """IoU over all thresholds, the chosen threshold and the best one; `native` where all are of masks as they came."""

    thresholds: tuple[float, ...]
    iou: tuple[float, ...]
    chosen: float
    best: float
    regret: Interval
    explained: float
    native: bool = False


@dataclass(frozen=True)
class Answer:
    """One row of the "is it scale?" table."""

    question: str
    answer: str
    number: str
    gain: Interval


@dataclass(frozen=True)
class Worst:
    """An image that the baseline got wrong, and its overlay beside the diagnosis."""

    name: str
    iou: float
    file: str


@dataclass(frozen=True)
class Saved:
    """Everything that a diagnosis.json holds. `remedies` is None where none was priced, () where none would help;
    `setup` is None where nothing was trained, or the diagnosis is of a time when it was not written.
    """

    version: int
    unplateau: str
    verdict: str
    seconds: float
    seed: str
    data: DataFacts
    baseline: Baseline
    remedies: tuple[Remedy, ...] | None
    families: tuple[tuple[str, Interval], ...]
    waterfall: tuple[Share, ...]
    ladder: tuple[Rung, ...]
    learning_curve: LearningCurve
    operating_point: OperatingPoint
    scale: tuple[Answer, ...]
    findings: tuple[Finding, ...]
    worst: tuple[Worst, ...]
    considered: tuple[Remedy, ...] = ()
    setup: Setup | None = None
