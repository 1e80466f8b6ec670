"""The model in question when it is already trained: it answers, and is not trained again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from unplateau.data.splits import refuse_no_inner, split
from unplateau.errors import PieceError
from unplateau.experiments.fits import SEEN, Fitted, Scored, spread
from unplateau.experiments.plan import mapped
from unplateau.training.native import score_maps, score_native
from unplateau.training.recipe import Recipe
from unplateau.training.saved import Made, SavedModel, load_model
from unplateau.training.scoring import answers, score
from unplateau.training.train import LOG, read_log
from unplateau.types import Epoch, Fold, Pictures


@dataclass(frozen=True)
class Given:
    """A model as `train` left it in `folder`: weights, how it was made, and the record of its training."""

    folder: Path
    saved: SavedModel
    made: Made
    epochs: tuple[Epoch, ...]

    @property
    def recipe(self) -> Recipe:
        """How it was trained."""
        return self.made.recipe


def load_given(folder: Path) -> Given:
    """The model in a folder that `train` wrote.

    Raises:
        PieceError: no model there, a damaged one, one of another task than masks, or one that does not say how.
    """
    saved = load_model(folder)
    if saved.task.kind != "mask":
        raise PieceError(
            f"A diagnosis is of masks with one class a pixel; the model in {str(folder)!r} answers "
            f"{saved.task.kind!r}. Give a model of masks."
        )
    if saved.made is None:
        raise PieceError(f"`model` must say how it was trained; {str(folder)!r} does not. Train it again.")
    return Given(folder, saved, saved.made, read_log(folder / LOG))


def its_fold(given: Given, pictures: Pictures) -> tuple[Fold, ...]:
    """The one fold that the model was trained on: the same data and seed are divided the same way.

    Raises:
        DataError: the data cannot be divided.
        PieceError: the data are of another task than the model.
    """
    if pictures.task.positive != given.saved.task.positive or pictures.task.outputs != given.saved.task.outputs:
        raise PieceError(
            f"`model` must be of the same classes as the data; it knows {given.saved.task.names}, the data are "
            f"{pictures.task.names}. Give the `positive` that it was trained with."
        )
    fold = split(pictures, seed=given.made.seed)[:1]
    refuse_no_inner(fold)
    return fold


def at_native_size(fits: tuple[Fitted, ...], pictures: Pictures, folds: tuple[Fold, ...]) -> tuple[Fitted, ...]:
    """Outcomes of a binary task whose kept answers on the report part are scored on masks as they came too, once; as
    they are where none were kept or the masks are not at hand. No inner image chooses for them there.
    """
    if not pictures.task.binary:
        return fits
    asked = zip(fits, folds, strict=True)
    tables = [score_maps(fit.maps, pictures, fold.report) if len(fit.maps) else None for fit, fold in asked]
    return tuple(
        fit if table is None else replace(fit, native=Scored(fit.inner.take(np.zeros(0, np.int64)), table))
        for fit, table in zip(fits, tables, strict=True)
    )


def answered(given: Given, pictures: Pictures, fold: Fold) -> Fitted:
    """What the model answers, in the form of a training's outcome, at the threshold it came with.

    That is for masks as they came: there its answers are scored too, once.
    """
    model = given.saved.model
    native = score_native(model, pictures, (fold.inner, fold.report)) if pictures.task.binary else None
    return Fitted(
        inner=score(model, pictures, fold.inner),
        report=score(model, pictures, fold.report),
        seen=score(model, pictures, spread(fold.fit, SEEN)),
        epochs=given.epochs,
        seconds=0.0,
        maps=answers(model, pictures, mapped((fold,), 0, len(pictures))),
        fixed=given.saved.threshold if pictures.task.binary else None,
        native=Scored(*native) if native else None,
    )
