"""Ask a trained model, and find when it may say yes, no, or that it cannot tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unplateau.data.folder import list_images
from unplateau.data.grid import SMALLEST
from unplateau.data.sources import open_data
from unplateau.errors import UnplateauError
from unplateau.files import writable_folder
from unplateau.training.calibrate import calibrate_model, load_ternary
from unplateau.training.predict import predict_images
from unplateau.training.saved import load_model
from unplateau.training.tiling import Inference
from unplateau.types import Sample

MIRRORED = ("horizontal",)
"""The flips that training shows, and so those that may be asked for."""


def calibrate(
    model: str | Path,
    data: str | Path | Iterable[Sample],
    *,
    missed: float = 0.05,
    spurious: float = 0.05,
    colours: Mapping[tuple[int, int, int], int] | None = None,
) -> dict[str, Any]:
    """Find from when on a model may say P, until when not-P, and leave the rest unknown; keep it beside the model.

    Args:
        model: a folder written by `train`.
        data: what it was trained on: the images that chose nothing there calibrate.
        missed: tolerated share of the true pixels of an image that are declared not-P, on average over new images.
        spurious: the same of other pixels declared P.
        colours: as in `diagnose`.

    Returns:
        `alpha` (P from there on), `beta` (not-P below), `missed`, `spurious` and `unknown` on the calibration images.

    Raises:
        UnplateauError: too few images or groups for these tolerances.
        PieceError, DataError, OutputError: as in `diagnose`.
    """
    folder = Path(model)
    source = open_data(data, colours=colours)
    ternary, done = calibrate_model(load_model(folder), source, folder, missed=missed, spurious=spurious)
    thresholds = {"alpha": ternary.alpha.threshold, "beta": ternary.beta.threshold}
    return {**thresholds, "missed": done.missed, "spurious": done.spurious, "unknown": done.unknown}


def predict(
    model: str | Path,
    images: str | Path,
    *,
    out: str | Path = "runs/masks",
    ternary: bool = False,
    tile: int = 0,
    flips: bool = False,
) -> list[Path]:
    """Write what a model says of every image of a folder, in the form of the data that it was trained on.

    Masks have the class ids of the training masks and the image's own size; multi-label masks are masks/CLASS/NAME.png;
    labels are labels.csv, boxes COCO's instances.json.

    Args:
        model: a folder written by `train`.
        images: a folder of images, or one image.
        out: where `masks/` and, for binary and multi-label masks, `scores/` go, or the table.
        ternary: also write `ternary/`, 0 not-P, 1 P, 2 unknown, by a model that `calibrate` has seen.
        tile: answer images in overlapping tiles of so many of their pixels a side, at the scale of the training images,
            which suits images that are larger than those; 0 = the whole image at once, at the size of the training.
        flips: average the scores with those of the mirrored image.

    Returns:
        The paths of the masks, or of the table.

    Raises:
        PieceError: no model there, a damaged one, or one that cannot be asked so.
        DataError: no images, or one that cannot be read; masks written before it stay.
        OutputError: `out` cannot be written.
    """
    if tile < 0:
        raise UnplateauError(f"`tile` must be at least 0; got {tile}. Give pixels, or 0 for the whole image.")
    if 0 < tile < SMALLEST:
        raise UnplateauError(
            f"`tile` must be at least {SMALLEST} pixels a side, or 0 for the whole image; got {tile}. Give more, best "
            "as many as a training image has."
        )
    saved = load_model(Path(model))
    found = list_images(Path(images))
    decision = load_ternary(Path(model)) if ternary else None
    inference = Inference(tile=(tile, tile) if tile else None, flips=MIRRORED if flips else ())
    asked = inference if tile or flips else None
    return list(predict_images(saved, found, writable_folder(Path(out)), decision, asked))
