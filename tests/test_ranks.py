"""One training in two processes is the training of one, and what stops it is heard."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unplateau.data.pictures import read_pictures
from unplateau.data.sources import open_data
from unplateau.data.splits import split
from unplateau.scenes import scenes
from unplateau.training.loop import Trained
from unplateau.training.ranks import Task
from unplateau.training.recipe import Recipe
from unplateau.training.train import build_pieces
from unplateau.types import Pictures

RECIPE = Recipe(
    steps=6, batch=4, evaluations=2, loss="ce + dice + lovasz", class_weights="auto", positive_rate=0.5, ema=0.5
)


@pytest.fixture(scope="module")
def planted() -> Pictures:
    return read_pictures(open_data(scenes("fire", 14, size=(32, 32))), size=32)


def task(pictures: Pictures, recipe: Recipe = RECIPE, folder: Path | None = None) -> Task:
    model = build_pieces("reach-15", "linear", 1, frozen=False, seed=0)
    return Task(model, pictures, split(pictures, seed=0)[0], recipe, 3, folder, False)


def weights_of(trained: Trained) -> torch.Tensor:
    return torch.cat([value.detach().flatten().float() for value in trained.model.state_dict().values()])


def far(trained: Trained, other: Trained) -> float:
    """How far two models lie apart, as a share of how far training went."""
    start = weights_of(Trained(build_pieces("reach-15", "linear", 1, frozen=False, seed=0), ()))
    moved = (weights_of(other) - start).norm()
    return float((weights_of(trained) - weights_of(other)).norm() / moved)
