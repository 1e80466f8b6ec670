"""Does the fused extractor lift what the verdict says? Baseline and upgrade on the same folds and seeds, same f.

    python -m benchmarks.upgrade ../shared/data ../shared/weights/squeezenet1_1_imagenet_features.safetensors

The baseline is a network that pretrained on the set's own images (`--pretrain 0`: from scratch); the upgrade is what
`upgrade` builds, the checkpoint trained in its place or the same network fused with it, as the inner images say. With
`--alone` the checkpoint is in its place, and stays frozen unless "trainable:" stands before it. Both have the same
decoder and the recipe of a diagnosis.
People and cars are to gain, fire is forced against advice and is to gain nothing. With `--predict` each set is
diagnosed first, with the checkpoint as the candidate, and the predicted gain stands beside the achieved one. Prints a
Markdown table with 90 % intervals, paired. What an interrupted run finished is kept in `--out` and not trained again.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from unplateau import api
from unplateau.data import open_data, read_pictures
from unplateau.diagnosis.diagnose import RECIPE, fitting
from unplateau.experiments.comparison import Comparison, Contest, run_contest
from unplateau.experiments.views import measure_objects
from unplateau.experiments.ways import Pieces, prevailing
from unplateau.extractors.fused import is_fused, part_said
from unplateau.types import Interval
from unplateau.upgrades.building import RICHER, covers, ways_to


@dataclass(frozen=True)
class Case:
    """A set, its positive class, and the gain that the upgrade must show; None where it must show none."""

    name: str
    positive: int
    least: float | None

    def met(self, gain: Interval) -> bool:
        """Whether it shows that: the mean above `least` and the interval above 0, or no interval above 0."""
        return not gain.above_zero if self.least is None else gain.mean >= self.least and gain.above_zero


CASES = (Case("human", 1, 0.07), Case("camvid", 8, 0.04), Case("fire_video", 1, None))


def contested(case: Case, args: argparse.Namespace) -> Comparison:
    """Both models of one set, trained and compared."""
    pictures = read_pictures(
        open_data(args.data / case.name), positive=[case.positive], size=args.size, limit=args.limit, seed=args.seed
    )
    before = Pieces(schooled(case, args), args.decoder)
    after = ways_to(RICHER, before, str(args.weights), alone=args.alone)
    recipe = fitting(replace(RECIPE, steps=args.steps), measure_objects(pictures).diameter)
    contest = Contest(
        {"baseline": recipe, "upgrade": recipe},
        before.extractor,
        before.decoder,
        before.frozen,
        args.seeds,
        args.folds,
        args.seed,
        {"upgrade": after},
    )
    return run_contest(contest, pictures, args.out / case.name, lambda *_: None)


def schooled(case: Case, args: argparse.Namespace) -> str:
    """The baseline's extractor after pretraining on the images of the set, without their masks."""
    if not args.pretrain:
        return str(args.baseline)
    folder = args.out / f"{case.name}-pretrained"
    kept = api.pretrain(
        args.data / case.name,
        method="dense",
        extractor=args.baseline,
        out=folder,
        steps=args.pretrain,
        size=args.size,
        seed=args.seed,
    )
    return str(kept["extractor"])


def predicted(case: Case, args: argparse.Namespace) -> Interval | None:
    """What a diagnosis foretells of the checkpoint."""
    content = api.diagnose(
        args.data / case.name,
        positive=[case.positive],
        extractor=part_said(str(args.weights)).name,
        baseline=schooled(case, args),
        out=args.out / f"{case.name}-diagnosis",
        size=args.size,
        steps=args.steps,
        folds=args.folds,
        limit=args.limit,
        thorough=True,
        seed=args.seed,
    )
    gains = [each["gain"] for each in content["considered"] if each["name"] == RICHER]
    return Interval(**gains[0]) if gains else None


def row(case: Case, args: argparse.Namespace) -> str:
    """One line of the table."""
    foretold = predicted(case, args) if args.predict else None
    comparison = contested(case, args)
    before, after = comparison.entries
    gain = after.gain or Interval(float("nan"), float("nan"), float("nan"))
    wanted = "nothing" if case.least is None else f"at least {case.least:+.2f}"
    held = {True: "yes", False: "NO", None: "-"}[covers(foretold, gain)]
    cells = (
        case.name,
        f"{before.iou}",
        f"{after.iou}",
        f"{gain:+.3f}",
        after.verdict or "",
        wanted,
        "yes" if case.met(gain) else "NO",
        f"{foretold:+.3f}" if foretold else "-",
        held,
        f"{before.seconds:.0f} / {after.seconds:.0f}",
        way_said(comparison),
    )
    return f"| {' | '.join(cells)} |"


def way_said(comparison: Comparison) -> str:
    """Which way the inner images took, in how many folds, and the IoU of each way on them."""
    if not (ways := comparison.ways.get("upgrade", ())):
        return "-"
    first, folds = prevailing(ways), sum(len(way.folds) for way in ways)
    inner = ", ".join(f"{_kind(way.pieces)} {way.inner:.3f} in {way.seconds:.0f} s" for way in ways)
    return f"{_kind(first.pieces)} in {len(first.folds)} of {folds} folds; inner {inner}"


def _kind(pieces: Pieces) -> str:
    return "fused" if is_fused(pieces.extractor) else "in its place"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="the folder that holds the sets")
    parser.add_argument("weights", type=Path, help="the checkpoint; 'frozen:FILE' or 'trainable:FILE' to fuse it so")
    parser.add_argument("--alone", action="store_true", help="it takes the place of the baseline instead")
    parser.add_argument("--sets", nargs="+", default=[case.name for case in CASES])
    parser.add_argument("--baseline", default="unet")
    parser.add_argument("--decoder", default="linear")
    parser.add_argument("--pretrain", type=int, default=200, help="steps of self-supervision of the baseline")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--steps", type=int, default=230)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--predict", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-upgrade"))
    args = parser.parse_args()
    print("| set | baseline | upgrade | gain | verdict | wanted | met | predicted | held | s each | way |")
    print(f"|{'---|' * 11}")
    for case in CASES:
        if case.name in args.sets:
            print(row(case, args), flush=True)


if __name__ == "__main__":
    main()
