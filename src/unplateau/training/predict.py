"""`predict`: masks for new images, at the size they came in; labels and boxes as tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from unplateau.data.boxes import INSTANCES
from unplateau.data.decode import read_image, white_level
from unplateau.data.grid import Box, fit_image
from unplateau.data.labels import LABELS
from unplateau.errors import DataError, PieceError
from unplateau.files import write_bytes
from unplateau.measures.ternary import Ternary, decide
from unplateau.training.native import native_scores, sized
from unplateau.training.saved import SavedModel
from unplateau.training.scoring import probabilities
from unplateau.training.tables import WRITERS, on_grid
from unplateau.training.tiling import Inference, infer
from unplateau.types import Size

MASKS, SCORES, TERNARY = "masks", "scores", "ternary"


def predict_images(
    saved: SavedModel,
    images: list[Path],
    folder: Path,
    ternary: Ternary | None = None,
    inference: Inference | None = None,
) -> Iterator[Path]:
    """Write what the model says of each image, as the training data have it, and yield the path of each file.

    - Masks at the image's own size in masks/NAME.png: class ids as in the training masks, and for a binary task the
      scores too, 8 bits, 255 = certain; with `ternary` also its decision of each pixel: 0 not-P, 1 P, 2 unknown.
    - Multi-label masks in masks/CLASS/NAME.png, 0 and 1, and scores/CLASS/NAME.png.
    - Labels in labels.csv, and each class's score in scores.csv. Boxes with their scores in instances.json.

    `inference` says how masks are answered, when not in one piece and once; a tile is in pixels of the image.
    16-bit images are read on the scale of the training; where the model does not say it, on their own (`white_level`).

    Raises:
        DataError: an image cannot be read, in which case what was answered before it stays; two images share a name;
            or what is written would take the place of the data set's own.
        PieceError: `inference` cannot be asked of this model.
        OutputError: `folder` cannot be written.
    """
    refuse_clashes(images, folder)
    if saved.task.kind in WRITERS:
        if inference is not None:
            raise PieceError(
                f"`tile` and `flips` are for masks, and the model's task is {saved.task.kind!r}: leave them out."
            )
        yield from WRITERS[saved.task.kind](saved, images, folder, saved.white or white_level(images))
        return
    if ternary is not None and inference is not None:
        raise PieceError("`ternary` was calibrated without `tile` and `flips`, and holds without them: leave them out.")
    white = saved.white or white_level(images)
    for path in images:
        scores = score_map(saved, read_image(path, lambda: white), inference)
        if saved.task.kind == "multi-label":
            yield from _write_layers(saved, scores, path.stem, folder)
            continue
        if saved.task.binary:
            write_bytes(folder / SCORES / f"{path.stem}.png", _grey(scores[0]))
        if ternary is not None:
            write_bytes(folder / TERNARY / f"{path.stem}.png", _png(decide(scores[0], ternary)))
        mask = folder / MASKS / f"{path.stem}.png"
        write_bytes(mask, _png(to_ids(saved, scores)))
        yield mask


def _write_layers(saved: SavedModel, scores: NDArray[np.float32], stem: str, folder: Path) -> Iterator[Path]:
    for name, score in zip(saved.task.names, scores, strict=True):
        write_bytes(folder / SCORES / name / f"{stem}.png", _grey(score))
        mask = folder / MASKS / name / f"{stem}.png"
        write_bytes(mask, _png((score >= saved.threshold).astype(np.uint8)))
        yield mask


def refuse_clashes(images: list[Path], folder: Path) -> None:
    """Refuse before anything is overwritten: one answer by another, or an annotator's by ours."""
    seen: dict[str, Path] = {}
    for path in images:
        if (twin := seen.setdefault(path.stem, path)) != path:
            raise DataError(
                f"Each image must have a name of its own but for the ending, but {twin} and {path} share one: "
                "rename one of them."
            )
    beside = any(path.resolve().parent.parent == folder.resolve() for path in images)
    for name in (f"{MASKS}/", LABELS, INSTANCES):
        if beside and (folder / name).exists():
            raise DataError(
                f"`out` must not be the data set itself, but {folder} holds both the images and {name}, which would be "
                "overwritten: give another `out`."
            )


# ---- score maps ----------------------------------------------------------------------------------------------


def score_map(saved: SavedModel, image: NDArray[np.uint8], inference: Inference | None = None) -> NDArray[np.float32]:
    """Scores (C, H, W) in 0..1 of one image (H, W, 3) at its own size; inside, the grid the model was trained on.

    With tiles, the image is not brought to that grid but to its scale: what had so many pixels there has them here.
    """
    if inference is not None and inference.tile is not None:
        return _tiled(saved, image, inference, inference.tile)
    grid, box = on_grid(saved, image)
    if inference is None:
        scores = probabilities(saved.model, grid[None], saved.task.exclusive)
    else:
        scores = infer(saved.model, grid, inference, saved.task.exclusive)[None]
    return native_scores(scores, box, (image.shape[0], image.shape[1]))


def _tiled(saved: SavedModel, image: NDArray[np.uint8], inference: Inference, tile: Size) -> NDArray[np.float32]:
    if saved.native is None:
        raise PieceError("`tile` needs a model that says how large its training images were; train it again.")
    native = (image.shape[0], image.shape[1])
    scales = [cells / pixels for cells, pixels in zip(saved.size, saved.native, strict=True)]
    height, width = (max(1, round(side * scale)) for side, scale in zip(native, scales, strict=True))
    shrunk = np.ascontiguousarray(fit_image(image, Box(0, 0, height, width)))
    rows, columns = (max(1, round(side * scale)) for side, scale in zip(tile, scales, strict=True))
    scaled = replace(inference, tile=(rows, columns))
    return sized(infer(saved.model, torch.from_numpy(shrunk), scaled, saved.task.exclusive)[None], native)


def to_ids(saved: SavedModel, scores: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Class ids (H, W) of scores (C, H, W): the first positive id or the first other one, or the best-scored class."""
    task = saved.task
    if not task.binary:
        return np.array(task.classes, np.uint8)[scores.argmax(0)]
    negative = next(each for each in (*task.classes, 0) if each not in task.positive)
    return np.where(scores[0] >= saved.threshold, task.positive[0], negative).astype(np.uint8)


def _grey(score: NDArray[np.float32]) -> bytes:
    return _png((score * 255).round().astype(np.uint8))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
