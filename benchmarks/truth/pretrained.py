"""Extractors trained elsewhere, for the cases whose cause lies in them: on planted scenes that no case holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.truth.bases import DATA, SIDE
from unplateau.data import open_data, read_pictures
from unplateau.diagnosis.diagnose import RECIPE
from unplateau.scenes import SCENES, scenes
from unplateau.training.loop import finetune
from unplateau.training.saved import save_extractor
from unplateau.training.train import build_pieces
from unplateau.types import Fold

IMAGENET = DATA.parent / "weights" / "squeezenet1_1_imagenet_features.safetensors"
"""The extractor trained elsewhere that the diagnosis of a real photograph may be given."""

WEIGHTS = Path("runs/truth/weights")

NETWORK = "timm/resnet18:0,1,2"
"""What is pretrained: small, and with the memory that batch normalisation is."""

COUNT, STEPS, BATCH = 160, 200, 8

OTHERS = {"fire": ("geometry", "texture"), "texture": ("geometry", "fire"), "geometry": ("texture", "fire")}
"""Families that a task does not ask for, the nearer one first."""


def pretrained(kind: str) -> str:
    """The file of an extractor that learnt scenes of one kind; made once."""
    path = WEIGHTS / f"{kind}.safetensors"
    if not path.exists():
        size = (SIDE, SIDE)
        pictures = read_pictures(open_data(scenes(kind, COUNT, size=size, seed=4242)), positive=[1], size=SIDE, seed=0)
        every = tuple(range(COUNT))
        recipe = replace(RECIPE, steps=STEPS, batch=BATCH, evaluations=1)
        model = build_pieces(NETWORK, "conv", 1, frozen=False, seed=0)
        trained = finetune(model, pictures, Fold(every, every[:BATCH], every[:BATCH]), recipe, seed=0)
        save_extractor(trained.model.extractor, path)
    return str(path)


def of_the_task(base: str) -> str:
    """An extractor that learnt what the task asks for: its own kind of scene, or photographs."""
    return pretrained(base) if base in SCENES else str(IMAGENET)


def of_another(base: str, strength: int) -> str:
    """An extractor that learnt a family that the task does not ask for."""
    return pretrained(OTHERS.get(base, ("texture", "fire"))[strength])
