"""What the kind of a task means in training: its loss, how truth moves with an image, what an answer is worth.

Axes: B images, C outputs, H W pixels, M boxes of an image.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from unplateau.data.transforms import Augmentation, augment, augment_boxes
from unplateau.decoders.boxes import BoxDecoder, Found
from unplateau.errors import PieceError, UnplateauError
from unplateau.measures import boxes as box_measures
from unplateau.measures import labels as label_measures
from unplateau.measures.epochs import edge_counts, epoch_of
from unplateau.measures.scoring import score_images, score_layers
from unplateau.measures.thresholds import Counts, ScoreTable, join, mean_over_classes
from unplateau.training.activation import activated
from unplateau.training.losses import STANDARD, CompoundLoss
from unplateau.training.recipe import Recipe
from unplateau.types import IGNORE, Candidates, Prediction, Size, Task

Measures = dict[str, Any]
"""Fields of an `Epoch`."""

MEASURED = (
    "iou",
    "best_iou",
    "best_threshold",
    "coverage",
    "average_precision",
    "boundary_iou",
    "class_iou",
)
"""The fields that an evaluation fills; the others are the training's."""

WHOLE = 0.8
"""Least share of each side that a window shows where the label is about the whole image: it must not lose its cause."""


class AbstractObjective(ABC):
    """One kind of task. `module` holds what its loss keeps on the device."""

    module: nn.Module

    @abstractmethod
    def loss(self, decoder: nn.Module, answer: Any, truth: Tensor) -> Tensor:
        """Scalar loss of what the model of this decoder answered."""

    @abstractmethod
    def halved(self, truth: Tensor, before: Size, after: Size) -> Tensor:
        """The truth of images that were shrunk from one size to another."""

    @abstractmethod
    def changed(
        self, images: Tensor, truth: Tensor, augmentation: Augmentation, generator: torch.Generator, crop: Size | None
    ) -> tuple[Tensor, Tensor]:
        """Images and truth after random changes."""

    @abstractmethod
    def tally(self, decoder: nn.Module, answer: Any, truth: Tensor, size: Size) -> Any:
        """What an answer to a batch is to be measured by; no score map outlives it."""

    @abstractmethod
    def measures(self, tallies: Sequence[Any]) -> Measures:
        """The fields of an `Epoch` that an evaluation on these batches gives."""


# ---- masks ---------------------------------------------------------------------------------------------------


@final
class MaskObjective(AbstractObjective):
    """One class a pixel, or, where the classes may overlap, one mask a class: as many binary masks."""

    def __init__(self, task: Task, class_weights: Tensor, recipe: Recipe) -> None:
        self._exclusive = task.exclusive
        self.module = self._compound = CompoundLoss(task.outputs, class_weights, recipe.loss, recipe.hard_pixels)

    def loss(self, decoder: nn.Module, answer: Prediction, truth: Tensor) -> Tensor:
        """The compound loss, of each class by itself where classes may overlap, and their mean."""
        if self._exclusive:
            loss: Tensor = self._compound(answer.logits, truth)
            return loss
        each = [
            self._compound.of_class(place, answer.logits[:, place : place + 1], truth[:, place])
            for place in range(truth.shape[1])
        ]
        return torch.stack(each).mean()

    def halved(self, truth: Tensor, before: Size, after: Size) -> Tensor:
        """The class at the centre of each cell."""
        return shrink_masks(truth, after)

    def changed(
        self, images: Tensor, truth: Tensor, augmentation: Augmentation, generator: torch.Generator, crop: Size | None
    ) -> tuple[Tensor, Tensor]:
        """Both moved alike."""
        return augment(images, truth, augmentation, generator, crop)

    def tally(self, decoder: nn.Module, answer: Prediction, truth: Tensor, size: Size) -> tuple[ScoreTable, Counts]:
        """Scores at every threshold, and counts along the boundary."""
        scores, masks = activated(answer.logits.float(), self._exclusive).cpu().numpy(), truth.cpu().numpy()
        if self._exclusive:
            return score_images(scores, masks), edge_counts(scores, masks)
        layers = [edge_counts(scores[:, [place]], masks[:, place]) for place in range(scores.shape[1])]
        return score_layers(scores, masks), np.concatenate(layers, axis=1)

    def measures(self, tallies: Sequence[tuple[ScoreTable, Counts]]) -> Measures:
        """IoU at half and at the best threshold, coverage, precision, boundary."""
        table = join([table for table, _ in tallies])
        edges = np.concatenate([edge for _, edge in tallies])
        epoch = epoch_of(table, edges, overlapping=not self._exclusive)
        return {name: getattr(epoch, name) for name in MEASURED}


def shrink_masks(masks: Tensor, size: Size) -> Tensor:
    """Masks (B, H, W) or (B, C, H, W) at another size: what is at the centre of each cell."""
    layers = masks if masks.ndim == 4 else masks[:, None]
    nearest = F.interpolate(layers.float(), size=size, mode="nearest-exact")
    return (nearest if masks.ndim == 4 else nearest[:, 0]).to(masks.dtype)


# ---- labels --------------------------------------------------------------------------------------------------


