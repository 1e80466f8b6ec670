"""python -m benchmarks.ranking ../shared/data ../shared/weights/squeezenet1_1_imagenet_features.safetensors"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.ranking.pool import PROBLEMS, extractors, pictures_of
from benchmarks.ranking.truth import trained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--tasks", nargs="+", default=[problem.name for problem in PROBLEMS])
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-ranking"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    named = extractors(args.data, args.weights, args.out)
    for problem in PROBLEMS:
        if problem.name in args.tasks:
            pictures = pictures_of(problem, args.data)
            for name, extractor in named.items():
                print(problem.name, name, trained(problem, name, extractor, pictures, args.out), flush=True)


if __name__ == "__main__":
    main()
