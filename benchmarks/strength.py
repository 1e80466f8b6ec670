"""Is the ladder's top rung as strong as a plain U-Net with a ResNet-18? Same recipe, folds and seeds, one run.

    python -m benchmarks.strength ../shared/data/human 1 ../shared/data/camvid 8

Prints a Markdown table: IoU on images that chose nothing (mean and 90 % interval by resampling groups), the paired
difference, and the time of one training on one core.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from tempfile import TemporaryDirectory

from unplateau.data import open_data, read_pictures, split
from unplateau.diagnosis.diagnose import RECIPE
from unplateau.experiments.fits import by_name, run_fits
from unplateau.experiments.plan import CONTEXT, Plan, RungPlan, make_fits
from unplateau.experiments.run import Run
from unplateau.experiments.views import measure_objects

RUNGS = (
    RungPlan(CONTEXT, "semantic", "rung", math.inf, "unet"),
    RungPlan("baseline", "baseline", "baseline", math.inf, "resnet18", "unet", cost=2.0),
)


def compare(folder: Path, positive: int, size: int, seed: int) -> str:
    """One row of the table."""
    source = open_data(folder)
    pictures = read_pictures(source, positive=[positive], size=size, limit=600, seed=seed)
    folds = split(pictures, folds=3, seed=seed)
    plan = Plan(RUNGS, CONTEXT, ())
    fits = [fit for fit in make_fits(plan, pictures, folds, RECIPE, seed) if fit.name in (CONTEXT, "baseline")]
    with TemporaryDirectory() as cache:
        fitted = run_fits(fits, {"image": pictures}, Path(cache), lambda *_: None)
    outcomes = by_name(fits, fitted)
    run = Run(source, pictures, folds, measure_objects(pictures), plan, outcomes, seed)
    gap = run.resampler.difference(run.sums(CONTEXT), run.sums("baseline"))
    seconds = [sum(each.seconds for each in outcomes[name]) / len(folds) for name in (CONTEXT, "baseline")]
    return (
        f"| {folder.name} | {run.reading(CONTEXT)} | {run.reading('baseline')} | {gap:+.3f} "
        f"| {seconds[0]:.0f} | {seconds[1]:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", help="pairs of a folder and its positive class id")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print("| set | top rung | U-Net ResNet-18 | difference | s | s |")
    print("|---|---|---|---|---|---|")
    for folder, positive in zip(args.sets[::2], args.sets[1::2], strict=True):
        print(compare(Path(folder), int(positive), args.size, args.seed), flush=True)


if __name__ == "__main__":
    main()
