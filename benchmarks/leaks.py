"""Are pictures found that are on both sides of a split, and are others left alone?

    python -m benchmarks.leaks ../shared/data/* --limit 200

Puts twins into real sets: some pictures that report (or, where no splits are given, some pictures of other groups) are
replaced by pictures that train, changed natively as in `KINDS`, with their masks. Prints a Markdown table: alarms on
the original, found of those planted for each share and kind, false pairs over all of them (pairs that hold no planted
picture and are not in the original), and the seconds of one search. A planted picture counts as found when it is paired
with a picture of the group it was taken from.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from unplateau.checks.leaks import LeaksMeasured, Twins, find_twins
from unplateau.data import AbstractSource, open_data, read_pictures
from unplateau.data.grid import fit_image, place
from unplateau.types import Pictures

Native = NDArray[np.uint8]
SHARES = (0.02, 0.05, 0.20)


def resaved(image: Native, rng: np.random.Generator) -> Native:
    """JPEG of quality 60 to 95."""
    return _saved(image, int(rng.integers(60, 96)))


def resized(image: Native, rng: np.random.Generator) -> Native:
    """0.7 to 1.3 times as large, saved at 90."""
    height, width = image.shape[:2]
    factor = rng.uniform(0.7, 1.3)
    size = (round(width * factor), round(height * factor))
    return _saved(np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)), 90)


def brighter(image: Native, rng: np.random.Generator) -> Native:
    """Up to a quarter more gain and 15 grey levels more, saved at 85."""
    lifted = image.astype(np.float32) * rng.uniform(1.05, 1.25) + rng.uniform(0, 15)
    return _saved(lifted.clip(0, 255).astype(np.uint8), 85)


def cropped(image: Native, rng: np.random.Generator) -> Native:
    """Up to 5 % off each side, saved at 90."""
    height, width = image.shape[:2]
    top, bottom, left, right = (rng.uniform(0, 0.05, 4) * [height, height, width, width]).astype(int)
    return _saved(image[top : height - bottom, left : width - right], 90)


def mirrored(image: Native, rng: np.random.Generator) -> Native:
    """Left for right, saved at 90."""
    del rng
    return _saved(image[:, ::-1], 90)


KINDS: dict[str, Callable[[Native, np.random.Generator], Native]] = {
    "resaved": resaved,
    "resized": resized,
    "brighter": brighter,
    "cropped": cropped,
    "mirrored": mirrored,
}


def _saved(image: Native, quality: int) -> Native:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def planted(
    source: AbstractSource, pictures: Pictures, kind: str, share: float, rng: np.random.Generator
) -> tuple[Pictures, dict[str, str]]:
    """The pictures with twins put in, and for each planted picture the group it was taken from."""
    splits, groups = np.asarray(pictures.splits), np.asarray(pictures.groups)
    given = bool({"val", "test"} & set(pictures.splits))
    count = max(1, round(share * len(pictures)))
    victims = np.flatnonzero(splits != "train") if given else np.arange(len(pictures))
    victims = rng.choice(victims, min(count, len(victims) // 2), replace=False)
    at = {name: index for index, name in enumerate(source.names)}
    images, masks, taken = pictures.images.clone(), pictures.masks.clone(), {}
    for victim in victims.tolist():
        free = (splits == "train") if given else (groups != groups[victim]) & ~np.isin(np.arange(len(groups)), victims)
        origin = int(rng.choice(np.flatnonzero(free)))
        changed = KINDS[kind](source.image(at[pictures.names[origin]]), rng)
        box = place((changed.shape[0], changed.shape[1]), pictures.size)
        fitted = np.zeros((3, *pictures.size), np.uint8)
        fitted[:, box.top : box.top + box.height, box.left : box.left + box.width] = fit_image(changed, box)
        images[victim], masks[victim] = torch.from_numpy(fitted), pictures.masks[origin]
        taken[pictures.names[victim]] = pictures.groups[origin]
    return replace(pictures, images=images, masks=masks), taken


def found(pictures: Pictures, measured: LeaksMeasured, taken: dict[str, str]) -> set[str]:
    """The planted pictures that are paired with a picture of the group they were taken from."""
    group = dict(zip(pictures.names, pictures.groups, strict=True))
    both = [pair for each in measured.twins for pair in ((each.first, each.second), (each.second, each.first))]
    return {one for one, other in both if one in taken and taken[one] in (group[other], taken.get(other))}


def row(folder: Path, limit: int, kinds: list[str], seed: int) -> str:
    """One row of the table."""
    source = open_data(folder)
    ids = {8} if folder.name == "camvid" else {1}
    pictures = read_pictures(source, positive=sorted(ids), size=112, limit=limit, seed=seed)
    start = time.monotonic()
    original = find_twins(pictures, seed)
    seconds = time.monotonic() - start
    known = {(each.first, each.second) for each in original.twins}
    cells, false = [], 0
    for number, kind in enumerate(kinds):
        counts = []
        for place_, share in enumerate(SHARES):
            rng = np.random.default_rng([seed, number, place_])
            damaged, taken = planted(source, pictures, kind, share, rng)
            measured = find_twins(damaged, seed)
            counts.append(f"{len(found(damaged, measured, taken))}/{len(taken)}")
            others = [each for each in measured.twins if not {each.first, each.second} & set(taken)]
            false += sum((each.first, each.second) not in known for each in others)
        cells.append(" ".join(counts))
    head = f"| {folder.name} | {len(pictures)} | {_listed(original.twins)} | "
    return head + " | ".join(cells) + f" | {false} | {seconds:.0f} |"


def _listed(twins: tuple[Twins, ...]) -> str:
    listed = ", ".join(f"{each.first} = {each.second}" for each in twins[:4])
    return f"{len(twins)}: {listed}" if twins else "none"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shares = " ".join(f"{share:.0%}" for share in SHARES)
    print(f"| set | pictures | original | {' | '.join(f'{kind} ({shares})' for kind in args.kinds)} | false | s |")
    print("|" + "---|" * (5 + len(args.kinds)))
    for folder in args.sets:
        print(row(folder, args.limit, args.kinds, args.seed), flush=True)


if __name__ == "__main__":
    main()
