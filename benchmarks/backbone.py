"""Does one backbone hold all families? The families method against each single method, equal images and steps.

    python -m benchmarks.backbone ../shared/data/human ../shared/data/camvid

On planted scenes, then on the sets named, where a tenth of the labels trains the decoder as in `benchmarks.ssl`. Every
network learns from the same unlabelled scenes (all kinds mixed) for the same number of steps, is frozen, and is read by
a rule over its channels at each pixel (1x1), one for each family, fitted on other scenes of that family. Prints IoU on
fresh scenes as a Markdown table, each beside the parameters and the core seconds of the pretraining, then the same on
the sets. `--seed` moves every scene: what is reported must be of a seed that chose nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.ssl import POSITIVE, probed
from unplateau.data import open_data, read_pictures, split
from unplateau.data.unlabelled import Unlabelled
from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.catalogue import build_extractor
from unplateau.pretraining.base import at_points
from unplateau.pretraining.course import EXTRACTOR, Schooling
from unplateau.pretraining.loop import kept_of, pretrain_extractor
from unplateau.pretraining.methods import RATES
from unplateau.scenes import Difficulty, scenes
from unplateau.types import Sample

KINDS = {"textural": "texture", "geometric": "geometry", "contextual": "context"}

CONTENDERS = (
    ("families", "families"),
    ("unet", "dense"),
    ("unet", "dino"),
    ("unet", "simmim"),
    ("families", "dense"),
    ("families", "dino"),
    ("families", "simmim"),
    ("unet", "families"),
)
"""Extractor and method; the three after the first are what it has to match."""

BATCH = 8
"""Images a step of every pretraining."""


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    side: int = 48
    unlabelled: int = 150
    fitting: int = 120
    testing: int = 60
    steps: int = 100
    seed: int = 0
    difficulty: Difficulty = field(default_factory=Difficulty)


def drawn(kind: str, count: int, part: int, scale: Scale) -> list[Sample]:
    """Scenes of one part of the benchmark, which no other part shares."""
    size = (scale.side, scale.side)
    return scenes(kind, count, size=size, seed=10_000 * scale.seed + part, difficulty=scale.difficulty)


def stacked(samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 3, H, W) and masks (N, H, W)."""
    images = np.stack([each.image for each in samples]).transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(np.stack([each.mask for each in samples]))


def mixed_pool(scale: Scale) -> Unlabelled:
    """Unlabelled scenes of all families, as many of each."""
    each = scale.unlabelled // len(KINDS)
    samples = [sample for kind in KINDS.values() for sample in drawn(kind, each, 1, scale)]
    return Unlabelled(stacked(samples)[0], tuple(sample.name for sample in samples), len(samples))


def taught(pool: Unlabelled, pair: tuple[str, str], steps: int, seed: int, out: Path) -> tuple[Path, int, float]:
    """The file of the extractor that was kept, at which step, and the core seconds of the pretraining."""
    extractor, method = pair
    schooling = Schooling(method, steps, batch=BATCH, learning_rate=RATES[method])
    start = time.process_time()
    series = pretrain_extractor(
        pool, extractor=extractor, schooling=schooling, seed=seed, folder=out, told=lambda *_: None
    )
    return out / EXTRACTOR, kept_of(series).step, time.process_time() - start


def supply(extractor: AbstractExtractor, kind: str, scale: Scale) -> float:
    """IoU of a linear rule over the frozen channels of each pixel, on fresh scenes of a kind.

    Rule and threshold come from some pixels of each of the fitting scenes, the IoU from some of each fresh one.
    """
    rows, truth = pixels_of(extractor.eval(), drawn(kind, scale.fitting, 2, scale), 400, scale.seed)
    mean, spread = rows.mean(0), rows.std(0).clamp_min(1e-4)
    rule = fitted((rows - mean) / spread, truth)
    logits = (rows - mean) / spread @ rule[1:] + rule[0]
    threshold = max((iou(logits, truth, float(each)), float(each)) for each in np.linspace(-2, 2, 41))[1]
    fresh, wanted = pixels_of(extractor, drawn(kind, scale.testing, 3, scale), 800, scale.seed)
    return iou((fresh - mean) / spread @ rule[1:] + rule[0], wanted, threshold)


