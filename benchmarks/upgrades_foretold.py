"""Does the predicted gain of an upgrade hold? Models trained, diagnosed and upgraded as their users would.

    python -m benchmarks.upgrades_foretold ../shared/data ../shared/weights/squeezenet1_1_imagenet_features.safetensors

Each attempt is a task and the model of someone who is stuck on it: trained, diagnosed (with a candidate where one is
named), and upgraded by every remedy that is listed for it here, also against advice. The diagnosis measures on one
split with one seed; the upgrade on another split with `--seeds` other seeds, so that none of what it measures was part
of the prediction. Prints a row an upgrade with 90 % intervals and whether the predicted one holds the achieved gain.
What is finished is kept in `--out`.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unplateau import api
from unplateau.data import open_data
from unplateau.errors import UnplateauError
from unplateau.scenes import scenes
from unplateau.types import Interval, Sample
from unplateau.upgrades.building import CONTEXT, LARGER, RICHER, STRONGER, covers

IMAGES = 200
"""Of each task: the split leaves a third to report on."""


def planted(kind: str, _: Path) -> list[Sample]:
    """Scenes of 48 pixels, each its own group."""
    return scenes(kind, IMAGES, size=(48, 48), seed=5)


def real(name: str, data: Path) -> list[Sample]:
    """Images of a real set, evenly over it, without its splits: another seed is to divide them otherwise."""
    source = open_data(data / name)
    places = np.linspace(0, len(source) - 1, min(IMAGES, len(source))).round().astype(int)
    found = (source.sample(int(place)) for place in places)
    return [Sample(each.name, each.image, each.mask, each.group) for each in found]


@dataclass(frozen=True)
class Attempt:
    """Someone's task and model, and the remedies that are built for it; `richer` names the candidate as well."""

    name: str
    samples: Callable[[Path], list[Sample]]
    positive: int
    extractor: str
    remedies: tuple[str, ...]
    decoder: str = "linear"
    size: int = 48

    @property
    def asks_candidate(self) -> bool:
        """Whether a pretrained candidate is to be measured."""
        return RICHER in self.remedies


ATTEMPTS = (
    Attempt("context", partial(planted, "context"), 1, "reach-9", (CONTEXT, LARGER, STRONGER)),
    Attempt("geometry", partial(planted, "geometry"), 1, "reach-9", (CONTEXT, LARGER, STRONGER)),
    Attempt("texture", partial(planted, "texture"), 1, "unet-2", (LARGER, STRONGER)),
    Attempt("fire", partial(planted, "fire"), 1, "unet-2", (LARGER, STRONGER)),
    Attempt("people", partial(real, "human"), 1, "reach-33", (RICHER, CONTEXT, LARGER), size=64),
    Attempt("cells", partial(real, "bubil_cells"), 1, "unet-4", (LARGER, STRONGER), size=64),
    Attempt("vessels", partial(real, "drive_full"), 1, "unet-4", (LARGER, STRONGER), size=64),
    Attempt("cracks", partial(real, "crackforest_full"), 1, "reach-9", (RICHER, CONTEXT), size=64),
)


@dataclass(frozen=True)
class Row:
    """One upgrade: what was foretold and what came of it."""

    task: str
    extractor: str
    remedy: str
    listed: bool
    predicted: Interval | None
    achieved: Interval

    @property
    def inside(self) -> bool | None:
        """Whether the predicted interval holds the achieved gain; None where nothing was predicted."""
        return covers(self.predicted, self.achieved)

    def __str__(self) -> str:
        said = f"{self.predicted:+.3f}" if self.predicted else "-"
        held = {True: "yes", False: "NO", None: "-"}[self.inside]
        advised = "yes" if self.listed else "no"
        cells = (self.task, self.extractor, self.remedy, advised, said, f"{self.achieved:+.3f}", held)
        return f"| {' | '.join(cells)} |"


def diagnosed(attempt: Attempt, samples: list[Sample], args: argparse.Namespace) -> Path:
    """The folder of the diagnosis of that model, which is trained first."""
    folder = args.out / f"{attempt.name}-{args.seed}"
    if not (folder / api.DIAGNOSIS).exists():
        api.train(
            samples,
            positive=[attempt.positive],
            extractor=attempt.extractor,
            decoder=attempt.decoder,
            size=attempt.size,
            steps=args.steps,
            seed=args.seed,
            out=folder / "model",
        )
        candidate = args.weights if attempt.asks_candidate else None
        api.diagnose(samples, model=folder / "model", extractor=candidate, steps=args.steps, seed=args.seed, out=folder)
    return Path(folder)


def attempted(attempt: Attempt, args: argparse.Namespace) -> list[Row]:
    """A row for each remedy that could be built."""
    samples = attempt.samples(args.data)
    folder = diagnosed(attempt, samples, args)
    rows = []
    for remedy in attempt.remedies:
        content = api.upgrade(
            samples,
            diagnosis=folder,
            remedy=remedy,
            force=True,
            seeds=args.seeds,
            seed=args.seed + 1,
            out=folder / "upgrade",  # one folder, so that the baseline is trained once
        )
        rows.append(read_row(attempt, content))
        print(rows[-1], flush=True)
    return rows


def read_row(attempt: Attempt, content: dict[str, Any]) -> Row:
    """The row that an `upgrade.json` makes."""
    said = content["predicted"]
    return Row(
        attempt.name,
        attempt.extractor,
        content["remedy"],
        bool(content["listed"]),
        _interval(said) if said else None,
        _interval(content["achieved"]),
    )


def _interval(said: dict[str, float | None]) -> Interval:
    """An interval as it was saved: what a single group cannot tell is null there."""
    return Interval(*(math.nan if each is None else each for each in (said["mean"], said["low"], said["high"])))


def summary(rows: list[Row]) -> str:
    """How many were inside, of those that were foretold."""
    told = [row for row in rows if row.inside is not None]
    return f"inside: {sum(bool(row.inside) for row in told)} of {len(told)}; not foretold: {len(rows) - len(told)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="the folder that holds the real sets")
    parser.add_argument("weights", type=Path, help="the checkpoint that is the candidate")
    parser.add_argument("--tasks", nargs="+", default=[each.name for each in ATTEMPTS])
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=2, help="of the upgrade, none of which the diagnosis had")
    parser.add_argument("--seed", type=int, default=0, help="of training and diagnosis; the upgrade has the next")
    parser.add_argument("--out", type=Path, default=Path("runs/upgrades-foretold"))
    args = parser.parse_args()
    if unknown := set(args.tasks) - {each.name for each in ATTEMPTS}:
        raise UnplateauError(f"`--tasks` must be of {[each.name for each in ATTEMPTS]}; got {sorted(unknown)}.")
    print("| task | model | remedy | advised | predicted | achieved | inside |\n|---|---|---|---|---|---|---|")
    rows = [row for each in ATTEMPTS if each.name in args.tasks for row in attempted(each, args)]
    print(f"\n{summary(rows)}")
    print(json.dumps({"inside": sum(bool(row.inside) for row in rows), "tried": len(rows)}))


if __name__ == "__main__":
    main()
