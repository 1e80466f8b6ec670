"""Is extracting through the cache as fast as the extractor alone? Forward pass alone against the same with writing.

    python -m benchmarks.cache unet resnet18

Takes turns, so that what else the machine does disturbs both alike, and prints the median ratio of images a second.
Extraction must reach 0.9 of the forward pass. CPU time is the sum of both threads: what writing costs on one core.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.catalogue import build_extractor
from unplateau.upgrades.cache import BATCH, features, forward


def alone(extractor: AbstractExtractor, images: Tensor) -> None:
    for part in images.split(BATCH):
        forward(extractor, part)


def kept(extractor: AbstractExtractor, images: Tensor) -> None:
    with TemporaryDirectory() as folder:
        for _ in features(extractor, images, Path(folder)):
            pass


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds on the clock, and of CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def row(name: str, count: int, side: int, repeats: int) -> str:
    torch.manual_seed(0)
    extractor = build_extractor(name)
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
    alone(extractor, images[:BATCH])
    turns = [(timed(lambda: alone(extractor, images)), timed(lambda: kept(extractor, images))) for _ in range(repeats)]
    wall, cpu = (statistics.median(bare[which] / cached[which] for bare, cached in turns) for which in (0, 1))
    speed = count / statistics.median(bare[0] for bare, _ in turns)
    return f"| {name} | {side} | {speed:.0f} | {wall:.2f} | {cpu:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extractors", nargs="+")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    print("| extractor | side | images a second | speed kept, clock | speed kept, CPU |")
    print("|---|---|---|---|---|")
    for name in args.extractors:
        print(row(name, args.images, args.side, args.repeats), flush=True)


if __name__ == "__main__":
    main()
