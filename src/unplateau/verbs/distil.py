"""Let several extractors teach one."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unplateau.data.unlabelled import read_unlabelled
from unplateau.errors import DataError, UnplateauError
from unplateau.extractors.catalogue import build_extractor
from unplateau.files import plain, writable_folder
from unplateau.pretraining.course import EXTRACTOR, Schooling
from unplateau.progress import Told
from unplateau.reports import load_diagnosis
from unplateau.upgrades.distil import distil_extractor, kept_lesson, rate_of
from unplateau.upgrades.teachers import open_teacher, weights_by_demand
from unplateau.verbs.arguments import refuse_numbers, silent
from unplateau.verbs.diagnose import DIAGNOSIS

EYECHART = "eyechart.json"


def distil(
    images: str | Path,
    *,
    teachers: Sequence[str | Path],
    student: str | Path = "unet",
    out: str | Path = "runs/distilled",
    diagnosis: str | Path | None = None,
    eyechart: str | Path | None = None,
    steps: int = Schooling.steps,
    size: int = 128,
    seed: int = 0,
    told: Told | None = None,
) -> dict[str, Any]:
    """Let a student learn from images without masks to say what its teachers say; go on where a call stopped.

    Where a trained model is the teacher, it can be named again as the `teacher` of `train`. Compare what comes of it
    with the student as it was before: one that brings weights may have little to learn (decision 060).

    `out/extractor.safetensors` is an extractor for `train` and `diagnose`: the student of the evaluation that explained
    most of what the teachers say of images that were held out; `out/series.json` has all evaluations.

    Args:
        images: a folder of images, or one with `images/`; masks are not looked at.
        teachers: files of weights, names such as "pretrained:resnet18", or folders written by `train`, whose answers
            are then imitated beside their characteristics.
        student: what learns: a checkpoint file to go on from, such as the smallest of the teachers, or a network with
            random weights: "unet", "reach-33", any timm name. What large sets of images taught is not learnt again from
            a small one: begin with weights that have it.
        out: where the student, the series and the state go.
        diagnosis: a `diagnosis.json`, or the folder that holds it: with `eyechart`, teachers count by how much they
            supply of what that task demands, and otherwise the same.
        eyechart: an `eyechart.json` of all the teachers by these names, or the folder that holds it.
        steps: optimiser steps.
        size: long side of the working grid in pixels.
        seed: the same seed gives the same student.
        told: called after each step with how many are done, of how many, and which.

    Returns:
        `extractor` (the file), `kept_step`, `teachers` with the `weight` of each and the share of its variance that the
        student `explained` on held-out images, and the `series` of evaluations, the random start first.

    Raises:
        UnplateauError: no teachers, the same one twice, or a loss that is no longer finite.
        DataError, PieceError, OutputError: as in `diagnose`.
    """
    refuse_numbers({"size": size, "steps": steps, "seed": seed})
    names = _named(teachers)
    build_extractor(str(student))
    opened = tuple(open_teacher(name) for name in names)
    weights = _weights(diagnosis, eyechart, names)
    folder = writable_folder(Path(out))
    pool = read_unlabelled(Path(images), size=size, seed=seed)
    schooling = Schooling("distil", steps, learning_rate=rate_of(str(student)))
    series = distil_extractor(
        pool,
        teachers=opened,
        weights=weights,
        student=str(student),
        schooling=schooling,
        seed=seed,
        folder=folder,
        told=told or silent,
    )
    kept = kept_lesson(series, weights)
    taught = [
        {"name": name, "weight": weight, "explained": explained}
        for name, weight, explained in zip(names, weights, kept.explained, strict=True)
    ]
    return {
        "extractor": str(folder / EXTRACTOR),
        "kept_step": kept.step,
        "teachers": taught,
        "series": plain(series),
    }


def _named(teachers: Sequence[str | Path]) -> tuple[str, ...]:
    names = tuple(str(each) for each in teachers)
    if not names:
        raise UnplateauError("`teachers` must name at least one; got none. Name a file of weights or a model's folder.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UnplateauError(f"`teachers` must differ; {twice[0]!r} is named more than once. Name it once.")
    return names


def _weights(diagnosis: str | Path | None, eyechart: str | Path | None, names: tuple[str, ...]) -> tuple[float, ...]:
    """How much each teacher counts; the same where it is not known what a task demands or what a teacher supplies."""
    if eyechart is not None and diagnosis is None:
        raise UnplateauError("`eyechart` weighs teachers by what a task demands: give its diagnosis too.")
    if diagnosis is None:
        return (1.0,) * len(names)
    saved = load_diagnosis(_file(diagnosis, DIAGNOSIS))
    if eyechart is None:
        return (1.0,) * len(names)
    demand = {family: share.mean for family, share in saved.families if math.isfinite(share.mean)}
    supplies = _supplies(_file(eyechart, EYECHART))
    for name in names:
        if name not in supplies:
            raise UnplateauError(
                f"`eyechart` must hold a chart of each teacher; it holds none of {name!r}. Measure it."
            )
    return weights_by_demand(demand, [supplies[name] for name in names])


def _file(said: str | Path, name: str) -> Path:
    path = Path(said)
    return path / name if path.is_dir() else path


def _supplies(path: Path) -> dict[str, dict[str, float]]:
    """How well each extractor delivers each family, 0..1: at rest, for a teacher's weights stay as they are."""
    try:
        charts = json.loads(path.read_text(encoding="utf-8"))["charts"]
        return {
            str(chart["extractor"]): {str(each["family"]): float(each["acuity"]["mean"]) for each in chart["rest"]}
            for chart in charts
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{str(path)!r} must be an eye chart; reading it gave {type(error).__name__}: {error}. Measure the "
            "teachers again."
        ) from error
