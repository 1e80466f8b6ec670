"""The images on which the baseline does worst, with its answer drawn over them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unplateau.experiments.run import Run, decided
from unplateau.files import write_bytes
from unplateau.measures.thresholds import BINS, iou, mean_over_classes
from unplateau.types import IGNORE

COUNT, OF_ONE_GROUP = 8, 2
ENLARGED = 2
HIT, SPURIOUS, MISSED = (0, 168, 120), (214, 47, 47), (43, 111, 214)
"""Colours of a true positive, a false positive and a false negative pixel; for many classes, of right and
wrong. The legend of the report has the same."""


@dataclass(frozen=True)
class Example:
    """One image, its IoU, and the file of its overlay relative to the diagnosis."""

    name: str
    iou: float
    file: str


def draw_worst(run: Run, folder: Path) -> tuple[Example, ...]:
    """Overlays of the worst images, at most two of a group, written to `folder`/examples.

    Raises:
        OutputError: they cannot be written.
    """
    return tuple(_draw(run, fold, place, value, folder) for value, fold, place in _worst(run))


def _worst(run: Run) -> list[tuple[float, int, int]]:
    """(IoU, fold, place in its report part), worst first; only images where the baseline's answer was kept."""
    scored = []
    for fold, fitted in enumerate(run.outcomes[run.plan.baseline]):
        if fold and set(run.folds[fold].report) == set(run.folds[0].report):
            break
        values = mean_over_classes(iou(decided(fitted)))
        areas = fitted.report.argmax[..., 2].sum(-1)
        scored += [(float(v), fold, i) for i, (v, a) in enumerate(zip(values, areas, strict=True)) if a and v == v]
    taken: Counter[str] = Counter()
    worst: list[tuple[float, int, int]] = []
    for value, fold, place in sorted(scored):
        group = run.pictures.groups[run.folds[fold].report[place]]
        if taken[group] < OF_ONE_GROUP and len(worst) < COUNT:
            taken[group] += 1
            worst.append((value, fold, place))
    return worst


def _draw(run: Run, fold: int, place: int, value: float, folder: Path) -> Example:
    index = run.folds[fold].report[place]
    fitted = run.outcomes[run.plan.baseline][fold]
    mask = run.pictures.masks[index].numpy()
    threshold = fitted.threshold if run.binary else 0.0
    picture = overlay(
        run.pictures.images[index].numpy(), mask, _answer(fitted.maps[place]), threshold if run.binary else None
    )
    name = f"examples/worst-{index:05d}.png"
    write_bytes(folder / name, picture)
    return Example(run.pictures.names[index], value, name)


def _answer(scores: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The score (H, W) of a binary task, else the best-scored class."""
    return scores[0] if len(scores) == 1 else scores.argmax(0).astype(np.uint8)


def overlay(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], answer: NDArray[np.uint8], threshold: float | None
) -> bytes:
    """PNG of an image (3, H, W) in grey under its answer (H, W): hits, spurious and missed pixels in their colours.

    `threshold` decides a binary answer in steps of 1 / BINS; None = classes, where every wrong pixel is spurious.
    """
    grey = image.mean(0, keepdims=True).repeat(3, 0).transpose(1, 2, 0) * 0.75 + 40
    counted = mask != IGNORE
    chosen = answer >= round(threshold * BINS) if threshold is not None else answer == mask
    true = mask == 1 if threshold is not None else np.ones_like(chosen)
    wrong = chosen & ~true if threshold is not None else ~chosen
    missed = true & ~chosen if threshold is not None else np.zeros_like(chosen)
    for where, colour in ((chosen & true, HIT), (wrong, SPURIOUS), (missed, MISSED)):
        grey[where & counted] = 0.45 * grey[where & counted] + 0.55 * np.array(colour)
    picture = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
    buffer = BytesIO()
    enlarged = (picture.width * ENLARGED, picture.height * ENLARGED)
    picture.resize(enlarged, Image.Resampling.NEAREST).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
