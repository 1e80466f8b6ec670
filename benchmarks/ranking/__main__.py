"""Does supply x demand order extractors as training each in full does? Beside LogME and a frozen linear probe.

    python -m benchmarks.ranking ../shared/data ../shared/weights/squeezenet1_1_imagenet_features.safetensors

Twelve extractors: without order, of three bounded reaches, of two sizes, of three kinds, random, pretrained by each
method of `pretrain` on images of the tasks, and supervised on ImageNet. Every pair is trained in full by one recipe,
which is the truth, and kept in `--out`: an interrupted run goes on. Kendall's tau of all pairs, and of those that
differ by more than 0.02 IoU (after the slash). With `--seeds 2` every pair is trained twice: the truth is then the
mean, and the tau of one seed with the other says how much of the order is there to be foretold. Beside the whole rule
stand its two halves: what the rehearsal came to, and what the charts say where everything is demanded alike.
`--without` leaves extractors out. The rule was made on people and on other scenes of the planted tasks not marked
"held". Cost is CPU time of ranking over that of training each once, without and with the charts, which belong to the
extractor and serve every task.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.ranking.pool import MADE_ON, PROBLEMS, Problem, extractors, pictures_of
from benchmarks.ranking.score import (
    LOGME,
    OURS,
    PROBE,
    REHEARSED,
    SUPPLIED,
    Scored,
    charts_of,
    scored,
    tau,
    tau_decided,
)
from benchmarks.ranking.truth import Trained, trained
from unplateau.verbs.eyechart import named_extractors

WAYS = (OURS, REHEARSED, SUPPLIED, LOGME, PROBE)

Truths = list[dict[str, Trained]]
"""What every extractor came to on a task, one a seed."""


def table(problems: Sequence[Problem], truth: dict[str, Truths], said: dict[str, Scored]) -> list[str]:
    """A row a task, then the means."""
    heads = (*WAYS, "seed against seed", "demand (textural, geometric, semantic)", "ranking s", "training s")
    lines = [f"| task | {' | '.join(heads)} |", f"|{'---|' * (len(heads) + 1)}"]
    taus: dict[str, list[tuple[float, float]]] = {}
    for problem in problems:
        own, seeds = said[problem.name], [ious(each) for each in truth[problem.name]]
        true = {name: float(np.mean([each[name] for each in seeds])) for name in seeds[0]}
        pairs = [_taus(own.predicted[way], true) for way in WAYS]
        pairs.append(_taus(seeds[0], seeds[1]) if len(seeds) > 1 else (float("nan"), float("nan")))
        taus[problem.name] = pairs
        demand = ", ".join(f"{each:.2f}" for each in own.demand.values())
        name = f"{problem.name}{' (held)' if problem.held else ''}"
        lines.append(
            f"| {name} | {_said(pairs)} | {demand} | {own.seconds:.1f} | {training(truth[problem.name]):.0f} |"
        )
    for name, chosen in (("mean", None), ("mean, held", True), ("mean, made on", False)):
        rows = [taus[problem.name] for problem in problems if chosen is None or problem.held == chosen]
        if rows:
            lines.append(f"| **{name}** | {_said([tuple(pair) for pair in np.mean(rows, axis=0)])} | | | |")
    return lines


def ious(trainings: dict[str, Trained]) -> dict[str, float]:
    """IoU by extractor."""
    return {name: each.iou for name, each in trainings.items()}


def training(truths: Truths) -> float:
    """CPU seconds of training each once."""
    return sum(each.seconds for each in truths[0].values())


def _taus(predicted: dict[str, float], true: dict[str, float]) -> tuple[float, float]:
    return tau(predicted, true), tau_decided(predicted, true)


def _said(pairs: Sequence[tuple[float, ...]]) -> str:
    return " | ".join("-" if np.isnan(whole) else f"{whole:+.2f} / {decided:+.2f}" for whole, decided in pairs)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--tasks", nargs="+", default=[problem.name for problem in PROBLEMS])
    parser.add_argument("--without", nargs="+", default=[], help="extractors to leave out, by their name in the pool")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-ranking"))
    parser.add_argument("--steps", type=int, default=240, help="of each training that is the truth")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each pair")
    parser.add_argument("--verbose", action="store_true", help="the IoU and every prediction of each pair")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    everything = extractors(args.data, args.weights, args.out)
    spelled = {name: each for name, each in everything.items() if name not in args.without}
    problems = [problem for problem in (*PROBLEMS, *MADE_ON) if problem.name in args.tasks]
    pictures = {problem.name: pictures_of(problem, args.data) for problem in problems}
    truth = {
        problem.name: [
            {
                name: trained(problem, name, spelling, pictures[problem.name], args.out, args.steps, seed)
                for name, spelling in spelled.items()
            }
            for seed in range(args.seeds)
        ]
        for problem in problems
    }
    named = dict(zip(spelled, named_extractors(list(spelled.values()), 0), strict=True))
    charts, chart_cost = charts_of(named, args.out)
    said = {name: scored(name, named, charts, pictures[name], args.out) for name in truth}
    print("\n".join(table(problems, truth, said)))
    whole = sum(training(each) for each in truth.values())
    ranking, charting = sum(each.seconds for each in said.values()), sum(chart_cost[name] for name in charts)
    print(
        f"\ncost over training: {ranking / whole:.3f}, with the charts {(ranking + charting) / whole:.3f} "
        f"({whole:.0f} s of training, {ranking:.0f} s of ranking, {charting:.0f} s of charts)"
    )
    if args.verbose:
        tell(truth, said)


def tell(truth: dict[str, Truths], said: dict[str, Scored]) -> None:
    """The IoU of each pair, seed by seed, and what each way says of it."""
    for name, seeds in truth.items():
        for extractor in seeds[0]:
            reached = " ".join(f"{each[extractor].iou:.3f}" for each in seeds)
            words = ", ".join(f"{way} {said[name].predicted[way][extractor]:+.3f}" for way in WAYS)
            print(f"{name}, {extractor}: {reached}; {words}")


if __name__ == "__main__":
    main()
