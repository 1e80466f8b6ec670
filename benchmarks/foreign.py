"""How many exchanged masks are named, and how many are named that are not?

    python -m benchmarks.foreign gaps-swapped-0 human-swapped-0 crackforest_full-swapped-0 human-healthy-0

Trains the user's model of each case of `benchmarks.truth` and asks `foreign_masks` of its answers; nothing else of a
diagnosis is done.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.truth.cases import make_case
from benchmarks.truth.score import users_run, write_case
from unplateau.data import open_data, read_pictures
from unplateau.experiments.given import answered, its_fold, load_given
from unplateau.experiments.plan import mapped
from unplateau.measures.label_scores import foreign_masks


def row(name: str) -> str:
    """One line of the table."""
    base, plant, strength = name.rsplit("-", 2)
    case, clean = make_case(base, plant, int(strength)), make_case(base, "healthy", 0)
    with TemporaryDirectory() as made:
        data, model = Path(made) / "data", Path(made) / "model"
        write_case((*case.train, *case.val), data)
        users_run(case, data, model)
        pictures = read_pictures(open_data(data), positive=[1], size=case.setup.size, seed=0)
        given = load_given(model)
        (fold,) = its_fold(given, pictures)
        maps = answered(given, pictures, fold).maps
    answers = np.zeros((len(pictures), 1, *pictures.size), np.uint8)
    answers[list(mapped((fold,), 0, len(pictures)))] = maps
    groups = np.unique(np.asarray(pictures.groups), return_inverse=True)[1]
    named = foreign_masks(pictures.masks.numpy(), answers, groups, np.zeros(len(pictures), np.int64))
    before = {each.name: each.mask for each in (*clean.train, *clean.val)}
    now = {each.name: each.mask for each in (*case.train, *case.val)}
    wrong = sum(bool((now[each] != before[each]).any()) for each in pictures.names)
    right = sum(bool((now[pictures.names[b]] == before[pictures.names[a]]).all()) for a, b in named)
    return f"| {name} | {len(pictures)} | {wrong} | {len(named)} | {right} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", help="base-plant-strength, as benchmarks.truth calls them")
    args = parser.parse_args()
    print("| case | images | exchanged | named | rightly |\n|---|---|---|---|---|")
    for name in args.cases:
        print(row(name), flush=True)


if __name__ == "__main__":
    main()
