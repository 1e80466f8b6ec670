"""`calibrate`: from when on a trained model may say P, until when not-P, and what it must leave open."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from unplateau.data.pictures import read_pictures
from unplateau.data.sources import AbstractSource
from unplateau.data.splits import split
from unplateau.data.tasks import task_mask
from unplateau.errors import PieceError, UnplateauError
from unplateau.files import plain, write_json
from unplateau.measures.scoring import score_images
from unplateau.measures.ternary import Achieved, Ternary, achieved, calibrate, restored
from unplateau.measures.thresholds import join
from unplateau.training.predict import score_map
from unplateau.training.saved import WEIGHTS, SavedModel

FILE = "ternary.json"


def calibrate_model(
    saved: SavedModel, source: AbstractSource, folder: Path, *, missed: float, spurious: float
) -> tuple[Ternary, Achieved]:
    """Calibrate on the images that chose nothing in the model's training, at native size; keep it beside the model.

    The unit is the group wherever one holds more than one image. What comes back beside the decision is what it does
    on those same images.

    Raises:
        PieceError: the model is not of binary masks or does not say how it was trained.
        UnplateauError: too few images or groups for these tolerances; it says how many are missing.
        OutputError: `folder` cannot be written.
    """
    if saved.made is None or not saved.task.binary:
        raise PieceError(f"`model` must be binary and say how it was trained; {str(folder)!r} is not. Train it again.")
    pictures = read_pictures(source, positive=saved.task.positive, size=max(saved.size), seed=saved.made.seed)
    report = split(pictures, seed=saved.made.seed)[0].report
    tables = []
    for index in report:
        sample = source.sample(source.names.index(pictures.names[index]))
        mask = task_mask(sample.mask, saved.task)
        tables.append(score_images(score_map(saved, sample.image)[None], mask[None]))
    table, names = join(tables), [pictures.groups[index] for index in report]
    groups = np.array(names) if len(set(names)) < len(names) else None
    (ternary,) = calibrate(table, missed, spurious, groups)
    if not ternary.feasible:
        raise UnplateauError(ternary.shortage)
    write_json(folder / FILE, {"model": weights_mark(folder), **plain(ternary)})
    return ternary, achieved(table, [ternary], groups)[0]


def load_ternary(folder: Path) -> Ternary:
    """The decision that `calibrate_model` kept.

    Raises:
        PieceError: there is none, it cannot be read, or the model was trained again since.
    """
    path = folder / FILE
    if not path.is_file():
        raise PieceError(f"`ternary` needs a calibrated model; there is no {str(path)!r}. Run calibrate first.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        ternary, model = restored(content), content.get("model")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PieceError(f"{str(path)!r} must be what calibrate wrote; {error!r}. Run calibrate again.") from error
    # Files of earlier versions do not say.
    if model is not None and model != weights_mark(folder):
        raise PieceError(
            f"{str(path)!r} must be of the model beside it, which was trained again since. Run calibrate again."
        )
    return ternary


def weights_mark(folder: Path) -> str:
    """A short hash of a model's weights."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()[:12]
