"""Do the families get their shares? Pure planted tasks, and mixtures of known shares; scenes anew for each seed.

    python -m benchmarks.families --seeds 10

Trains the rungs that the shares rest on, on small scenes, one fold a seed. Prints a row a task and seed as it goes,
then how many were right and how far the shares of mixtures were off. Trainings are kept in `runs/families`: a run that
was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from unplateau.checks.ladder import PRIOR, LadderCheck, LadderMeasured
from unplateau.data import open_data, read_pictures, split
from unplateau.diagnosis.diagnose import RECIPE
from unplateau.experiments.fits import by_name, run_fits
from unplateau.experiments.plan import HALF_STEPS, make_fits, make_plan, shortened
from unplateau.experiments.prior import position_scores
from unplateau.experiments.run import Run
from unplateau.experiments.views import contours, measure_objects
from unplateau.scenes import SCENES, mixture
from unplateau.scenes.catalogue import plant
from unplateau.types import Sample

FAMILY = {"fire": "textural", "texture": "textural", "geometry": "geometric", "context": "semantic"}

KINDS = ("context", "texture", "geometry")

FITS = Path("runs/families")

MIXTURES = (
    {"fire": 0.5, "context": 0.5},
    {"texture": 0.7, "context": 0.3},
    {"texture": 0.3, "context": 0.7},
    {"geometry": 0.7, "context": 0.3},
    {"geometry": 0.4, "context": 0.6},
)
"""Shares of the scenes, that is of the positive area."""

CLOSE = 0.10
"""A measured share this near to the planted one is right."""


@dataclass(frozen=True)
class Size:
    """What a task is measured with: scenes, their side in pixels, and the steps and batch of each training."""

    count: int
    side: int
    steps: int
    batch: int


PURE = Size(200, 64, 240, 16)
"""The same for every pure task, and about the steps of a diagnosis: with fewer scenes and steps the whole image is not
put to use, or a rung of two diameters falls short of it, and no share can be right."""

MIXED = Size(660, 64, 1000, 16)
"""Each task of a mixture has a part of the scenes and of the steps: the smallest, .3, has about what a pure one has."""


def pure(kind: str, size: Size, seed: int) -> list[Sample]:
    """Scenes of one kind."""
    return plant(SCENES[kind], size.count, name=kind, size=(size.side, size.side), seed=1000 + seed)


def mixed(shares: Mapping[str, float], size: Size, seed: int) -> list[Sample]:
    """Scenes that look alike and are each decided by one family, as many of each as its share says."""
    made: list[Sample] = []
    for place, (family, share) in enumerate(shares.items()):
        count = round(share * size.count)
        own = 1000 * (place + 2) + seed
        made += plant(mixture({family: 1.0}), count, name=family, size=(size.side, size.side), seed=own)
    return made


def planted(samples: list[Sample]) -> dict[str, float]:
    """Share of the positive area that each family decides, by the first word of the scenes' names."""
    area = dict.fromkeys(("textural", "geometric", "semantic"), 0.0)
    for sample in samples:
        area[FAMILY[sample.name.partition("-")[0]]] += float((sample.mask == 1).sum())
    return {family: each / sum(area.values()) for family, each in area.items()}


def ladder(samples: list[Sample], size: Size, seed: int) -> LadderMeasured:
    """The ladder of these scenes."""
    run = trained(samples, size, seed)
    measured = LadderCheck().measure(run)
    if measured is None:
        raise RuntimeError("The ladder was not climbed.")
    return measured


def trained(samples: list[Sample], size: Size, seed: int) -> Run:
    """Every rung trained on these scenes."""
    source = open_data(samples)
    pictures = read_pictures(source, positive=[1], size=size.side, seed=seed)
    folds = split(pictures, folds=3, seed=seed)[:1]
    objects = measure_objects(pictures)
    plan = replace(shortened(make_plan(objects, pictures.size, baseline="unet")), fractions=())
    recipe = replace(RECIPE, steps=size.steps, batch=size.batch)
    fits = [fit for fit in make_fits(plan, pictures, folds, recipe, seed) if fit.name != HALF_STEPS]
    fitted = run_fits(
        fits, {"image": pictures, "contour": contours(pictures, objects.thickness)}, FITS, lambda *_: None
    )
    prior = tuple(position_scores(pictures, fold) for fold in folds)
    return Run(source, pictures, folds, objects, plan, {PRIOR: prior, **by_name(fits, fitted)}, seed)


def row(name: str, seed: int, samples: list[Sample], size: Size) -> tuple[bool, float]:
    """Measure and print one task: whether the family planted most got the largest share, and the largest error."""
    start = time.perf_counter()
    measured, true = ladder(samples, size, seed), planted(samples)
    shares = {family: share.mean for family, share in measured.families.items()}
    right = max(shares, key=lambda each: shares[each]) == max(true, key=lambda each: true[each])
    error = max(abs(shares[family] - true[family]) for family in true)
    said = " | ".join(f"{true[family]:.2f}: {shares[family]:.2f}" for family in true)
    seconds = time.perf_counter() - start
    rungs = " ".join(f"{rung.name}={rung.iou.mean:.2f}" for rung in measured.rungs)
    print(
        f"| {name} | {seed} | {said} | {error:.2f} | {measured.attainable.mean:.2f} | {'yes' if right else 'NO'} "
        f"| {seconds:.0f} |",
        flush=True,
    )
    print(f"<!-- {rungs} -->", flush=True)
    return right, error


def called(shares: Mapping[str, float]) -> str:
    """The name of a mixture."""
    return " + ".join(f"{share:g} {family}" for family, share in shares.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="number of the first seed")
    parser.add_argument("--mixture-seeds", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS)
    args = parser.parse_args()
    print("Shares as planted: measured, of the positive area and of the area that needs one family.\n")
    print("| task | seed | textural | geometric | semantic | error | best IoU | right | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    seeds = range(args.first, args.first + args.seeds)
    single = [row(kind, seed, pure(kind, PURE, seed), PURE) for kind in args.kinds for seed in seeds]
    seeds = range(args.first, args.first + args.mixture_seeds)
    several = [row(called(each), seed, mixed(each, MIXED, seed), MIXED) for each in MIXTURES for seed in seeds]
    print(f"\npure tasks right: {sum(right for right, _ in single)} of {len(single)}")
    errors = np.array([error for _, error in several])
    if len(errors):
        print(
            f"mixtures within {CLOSE:.2f}: {(errors <= CLOSE).sum()} of {len(errors)}; error {errors.mean():.3f} on "
            f"average, {errors.max():.3f} at most"
        )


if __name__ == "__main__":
    main()
