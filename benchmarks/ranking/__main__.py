"""Does supply x demand order extractors as training each in full does? Beside LogME and a frozen linear probe.

    python -m benchmarks.ranking ../shared/data ../shared/weights/squeezenet1_1_imagenet_features.safetensors

Ten extractors: of two bounded reaches, of two sizes, of three kinds, random, pretrained by each method of `pretrain`
on images of the tasks, and supervised on ImageNet. Every pair is trained in full by one recipe, which is the truth, and
kept in `--out`: an interrupted run goes on. Kendall's tau of all pairs, and of those that differ by more than 0.02 IoU
(after the slash). The rule was made on the tasks not marked "held". Cost is CPU time of ranking over that of training,
without and with the charts, which belong to the extractor and serve every task.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.ranking.pool import PROBLEMS, Problem, extractors, pictures_of
from benchmarks.ranking.score import LOGME, OURS, PROBE, Scored, charts_of, scored, tau, tau_decided
from benchmarks.ranking.truth import Trained, trained
from unplateau.upgrades.demand import REFERENCES
from unplateau.verbs.eyechart import named_extractors

WAYS = (OURS, LOGME, PROBE)


def table(problems: Sequence[Problem], truth: dict[str, dict[str, Trained]], said: dict[str, Scored]) -> list[str]:
    """A row a task, then the means."""
    lines = [f"| task | {' | '.join(WAYS)} | demand (textural, geometric, semantic) | ranking s | training s |"]
    lines.append(f"|{'---|' * (len(WAYS) + 4)}")
    taus: dict[str, list[tuple[float, float]]] = {}
    for problem in problems:
        true = {name: each.iou for name, each in truth[problem.name].items()}
        own = said[problem.name]
        pairs = [(tau(own.predicted[way], true), tau_decided(own.predicted[way], true)) for way in WAYS]
        taus[problem.name] = pairs
        demand = ", ".join(f"{each:.2f}" for each in own.demand.values())
        seconds = sum(each.seconds for each in truth[problem.name].values())
        name = f"{problem.name}{' (held)' if problem.held else ''}"
        lines.append(f"| {name} | {_said(pairs)} | {demand} | {own.seconds:.1f} | {seconds:.0f} |")
    for name, chosen in (("mean", None), ("mean, held", True), ("mean, made on", False)):
        rows = [taus[problem.name] for problem in problems if chosen is None or problem.held == chosen]
        if rows:
            lines.append(f"| **{name}** | {_said([tuple(pair) for pair in np.nanmean(rows, axis=0)])} | | | |")
    return lines


def _said(pairs: Sequence[tuple[float, ...]]) -> str:
    return " | ".join(f"{whole:+.2f} / {decided:+.2f}" for whole, decided in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--tasks", nargs="+", default=[problem.name for problem in PROBLEMS])
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-ranking"))
    parser.add_argument("--steps", type=int, default=120, help="of each training that is the truth")
    parser.add_argument("--verbose", action="store_true", help="the IoU and every prediction of each pair")
    args = parser.parse_args()
    torch.set_num_threads(1)
    spelled = extractors(args.data, args.weights, args.out)
    problems = [problem for problem in PROBLEMS if problem.name in args.tasks]
    pictures = {problem.name: pictures_of(problem, args.data) for problem in problems}
    truth = {
        problem.name: {
            name: trained(problem, name, spelling, pictures[problem.name], args.out, args.steps)
            for name, spelling in spelled.items()
        }
        for problem in problems
    }
    named = dict(zip(spelled, named_extractors(list(spelled.values()), 0), strict=True))
    references = dict(zip(REFERENCES, named_extractors(REFERENCES, 0), strict=True))
    charts, chart_cost = charts_of({**named, **references}, args.out)
    said = {name: scored(name, named, charts, pictures[name], args.out) for name in truth}
    print("\n".join(table(problems, truth, said)))
    training = sum(each.seconds for pairs in truth.values() for each in pairs.values())
    ranking, charting = sum(each.seconds for each in said.values()), sum(chart_cost.values())
    print(
        f"\ncost over training: {ranking / training:.3f}, with the charts {(ranking + charting) / training:.3f} "
        f"({training:.0f} s of training, {ranking:.0f} s of ranking, {charting:.0f} s of charts)"
    )
    if args.verbose:
        for name, pairs in truth.items():
            for extractor, each in pairs.items():
                words = ", ".join(f"{way} {said[name].predicted[way][extractor]:+.3f}" for way in WAYS)
                print(f"{name}, {extractor}: {each.iou:.3f}; {words}")


if __name__ == "__main__":
    main()