@final
class LabelLoss(nn.Module):
    """Cross-entropy over the known labels: of the softmax where they exclude each other, else of each by itself."""

    class_weights: Tensor

    def __init__(self, class_weights: Tensor, *, exclusive: bool) -> None:
        super().__init__()
        self.exclusive = exclusive
        self.register_buffer("class_weights", class_weights)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits (B, C) and labels uint8 (B, C) to a scalar."""
        known = (labels != IGNORE).float()
        if self.exclusive:
            return F.cross_entropy(logits.float(), labels.argmax(1), self.class_weights)
        yes = (labels == 1).float()
        loss = F.binary_cross_entropy_with_logits(
            logits.float(), yes, pos_weight=self.class_weights, weight=known, reduction="sum"
        )
        return loss / known.sum().clamp(min=1)


@final
class LabelObjective(AbstractObjective):
    """Classes of the whole image."""

    def __init__(self, task: Task, class_weights: Tensor) -> None:
        self._exclusive = task.exclusive
        self.module = LabelLoss(class_weights, exclusive=task.exclusive)

    def loss(self, decoder: nn.Module, answer: Prediction, truth: Tensor) -> Tensor:
        """Cross-entropy."""
        loss: Tensor = self.module(answer.logits, truth)
        return loss

    def halved(self, truth: Tensor, before: Size, after: Size) -> Tensor:
        """A label does not depend on the size."""
        return truth

    def changed(
        self, images: Tensor, truth: Tensor, augmentation: Augmentation, generator: torch.Generator, crop: Size | None
    ) -> tuple[Tensor, Tensor]:
        """Images changed, but shown all but whole; labels as they are."""
        low, high = augmentation.scale
        whole = replace(augmentation, scale=(max(low, min(WHOLE, high)), high))
        return augment_boxes(images, images.new_zeros(len(images), 0, 5), whole, generator)[0], truth

    def tally(self, decoder: nn.Module, answer: Prediction, truth: Tensor, size: Size) -> tuple[Any, Any]:
        """Scores and labels (B, C)."""
        return activated(answer.logits.float(), self._exclusive).cpu().numpy(), truth.cpu().numpy()

    def measures(self, tallies: Sequence[tuple[Any, Any]]) -> Measures:
        """Average precision, mean over classes; what is about pixels does not exist."""
        scores, labels = (np.concatenate(each) for each in zip(*tallies, strict=True))
        return _without_masks(label_measures.average_precision(scores, labels))


# ---- boxes ---------------------------------------------------------------------------------------------------


@final
class BoxObjective(AbstractObjective):
    """Boxes around things. The loss is the decoder's own, so there is nothing to keep."""

    def __init__(self, task: Task) -> None:
        self._classes = task.outputs
        self.module = nn.Identity()

    def loss(self, decoder: nn.Module, answer: Candidates, truth: Tensor) -> Tensor:
        """The loss of the detection head."""
        return box_decoder(decoder).loss(answer, truth)

    def halved(self, truth: Tensor, before: Size, after: Size) -> Tensor:
        """Edges at the same places of the image."""
        across, down = after[1] / before[1], after[0] / before[0]
        return truth * truth.new_tensor([1, across, down, across, down])

    def changed(
        self, images: Tensor, truth: Tensor, augmentation: Augmentation, generator: torch.Generator, crop: Size | None
    ) -> tuple[Tensor, Tensor]:
        """Boxes moved with the images."""
        return augment_boxes(images, truth, augmentation, generator)

    def tally(self, decoder: nn.Module, answer: Candidates, truth: Tensor, size: Size) -> list[box_measures.Matched]:
        """Found boxes against true ones, an image at a time."""
        found = box_decoder(decoder).found(answer, size)
        return [_against(each, rows, self._classes) for each, rows in zip(found, truth, strict=True)]

    def measures(self, tallies: Sequence[list[box_measures.Matched]]) -> Measures:
        """AP50, mean over classes; what is about pixels does not exist."""
        return _without_masks(box_measures.average_precision([image for batch in tallies for image in batch])[0])


def box_decoder(decoder: nn.Module) -> BoxDecoder:
    """The decoder, which must be one of boxes.

    Raises:
        PieceError: it is another one.
    """
    if not isinstance(decoder, BoxDecoder):
        raise PieceError(f"Boxes need a decoder of boxes; got {type(decoder).__name__}. Take 'boxes'.")
    return decoder


def _against(found: Found, rows: Tensor, classes: int) -> box_measures.Matched:
    boxes = torch.cat([found.classes[:, None].float(), found.boxes.float()], dim=1).cpu().numpy()
    true = rows[rows[:, 0] >= 0].float().cpu().numpy()
    return box_measures.matched(boxes, found.scores.float().cpu().numpy(), true, classes)


def _without_masks(precision: NDArray[np.float64]) -> Measures:
    nothing = dict.fromkeys(("iou", "best_iou", "best_threshold", "coverage", "boundary_iou"), math.nan)
    return {**nothing, "average_precision": float(mean_over_classes(precision)), "class_iou": ()}


# ---- the choice ----------------------------------------------------------------------------------------------

FOR_MASKS = {"loss": STANDARD, "hard_pixels": 1.0, "crop": None, "positive_rate": 0.0}
"""Settings of a recipe that mean something for masks alone, as they stand where nothing is asked."""


def objective(task: Task, class_weights: Tensor, recipe: Recipe) -> AbstractObjective:
    """What the kind of this task means.

    Raises:
        UnplateauError: the recipe asks for what this kind does not have.
    """
    if task.kind != "mask":
        _refuse_settings(task.kind, recipe)
    if task.kind == "label":
        return LabelObjective(task, class_weights)
    return BoxObjective(task) if task.kind == "boxes" else MaskObjective(task, class_weights, recipe)


def _refuse_settings(kind: str, recipe: Recipe) -> None:
    refused: dict[str, Any] = {"positive_rate": 0.0} if kind == "multi-label" else dict(FOR_MASKS)
    if kind == "boxes":
        refused["class_weights"] = "none"
    for name, standard in refused.items():
        if (got := getattr(recipe, name)) != standard:
            raise UnplateauError(f"`{name}` means nothing for the task {kind!r}; got {got!r}. Leave it out.")
