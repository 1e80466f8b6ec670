"""`predict` for tasks whose answers are a table: the label of each image, or the boxes in it."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unplateau.data.boxes import INSTANCES
from unplateau.data.decode import read_image
from unplateau.data.grid import Box, fit_image, place
from unplateau.data.labels import LABELS
from unplateau.files import write_bytes, write_json
from unplateau.training.objectives import box_decoder
from unplateau.training.saved import SavedModel
from unplateau.training.scoring import answer, probabilities

LABEL_SCORES = "scores.csv"

SAID = 0.5
"""Score from which on a label that may stand beside others is given."""


def on_grid(saved: SavedModel, image: NDArray[np.uint8]) -> tuple[Tensor, Box]:
    """The image, uint8 (3, h, w), on the grid that the model was trained on, and where it lies there."""
    box = place((image.shape[0], image.shape[1]), saved.size)
    grid = np.zeros((3, *saved.size), np.uint8)
    grid[:, box.top : box.top + box.height, box.left : box.left + box.width] = fit_image(image, box)
    return torch.from_numpy(grid), box


def write_labels(saved: SavedModel, images: list[Path], folder: Path, white: int) -> Iterator[Path]:
    """Write labels.csv (stem,label; a row a label, an empty one for none) and scores.csv (stem, a column a class)."""
    said: list[list[Any]] = []
    scored: list[list[Any]] = []
    try:
        for path, image in _read(images, white):
            scores = probabilities(saved.model, on_grid(saved, image)[0][None], saved.task.exclusive)[0].cpu().numpy()
            said += [[path.stem, name] for name in _names(saved, scores) or [""]]
            scored.append([path.stem, *(f"{score:.6f}" for score in scores)])
    finally:
        # Also when an image cannot be read: what was answered before it stays.
        if scored:
            write_bytes(folder / LABELS, _table(["stem", "label"], said))
            write_bytes(folder / LABEL_SCORES, _table(["stem", *saved.task.names], scored))
    yield from (folder / LABELS, folder / LABEL_SCORES)


def write_boxes(saved: SavedModel, images: list[Path], folder: Path, white: int) -> Iterator[Path]:
    """Write instances.json in the form of COCO, each annotation with its `score` in 0..1."""
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    try:
        for path, image in _read(images, white):
            height, width = image.shape[:2]
            listed.append({"id": len(listed) + 1, "file_name": path.name, "height": height, "width": width})
            for each in _boxes(saved, image):
                annotations.append({"id": len(annotations) + 1, "image_id": len(listed), **each})
    finally:
        if listed:
            categories = [dict(zip(("id", "name"), each, strict=True)) for each in _categories(saved)]
            write_json(folder / INSTANCES, {"images": listed, "annotations": annotations, "categories": categories})
    yield folder / INSTANCES


WRITERS: dict[str, Callable[[SavedModel, list[Path], Path, int], Iterator[Path]]] = {
    "label": write_labels,
    "boxes": write_boxes,
}
"""How the answers of each kind of task are written that is no mask; of 16-bit images `white` becomes 255."""


def _read(images: list[Path], white: int) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    return ((path, read_image(path, lambda: white)) for path in images)


def _names(saved: SavedModel, scores: NDArray[np.float32]) -> list[str]:
    """The labels given: the best-scored one where they exclude each other, else each that is likelier than not."""
    if saved.task.exclusive:
        return [saved.task.names[int(scores.argmax())]]
    return [name for name, score in zip(saved.task.names, scores, strict=True) if score >= SAID]


def _table(header: list[str], rows: list[list[Any]]) -> bytes:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode()


def _boxes(saved: SavedModel, image: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """The boxes in an image as COCO writes them, in pixels of the image."""
    grid, place_of = on_grid(saved, image)
    with torch.inference_mode():
        (found,) = box_decoder(saved.model.decoder).found(answer(saved.model, grid[None]), saved.size)
    height, width = image.shape[:2]
    sides = np.array([width, height, width, height], np.float64)
    start = np.array([place_of.left, place_of.top] * 2)
    edges = (found.boxes.cpu().numpy() - start) / np.array([place_of.width, place_of.height] * 2) * sides
    edges = edges.clip(0, sides)
    ids = [each for each, _ in _categories(saved)]
    return [
        _annotation(ids[int(index)], box, float(score))
        for index, box, score in zip(found.classes.tolist(), edges, found.scores.tolist(), strict=True)
        if min(box[2:] - box[:2]) > 0
    ]


def _categories(saved: SavedModel) -> list[tuple[int, str]]:
    """Id and name of each class; of a positive class of several ids, the first."""
    return list(zip(saved.task.positive[:1] or saved.task.classes, saved.task.names, strict=True))


def _annotation(category: int, box: NDArray[np.float64], score: float) -> dict[str, Any]:
    left, top, right, bottom = (round(float(each), 2) for each in box)
    width, height = round(right - left, 2), round(bottom - top, 2)
    return {
        "category_id": category,
        "bbox": [left, top, width, height],
        "area": round(width * height, 2),
        "iscrowd": 0,
        "score": round(score, 6),
    }
