"""Does the ternary decision keep its promise, and leave less open than a symmetric one? Many draws of images.

    python -m benchmarks.ternary ../shared/data/human:1 ../shared/data/drive_full:1

The baseline is trained on three folds, so that every image is scored by a model that never saw its group. Then, 200
times, half of the units (groups where a group holds several images, else images) calibrate and the other half is
decided. Prints a Markdown table: the mean realised risks with their standard error over the draws, whether each is at
or below its tolerance plus that error, the share of pixels left open, and the share that symmetric thresholding of the
same scores leaves open (P from t on, not-P below 1 - t) when the same calibration images give the smallest t >= 0.5
that promises the same risks. The tolerance is the least of `--tolerances` that half of the units can promise; where
half of the groups can promise none, images are drawn, and the promise is one about other images of the same groups.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.learning_curve import baseline_fits
from unplateau.data import open_data, read_pictures, split
from unplateau.experiments.fits import run_fits
from unplateau.measures.ternary import Limit, Ternary, achieved, calibrate
from unplateau.measures.thresholds import THRESHOLDS, ScoreTable, join
from unplateau.types import Pictures


def out_of_fold(pictures: Pictures, args: argparse.Namespace, name: str) -> tuple[ScoreTable, NDArray[np.str_]]:
    """Scores of every image by a model that saw nothing of its group, and the unit of each image."""
    # Splits given in the data would have the same few images report in every fold.
    parts = split(replace(pictures, splits=("",) * len(pictures)), folds=3, seed=args.seed)
    fits = baseline_fits(pictures, parts, args.steps, args.seed)
    fitted = run_fits(fits, {"image": pictures}, args.out / name, lambda *_: None)
    order = [index for part in parts for index in part.report]
    return join([each.report for each in fitted]), np.array([pictures.groups[index] for index in order])


def tolerance_of(units: int, tolerances: list[float]) -> float | None:
    """The least tolerance that half of the units can promise."""
    return next((each for each in sorted(tolerances) if (units // 2 + 1) * each >= 1), None)


def symmetric(table: ScoreTable, groups: NDArray[np.str_] | None, tolerance: float) -> Ternary:
    """P from t on, not-P below 1 - t, with the smallest t >= 0.5 whose two risks conformal risk control allows."""
    for t in THRESHOLDS[len(THRESHOLDS) // 2 :]:
        said = decided_at(float(t), 1 - float(t), tolerance)
        (found,) = achieved(table, [said], groups)
        had, others, _ = found.units
        bounds = ((had * found.missed + 1) / (had + 1), (others * found.spurious + 1) / (others + 1))
        if max(bounds) <= tolerance:
            return said
    return decided_at(np.inf, 0.0, tolerance)


def decided_at(alpha: float, beta: float, tolerance: float) -> Ternary:
    """The decision with these thresholds, as if a calibration had found them."""
    high, low = (Limit(each, tolerance, 0.0, 0.0, 1, 0) for each in (alpha, beta))
    return Ternary(high, low)


def draws(
    table: ScoreTable, names: NDArray[np.str_], tolerance: float, args: argparse.Namespace
) -> NDArray[np.float64]:
    """(draws, 4): missed, spurious, share open, share open when symmetric, on the half that calibrated nothing."""
    generator = np.random.default_rng(args.seed)
    units, place = np.unique(names, return_inverse=True)
    grouped = len(units) < len(names)
    rows = []
    for _ in range(args.draws):
        calibrating = np.isin(place, generator.permutation(len(units))[: len(units) // 2])
        here, there = np.flatnonzero(calibrating), np.flatnonzero(~calibrating)
        own, other = (names[here], names[there]) if grouped else (None, None)
        (said,) = calibrate(table.take(here), tolerance, tolerance, own)
        if not said.feasible:
            continue
        (ours,) = achieved(table.take(there), [said], other)
        (theirs,) = achieved(table.take(there), [symmetric(table.take(here), own, tolerance)], other)
        rows.append((ours.missed, ours.spurious, ours.unknown, theirs.unknown))
    return np.array(rows)


def row(folder: Path, positive: int, args: argparse.Namespace) -> tuple[str, bool, bool]:
    """One set: its row, whether both promises were kept, whether less was left open."""
    pictures = read_pictures(open_data(folder), positive=[positive], size=args.size, limit=args.limit, seed=args.seed)
    table, names = out_of_fold(pictures, args, folder.name)
    tolerance = tolerance_of(len(set(names.tolist())), args.tolerances)
    if tolerance is None:
        names = np.array([str(place) for place in range(len(names))])
        tolerance = tolerance_of(len(names), args.tolerances) or max(args.tolerances)
    units = len(set(names.tolist()))
    found = draws(table, names, tolerance, args)
    if not len(found):
        return f"| {folder.name} | {units} | infeasible |" + " |" * 8, False, False
    means, errors = np.nanmean(found, axis=0), np.nanstd(found, axis=0, ddof=1) / np.sqrt(len(found))
    kept = bool((means[:2] <= tolerance + errors[:2]).all())
    smaller = bool(means[2] < means[3])
    risks = " | ".join(f"{mean:.4f} ± {error:.4f}" for mean, error in zip(means[:2], errors[:2], strict=True))
    return (
        f"| {folder.name} | {units} {'groups' if units < len(names) else 'images'} | {tolerance} | {len(found)} "
        f"| {risks} | {'yes' if kept else 'NO'} | {means[2]:.3f} | {means[3]:.3f} | {'yes' if smaller else 'NO'} |",
        kept,
        smaller,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", help="a folder and its positive class id, as human:1")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--tolerances", type=float, nargs="+", default=[0.05, 0.1, 0.2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-ternary"))
    args = parser.parse_args()
    print("| set | units | tolerance | draws | missed | spurious | kept | open | open, symmetric | smaller |")
    print(f"|{'---|' * 10}")
    rows = []
    for each in args.sets:
        name, _, positive = each.rpartition(":")
        rows.append(row(Path(name), int(positive), args))
        print(rows[-1][0], flush=True)
    print(f"\nkept: {sum(kept for _, kept, _ in rows)}, smaller: {sum(less for *_, less in rows)} of {len(rows)}")


if __name__ == "__main__":
    main()
