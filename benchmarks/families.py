"""Does the right family get the largest share? Pure planted tasks, several seeds, scenes and trainings anew each time.

    python -m benchmarks.families --seeds 5

Trains the ladder alone (no learning curve), on two folds. Prints a row a task and seed as it goes, then how many were
right.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from unplateau.data import open_data, read_pictures, split
from unplateau.diagnosis.diagnose import RECIPE
from unplateau.diagnosis.fits import by_name, run_fits
from unplateau.diagnosis.ladder import PRIOR, LadderCheck, LadderMeasured
from unplateau.diagnosis.plan import CONTEXT, Plan, make_fits, make_plan
from unplateau.diagnosis.prior import position_scores
from unplateau.diagnosis.run import Run
from unplateau.diagnosis.views import contours, object_diameter
from unplateau.scenes import scenes

RIGHT = {"fire": "textural", "texture": "textural", "geometry": "geometric", "context": "semantic"}


def ladder(kind: str, seed: int, count: int, side: int) -> LadderMeasured:
    """The ladder of fresh scenes of one kind."""
    source = open_data(scenes(kind, count, size=(side, side), seed=1000 + seed))
    pictures = read_pictures(source, positive=[1], size=side, seed=seed)
    folds = split(pictures, folds=2, seed=seed)
    diameter = object_diameter(pictures)
    full = make_plan(diameter, pictures.size, baseline="unet", candidate=None)
    plan = Plan(full.rungs, CONTEXT, ())
    names = {rung.name for rung in plan.rungs}
    fits = [fit for fit in make_fits(plan, pictures, folds, replace(RECIPE, steps=240), seed) if fit.name in names]
    with TemporaryDirectory() as cache:
        fitted = run_fits(fits, {"image": pictures, "contour": contours(pictures)}, Path(cache), lambda *_: None)
    prior = tuple(position_scores(pictures, fold) for fold in folds)
    outcomes = {PRIOR: prior, **by_name(fits, fitted)}
    return LadderCheck().measure(Run(source, pictures, folds, diameter, plan, outcomes, seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", default=["texture", "geometry", "context"])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--side", type=int, default=80)
    args = parser.parse_args()
    right = 0
    print("| task | seed | textural | geometric | semantic | best IoU | right | s |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in args.kinds:
        for seed in range(args.seeds):
            start = time.perf_counter()
            measured = ladder(kind, seed, args.count, args.side)
            shares = {name: share.mean for name, share in measured.families.items()}
            hit = max(shares, key=lambda name: shares[name]) == RIGHT[kind]
            right += hit
            said = " | ".join(f"{share:.2f}" for share in shares.values())
            seconds = time.perf_counter() - start
            attained = measured.attainable.mean
            print(
                f"| {kind} | {seed} | {said} | {attained:.2f} | {'yes' if hit else 'NO'} | {seconds:.0f} |", flush=True
            )
    print(f"\nright: {right} of {len(args.kinds) * args.seeds}")


if __name__ == "__main__":
    main()
