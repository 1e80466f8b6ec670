"""Does self-supervision on a set's own images help where labels are few? A frozen extractor under a linear decoder.

    python -m benchmarks.ssl ../shared/data/human ../shared/data/camvid

Extractor "unet". Pretrained on all images of the training part, without their masks; then 10 % of the training labels
(whole groups) train the linear decoder, 10 % of the inner ones choose its moment and threshold, and the IoU is that of
the images that chose nothing. Beside it the same random network frozen as it is, and with its batch statistics taken
from the images, which is all that a random network can learn from them without labels. Prints the median of the seeds
as a Markdown table, and the gain of each seed over the better of the two. `--part inner` scores on inner images
instead: that is how defaults are chosen.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from unplateau.data import nested, open_data, read_pictures, split
from unplateau.data.unlabelled import Unlabelled
from unplateau.measures.thresholds import best_threshold, counts_at, mean_iou
from unplateau.model import SegmentationModel
from unplateau.pretraining.course import EXTRACTOR, Schooling
from unplateau.pretraining.loop import kept_of, pretrain_extractor
from unplateau.pretraining.methods import RATES
from unplateau.training.loop import finetune
from unplateau.training.recipe import Recipe
from unplateau.training.scoring import score
from unplateau.training.train import build_pieces
from unplateau.types import Fold, Pictures

POSITIVE = {"fire_video": 1, "human": 1, "crackforest_full": 1, "drive_full": 1}
"""Sets with a positive class; the others are taken with all their classes."""

NETWORK, LABELS = "unet", 0.1
RECIPE = Recipe(steps=120, learning_rate=3e-2, half_size=0.0, evaluations=4)
"""Of the decoder. A rule over standardised channels bears, and in so few steps needs, a high rate."""


def few_labels(pictures: Pictures, fold: Fold, seed: int) -> Fold:
    """The fold with a tenth of its groups to train and to choose on."""
    fit = nested(pictures, fold, [LABELS], seed)[0]
    inner = nested(pictures, replace(fold, fit=fold.inner), [LABELS], seed)[0]
    return Fold(fit, inner, fold.report)


def probed(pictures: Pictures, fold: Fold, extractor: str, seed: int, *, calibrated: bool = False) -> float:
    """IoU of a linear decoder on the frozen extractor."""
    model = build_pieces(extractor, "linear", pictures.task.outputs, frozen=True, seed=seed)
    if calibrated:
        _calibrate(model, pictures, fold)
    trained = finetune(model, pictures, few_labels(pictures, fold, seed), RECIPE, seed=seed)
    few = few_labels(pictures, fold, seed)
    threshold = best_threshold(score(trained.model, pictures, few.inner)) if pictures.task.binary else float("nan")
    return mean_iou(counts_at(score(trained.model, pictures, fold.report), threshold))


def _calibrate(model: SegmentationModel, pictures: Pictures, fold: Fold) -> None:
    inner = model.extractor.inner
    assert isinstance(inner, nn.Module)
    update_bn([part.float().div(255) for part in pictures.images[list(fold.fit)].split(32)], inner)
    model.extractor.train(False)


def rows_of(folder: Path, args: argparse.Namespace) -> list[tuple[float, float, float, int, float]]:
    """For each seed: random, random with statistics, pretrained, the step that was kept, seconds of pretraining."""
    positive = [POSITIVE[folder.name]] if folder.name in POSITIVE else None
    pictures = read_pictures(open_data(folder), positive=positive, size=args.size, limit=400, seed=0)
    rows = []
    for seed in range(args.seeds):
        fold = split(pictures, seed=seed)[0]
        if args.part == "inner":
            fold = replace(fold, report=fold.inner)
        pool = Unlabelled(pictures.images[list(fold.fit)], tuple(pictures.names[i] for i in fold.fit), len(fold.fit))
        schooling = Schooling(args.method, args.steps, learning_rate=RATES[args.method])
        with TemporaryDirectory() as out:
            start = time.process_time()
            series = pretrain_extractor(
                pool, extractor=NETWORK, schooling=schooling, seed=seed, folder=Path(out), told=lambda *_: None
            )
            seconds = time.process_time() - start
            taught = probed(pictures, fold, str(Path(out) / EXTRACTOR), seed)
        plain, calibrated = (probed(pictures, fold, NETWORK, seed, calibrated=each) for each in (False, True))
        rows.append((plain, calibrated, taught, kept_of(series).step, seconds))
    return rows


def row_of(folder: Path, args: argparse.Namespace) -> str:
    """One row of the table."""
    rows = rows_of(folder, args)
    bare, calibrated, taught = (statistics.median(row[place] for row in rows) for place in range(3))
    gains = ", ".join(f"{row[2] - max(row[:2]):+.3f}" for row in rows)
    kept = ", ".join(str(row[3]) for row in rows)
    seconds = statistics.median(row[4] for row in rows)
    return (
        f"| {folder.name} | {bare:.3f} | {calibrated:.3f} | {taught:.3f} | {taught - bare:+.3f} | "
        f"{taught - calibrated:+.3f} | {gains} | {kept} | {seconds:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--method", default=Schooling.method)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--part", choices=("report", "inner"), default="report")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| set | random | random, statistics | pretrained | gain | over statistics | seeds, over both | kept | core s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for folder in args.sets:
        print(row_of(folder, args), flush=True)


if __name__ == "__main__":
    main()
