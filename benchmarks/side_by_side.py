"""Is our training as good and as quick as a plain script of segmentation-models-pytorch? Both train in one run.

    python -m benchmarks.side_by_side ../shared/data

The plain script is what a competent user would write: `smp.Unet("resnet18", encoder_weights=None)`, AdamW under a
one-cycle schedule, cross-entropy + Dice, batches shuffled anew each pass, the best of ten validations kept, a threshold
of 0.5. Ours is `train` as it stands: the same network from timm and our U-Net decoder, the default recipe at the same
steps and batch. Extractor, loss, rate, batch, steps, amount of augmentation, split and images are equal. Prints a
Markdown table: IoU on images that chose nothing, mean over seeds, and the difference with the 90 % interval that the
seeds alone make (Welch); then images per second, measured in turns, and the peak memory of validation and training.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from joblib import Parallel, delayed
from scipy import stats
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from unplateau.data import open_data, read_pictures, split
from unplateau.data.transforms import STANDARD, augment
from unplateau.measures.scoring import score_images
from unplateau.measures.thresholds import ScoreTable, chosen_threshold, counts_at, join, mean_iou
from unplateau.training.devices import keep_memory
from unplateau.training.finetune import FineTuning
from unplateau.training.halving import suited
from unplateau.training.loop import finetune
from unplateau.training.recipe import Recipe
from unplateau.training.scoring import score
from unplateau.training.train import build_pieces
from unplateau.types import IGNORE, Fold, Pictures

SETS = {"fire_video": (1,), "camvid": (), "human": (1,), "crackforest_full": (1,), "drive_full": (1,)}
"""The positive class of each set; none is multi-class."""

SIZES = {"crackforest_full": 96, "drive_full": 96}
"""Long sides of the sets of thin things; 64 for the others."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


# ---- the plain script ----------------------------------------------------------------------------------------


class Plain(nn.Module):
    """smp's U-Net behind the normalisation that its documentation asks for, padded to its stride."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        import segmentation_models_pytorch as smp

        self.net = smp.Unet("resnet18", encoder_weights=None, classes=outputs)
        self.mean, self.std = (nn.Buffer(torch.tensor(each).view(1, 3, 1, 1)) for each in (MEAN, STD))

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        padded = F.pad((images - self.mean) / self.std, (0, -width % 32, 0, -height % 32), mode="replicate")
        return self.net(padded)[..., :height, :width]


def plain_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy and soft Dice over the batch, pixels of 255 left out."""
    import segmentation_models_pytorch as smp

    if logits.shape[1] == 1:
        counted = masks != IGNORE
        entropy = F.binary_cross_entropy_with_logits(logits[:, 0][counted], (masks[counted] == 1).float())
        return entropy + smp.losses.DiceLoss("binary", ignore_index=IGNORE)(logits, masks.long()[:, None])
    entropy = F.cross_entropy(logits, masks.long(), ignore_index=IGNORE)
    return entropy + smp.losses.DiceLoss("multiclass", ignore_index=IGNORE)(logits, masks.long())


def passes(loader: DataLoader[tuple[Tensor, ...]]) -> Iterator[list[Tensor]]:
    """Every pass in an order of its own."""
    while True:
        yield from loader


class PlainRun:
    """A plain training loop, which can be run in pieces so that its speed is measured in turns with ours."""

    def __init__(self, pictures: Pictures, fold: Fold, recipe: Recipe, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = Plain(pictures.task.outputs)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, recipe.learning_rate, total_steps=recipe.steps, pct_start=recipe.warmup
        )
        own = TensorDataset(pictures.images[list(fold.fit)], pictures.masks[list(fold.fit)])
        self.batches = passes(DataLoader(own, batch_size=recipe.batch, shuffle=True, drop_last=True))
        self.generator = torch.Generator().manual_seed(seed)

    def train(self, steps: int) -> None:
        self.model.train()
        for _ in range(steps):
            images, masks = next(self.batches)
            images, masks = augment(images.float().div(255), masks, STANDARD, self.generator)
            self.optimizer.zero_grad()
            plain_loss(self.model(images), masks).backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.schedule.step()


@torch.inference_mode()
def plain_scores(model: nn.Module, pictures: Pictures, indices: tuple[int, ...]) -> ScoreTable:
    model.eval()
    tables = []
    for start in range(0, len(indices), 16):
        part = list(indices[start : start + 16])
        logits = model(pictures.images[part].float().div(255))
        scores = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)
        tables.append(score_images(scores.numpy(), pictures.masks[part].numpy()))
    return join(tables)


