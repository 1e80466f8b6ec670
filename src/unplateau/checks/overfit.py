"""Can the model in question be trained at all: one small batch, without augmentation, again and again."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import final

import numpy as np

from unplateau.checks.check import AbstractCheck, unmeasured
from unplateau.checks.ladder import PRIOR
from unplateau.data.transforms import NONE
from unplateau.experiments.fits import Fit, Fitted, spread
from unplateau.experiments.run import Run
from unplateau.extractors.catalogue import build_extractor
from unplateau.measures.resolution import resolution_counts
from unplateau.measures.thresholds import best_threshold, counts_at, mean_iou
from unplateau.training.losses import STANDARD
from unplateau.training.recipe import Recipe
from unplateau.types import IGNORE, Finding, Fold, Pictures, Verdict

CHECK = "one-batch overfit"

ONE_BATCH = "one batch"
"""What the training on one batch is called."""

IMAGES, STEPS = 4, 60
"""Images of the batch, and how often it is seen: a training that works needs about half of that."""

RATE = 3e-3
"""Learning rate of the diagnosis' own trainings: its U-Net fits a batch of planted scenes at it in `STEPS` steps."""

FITTED = 0.85
"""Share of what its output resolution allows from which a model has fitted the batch."""

CLEARLY = 0.2
"""IoU by which one change must do better before the fault is laid to it."""

LEARNT = 0.15
"""IoU above position alone, on images that it trained on, from which a training is seen to work without this test: a
network of random weights already answers by colour a little."""


@dataclass(frozen=True)
class OverfitMeasured:
    """IoU on the batch that was trained on, of a perfect answer at the model's own output `stride`, and, where the
    batch was not fitted, with one part of the training put right at a time; nan and nothing where no batch was trained.

    `seen` is the IoU of the model in question on images that it trained on, at their best threshold, `position` that
    of position alone.
    """

    iou: float
    ceiling: float
    stride: int
    instead: dict[str, float]
    seen: float = math.nan
    position: float = math.nan

    @property
    def fitted(self) -> bool:
        """Whether the batch is fitted as well as the output lets it."""
        return self.iou >= FITTED * self.ceiling

    @property
    def part(self) -> str | None:
        """The part that, put right, surely lets it fit; None where none does."""
        best = max(self.instead, key=lambda name: self.instead[name], default=None)
        if self.fitted or best is None or self.instead[best] < max(FITTED * self.ceiling, self.iou + CLEARLY):
            return None
        return best


@final
class OverfitCheck(AbstractCheck[OverfitMeasured | None]):
    """Whether the training works at all, by whether it can fit a handful of images by heart.

    What it measures: whether the model in question has learnt more than position of the images that it trained on.
        Where it has not, it is trained anew by its own recipe on four images that hold the class, sixty times the
        same batch without augmentation: its IoU on these at its best threshold, beside that of a perfect answer on
        cells of its own output stride. Where it falls short, the loss, the step size and what is held fixed are put
        right one at a time, and together.

    Why it matters: a training that cannot fit four images cannot fit the data, and then no data, label or larger
        model helps: the loss, the learning rate, a frozen piece or the output resolution stands in the way.

    When it misleads: masks that contradict what the images show take longer to learn by heart; a recipe that needs
        a long warm-up is given a short one here. A short training with a low rate is run at the rate that covers the
        same way in sixty steps, so a rate that is merely slow passes.

    What to do next: change the part that is named; where none is, look at the four images and their masks.

    Reference: Karpathy, A recipe for training neural networks, 2019 ("overfit one batch").
    """

    def measure(self, run: Run) -> OverfitMeasured | None:
        """The scores on the batch and on what was trained on; None where there is neither."""
        seen, position = of_training(run)
        if ONE_BATCH not in run.outcomes:
            return None if math.isnan(seen - position) else OverfitMeasured(math.nan, math.nan, 0, {}, seen, position)
        extractor = run.plan.rung(run.plan.baseline).extractor
        stride = min(level.stride for level in build_extractor(extractor).gives)
        instead = {
            name.removeprefix(f"{ONE_BATCH} "): _iou(fits[0])
            for name, fits in run.outcomes.items()
            if name.startswith(f"{ONE_BATCH} ")
        }
        return OverfitMeasured(_iou(run.outcomes[ONE_BATCH][0]), _ceiling(run, stride), stride, instead, seen, position)

    def judge(self, measured: OverfitMeasured | None) -> Finding:
        """Sound when fitted or when more is learnt; a concern only where one change is seen to put it right."""
        if measured is None or (math.isnan(measured.iou) and not measured.seen > measured.position + LEARNT):
            return unmeasured(CHECK)
        numbers = asdict(measured)
        if math.isnan(measured.iou):
            claim = f"On images that it trained on the model scores {measured.seen:.3f}, position alone "
            return Finding(CHECK, Verdict.SOUND, claim + f"{measured.position:.3f}: its training works.", None, numbers)
        said = f"Trained on {IMAGES} images alone the model scores {measured.iou:.3f} on them"
        if measured.fitted:
            claim = f"{said}, of {measured.ceiling:.3f} that an output of stride {measured.stride} lets it."
            return Finding(CHECK, Verdict.SOUND, claim, None, numbers)
        if measured.part is None:
            claim = f"{said}; that no change of loss, step size or frozen piece mends it points to the pieces or masks."
            return Finding(CHECK, Verdict.UNDETERMINED, claim, None, numbers)
        claim = f"{said}, and {measured.instead[measured.part]:.3f} with another {measured.part}: it is broken there."
        return Finding(CHECK, Verdict.CONCERN, claim, None, numbers)


