"""The truth: every extractor trained in full on every task, the same decoder and recipe, kept pair by pair."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.ranking.pool import Problem
from unplateau.data import split
from unplateau.files import write_json
from unplateau.measures.thresholds import best_threshold, counts_at, mean_iou
from unplateau.training.loop import finetune
from unplateau.training.recipe import Recipe
from unplateau.training.scoring import score
from unplateau.training.train import build_pieces
from unplateau.types import Pictures

RECIPE = Recipe(batch=12, evaluations=4)


@dataclass(frozen=True)
class Trained:
    """What one pair came to: IoU on images that chose nothing, and the CPU seconds that it took."""

    iou: float
    seconds: float


def trained(
    problem: Problem, name: str, extractor: str, pictures: Pictures, folder: Path, steps: int, seed: int
) -> Trained:
    """One pair, trained for so many steps unless it is kept; every seed has the same images to train and report on."""
    path = folder / f"truth-{steps}-{seed}" / f"{problem.name}-{name}.json".replace(", ", "-")
    if not path.is_file():
        write_json(path, vars(_train(extractor, pictures, replace(RECIPE, steps=steps), seed)))
    return Trained(**json.loads(path.read_text()))


def _train(extractor: str, pictures: Pictures, recipe: Recipe, seed: int) -> Trained:
    fold = split(pictures, seed=0)[0]
    start = time.process_time()
    model = build_pieces(extractor, "linear", pictures.task.outputs, frozen=False, seed=seed)
    done = finetune(model, pictures, fold, recipe, seed=seed)
    threshold = best_threshold(score(done.model, pictures, fold.inner))
    iou = mean_iou(counts_at(score(done.model, pictures, fold.report), threshold))
    return Trained(iou, time.process_time() - start)
