"""Are contours that wander found, and only those? Real sets and planted scenes, as they came and bent on purpose.

    python -m benchmarks.contours ../shared/data

Prints a row a set: the gain of moving stretches of contour as their neighbours say, on the masks as they came and bent
by smooth random fields whose root mean square is a 64th and a 32nd of the long side; the verdicts; the overlap of the
bent masks with the true ones before and after they are put back; and the CPU seconds of one measurement.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.shifts import SCENES, samples_of
from benchmarks.truth.plants import jittered
from unplateau.checks.contours import IMAGES, ContoursCheck, measure_contours, straightened
from unplateau.data import open_data, read_pictures
from unplateau.types import IGNORE, Pictures, Sample

BENT = (0, 1 / 64, 1 / 32)
"""Root mean square of the field along each axis, in long sides."""

CAMVID = ("camvid:1", "camvid:8", "camvid:9")


def bent(samples: Sequence[Sample], share: float) -> list[Sample]:
    rng = np.random.default_rng(0)
    sides = [max(each.mask.shape) for each in samples]
    return [jittered([each], share * side, 1, rng)[0] for each, side in zip(samples, sides, strict=True)]


def overlap(one: Pictures, other: Pictures) -> float:
    counted = (one.masks != IGNORE) & (other.masks != IGNORE)
    first, second = (counted & (each.masks == 1) for each in (one, other))
    return float((first & second).sum() / (first | second).sum())


def row(name: str, args: argparse.Namespace) -> str:
    made = samples_of(name, args.data, args.images, seed=0)
    true = read_pictures(open_data(made), positive=[1], size=args.size, seed=0)
    said = [name]
    for share in BENT:
        samples = bent(made, share) if share else made
        source = open_data(samples)
        pictures = read_pictures(source, positive=[1], size=args.size, seed=0)
        start = time.process_time()
        measured = measure_contours(source, pictures, 0)
        seconds = time.process_time() - start
        said += [f"{measured.gain:+.3f}", ContoursCheck().judge(measured).verdict.value]
        if share:
            said.append(f"{overlap(pictures, true):.2f} to {overlap(straightened(source, pictures), true):.2f}")
    return f"| {' | '.join([*said, f'{seconds:.1f}'])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=None)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--size", type=int, default=112, help="long side of the working grid")
    args = parser.parse_args()
    real = sorted(each.name for each in args.data.iterdir() if (each / "images").is_dir() and each.name != "camvid")
    print("| set | as it came | | bent by 1/64 | | overlap | bent by 1/32 | | overlap | CPU s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in args.sets or [*real, *CAMVID, *SCENES]:
        print(row(name, args), flush=True)


if __name__ == "__main__":
    main()
