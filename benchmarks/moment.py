"""Which weights score more on new images: those that few inner images prefer, or the last ones?

    python -m benchmarks.moment geometry texture human fire

Trains on a few images of a base of `benchmarks.truth`, chooses the moment by 1 to 12 inner images, and scores both on
images that chose nothing, each at its best threshold there.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch

from benchmarks.truth.bases import BASES, SIDE, world
from benchmarks.truth.cases import Setup
from benchmarks.truth.oracle import native_table, numbered, recipe
from unplateau.measures.thresholds import best_threshold, mean_iou
from unplateau.training.loop import finetune
from unplateau.training.scoring import answers
from unplateau.training.train import build_pieces
from unplateau.types import Fold

PARTS = ((5, 1), (9, 2), (16, 4), (26, 6), (52, 12))
"""Images that train, and inner ones."""

ASKED = 60
SEEDS = 2


def scores(base: str, fit: int, inner: int, seed: int) -> tuple[float, float]:
    """IoU on other images of the weights that the inner ones prefer, and of the last."""
    made = world(base)
    picked = np.random.default_rng((seed, fit)).permutation(len(made.train))[: fit + inner]
    asked = made.test[:ASKED]
    pictures = numbered((*(made.train[place] for place in picked), *asked), SIDE)
    report = tuple(range(fit + inner, fit + inner + len(asked)))
    fold = Fold(tuple(range(fit)), tuple(range(fit, fit + inner)), report)
    plain = replace(recipe(Setup(steps=BASES[base].steps)), evaluations=8)
    found = []
    # Patience without end stops nothing, and lets few images choose too.
    for asked_for in (replace(plain, patience=plain.steps), replace(plain, keep="last")):
        model = build_pieces("unet", "linear", 1, frozen=False, seed=seed)
        trained = finetune(model, pictures, fold, asked_for, seed=seed)
        table = native_table(answers(trained.model, pictures, report), asked)
        found.append(mean_iou(table.at(best_threshold(table))))
    return found[0], found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bases", nargs="+", choices=list(BASES))
    args = parser.parse_args()
    torch.set_num_threads(2)
    rows = []
    print("| base | inner images | seed | best | last | last - best |\n|---|---|---|---|---|---|")
    for base in args.bases:
        for fit, inner in PARTS:
            for seed in range(SEEDS):
                best, last = scores(base, fit, inner, seed)
                rows.append((inner, last - best))
                print(f"| {base} | {inner} | {seed} | {best:.3f} | {last:.3f} | {last - best:+.3f} |", flush=True)
    table = np.array(rows)
    for low, high in ((1, 4), (5, 12)):
        gained = table[(table[:, 0] >= low) & (table[:, 0] <= high), 1]
        print(f"{low} to {high} inner images: {gained.mean():+.3f} in the mean of {len(gained)}")


if __name__ == "__main__":
    main()