def pixels_of(extractor: AbstractExtractor, samples: Sequence[Sample], count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Frozen channels (M, C) of `count` random pixels of each scene, and whether each is positive (M,)."""
    images, masks = stacked(samples)
    height, width = masks.shape[1:]
    some = torch.rand(len(images), count, 2, generator=torch.Generator().manual_seed(seed))
    columns, rows = (some[..., 0] * width).long(), (some[..., 1] * height).long()
    places = torch.stack([(columns + 0.5) / width, (rows + 0.5) / height], dim=-1) * 2 - 1
    found = []
    with torch.inference_mode():
        for part, where in zip(images.split(8), places.split(8), strict=True):
            seen = extractor(part.float().div(255).contiguous(memory_format=torch.channels_last))
            found.append(at_points(seen, where).flatten(0, 1))
    return torch.cat(found).clone(), masks[torch.arange(len(masks))[:, None], rows, columns].flatten().float()


def fitted(rows: Tensor, truth: Tensor) -> Tensor:
    """The logistic rule (1 + C,) of standardised rows, its constant first."""
    rule = torch.zeros(rows.shape[1] + 1, requires_grad=True)
    solver = torch.optim.LBFGS([rule], max_iter=80, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.binary_cross_entropy_with_logits(rows @ rule[1:] + rule[0], truth)
        loss = loss + 1e-4 * rule[1:].square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    return rule.detach()


def iou(logits: Tensor, truth: Tensor, threshold: float) -> float:
    """Of the pixels above a threshold."""
    found, true = logits > threshold, truth == 1
    return float((found & true).sum() / (found | true).sum().clamp_min(1))


def scenes_row(pair: tuple[str, str], pool: Unlabelled, scale: Scale) -> str:
    """One line of the first table."""
    with TemporaryDirectory() as out:
        file, step, seconds = taught(pool, pair, scale.steps, scale.seed, Path(out))
        extractor = build_extractor(str(file))
    found = " | ".join(f"{supply(extractor, kind, scale):.3f}" for kind in KINDS.values())
    count = sum(each.numel() for each in extractor.parameters()) / 1e6
    return f"| {pair[1]} on {pair[0]} | {found} | {count:.2f} | {step} | {seconds:.0f} |"


def set_row(folder: Path, pairs: Sequence[tuple[str, str]], args: argparse.Namespace) -> str:
    """One line of the second table: IoU at a tenth of the labels, mean of the seeds."""
    positive = [POSITIVE[folder.name]] if folder.name in POSITIVE else None
    pictures = read_pictures(open_data(folder), positive=positive, size=args.side, limit=args.limit, seed=args.seed)
    rows = []
    for seed in range(args.seed, args.seed + args.seeds):
        fold = split(pictures, seed=seed)[0]
        pool = Unlabelled(pictures.images[list(fold.fit)], tuple(pictures.names[i] for i in fold.fit), len(fold.fit))
        with TemporaryDirectory() as out:
            places = [Path(out) / str(place) for place in range(len(pairs))]
            files = [taught(pool, pair, args.steps, seed, place)[0] for pair, place in zip(pairs, places, strict=True)]
            rows.append([probed(pictures, fold, str(file), seed) for file in files])
    return f"| {folder.name} | " + " | ".join(f"{mean:.3f}" for mean in np.mean(rows, axis=0)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", type=Path)
    parser.add_argument("--side", type=int, default=Scale.side)
    parser.add_argument("--steps", type=int, default=Scale.steps)
    parser.add_argument("--seed", type=int, default=9)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--contenders", type=int, default=len(CONTENDERS), help="how many of the list, from the first")
    parser.add_argument("--on-sets", type=int, default=4, help="the same, for the sets")
    args = parser.parse_args()
    torch.set_num_threads(1)
    scale = Scale(side=args.side, steps=args.steps, seed=args.seed)
    pool = mixed_pool(scale)
    print(f"| method | {' | '.join(KINDS)} | M parameters | kept | core s |\n|---|---|---|---|---|---|---|")
    for pair in CONTENDERS[: args.contenders]:
        print(scenes_row(pair, pool, scale), flush=True)
    pairs = CONTENDERS[: args.on_sets]
    print(f"\n| set | {' | '.join(f'{method} on {extractor}' for extractor, method in pairs)} |")
    print("|---|" + "---|" * len(pairs))
    for folder in args.sets:
        print(set_row(folder, pairs, args), flush=True)


if __name__ == "__main__":
    main()
