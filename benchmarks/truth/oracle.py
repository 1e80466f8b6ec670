"""The oracle: every remedy of every case trained for real, three seeds, scored on clean images that nobody else saw.

    python -m benchmarks.truth.oracle --quick     the cases of the quick set
    python -m benchmarks.truth.oracle --blind     those of bases that nothing had been mended by; --unseen: older ones
    python -m benchmarks.truth.oracle             all of them
    python -m benchmarks.truth.oracle --only geometry-normalisation-1

Writes `oracle.json` beside this file, case by case; cases that are in it are not done again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from joblib import Parallel, delayed

from benchmarks.truth.bases import world
from benchmarks.truth.cases import SETS, Case, add_sets, case_name, make_case
from benchmarks.truth.remedies import BY_CONSTRUCTION, Trial, as_is, trials
from unplateau.data import open_data, read_pictures
from unplateau.diagnosis.diagnose import RECIPE
from unplateau.files import write_json
from unplateau.measures.scoring import score_images
from unplateau.measures.thresholds import BINS, ScoreTable, best_threshold, mean_iou
from unplateau.training.devices import keep_memory
from unplateau.training.loop import finetune
from unplateau.training.recipe import Recipe
from unplateau.training.scoring import answers
from unplateau.training.train import build_pieces
from unplateau.types import Fold, Pictures, Sample

SEEDS = 3
TABLE = Path(__file__).with_name("oracle.json")
DONE = Path("runs/truth/oracle")
BATCH = 8


@dataclass(frozen=True)
class Job:
    """One training: a trial, a seed, and the clean samples that score it."""

    trial: Trial
    test: tuple[Sample, ...]
    seed: int

    @property
    def key(self) -> str:
        """A hash of all that its outcome depends on; the threshold is read afterwards and takes no part."""
        setup = replace(self.trial.setup, threshold=None, metric="iou")
        digest = hashlib.sha256(repr((setup, self.seed, BATCH, RECIPE)).encode())
        for sample in (*self.trial.train, *self.trial.val, *self.test):
            digest.update(sample.image.tobytes() + sample.mask.tobytes())
        return digest.hexdigest()[:20]


def recipe(case_setup: Any) -> Recipe:
    """The recipe of a user's run: that of a diagnosis but for what the setup says."""
    return replace(
        RECIPE,
        steps=case_setup.steps,
        batch=BATCH,
        half_size=0.0 if case_setup.size < 48 else RECIPE.half_size,
        loss=case_setup.loss,
        class_weights=case_setup.class_weights,
        evaluations=4,
    )


def run_job(job: Job) -> dict[str, Any]:
    """IoU on the clean images at every threshold, and the threshold that validation chooses."""
    torch.set_num_threads(1)
    keep_memory()
    setup, trial = job.trial.setup, job.trial
    pictures = numbered((*trial.train, *trial.val, *job.test), setup.size)
    cuts = np.cumsum([0, len(trial.train), len(trial.val), len(job.test)])
    fit, inner, report = (tuple(range(low, high)) for low, high in pairwise(cuts.tolist()))
    model = build_pieces(setup.extractor, setup.decoder, 1, frozen=setup.frozen, seed=job.seed)
    trained = finetune(model, pictures, Fold(fit, inner, report), recipe(setup), seed=job.seed)
    val, test = (
        native_table(answers(trained.model, pictures, part), part_samples)
        for part, part_samples in ((inner, trial.val), (report, job.test))
    )
    curve = [mean_iou(test.at(place / BINS)) for place in range(BINS)]
    return {"threshold": best_threshold(val), "curve": [round(each, 4) for each in curve]}


def numbered(samples: Iterable[Sample], size: int) -> Pictures:
    """Samples of several parts as one data set, in their order: by their own names some would be the same."""
    named = [replace(each, name=str(number), split="") for number, each in enumerate(samples)]
    return read_pictures(open_data(named), positive=[1], size=size, seed=0)


def native_table(scores: np.ndarray, samples: Iterable[Sample]) -> ScoreTable:
    """Answers (N, 1, h, w) in steps of 1 / BINS against masks at native size."""
    masks = np.stack([each.mask for each in samples])
    soft = torch.from_numpy(scores.astype(np.float32) / BINS)
    if soft.shape[-2:] != masks.shape[-2:]:
        soft = F.interpolate(soft, size=masks.shape[-2:], mode="bilinear")
    return score_images(soft.numpy(), masks)


def read(outcome: dict[str, Any], threshold: float | None) -> float:
    """The IoU of an outcome at a fixed threshold, or at the one that validation chose."""
    at = outcome["threshold"] if threshold is None else threshold
    return float(outcome["curve"][min(BINS - 1, round(at * BINS))])


def outcomes(jobs: list[Job]) -> list[dict[str, Any]]:
    """The outcome of each job; those done before are read."""
    paths = [DONE / f"{job.key}.json" for job in jobs]
    waiting = {path: job for path, job in zip(paths, jobs, strict=True) if not path.exists()}
    parallel = Parallel(n_jobs=2, backend="loky", inner_max_num_threads=1, return_as="generator")
    for path, outcome in zip(waiting, parallel(delayed(run_job)(job) for job in waiting.values()), strict=True):
        write_json(path, outcome)
    return [json.loads(path.read_text()) for path in paths]


def truth_of(case: Case) -> dict[str, Any]:
    """Baseline IoU and the gain of each remedy, a value a seed."""
    test = world(case.base).test
    wanted = {"baseline": as_is(case), **{name: trial for name, trial in trials(case).items() if trial}}
    jobs = [Job(trial, test, seed) for trial in wanted.values() for seed in range(SEEDS)]
    done = outcomes(jobs)
    scores = {
        name: [read(done[place * SEEDS + seed], trial.setup.threshold) for seed in range(SEEDS)]
        for place, (name, trial) in enumerate(wanted.items())
    }
    baseline = scores.pop("baseline")
    gains = {name: [round(a - b, 4) for a, b in zip(each, baseline, strict=True)] for name, each in scores.items()}
    return {"baseline": baseline, "gains": gains}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_sets(parser, default="full")
    parser.add_argument("--again", action="store_true", help="also the cases that the table has")
    parser.add_argument("--only", nargs="+", help="names of the cases, such as geometry-normalisation-1")
    args = parser.parse_args()
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    for base, plant, strength in SETS[args.set]:
        known = case_name(base, plant, strength) in table and not args.again
        if plant in BY_CONSTRUCTION or known or (args.only and case_name(base, plant, strength) not in args.only):
            continue
        case, start = make_case(base, plant, strength), time.perf_counter()
        table[case.name] = {"setup": asdict(case.setup), **truth_of(case)}
        write_json(TABLE, dict(sorted(table.items())))
        means = {name: f"{np.mean(gain):+.3f}" for name, gain in table[case.name]["gains"].items()}
        said = f"{np.mean(table[case.name]['baseline']):.3f}"
        print(f"{case.name}: {said} {means} {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