def one_batch(fit: Fit, pictures: Pictures) -> Fit | None:
    """The training of the model in question on one batch, as `fit` describes it; None where no image holds a class."""
    batch = batch_of(pictures, fit.parts)
    if not batch:
        return None
    alone = Fold(batch, batch, batch)
    return replace(fit, name=ONE_BATCH, parts=alone, recipe=by_heart(fit.recipe, len(batch)), maps=(), cost=0.1)


def by_heart(recipe: Recipe, images: int) -> Recipe:
    """The recipe for one batch: the same loss and rules, no variety, and the way of the whole training in few steps."""
    return replace(
        recipe,
        steps=STEPS,
        batch=images,
        learning_rate=max(recipe.learning_rate, min(RATE, recipe.learning_rate * recipe.steps / STEPS)),
        half_size=0.0,
        crop=None,
        augmentation=NONE,
        evaluations=2,
        patience=0,
        positive_rate=0.0,
        ema=0.0,
        frozen_steps=recipe.frozen_steps * STEPS // max(recipe.steps, 1),
        accumulate=1,
    )


def put_right(fit: Fit) -> dict[str, Fit]:
    """The fit with each part of its training put right that is not so already, and with all of them, by part."""
    recipe = fit.recipe
    loss = replace(recipe, loss=STANDARD, class_weights="none", hard_pixels=1.0)
    steps = replace(recipe, learning_rate=RATE, layer_decay=1.0, clip=1.0, weight_decay=1e-2)
    every = replace(steps, loss=STANDARD, class_weights="none", hard_pixels=1.0, frozen_steps=0)
    changes = {
        "loss": replace(fit, recipe=loss),
        "step size": replace(fit, recipe=steps),
        "frozen piece": replace(fit, frozen=False, recipe=replace(recipe, frozen_steps=0)),
        "loss, step size and frozen piece": replace(fit, frozen=False, recipe=every),
    }
    kept: dict[str, Fit] = {}
    for part, changed in changes.items():
        if changed != fit and changed not in kept.values():
            kept[part] = changed
    return kept


def again(fit: Fit) -> list[Fit]:
    """The trainings on the same batch that show which part is broken."""
    return [replace(each, name=f"{ONE_BATCH} {part}") for part, each in put_right(fit).items()]


def fits_by_heart(run: Run) -> bool:
    """Whether the batch was fitted."""
    measured = OverfitCheck().measure(run)
    return measured is not None and measured.fitted


def learnt(run: Run) -> bool:
    """Whether the model in question has learnt of the images that it trained on; True where that is not known."""
    seen, position = of_training(run)
    return not seen - position <= LEARNT


def of_training(run: Run) -> tuple[float, float]:
    """IoU of the model in question and of position alone on images trained on, each at its best threshold; else nan."""
    scores = []
    for name in (run.plan.baseline, PRIOR):
        seen = [fitted.seen for fitted in run.outcomes.get(name, ()) if len(fitted.seen)]
        scores.append(
            float(np.mean([mean_iou(counts_at(each, best_threshold(each))) for each in seen])) if seen else math.nan
        )
    return scores[0], scores[1]


def batch_of(pictures: Pictures, fold: Fold) -> tuple[int, ...]:
    """A few images to train on that hold much of what is sought, evenly over the part that trains."""
    masks = pictures.masks[list(fold.fit)].numpy()
    lowest = 1 if pictures.task.binary else 0
    held = ((masks >= lowest) & (masks != IGNORE)).sum((1, 2))
    if not held.any():
        return ()
    enough = held >= np.median(held[held > 0])
    return spread(tuple(index for index, good in zip(fold.fit, enough, strict=True) if good), IMAGES)


def _ceiling(run: Run, stride: int) -> float:
    pictures, task = run.pictures, run.pictures.task
    masks = pictures.masks[list(batch_of(pictures, run.folds[0]))].numpy()
    classes = 2 if task.binary else task.outputs
    counts = np.stack([resolution_counts(mask, pictures.size, stride, classes) for mask in masks])
    return mean_iou(counts[:, 1:] if task.binary else counts)


def _iou(fitted: Fitted) -> float:
    return mean_iou(counts_at(fitted.report, fitted.threshold))
