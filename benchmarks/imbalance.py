"""What do class weights do for a rare class? Paired against no weights, on the same folds and seeds, with intervals.

    python -m benchmarks.imbalance ../shared/data/crackforest_full 1

Trains the default recipe with weights "none", "auto" and "effective" and prints the table of `compare`, the share of
the area that is positive, and the weight that each way gives it. The verdicts are for reading; which way `auto` stands
for was decided on inner images (docs/decisions/011).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from unplateau import api
from unplateau.data import open_data, read_pictures
from unplateau.data.balance import class_weights, positive_share
from unplateau.reports import comparison_table

RECIPES = ("class_weights=none", "class_weights=auto", "class_weights=effective")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("positive", type=int)
    parser.add_argument("--extractor", default="unet")
    parser.add_argument("--decoder", default="linear")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--also", nargs="*", default=[], help="further recipes")
    parser.add_argument("--out", type=Path, help="keep the trainings here")
    args = parser.parse_args()
    pictures = read_pictures(open_data(args.folder), positive=[args.positive], size=args.size)
    everything = tuple(range(len(pictures)))
    weights = {way: float(class_weights(pictures, everything, way)) for way in ("none", "auto", "effective")}
    said = ", ".join(f"{way} {weight:.1f}" for way, weight in weights.items())
    print(
        f"{args.folder.name}: {positive_share(pictures, everything):.2%} positive; weight of a positive pixel: {said}"
    )
    with TemporaryDirectory() as folder:
        content = api.compare(
            args.folder,
            [*RECIPES, *args.also],
            positive=[args.positive],
            extractor=args.extractor,
            decoder=args.decoder,
            size=args.size,
            steps=args.steps,
            seeds=args.seeds,
            folds=args.folds,
            out=args.out or folder,
        )
    console = Console(width=120)
    console.print(comparison_table(content))
    console.print(content["method"])


if __name__ == "__main__":
    main()
