"""Does a learning curve foretell? Fitted on up to half of the groups, held against the IoU with all of them.

    python -m benchmarks.learning_curve ../shared/data/human:1 ../shared/data/camvid:8

The baseline is trained on an eighth, a quarter, half and all of the training groups, on every fold. The law of the
diagnosis sees the first three. Prints a Markdown table: what it foretold with its 90 % interval, what was measured, the
error, and whether the interval holds the measured IoU.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from unplateau.checks.data_scale import DataScaleCheck
from unplateau.checks.scaling import foretell
from unplateau.data import open_data, read_pictures, split
from unplateau.diagnosis.diagnose import RECIPE, fitting
from unplateau.experiments.fits import Fit, by_name, run_fits
from unplateau.experiments.gains import over_seeds
from unplateau.experiments.plan import CONTEXT, HALF_STEPS, Plan, RungPlan, less_name, make_fits
from unplateau.experiments.run import Run
from unplateau.experiments.views import measure_objects
from unplateau.measures.intervals import interval
from unplateau.types import Fold, Interval, Pictures

SHARES = (0.125, 0.25, 0.5)
NEAR = 0.03


def baseline_plan(shares: tuple[float, ...]) -> Plan:
    """One rung, that sees everything, with all of the training groups and with each share of them."""
    return Plan((RungPlan(CONTEXT, "semantic", "rung", np.inf, "unet"),), CONTEXT, shares)


def baseline_fits(
    pictures: Pictures, parts: tuple[Fold, ...], steps: int, seed: int, shares: tuple[float, ...] = ()
) -> list[Fit]:
    """The baseline on every fold, with all of the training groups and with each share of them."""
    plan = baseline_plan(shares)
    recipe = fitting(replace(RECIPE, steps=steps), measure_objects(pictures).diameter)
    return [fit for fit in make_fits(plan, pictures, parts, recipe, seed) if fit.name != HALF_STEPS]


def trained(folder: Path, positive: int, size: int, steps: int, folds: int, seed: int) -> Run:
    """The baseline at every share of the groups and at all of them."""
    source = open_data(folder)
    pictures = read_pictures(source, positive=[positive], size=size, limit=600, seed=seed)
    parts = split(pictures, folds=folds, seed=seed)
    fits = baseline_fits(pictures, parts, steps, seed, SHARES)
    with TemporaryDirectory() as cache:
        fitted = run_fits(fits, {"image": pictures}, Path(cache), lambda *_: None)
    outcomes = by_name(fits, fitted)
    return Run(source, pictures, parts, measure_objects(pictures), baseline_plan(SHARES), outcomes, seed)


def foretold(run: Run) -> tuple[Interval, np.ndarray, list[float]]:
    """IoU with all groups as the smaller shares foretell it, its draws, and the groups at each share."""
    measured = DataScaleCheck().measure(run)
    groups = [point.groups for point in measured.points] if measured else []
    sums = [run.sums(less_name(share)) for share in SHARES]
    draws = np.stack([run.resampler.draws(each) for each in sums], axis=1)
    means = np.array([run.resampler.mean(each) for each in sums])
    shares = np.array(groups[:-1]) / groups[-2]
    ((centre, ahead),) = foretell(shares, means, draws, (groups[-1] / groups[-2],), run.seed)
    return over_seeds(interval(centre, ahead), run), ahead, groups


def row(folder: Path, positive: int, args: argparse.Namespace) -> tuple[str, bool, bool]:
    """One set: its row, whether it came near, whether its interval holds the truth."""
    run = trained(folder, positive, args.size, args.steps, args.folds, args.seed)
    said, ahead, groups = foretold(run)
    true = run.resampler.mean(run.sums(CONTEXT))
    # The same resamples draw both, so that what the images have in common is not counted twice.
    gap = over_seeds(interval(said.mean - true, ahead - run.resampler.draws(run.sums(CONTEXT))), run)
    held, near = gap.low <= 0 <= gap.high, abs(gap.mean) <= NEAR
    seen = ", ".join(f"{run.reading(less_name(share)).mean:.3f}" for share in SHARES)
    text = f"| {folder.name} | {groups[-1]:.0f} | {seen} | {said} | {true:.3f} | {gap:+.3f} | "
    return text + f"{'yes' if near else 'NO'} | {'yes' if held else 'NO'} |", near, held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", help="a folder and its positive class id, as human:1")
    parser.add_argument("--size", type=int, default=80)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print("| set | groups | IoU at 1/8, 1/4, 1/2 | foretold | measured | off by | within .03 | held |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for each in args.sets:
        name, _, positive = each.rpartition(":")
        rows.append(row(Path(name), int(positive), args))
        print(rows[-1][0], flush=True)
    print(f"\nwithin {NEAR}: {sum(near for _, near, _ in rows)}, held: {sum(held for *_, held in rows)} of {len(rows)}")


if __name__ == "__main__":
    main()
