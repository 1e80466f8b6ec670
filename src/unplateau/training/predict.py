"""`predict`: masks for new images, at the size they came in."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from unplateau.data.decode import read_image, white_level
from unplateau.data.grid import fit_image, place
from unplateau.errors import DataError
from unplateau.files import write_bytes
from unplateau.measures.ternary import Ternary, decide
from unplateau.training.saved import SavedModel
from unplateau.training.scoring import probabilities

MASKS, SCORES, TERNARY = "masks", "scores", "ternary"


def predict_images(
    saved: SavedModel, images: list[Path], folder: Path, ternary: Ternary | None = None
) -> Iterator[Path]:
    """Write a mask for each image and yield its path: class ids as in the training masks, at the image's own size.

    For a binary task the scores are written too, 8 bits, 255 = certain; with `ternary` also its decision of each
    pixel: 0 not-P, 1 P, 2 unknown.

    Raises:
        DataError: an image cannot be read, in which case masks written before it stay; two images share a name; or
            the masks would take the place of those of the data set.
        OutputError: `folder` cannot be written.
    """
    _refuse_clashes(images, folder)
    white = white_level(images)
    for path in images:
        scores = score_map(saved, read_image(path, lambda: white))
        if saved.task.binary:
            write_bytes(folder / SCORES / f"{path.stem}.png", _png((scores[0] * 255).round().astype(np.uint8)))
        if ternary is not None:
            write_bytes(folder / TERNARY / f"{path.stem}.png", _png(decide(scores[0], ternary)))
        mask = folder / MASKS / f"{path.stem}.png"
        write_bytes(mask, _png(to_ids(saved, scores)))
        yield mask


def _refuse_clashes(images: list[Path], folder: Path) -> None:
    """Refuse before anything is overwritten: one mask by another, or an annotator's by ours."""
    seen: dict[str, Path] = {}
    for path in images:
        if (twin := seen.setdefault(path.stem, path)) != path:
            raise DataError(
                f"Each image must have a name of its own but for the ending, but {twin} and {path} share one: "
                "rename one of them."
            )
    if (folder / MASKS).exists() and any(path.resolve().parent.parent == folder.resolve() for path in images):
        raise DataError(
            f"`out` must not be the data set itself, but {folder} holds both the images and masks/, which would be "
            "overwritten: give another `out`."
        )


def score_map(saved: SavedModel, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scores (C, H, W) in 0..1 of one image (H, W, 3) at its own size; inside, the grid the model was trained on."""
    height, width = image.shape[:2]
    box = place((height, width), saved.size)
    grid = np.zeros((3, *saved.size), np.uint8)
    grid[:, box.top : box.top + box.height, box.left : box.left + box.width] = fit_image(image, box)
    scores = probabilities(saved.model, torch.from_numpy(grid)[None])
    inside = scores[..., box.top : box.top + box.height, box.left : box.left + box.width]
    native: NDArray[np.float32] = F.interpolate(inside, size=(height, width), mode="bilinear")[0].cpu().numpy()
    return native


def to_ids(saved: SavedModel, scores: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Class ids (H, W) of scores (C, H, W): the first positive id or the first other one, or the best-scored class."""
    task = saved.task
    if not task.binary:
        return np.array(task.classes, np.uint8)[scores.argmax(0)]
    negative = next(each for each in (*task.classes, 0) if each not in task.positive)
    return np.where(scores[0] >= saved.threshold, task.positive[0], negative).astype(np.uint8)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