def train_plain(pictures: Pictures, fold: Fold, recipe: Recipe, seed: int) -> float:
    """IoU on the report part, at 0.5, of the best of ten validations."""
    run = PlainRun(pictures, fold, recipe, seed)
    best, kept = -1.0, copy.deepcopy(run.model)
    for _ in range(recipe.evaluations):
        run.train(recipe.steps // recipe.evaluations)
        value = mean_iou(plain_scores(run.model, pictures, fold.inner).argmax)
        if value > best:
            best, kept = value, copy.deepcopy(run.model)
    return mean_iou(plain_scores(kept, pictures, fold.report).argmax)


# ---- ours ----------------------------------------------------------------------------------------------------


def train_ours(pictures: Pictures, fold: Fold, recipe: Recipe, seed: int) -> float:
    """IoU on the report part, at the threshold that the inner part chooses, as `train` reports it."""
    model = build_pieces("resnet18", "unet", pictures.task.outputs, frozen=False, seed=seed)
    trained = finetune(model, pictures, fold, recipe, seed=seed)
    threshold = chosen_threshold(score(trained.model, pictures, fold.inner)) if pictures.task.binary else math.nan
    return mean_iou(counts_at(score(trained.model, pictures, fold.report), threshold))


def one(way: str, pictures: Pictures, fold: Fold, recipe: Recipe, seed: int) -> tuple[str, int, float, float]:
    """One training: who, which seed, IoU, seconds."""
    torch.set_num_threads(1)
    keep_memory()
    start = time.perf_counter()
    value = {"plain": train_plain, "ours": train_ours}[way](pictures, fold, recipe, seed)
    return way, seed, value, time.perf_counter() - start


# ---- speed and memory ----------------------------------------------------------------------------------------


def our_seconds(pictures: Pictures, fold: Fold, recipe: Recipe) -> float:
    """Seconds a step of our loop, from the end of the second step to the end of the last one."""
    ends: list[float] = []
    original = FineTuning.on_train_batch_end

    def noting(self: FineTuning, *args: Any) -> None:
        original(self, *args)
        ends.append(time.perf_counter())

    with patch.object(FineTuning, "on_train_batch_end", noting):
        finetune(build_pieces("resnet18", "unet", pictures.task.outputs, frozen=False, seed=0), pictures, fold, recipe)
    return (ends[-1] - ends[1]) / (len(ends) - 2)


def speed(pictures: Pictures, fold: Fold, recipe: Recipe, repeats: int, steps: int = 14) -> list[tuple[float, float]]:
    """Images per second of the plain script and of ours, in turns; whole images in every step of both."""
    short = replace(recipe, steps=steps, evaluations=1, half_size=0.0)
    found = []
    for repeat in range(repeats):
        run = PlainRun(pictures, fold, short, repeat)
        run.train(2)
        start = time.perf_counter()
        run.train(steps - 2)
        theirs = (time.perf_counter() - start) / (steps - 2)
        found.append((recipe.batch / theirs, recipe.batch / our_seconds(pictures, fold, short)))
    return found


def peak() -> int:
    """The largest resident size in kB since the last call of `forget_peak`."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def memory(pictures: Pictures, fold: Fold, recipe: Recipe) -> tuple[float, float]:
    """Peak memory in GB of this process while it trains and while it validates, in our loop."""
    training, validation = [], []
    start, end = FineTuning.on_validation_epoch_start, FineTuning.on_validation_epoch_end

    def before(self: FineTuning) -> None:
        training.append(peak())
        forget_peak()
        start(self)

    def after(self: FineTuning) -> None:
        end(self)
        validation.append(peak())
        forget_peak()

    with patch.multiple(FineTuning, on_validation_epoch_start=before, on_validation_epoch_end=after):
        finetune(build_pieces("resnet18", "unet", pictures.task.outputs, frozen=False, seed=0), pictures, fold, recipe)
    return max(training) / 2**20, max(validation) / 2**20


def alone(
    pictures: Pictures, fold: Fold, recipe: Recipe, repeats: int
) -> tuple[list[tuple[float, float]], float, float]:
    """Speed, then memory, in a process of its own."""
    torch.set_num_threads(1)
    keep_memory()
    found = memory(pictures, fold, replace(recipe, steps=6, evaluations=2, half_size=0.0))
    return speed(pictures, fold, recipe, repeats), *found


# ---- the table -----------------------------------------------------------------------------------------------


def gap(ours: list[float], theirs: list[float]) -> tuple[float, float]:
    """The difference of the means and half its 90 % interval."""
    if len(ours) < 2:
        return float(np.mean(ours) - np.mean(theirs)), math.nan
    found = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.90)
    return float(np.mean(ours) - np.mean(theirs)), float(found.high - found.low) / 2


def row(folder: Path, args: argparse.Namespace) -> str:
    positive = SETS[folder.name]
    size = args.size or SIZES.get(folder.name, 64)
    pictures = read_pictures(open_data(folder), positive=positive, size=size, seed=0)
    fold = split(pictures, seed=0)[0]
    # As `train` makes it, without a start at half size where the masks are gone there.
    recipe = replace(suited(pictures), steps=args.steps, batch=args.batch)
    jobs = [delayed(one)(way, pictures, fold, recipe, seed) for seed in range(args.seeds) for way in ("plain", "ours")]
    done = Parallel(n_jobs=args.jobs, inner_max_num_threads=1)(jobs)
    values = {way: [value for who, _, value, _ in done if who == way] for way in ("plain", "ours")}
    seconds = {way: np.mean([each for who, _, _, each in done if who == way]) for way in ("plain", "ours")}
    mean, half = gap(values["ours"], values["plain"])
    verdict = "better" if mean > half else "worse" if mean < -half else "equal"
    ((rates, training, validation),) = Parallel(n_jobs=2, inner_max_num_threads=1)(
        [delayed(alone)(pictures, fold, recipe, args.repeats)]
    )
    ratios = sorted(ours / theirs for theirs, ours in rates)
    said = {way: " ".join(f"{value:.3f}" for value in values[way]) for way in values}
    return (
        f"| {folder.name} | {pictures.size[0]} x {pictures.size[1]} | {np.mean(values['plain']):.3f} ({said['plain']}) "
        f"| {np.mean(values['ours']):.3f} ({said['ours']}) | {mean:+.3f} ± {half:.3f} {verdict} "
        f"| {seconds['plain']:.0f} | {seconds['ours']:.0f} | {np.median(ratios):.2f} "
        f"({ratios[0]:.2f}-{ratios[-1]:.2f}) | {training:.2f} | {validation:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder that holds the sets")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    print(
        "| set | grid | plain IoU (seeds) | ours | difference | plain, s | ours, s | images/s ratio | train, GB | val |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in args.sets:
        print(row(args.data / name, args), flush=True)


if __name__ == "__main__":
    main()
