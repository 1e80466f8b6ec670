"""What does a diagnosis cost beside one fine-tune of its baseline? Time of both, and their ratio.

    python -m benchmarks.cost ../shared/data/human --positive 1 --extractor ../shared/weights/NAME.safetensors

The fine-tune is `unplateau train` of the baseline at the same size, with the whole machine to itself, at the default
number of steps of `train`. The diagnosis is `unplateau diagnose`. Both run as whole processes, start-up included.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory


def timed(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--positive", default="")
    parser.add_argument("--extractor", default="")
    parser.add_argument("--size", default="112")
    args = parser.parse_args()
    shared = [str(args.data), "--positive", args.positive, "--size", args.size]
    program = [sys.executable, "-m", "unplateau"]
    with TemporaryDirectory() as folder:
        train = timed([*program, "train", *shared, "--out", f"{folder}/model"])
        diagnose = timed([*program, "diagnose", *shared, "--extractor", args.extractor, "--out", f"{folder}/diagnosis"])
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print("| set | one fine-tune, s | diagnosis, s | ratio | largest process, GB |")
    print("|---|---|---|---|---|")
    print(f"| {args.data.name} | {train:.0f} | {diagnose:.0f} | {diagnose / train:.1f} | {peak:.2f} |")


if __name__ == "__main__":
    main()
