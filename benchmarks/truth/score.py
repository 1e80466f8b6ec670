"""The diagnosis of a case, which never sees the oracle, and what it is worth beside it."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.truth.bases import world
from benchmarks.truth.cases import Case
from benchmarks.truth.oracle import native_table, numbered, recipe
from benchmarks.truth.remedies import BY_CONSTRUCTION, CURES, candidate
from unplateau import api
from unplateau.data import open_data, read_pictures
from unplateau.errors import DataError
from unplateau.experiments.given import answered, its_fold, load_given
from unplateau.files import write_bytes, write_json
from unplateau.measures.thresholds import best_threshold, counts_at, mean_iou
from unplateau.training.saved import FACTS
from unplateau.training.scoring import answers
from unplateau.training.train import train_model
from unplateau.types import Pictures, Sample

RUNS = Path("runs/truth/cases")
STEPS = 120
"""Steps of the ladder's models: the scenes are small."""

TIE = 0.02
NOTHING = "nothing"


@dataclass(frozen=True)
class Told:
    """What the diagnosis said of a case: the first remedy, every predicted gain, and what it cost.

    `seconds` are those of the diagnosis, `baseline_seconds` those of the user's own training before it. `moved` is what
    the best threshold on the validation images truly adds to the user's very model; nan where it was not measured.
    """

    case: str
    first: str
    gains: dict[str, tuple[float, float, float]]
    listed: tuple[str, ...]
    families: dict[str, float | None]
    iou: float | None
    seconds: float
    baseline_seconds: float
    moved: float = math.nan

    @property
    def blames(self) -> bool:
        """Whether the first remedy says that something is wrong with the data, the labels or the number."""
        return self.first.startswith("fix-") or self.first == "relabel"


def diagnose(case: Case) -> Told:
    """The user's run, then the diagnosis of it; kept, so that a second call reads it."""
    folder = RUNS / case.name
    kept = folder / "told.json"
    if kept.exists():
        values = json.loads(kept.read_text())
        return Told(**{**values, "listed": tuple(values["listed"])})
    shutil.rmtree(folder, ignore_errors=True)
    told = _diagnosed(case, folder)
    write_json(kept, asdict(told))
    return told


def _diagnosed(case: Case, folder: Path) -> Told:
    data, model, out = folder / "data", folder / "model", folder / "diagnosis"
    write_case((*case.train, *case.val), data)
    start = time.perf_counter()
    try:
        users_run(case, data, model)
    except DataError as error:
        # The door refuses masks that are damaged: that is the diagnosis, and nothing can be trained before it.
        first = "fix-encoding" if "between two others" in str(error) else NOTHING
        return Told(case.name, first, {}, (first,), {}, None, time.perf_counter() - start, 0.0)
    middle = time.perf_counter()
    said = api.diagnose(data, positive=[1], model=model, extractor=candidate(case), steps=STEPS, out=out)
    gains = {each["name"]: tuple(each["gain"][end] for end in ("mean", "low", "high")) for each in said["considered"]}
    listed = tuple(each["name"] for each in said["remedies"])
    shutil.rmtree(out / "fits", ignore_errors=True)
    return Told(
        case.name,
        listed[0] if listed else NOTHING,
        gains,
        listed,
        {name: share["mean"] for name, share in (said["families"] or {}).items()},
        said["baseline"]["iou"],
        time.perf_counter() - middle,
        middle - start,
        moved(case, model),
    )


def moved(case: Case, folder: Path) -> float:
    """IoU on clean images that the user's model gains by the threshold that the validation images prefer to its own.

    Another training would have another threshold, and a training's threshold is no longer always the best one.
    """
    given, samples = load_given(folder), (*case.val, *world(case.base).test)
    pictures, cut = numbered(samples, case.setup.size), len(case.val)
    val, test = (
        native_table(answers(given.saved.model, pictures, tuple(part)), [samples[index] for index in part])
        for part in (range(cut), range(cut, len(samples)))
    )
    return mean_iou(test.at(best_threshold(val))) - mean_iou(test.at(given.saved.threshold))


