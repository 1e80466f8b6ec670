"""How often is the diagnosis right? Planted cases, diagnosed blind, beside what every remedy truly gains.

    python -m benchmarks.truth --quick
    python -m benchmarks.truth --blind
    python -m benchmarks.truth --unseen
    python -m benchmarks.truth --held
    python -m benchmarks.truth --elsewhere --plants
    python -m benchmarks.truth --full

Prints a row a case and one line of JSON at the end; `gain_error` in it is the root mean square of told less true gains.
Cases whose base took part in fitting anything are summed apart. `--blind` is of bases that nothing was fitted on or
mended by when it was first run, and so were the others. With `--plants` a case whose remedies have not been trained is
judged by what was planted, and has no regret. A case that the door refuses costs no training: its ratio
counts as 0. The truth is `oracle.json`, made by `python -m benchmarks.truth.oracle`. What is done is kept in
`runs/truth`.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.label_ceiling import error
from benchmarks.truth.bases import BASES, DATA, REAL
from benchmarks.truth.cases import SETS, Case, add_sets, case_name, make_case
from benchmarks.truth.matrix import draw_matrix
from benchmarks.truth.oracle import TABLE
from benchmarks.truth.remedies import BY_CONSTRUCTION
from benchmarks.truth.score import RUNS, Judged, Told, diagnose, judge, judge_by_plant

MATRIX = Path(__file__).resolve().parents[2] / "docs" / "truth.svg"


def summed(rows: Sequence[tuple[Judged, Told]]) -> dict[str, Any]:
    """The figures of some cases."""
    healthy = [judged for judged, _ in rows if "-healthy-" in judged.case]
    predicted = sum(judged.predicted for judged, _ in rows)
    regrets = [judged.regret for judged, _ in rows if math.isfinite(judged.regret)]
    errors = [error for judged, _ in rows for error in judged.errors]
    return {
        "cases": len(rows),
        "top1": round(float(np.mean([judged.right for judged, _ in rows])), 3) if rows else None,
        "regret": round(float(np.mean(regrets)), 4) if regrets else None,
        "coverage90": round(sum(judged.covered for judged, _ in rows) / predicted, 3) if predicted else None,
        "false_alarms": round(float(np.mean([each.false_alarm for each in healthy])), 3) if healthy else None,
        "gain_error": round(float(np.sqrt(np.mean(np.square(errors)))), 4) if errors else None,
        "label_ceiling_error": None,
        "seconds_per_case": round(float(np.median([told.seconds for _, told in rows])), 1) if rows else None,
        "cost_ratio": round(
            float(np.median([t.seconds / t.baseline_seconds if t.baseline_seconds else 0.0 for _, t in rows])), 2
        )
        if rows
        else None,
    }


def available(name: str) -> bool:
    """Whether the data of a base are here: planted ones always, real ones where their folder is."""
    return name not in REAL or (DATA / REAL[name]).is_dir()


def run(case: Case, truth: dict[str, Any]) -> tuple[Judged, Told]:
    """One case, told and judged."""
    told = diagnose(case)
    known = case.plant in BY_CONSTRUCTION or case.name in truth
    judged = judge(case, told, truth.get(case.name, {})) if known else judge_by_plant(case, told)
    print(
        f"| {case.name} | {judged.told} | {', '.join(judged.true)} | {'yes' if judged.right else 'NO'} "
        f"| {judged.regret:.3f} | {judged.covered}/{judged.predicted} | {told.seconds:.0f} |",
        flush=True,
    )
    return judged, told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_sets(parser, default="quick")
    parser.add_argument("--ceiling", action="store_true", help="also the error of the label ceiling: minutes more")
    parser.add_argument("--plants", action="store_true", help="also cases whose truth is not known, by their plant")
    parser.add_argument("--done", action="store_true", help="only the cases that were diagnosed before")
    args = parser.parse_args()
    truth = json.loads(TABLE.read_text())
    chosen = [each for each in SETS[args.set] if available(each[0])]
    known = [each for each in chosen if args.plants or each[1] in BY_CONSTRUCTION or case_name(*each) in truth]
    if args.done:
        known = [each for each in known if (RUNS / case_name(*each) / "told.json").exists()]
    print("| case | told | true | right | regret | gains inside | s |\n|---|---|---|---|---|---|---|", flush=True)
    rows = [run(make_case(*each), truth) for each in known]
    fitted = [row for row, each in zip(rows, known, strict=True) if BASES[each[0]].fitted]
    others = [row for row, each in zip(rows, known, strict=True) if not BASES[each[0]].fitted]
    if args.set in ("quick", "full"):
        draw_matrix([judged for judged, _ in rows], MATRIX)
    print("fitted bases:", json.dumps(summed(fitted)))
    print("other bases:", json.dumps(summed(others)))
    ceiling = {"label_ceiling_error": error(DATA)} if args.ceiling else {}
    print(json.dumps(summed(rows) | ceiling))


if __name__ == "__main__":
    main()
