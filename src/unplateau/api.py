"""The verbs. The command line says the same words with the same names."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unplateau._version import VERSION
from unplateau.data.checks import FEWEST
from unplateau.data.folder import list_images
from unplateau.data.grid import SMALLEST
from unplateau.data.pictures import read_pictures
from unplateau.data.sources import open_data
from unplateau.data.unlabelled import read_unlabelled
from unplateau.diagnosis.diagnose import RECIPE, Order, measure_all, train_all, train_given
from unplateau.diagnosis.document import document
from unplateau.diagnosis.examples import draw_worst
from unplateau.diagnosis.given import load_given
from unplateau.errors import UnplateauError
from unplateau.extractors.catalogue import build_extractor
from unplateau.files import plain, writable_folder, write_json
from unplateau.progress import Told
from unplateau.report import write_report
from unplateau.training.calibrate import calibrate_model, load_ternary
from unplateau.training.predict import predict_images
from unplateau.training.recipe import Recipe
from unplateau.training.saved import load_model
from unplateau.training.ssl import EXTRACTOR, Schooling, kept_of, pretrain_extractor
from unplateau.training.ssl_methods import RATES, refuse_unknown_method
from unplateau.training.train import build_pieces, train_model
from unplateau.types import Sample

LOWEST = {"size": SMALLEST, "steps": 1, "folds": 1, "limit": FEWEST, "patience": 0, "seed": 0}
HIGHEST_SEED = 2**30
"""Seeds are multiplied by primes to seed each step, and 64 bits must hold the product."""

DIAGNOSIS, REPORT, CACHE = "diagnosis.json", "report.html", "fits"


def diagnose(
    data: str | Path | Iterable[Sample],
    *,
    positive: Sequence[int] | None = None,
    extractor: str | Path | None = None,
    model: str | Path | None = None,
    out: str | Path = "runs/diagnosis",
    baseline: str = "unet",
    size: int = 112,
    steps: int = RECIPE.steps,
    folds: int = 3,
    limit: int | None = 600,
    seed: int = 0,
    colours: Mapping[tuple[int, int, int], int] | None = None,
    told: Told | None = None,
) -> dict[str, Any]:
    """Say why the IoU stopped and what each remedy would gain; write `diagnosis.json` and `report.html` to `out`.

    Args:
        data: a folder with `images/` and `masks/`, or any iterable of samples.
        positive: class ids that make the positive class; None = multi-class, or 1 when the masks hold 0 and 1.
        extractor: a pretrained candidate, by timm name or as a file; measured frozen against training from scratch.
        model: a folder written by `train`: the model whose ceiling is in question, which is then not trained again but
            scored where it was scored; `baseline`, `size`, `folds` and `limit` then do not matter.
        out: where the results go. What an interrupted run finished is there and is not computed again.
        baseline: the extractor whose ceiling is in question, trained from scratch: "unet", "reach-33", any timm name.
        size: long side of the working grid in pixels.
        steps: optimiser steps of each training.
        folds: how often everything is trained, each time with another seed and another part held out.
        limit: at most so many images take part, spread over the groups; None = all.
        seed: the same seed gives the same diagnosis.
        colours: class id of each RGB colour, for masks saved as colours.
        told: called after each training with how many are done, of how many, and the name of the last.

    Returns:
        The content of `diagnosis.json`.

    Raises:
        DataError: the data break a rule.
        PieceError: no such extractor, or a checkpoint that does not fit.
        OutputError: `out` cannot be written.
    """
    start = time.perf_counter()
    # A single step has a single evaluation, which has no course to look at.
    _refuse_numbers({"size": size, "steps": steps, "folds": folds, "limit": limit, "seed": seed}, LOWEST | {"steps": 2})
    build_extractor(baseline)
    if extractor:
        build_extractor(extractor, pretrained=True)
    given = load_given(Path(model)) if model else None
    folder = writable_folder(Path(out))
    source = open_data(data, colours=colours)
    candidate = str(extractor) if extractor else None
    order = Order(candidate, replace(RECIPE, steps=steps), seed, folder / CACHE, told or _silent)
    if given is None:
        pictures = read_pictures(source, positive=positive, size=size, limit=limit, seed=seed)
        run, faults = train_all(source, pictures, order, baseline=baseline, folds=folds)
    else:
        asked = positive or given.saved.task.positive or None
        pictures = read_pictures(source, positive=asked, size=max(given.saved.size), seed=seed)
        run, faults = train_given(source, pictures, order, given)
    measured = measure_all(run, faults)
    worst = draw_worst(run, folder)
    path = str(data) if isinstance(data, (str, Path)) else "samples"
    seconds = time.perf_counter() - start
    content = document(run, measured, worst, path=path, version=VERSION, seconds=seconds)
    write_json(folder / DIAGNOSIS, content)
    write_report(folder / DIAGNOSIS, folder / REPORT)
    return content


def train(
    data: str | Path | Iterable[Sample],
    *,
    positive: Sequence[int] | None = None,
    extractor: str | Path = "unet",
    decoder: str = "linear",
    out: str | Path = "runs/model",
    frozen: bool = False,
    size: int = 128,
    steps: int = 400,
    class_weights: str | tuple[float, ...] = "none",
    patience: int = 0,
    seed: int = 0,
    colours: Mapping[tuple[int, int, int], int] | None = None,
    progress: bool = False,
) -> dict[str, float]:
    """Train one model; write it with its log to `out`, and go on where an interrupted call stopped.

    Args:
        data, positive, size, seed, colours: as in `diagnose`.
        extractor: "unet", "reach-33", any timm name, or a checkpoint file.
        decoder: "linear", "conv", "unet" or "fpn".
        out: where model, log and state go.
        frozen: train the decoder only.
        steps: optimiser steps.
        class_weights: "none", "auto", or a factor for each output.
        patience: stop after so many evaluations without a better one; 0 = never.
        progress: show a bar.

    Returns:
        `iou` on images that chose nothing, `iou_at_half`, and the `threshold` chosen on inner images.

    Raises:
        DataError, PieceError, OutputError: as in `diagnose`.
    """
    _refuse_numbers({"size": size, "steps": steps, "patience": patience, "seed": seed})
    recipe = Recipe(steps=steps, class_weights=class_weights, patience=patience)
    build_pieces(str(extractor), decoder, 1, frozen=frozen, seed=seed)
    folder = writable_folder(Path(out))
    pictures = read_pictures(open_data(data, colours=colours), positive=positive, size=size, seed=seed)
    return train_model(
        pictures,
        extractor=str(extractor),
        decoder=decoder,
        frozen=frozen,
        recipe=recipe,
        seed=seed,
        folder=folder,
        progress=progress,
    )


def pretrain(
    images: str | Path,
    *,
    method: str = Schooling.method,
    extractor: str | Path = "unet",
    out: str | Path = "runs/pretrained",
    steps: int = Schooling.steps,
    size: int = 128,
    seed: int = 0,
    told: Told | None = None,
) -> dict[str, Any]:
    """Let an extractor learn from images without masks; write it to `out`, and go on where an interrupted call stopped.

    `out/extractor.safetensors` is an extractor for `train` and `diagnose`. It is that of the evaluation with the best
    dense quality, measured without labels on images that were held out, as longer pretraining can make dense features
    worse; `out/series.json` has all evaluations.

    Args:
        images: a folder of images, or one with `images/`; masks are not looked at.
        method: "dense" (one pixel in two crops against all others), "dino" (a student agrees with its own average
            across crops and masked cells) or "simmim" (hidden cells are painted).
        extractor: "unet", "reach-33", any timm name, or a checkpoint file to go on from.
        out: where the extractor, the series and the state go.
        steps: optimiser steps.
        size: long side of the working grid in pixels.
        seed: the same seed gives the same extractor.
        told: called after each step with how many are done, of how many, and which.

    Returns:
        `extractor` (the file), `kept_step`, its `score`, and the `series` of evaluations, the random start first.

    Raises:
        UnplateauError: no such method, a loss that is no longer finite, or embeddings that have collapsed.
        DataError, PieceError, OutputError: as in `diagnose`.
    """
    _refuse_numbers({"size": size, "steps": steps, "seed": seed})
    refuse_unknown_method(method)
    build_extractor(str(extractor))
    folder = writable_folder(Path(out))
    pool = read_unlabelled(Path(images), size=size, seed=seed)
    schooling = Schooling(method, steps, learning_rate=RATES[method])
    series = pretrain_extractor(
        pool, extractor=str(extractor), schooling=schooling, seed=seed, folder=folder, told=told or _silent
    )
    kept = kept_of(series)
    file = str(folder / EXTRACTOR)
    return {"extractor": file, "kept_step": kept.step, "score": kept.score, "series": plain(series)}


def calibrate(
    model: str | Path,
    data: str | Path | Iterable[Sample],
    *,
    missed: float = 0.05,
    spurious: float = 0.05,
    colours: Mapping[tuple[int, int, int], int] | None = None,
) -> dict[str, Any]:
    """Find from when on a model may say P, until when not-P, and leave the rest unknown; keep it beside the model.

    Args:
        model: a folder written by `train`.
        data: what it was trained on: the images that chose nothing there calibrate.
        missed: tolerated share of the true pixels of an image that are declared not-P, on average over new images.
        spurious: the same of other pixels declared P.
        colours: as in `diagnose`.

    Returns:
        `alpha` (P from there on), `beta` (not-P below), `missed`, `spurious` and `unknown` on the calibration images.

    Raises:
        UnplateauError: too few images or groups for these tolerances.
        PieceError, DataError, OutputError: as in `diagnose`.
    """
    folder = Path(model)
    source = open_data(data, colours=colours)
    ternary, done = calibrate_model(load_model(folder), source, folder, missed=missed, spurious=spurious)
    thresholds = {"alpha": ternary.alpha.threshold, "beta": ternary.beta.threshold}
    return {**thresholds, "missed": done.missed, "spurious": done.spurious, "unknown": done.unknown}


def predict(
    model: str | Path, images: str | Path, *, out: str | Path = "runs/masks", ternary: bool = False
) -> list[Path]:
    """Write a mask for every image of a folder, with the class ids of the training masks, at the image's own size.

    Args:
        model: a folder written by `train`.
        images: a folder of images, or one image.
        out: where `masks/` and, for a binary task, `scores/` go.
        ternary: also write `ternary/`, 0 not-P, 1 P, 2 unknown, by a model that `calibrate` has seen.

    Returns:
        The masks' paths.

    Raises:
        PieceError: no model there, or a damaged one.
        DataError: no images, or one that cannot be read; masks written before it stay.
        OutputError: `out` cannot be written.
    """
    saved = load_model(Path(model))
    found = list_images(Path(images))
    decision = load_ternary(Path(model)) if ternary else None
    return list(predict_images(saved, found, writable_folder(Path(out)), decision))


def report(diagnosis: str | Path, *, out: str | Path | None = None) -> Path:
    """Draw the page of a saved diagnosis again.

    Args:
        diagnosis: a `diagnosis.json`, or the folder that holds it.
        out: where the page goes; None = `report.html` beside the diagnosis.

    Raises:
        DataError: no diagnosis there, or a damaged one.
        OutputError: `out` cannot be written.
    """
    return write_report(Path(diagnosis), Path(out) if out else None)


def _refuse_numbers(given: Mapping[str, int | None], lowest: Mapping[str, int] = LOWEST) -> None:
    """Refuse what no data could make sense of, before anything is read."""
    for name, number in given.items():
        if number is not None and number < lowest[name]:
            raise UnplateauError(f"`{name}` must be at least {lowest[name]}; got {number}. Give a larger number.")
    if (given["seed"] or 0) > HIGHEST_SEED:
        raise UnplateauError(f"`seed` must be at most {HIGHEST_SEED}; got {given['seed']}. Give a smaller number.")


def _silent(_done: int, _total: int, _name: str) -> None:
    """Say nothing."""
