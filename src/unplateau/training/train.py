"""`train`: one model on one split, kept on disk, resumable."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import torch

from unplateau.data.splits import refuse_no_inner, split
from unplateau.decoders.catalogue import build_decoder
from unplateau.errors import PieceError
from unplateau.extractors.catalogue import build_extractor
from unplateau.extractors.frozen import freeze
from unplateau.files import write_bytes
from unplateau.model import SegmentationModel
from unplateau.training.assess import assess
from unplateau.training.coach import open_coach
from unplateau.training.ranks import Task, finetune_in_ranks
from unplateau.training.recipe import Recipe
from unplateau.training.saved import WEIGHTS, Made, SavedModel, save_model
from unplateau.types import Epoch, Fold, Pictures

LOG = "log.csv"
STATE = "state"
CLASS = "class_iou_"


def train_model(
    pictures: Pictures,
    *,
    extractor: str,
    decoder: str,
    frozen: bool,
    recipe: Recipe,
    seed: int,
    folder: Path,
    teacher: Path | None = None,
    devices: int = 1,
    progress: bool = False,
) -> dict[str, float]:
    """Train on one fold, save model and log, and say what it scores on the images that chose nothing.

    A call with the same arguments on the same folder goes on where the last one stopped. `devices` processes share
    every batch. `teacher` is the folder of a trained model whose answers are imitated beside the masks.

    Raises:
        DataError: too few images of the positive class.
        PieceError: the pieces do not fit each other, a checkpoint does not fit, or a teacher of another task.
        OutputError: `folder` cannot be written.
    """
    fold = split(pictures, seed=seed)[0]
    refuse_no_inner([fold])
    task = pictures.task
    coach = None if teacher is None else open_coach(teacher, task)
    model = build_pieces(extractor, decoder, task.outputs, frozen=frozen, seed=seed, kind=task.kind)
    # Another question than before must not go on from the state of the last one.
    state = folder / STATE / _mark(pictures, fold, recipe, f"{extractor} {decoder} {frozen} {seed}{_taught(teacher)}")
    trained = finetune_in_ranks(Task(model, pictures, fold, recipe, seed, state, progress, coach), devices)
    facts = assess(trained.model, pictures, fold)
    save_log(trained.epochs, folder / LOG)
    made = Made(extractor, frozen, recipe, seed)
    threshold = facts.get("threshold", float("nan"))
    grid, native, white = pictures.size, pictures.native, pictures.white
    saved = SavedModel(trained.model, task, decoder, grid, threshold, made, native=native, white=white)
    save_model(saved, folder, facts if teacher is None else {**facts, "teacher": str(teacher)})
    return facts


def build_pieces(
    extractor: str, decoder: str, outputs: int, *, frozen: bool, seed: int, kind: str = "mask"
) -> SegmentationModel:
    """Extractor and decoder by name, with random weights drawn by `seed`; a file brings its own weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = build_extractor(extractor)
        head = build_decoder(decoder, built.gives, outputs, kind)
    return SegmentationModel(freeze(built) if frozen else built, head)


def _mark(pictures: Pictures, fold: Fold, recipe: Recipe, pieces: str) -> str:
    """A short hash of everything that decides a training."""
    digest = hashlib.sha256(f"{pictures.task} {fold} {recipe} {pieces}".encode())
    for part in (pictures.images, pictures.truth):
        digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()[:12]


def _taught(teacher: Path | None) -> str:
    """What tells one teacher from another; nothing where there is none."""
    return "" if teacher is None else f" {hashlib.sha256((teacher / WEIGHTS).read_bytes()).hexdigest()}"


def save_log(epochs: Sequence[Epoch], path: Path) -> None:
    """The record of each evaluation as CSV, the IoU of each class in columns of its own."""
    text = StringIO()
    rows = [_row(epoch) for epoch in epochs]
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def read_log(path: Path) -> tuple[Epoch, ...]:
    """The record that `save_log` wrote.

    Raises:
        PieceError: there is none, or it cannot be read as one.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple(_epoch(row) for row in csv.DictReader(file))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PieceError(f"{str(path)!r} must be the log that `train` wrote; {error}. Train again.") from error


def _epoch(row: dict[str, str]) -> Epoch:
    classes = tuple(float(value) for name, value in row.items() if name.startswith(CLASS))
    numbers = {name: float(value) for name, value in row.items() if not name.startswith(CLASS) and name != "step"}
    return Epoch(step=int(row["step"]), class_iou=classes, **numbers)


def _row(epoch: Epoch) -> dict[str, float]:
    numbers = {name: value for name, value in vars(epoch).items() if name != "class_iou"}
    return {**numbers, **{f"{CLASS}{place}": value for place, value in enumerate(epoch.class_iou)}}
