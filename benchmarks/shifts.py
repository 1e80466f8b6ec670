"""Are shifted masks found, and only those? Real sets and planted scenes, as they came and with plants of known offset.

    python -m benchmarks.shifts ../shared/data

Prints a row a set: the offset measured on the originals, alarms on them and on random subsets of 24 images, plants
found (on all images read, and on the same subsets), plants in a part only, and masks mirrored.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.truth.plants import Samples, shifted
from unplateau.checks.alignment import (
    IMAGES,
    TURNED_IMAGES,
    AlignmentCheck,
    AlignmentMeasured,
    Scores,
    measure_alignment,
    read_scores,
    shifted_splits,
    strayed,
    turned,
)
from unplateau.checks.alignment import shifted as found_shifted
from unplateau.data import open_data
from unplateau.data.pictures import choose
from unplateau.data.sources import SampleSource
from unplateau.scenes import scenes
from unplateau.types import IGNORE, Sample, Verdict

PLANTS = ((2, 0), (0, -2), (-2, 2), (0, 2), (-2, 0), (3, 0), (-3, -3), (0, 5), (-5, 4))
SCENES = ("fire", "texture", "geometry", "context")
NEAR = 1.0
"""A plant counts as found when the alarm is raised and the offset measured is this near, in native pixels, to that of
the originals plus the plant."""


def samples_of(name: str, data: Path, count: int, seed: int) -> list[Sample]:
    """At most `count` samples of a set; "camvid:8" makes class 8 of it the only one."""
    if name in SCENES:
        return scenes(name, count, seed=seed)
    source = open_data(data / name.partition(":")[0])
    kept = [source.sample(index) for index in choose(source, count, seed)]
    if not (only := name.partition(":")[2]):
        return kept
    return [
        replace(each, mask=np.where(each.mask == IGNORE, IGNORE, each.mask == int(only)).astype(np.uint8))
        for each in kept
    ]


def scored(samples: Samples, turned_images: int = 0) -> Scores:
    return read_scores(SampleSource(samples), 0, turned_images)


def alarm(measured: AlignmentMeasured) -> bool:
    return AlignmentCheck().judge(measured).verdict is Verdict.CONCERN


def right(measured: AlignmentMeasured, plant: Sequence[float], original: Sequence[float]) -> bool:
    """Whether the plant is found: an alarm for the whole, at the right place."""
    far = np.hypot(*(np.array(measured.whole.offset) - original - np.array(plant)))
    return found_shifted(measured.whole, measured.pixel) and bool(far <= NEAR)


def subsets(scores: Scores, count: int, size: int, seed: int) -> Iterator[Scores]:
    generator = np.random.default_rng(seed)
    for _ in range(count):
        yield scores.only(sorted(generator.choice(len(scores.names), min(size, len(scores.names)), replace=False)))


def in_part(samples: Samples, plant: tuple[int, int], share: float, seed: int) -> tuple[list[Sample], set[str]]:
    """A share of the files shifted, and their names."""
    picked = np.random.default_rng(seed).choice(len(samples), round(share * len(samples)), replace=False)
    moved = dict(zip(picked.tolist(), shifted([samples[row] for row in picked], *plant), strict=True))
    return [moved.get(row, each) for row, each in enumerate(samples)], {samples[row].name for row in picked}


def in_split(samples: Samples, plant: tuple[int, int], seed: int) -> list[Sample]:
    """Two splits drawn at random, and only "val" shifted."""
    drawn = set(np.random.default_rng(seed).permutation(len(samples))[: len(samples) // 3].tolist())
    val = shifted([replace(samples[row], split="val") for row in sorted(drawn)], *plant)
    return [replace(each, split="train") for row, each in enumerate(samples) if row not in drawn] + val


def row(name: str, args: argparse.Namespace) -> str:
    count, size, plants = args.subsets, args.size, PLANTS[: args.plants]
    samples = samples_of(name, args.data, args.images, seed=0)
    start = time.process_time()
    original = scored(samples, TURNED_IMAGES)
    measured = measure_alignment(original, 0)
    seconds = time.process_time() - start
    own = measured.whole.offset
    alarms = sum(alarm(measure_alignment(each, 0)) for each in subsets(original, count, size, 0))
    whole, power = [], []
    for plant in plants:
        planted = scored(shifted(samples, *plant))
        whole.append(right(measure_alignment(planted, 0), plant, own))
        power += [right(measure_alignment(each, 0), plant, own) for each in subsets(planted, count, size, 0)]
    part, names = in_part(samples, (3, -2), 0.25, 0)
    strays = measure_alignment(scored(part), 0)
    splits = shifted_splits(measure_alignment(scored(in_split(samples, (-2, 2), 0)), 0))
    flipped = [replace(each, mask=each.mask[:, ::-1]) for each in samples]
    mirrored = measure_alignment(scored(flipped, TURNED_IMAGES), 0)
    verdict = AlignmentCheck().judge(measured).verdict.value
    said = (
        name,
        f"{measured.whole.images}",
        f"{measured.whole.rows:+.2f}",
        f"{measured.whole.columns:+.2f}",
        verdict,
        f"{alarms}/{count}",
        f"{sum(whole)}/{len(whole)}",
        f"{sum(power)}/{len(power)}",
        f"{'yes' if strayed(strays) else 'NO'}, {len(set(strays.strays) & names)} of {len(names)} right, "
        f"{len(set(strays.strays) - names)} wrong",
        ", ".join(splits) or "NO",
        mirrored.turn if turned(mirrored) else "NO",
        f"{seconds:.1f}",
    )
    return f"| {' | '.join(said)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=None)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--subsets", type=int, default=20)
    parser.add_argument("--size", type=int, default=24)
    parser.add_argument("--plants", type=int, default=len(PLANTS), help="how many of the offsets to plant")
    args = parser.parse_args()
    real = sorted(each.name for each in args.data.iterdir() if (each / "images").is_dir())
    names = args.sets or [*real, "camvid:8", *SCENES]
    print(
        "| set | images | rows off | columns off | verdict | alarms on subsets | plants found | on subsets "
        "| a quarter of the files, (3, -2) | val alone, (-2, 2) | mirrored | CPU s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for name in names:
        print(row(name, args), flush=True)


if __name__ == "__main__":
    main()
