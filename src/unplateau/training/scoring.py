"""A model's answers on pictures, as a `ScoreTable` that every measure starts from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unplateau.measures.scoring import score_images, score_layers
from unplateau.measures.thresholds import BINS, ScoreTable, join
from unplateau.model import SegmentationModel
from unplateau.training.activation import activated
from unplateau.training.batches import in_order
from unplateau.training.devices import accelerator, in_parts, native_bf16
from unplateau.training.objectives import AbstractObjective
from unplateau.types import Pictures

BATCH = 16
"""Images scored at a time; validation then needs no more memory than a training step."""


def score(model: SegmentationModel, pictures: Pictures, indices: tuple[int, ...]) -> ScoreTable:
    """Scores of the model on some of the pictures."""
    tables, table = [], score_layers if pictures.masks.ndim == 4 else score_images
    for (_, masks), scores in zip(in_order(pictures, indices, BATCH), scored(model, pictures, indices), strict=True):
        tables.append(table(scores.cpu().numpy(), masks.numpy()))
    return grouped(tables, pictures, indices)


def grouped(tables: list[ScoreTable], pictures: Pictures, indices: tuple[int, ...]) -> ScoreTable:
    """One table of the pictures `indices`, which `tables` hold in that order, with their groups."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(pictures.groups))}
    return replace(join(tables), groups=np.array([numbers[pictures.groups[index]] for index in indices], np.int64))


def answers(model: SegmentationModel, pictures: Pictures, indices: tuple[int, ...]) -> NDArray[np.uint8]:
    """What the model says of each pixel: its scores (N, outputs, H, W) in steps of 1 / BINS."""
    said = np.zeros((len(indices), pictures.task.outputs, *pictures.size), np.uint8)
    done = 0
    for scores in scored(model, pictures, indices):
        said[done : done + len(scores)] = (scores.cpu().numpy() * BINS).astype(np.uint8)
        done += len(scores)
    return said


def probabilities(model: SegmentationModel, images: Tensor, exclusive: bool = True) -> Tensor:
    """Images uint8 (B, 3, H, W) to float probabilities (B, C, H, W): softmax over classes that exclude each other.

    Sigmoid where there is a single class, or where each holds by itself. The same for the labels (B, C) of images.
    Fewer at a time where memory does not hold so many.
    """
    return in_parts(lambda part: activated(answer(model, part).logits.float(), exclusive), images)


def answer(model: SegmentationModel, images: Tensor) -> Any:
    """What the model says of images uint8 (B, 3, H, W), in the arithmetic that suits the machine."""
    device = next(model.parameters()).device
    batch = images.to(device).float().div(255).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=native_bf16(device.type)):
        return model(batch)


def tallies(
    model: SegmentationModel, pictures: Pictures, indices: tuple[int, ...], kind: AbstractObjective
) -> list[Any]:
    """What the model's answers on some of the pictures are to be measured by, a batch at a time."""
    training = model.training
    model.to(accelerator()).eval()
    found = [
        kind.tally(model.decoder, answer(model, images), truth, pictures.size)
        for images, truth in in_order(pictures, indices, BATCH)
    ]
    model.train(training)
    return found


def scored(model: SegmentationModel, pictures: Pictures, indices: tuple[int, ...]) -> Iterator[Tensor]:
    """Scores (B, outputs, H, W) of some of the pictures, a batch at a time."""
    training = model.training
    model.to(accelerator()).eval()
    for images, _ in in_order(pictures, indices, BATCH):
        yield probabilities(model, images, pictures.task.exclusive)
    model.train(training)