def users_run(case: Case, data: Path, model: Path) -> None:
    """What the user did: trained by the setup, with the threshold and the metric of the setup."""
    setup = case.setup
    threads = torch.get_num_threads()
    pictures = read_pictures(open_data(data), positive=[1], size=setup.size, seed=0)
    train_model(
        pictures,
        extractor=setup.extractor,
        decoder=setup.decoder,
        frozen=setup.frozen,
        recipe=replace(recipe(setup), evaluations=8),
        seed=0,
        folder=model,
    )
    torch.set_num_threads(threads)
    content = json.loads((model / FACTS).read_text())
    if setup.threshold is not None:
        content |= {"threshold": setup.threshold, "iou": None}
    if setup.metric != "iou":
        content["iou"] = _wrong(setup.metric, model, pictures)
    write_json(model / FACTS, content)


def _wrong(metric: str, model: Path, pictures: Pictures) -> float:
    """What a wrong metric makes of the model's own answers on its validation images."""
    given = load_given(model)
    (fold,) = its_fold(given, pictures)
    fitted = answered(given, pictures, fold)
    hit, predicted, true = counts_at(fitted.report, fitted.threshold).sum((0, 1)).tolist()
    total = len(fold.report) * math.prod(pictures.size)
    union = predicted + true - hit
    if metric == "pixel accuracy":
        return float((total - union + hit) / total)
    return float((hit / union + (total - union) / (total - hit)) / 2)


def write_case(samples: tuple[Sample, ...], folder: Path) -> None:
    """The samples as a user's folder, with groups.csv and its splits."""
    rows = [("stem", "group", "split")]
    for sample in samples:
        write_bytes(folder / "images" / f"{sample.name}.png", _png(sample.image))
        write_bytes(folder / "masks" / f"{sample.name}.png", _png(sample.mask))
        rows.append((sample.name, sample.group, sample.split))
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    write_bytes(folder / "groups.csv", text.getvalue().encode())


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


# ---- beside the truth ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """A case told beside its truth. `covered` and `predicted` count gains inside their 90 % intervals, and `errors` are
    told less true gains.
    """

    case: str
    told: str
    true: tuple[str, ...]
    right: bool
    regret: float
    covered: int
    predicted: int
    false_alarm: bool
    errors: tuple[float, ...] = ()


def judge_by_plant(case: Case, told: Told) -> Judged:
    """Whether the remedy named first undoes the plant; where nothing was planted, whether it blames nothing that is not
    there. Regret and the gains cannot be judged.
    """
    cures = CURES.get(case.plant, ())
    right = told.first in cures if cures else not told.blames
    true = cures or ("(no fix)",)
    return Judged(case.name, told.first, true, right, math.nan, 0, 0, case.plant == "healthy" and told.blames)


def judge(case: Case, told: Told, oracle: dict[str, Any]) -> Judged:
    """What a diagnosis is worth: the true gain of the remedy it names beside the best true gain."""
    if case.plant in BY_CONSTRUCTION:
        wanted = BY_CONSTRUCTION[case.plant]
        return Judged(case.name, told.first, (wanted,), told.first == wanted, 0.0, 0, 0, False)
    true = {NOTHING: 0.0, **{name: float(np.mean(each)) for name, each in oracle["gains"].items()}}
    if math.isfinite(told.moved):
        true["move-threshold"] = told.moved
    best = max(true.values())
    named = true.get(told.first, 0.0)
    inside = [low <= true.get(name, 0.0) <= high for name, (_, low, high) in told.gains.items() if name in true]
    return Judged(
        case.name,
        told.first,
        tuple(sorted(name for name, gain in true.items() if gain >= best - TIE)),
        named >= best - TIE,
        max(0.0, best - named),
        sum(inside),
        len(inside),
        case.plant == "healthy"
        and (told.blames or (told.first != NOTHING and named < TIE / 2 and told.gains[told.first][1] > TIE / 2)),
        tuple(mean - true.get(name, 0.0) for name, (mean, _, _) in told.gains.items() if name in true),
    )
